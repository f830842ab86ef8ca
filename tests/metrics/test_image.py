"""KID and precision/recall against torchmetrics and a loop, and on distributions whose answer is known."""

import synfer.torchvision_shim  # noqa: F401  torchmetrics imports torchvision

import numpy as np
import pytest
import torch

from synfer.metrics.image import FeatureError, kid, kid_floor, precision, recall, within_manifold


def normal(rows: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, 12)) * scale + shift).astype(np.float32)


def test_kid_of_whole_sets_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    real, fake = normal(40, 0), normal(40, 1, shift=0.3)
    reference = float(poly_mmd(torch.from_numpy(real).double(), torch.from_numpy(fake).double()))
    found = kid(real, fake, subsets=2000, subset_size=20)
    assert found.value == pytest.approx(reference, rel=0.05)  # the mean over unbiased subsets tends to the value of the whole


def test_kid_is_small_for_one_distribution_and_grows_with_distance() -> None:
    real = normal(400, 2)
    same, near, far = (kid(real, normal(400, 3, shift=shift), subset_size=100).value for shift in (0.0, 0.4, 0.8))
    floor = kid_floor(real, subset_size=100)
    assert floor.low < same < floor.high
    assert floor.high < near < far


def test_floor_is_centred_on_zero() -> None:
    floor = kid_floor(normal(300, 4), subsets=400, subset_size=100)
    assert floor.low < 0 < floor.high
    assert abs(floor.value) < 0.2 * (floor.high - floor.low)


def test_kid_is_seeded() -> None:
    real, fake = normal(60, 5), normal(60, 6)
    assert kid(real, fake, seed=1) == kid(real, fake, seed=1) != kid(real, fake, seed=2)


def test_within_manifold_agrees_with_a_loop() -> None:
    manifold, points = normal(40, 7), normal(30, 8, scale=1.4)
    found = within_manifold(manifold, points, neighbours=3)
    for point, inside in zip(points, found, strict=True):
        radii = [np.sort(np.linalg.norm(manifold - sample, axis=1))[3] for sample in manifold]  # [0] is the sample itself
        assert inside == any(np.linalg.norm(point - sample) <= radius for sample, radius in zip(manifold, radii, strict=True))


def test_collapsed_fakes_are_precise_but_recall_little() -> None:
    real, collapsed = normal(300, 9), normal(300, 10, scale=0.2)
    assert precision(real, collapsed).value > 0.95
    assert recall(real, collapsed).value < 0.3


def test_wild_fakes_are_imprecise() -> None:
    assert precision(normal(300, 11), normal(300, 12, shift=6.0)).value == 0.0


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(FeatureError, match=r"\(20, 12\) and \(20, 3\)"):
        kid(normal(20, 0), np.zeros((20, 3)))
    with pytest.raises(FeatureError):
        kid(normal(20, 0), normal(4, 1))
