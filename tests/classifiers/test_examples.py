"""Examples hold together, and pixels become tensors without loss."""

import numpy as np
import pytest

from synfer.classifiers.examples import ExamplesError, check_class_probabilities, class_indices, concatenate, examples, one_hot


def pixels(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, 8, 8, 3), dtype=np.uint8)


def test_labels_by_name_not_by_index() -> None:
    classes = ("sadness", "neutral")
    assert class_indices(["neutral", "sadness"], classes).tolist() == [1, 0]
    assert one_hot(["neutral"], classes).tolist() == [[0.0, 1.0]]
    with pytest.raises(ExamplesError, match=r"unknown class 'sadnes'.*did you mean 'sadness'"):
        class_indices(["sadnes"], classes)


def test_concatenate_keeps_order() -> None:
    first, second = examples(pixels(2), np.zeros((2, 3))), examples(pixels(3), np.ones((3, 3)), np.full(3, 0.5))
    both = concatenate([first, second])
    assert len(both) == 5
    assert both.weights.tolist() == [1, 1, 0.5, 0.5, 0.5]
    assert both.take(np.array([4, 0])).targets[:, 0].tolist() == [1, 0]


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ExamplesError, match="2 images, 3 targets, 2 weights"):
        examples(pixels(2), np.zeros((3, 7)))
    with pytest.raises(ExamplesError, match=r"float64 \(2, 8, 8, 3\)"):
        examples(pixels(2) / 255.0, np.zeros((2, 7)))
    with pytest.raises(ExamplesError, match="negative, found -1"):
        examples(pixels(2), np.zeros((2, 7)), np.array([1.0, -1.0]))
    with pytest.raises(ExamplesError, match="found nan"):
        examples(pixels(2), np.zeros((2, 7)), np.array([1.0, np.nan]))


@pytest.mark.parametrize("row", [[1.0, 1.0, 1.0], [0.5, np.nan, 0.5], [1.5, -0.5, 0.0], [0.0, 0.0, 0.0]])
def test_targets_that_are_no_class_probabilities_are_refused(row: list[float]) -> None:
    check_class_probabilities(examples(pixels(1), np.array([[0.2, 0.3, 0.5]])), "training")
    with pytest.raises(ExamplesError, match=r"training targets must be class probabilities.*: 1 of 2 rows are not, the first is row 1"):
        check_class_probabilities(examples(pixels(2), np.array([[0.2, 0.3, 0.5], row])), "training")
