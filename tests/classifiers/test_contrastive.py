"""Contrastive losses agree with slow references that follow the papers' equations; momentum networks follow the papers' schedules."""

import math

import pytest
import torch
from torch import Tensor

from synfer.classifiers.contrastive import BYOL, MoCoV3, SimCLR, _two_views, info_nce, start_momentum
from synfer.classifiers.models import create
from synfer.classifiers.views import Views

CPU = torch.device("cpu")
IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def slow_nt_xent(views: Tensor, temperature: float) -> float:
    """Equation 1 of arXiv:2002.05709, for views (2N, C) whose rows i and i + N are a pair."""
    count = len(views)
    total = 0.0
    for i in range(count):
        j = (i + count // 2) % count
        others = [math.exp(cosine(views[i], views[k]) / temperature) for k in range(count) if k != i]
        total -= math.log(math.exp(cosine(views[i], views[j]) / temperature) / sum(others))
    return total / count


def slow_info_nce(queries: Tensor, keys: Tensor, temperature: float) -> float:
    """`ctr` of algorithm 1 in arXiv:2104.02057."""
    total = 0.0
    for i, query in enumerate(queries):
        likeness = [math.exp(cosine(query, key) / temperature) for key in keys]
        total -= math.log(likeness[i] / sum(likeness))
    return 2 * temperature * total / len(queries)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_nt_xent(temperature: float) -> None:
    module = SimCLR(create("test_vit", 0, image_size=32), views=Views(), temperature=temperature)
    projections = module.projection(module.encoder(_two_views(IMAGES, seeded(), Views()))).detach()
    assert module(IMAGES, seeded()).item() == pytest.approx(slow_nt_xent(projections, temperature), rel=1e-5)


def test_byol_is_the_squared_distance_of_unit_vectors() -> None:
    module = BYOL(create("test_vit", 0, image_size=32), views=Views())
    predictions, targets = module.predictions_and_targets(IMAGES, seeded())
    distances = [(p / p.norm() - t / t.norm()).square().sum() for p, t in zip(predictions, targets, strict=True)]
    assert module(IMAGES, seeded()).item() == pytest.approx(float(torch.stack(distances).mean().detach()), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_mocov3_is_the_symmetric_info_nce(temperature: float) -> None:
    module = MoCoV3(create("test_vit", 0, image_size=32), views=Views(), temperature=temperature)
    predictions, targets = (part.detach() for part in module.predictions_and_targets(IMAGES, seeded()))
    wanted = sum(slow_info_nce(predictions[half], targets[half], temperature) for half in (slice(0, 6), slice(6, 12)))
    assert module(IMAGES, seeded()).item() == pytest.approx(wanted, rel=1e-5)


def test_a_prediction_meets_the_target_of_the_other_view() -> None:
    module = BYOL(create("test_vit", 0, image_size=32), views=Views()).eval()
    _, targets = module.predictions_and_targets(IMAGES, seeded())
    first, second = module.target(_two_views(IMAGES, seeded(), Views())).chunk(2)
    assert torch.allclose(targets, torch.cat([second, first]), atol=1e-5)


def test_info_nce_of_matching_rows_is_lower_than_of_others() -> None:
    keys = torch.eye(8)
    assert info_nce(keys, keys, 0.2) < 0.05 < 0.3 < info_nce(keys.roll(1, 0), keys, 0.2)


@pytest.mark.parametrize("method", [BYOL, MoCoV3])
def test_the_target_follows_the_encoder_by_the_schedule_and_no_gradient(method: type[BYOL] | type[MoCoV3]) -> None:
    module = method(create("test_vit", 0, image_size=32), views=Views())
    module(IMAGES, seeded()).backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.target.parameters())
    steps, step = 400_000, 100_000
    online, target = module.encoder.backbone.vit.pos_embed, module.target[0].backbone.vit.pos_embed
    with torch.no_grad():
        online.fill_(1.0)
        target.fill_(0.0)
    module.update(step, steps)
    momentum = 1 - (1 - module.momentum) * (math.cos(math.pi * step / steps) + 1) / 2  # of both papers
    assert float(target.detach().mean()) == pytest.approx(1 - momentum, rel=1e-3)
    module.update(steps, steps)
    assert float(target.detach().mean()) == pytest.approx(1 - momentum, rel=1e-3)  # at the end the target stands still


def test_short_trainings_start_with_less_momentum_and_long_ones_with_the_published() -> None:
    assert start_momentum(0.996, 300_000) == 0.996
    assert start_momentum(0.996, 1) == start_momentum(0.99, 100) == 0.9
    assert 0.9 < start_momentum(0.996, 1000) < 0.996
