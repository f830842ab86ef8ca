"""Pixels become tensors and bytes again without loss."""

import numpy as np
import pytest
import torch

from synfer.pixels import AT_ONCE, PixelsError, bounded_slices, to_bytes, to_tensor


def test_pixels_survive_the_way_to_a_tensor_and_back() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    tensor = to_tensor(images)
    assert tensor.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(to_bytes(tensor), images)


def test_black_is_minus_one_and_white_is_one() -> None:
    assert [float(to_tensor(np.full((1, 2, 2, 3), value, np.uint8)).mean()) for value in (0, 255)] == [-1, 1]


@pytest.mark.parametrize("images", [np.ones((2, 4, 4, 3), np.float32), np.ones((2, 4, 4, 3), bool), np.ones((2, 3, 4, 4), np.uint8)])
def test_what_is_no_pixels_is_refused_and_not_made_black(images: np.ndarray) -> None:
    with pytest.raises(PixelsError, match=rf"pixels must be uint8 \(N, H, W, 3\), found {images.dtype} \(2, "):
        to_tensor(images)


def test_what_is_brighter_than_white_is_white() -> None:
    assert to_bytes(torch.tensor([-3.0, 0.0, 3.0])[None, :, None, None]).ravel().tolist() == [0, 128, 255]


def test_slices_cover_every_image_once_within_the_bound_and_hold_one_at_least() -> None:
    for side, largest in ((64, 256), (512, 4), (4096, 1)):
        slices = list(bounded_slices(601, side=side))
        assert [row for one in slices for row in range(601)[one]] == list(range(601))
        assert len(range(601)[slices[0]]) == largest == max(AT_ONCE // side**2, 1)
