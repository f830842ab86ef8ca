"""Pixels become tensors and bytes again without loss."""

import numpy as np
import torch

from synfer.pixels import to_bytes, to_tensor


def test_pixels_survive_the_way_to_a_tensor_and_back() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    tensor = to_tensor(images)
    assert tensor.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(to_bytes(tensor), images)


def test_black_is_minus_one_and_white_is_one() -> None:
    assert [float(to_tensor(np.full((1, 2, 2, 3), value, np.uint8)).mean()) for value in (0, 255)] == [-1, 1]


def test_what_is_brighter_than_white_is_white() -> None:
    assert to_bytes(torch.tensor([-3.0, 0.0, 3.0])[None, :, None, None]).ravel().tolist() == [0, 128, 255]
