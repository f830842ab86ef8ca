"""Augmentation is seeded, keeps range and sense, and a mirrored face has mirrored action units."""

import numpy as np
import pytest
import torch

from synfer.classifiers.augment import AugmentationError, jitter, mirror, mix_up, random_operations
from synfer.classifiers.fit import action_units, soft_cross_entropy
from synfer.vocabulary import AU_CODES, AU_COUNT, AU_INDEX, flip_aus


def images(rows: int = 32) -> torch.Tensor:
    return torch.rand(rows, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_jitter_is_seeded_and_keeps_the_range() -> None:
    first = jitter(images(), seeded())
    assert torch.equal(first, jitter(images(), seeded()))
    assert not torch.equal(first, jitter(images(), seeded(1)))
    assert float(first.abs().max()) <= 1


def test_without_strength_nothing_moves() -> None:
    batch = images()
    assert torch.equal(jitter(batch, seeded(), strength=0.0), batch)
    gentle, strong = ((jitter(batch, seeded(), strength=strength) - batch).abs().mean() for strength in (0.2, 1.0))
    assert gentle < strong


def test_jitter_moves_a_spot_only_a_little() -> None:
    spot = torch.full((200, 3, 33, 33), -1.0)
    spot[:, :, 16, 16] = 1.0
    moved = jitter(spot, seeded())[:, 0]
    rows, columns = np.unravel_index(moved.flatten(1).argmax(1).numpy(), (33, 33))
    distance = np.hypot(rows - 16, columns - 16)
    assert distance.max() <= 4
    assert distance.std() > 0


def test_a_mirrored_face_has_mirrored_action_units() -> None:
    batch, aus = images(64), torch.zeros(64, AU_COUNT)
    aus[:, AU_INDEX["L12"]] = 3.0
    mirrored = action_units(AU_CODES).mirror(aus)
    flipped, targets = mirror(batch, aus, mirrored, seeded())
    is_mirrored = torch.tensor([torch.equal(image, original.flip(2)) for image, original in zip(flipped, batch, strict=True)])
    assert 16 < int(is_mirrored.sum()) < 48
    assert (targets[is_mirrored][:, AU_INDEX["R12"]] == 3).all()
    assert (targets[~is_mirrored][:, AU_INDEX["L12"]] == 3).all()
    assert np.allclose(mirrored.numpy(), flip_aus(aus.numpy()))


def test_randaugment_treats_every_image_in_its_own_way_and_keeps_the_type() -> None:
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), dtype=np.uint8), 8, axis=0)
    torch.manual_seed(0)
    found = random_operations(same, 9)
    assert (found.shape, found.dtype) == (same.shape, np.uint8)
    assert len({image.tobytes() for image in found}) > 4
    torch.manual_seed(0)
    assert np.array_equal(found, random_operations(same, 9))
    assert random_operations(same, 0) is same
    with pytest.raises(AugmentationError, match=r"magnitude is 31, it must lie in 0\.\.30"):
        random_operations(same, 31)


def test_mixup_is_the_mixture_of_the_weighted_losses() -> None:
    generator = seeded()
    batch, logits = images(6), torch.randn(6, 3, generator=generator)
    targets, weights = torch.rand(6, 3, generator=generator).softmax(1), torch.tensor([1.0, 0.0, 0.5, 2.0, 0.0, 0.0])
    torch.manual_seed(0)
    mixed, mixed_targets, mixed_weights = mix_up(batch, targets, weights, alpha=0.4)
    share = float(((mixed - batch.roll(1, 0)) / (batch - batch.roll(1, 0))).median())
    assert 0 < share < 1
    assert torch.allclose(mixed, share * batch + (1 - share) * batch.roll(1, 0), atol=1e-4)
    found = soft_cross_entropy(logits, mixed_targets, 0.0) * mixed_weights
    own, neighbours = (soft_cross_entropy(logits, labels, 0.0) for labels in (targets, targets.roll(1, 0)))
    assert torch.allclose(found, share * weights * own + (1 - share) * weights.roll(1, 0) * neighbours, atol=1e-4)
    assert found[5] == 0  # neither the image nor its neighbour has a weight
