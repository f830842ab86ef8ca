"""Every metric against scikit-learn or torchmetrics, and against what must hold for any metric."""

import synfer.torchvision_shim  # noqa: F401  torchmetrics imports torchvision

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from synfer.metrics.classification import (
    ACCURACY,
    ECE,
    MACRO_F1,
    METRICS,
    NLL,
    UAR,
    MetricError,
    confusion,
    recall_of,
    recalls,
    reliability,
)


def predictions(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and predictions that are right more often than not."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 80), classes=st.integers(2, 8), seed=st.integers(0, 10**6))
def test_agree_with_scikit_learn(rows: int, classes: int, seed: int) -> None:
    truth, probabilities = predictions(rows, classes, seed)
    guess = probabilities.argmax(1)
    present = np.unique(truth)
    assert ACCURACY(truth, probabilities) == pytest.approx(sk.accuracy_score(truth, guess))
    assert UAR(truth, probabilities) == pytest.approx(sk.recall_score(truth, guess, labels=present, average="macro", zero_division=0.0))
    assert MACRO_F1(truth, probabilities) == pytest.approx(sk.f1_score(truth, guess, average="macro", zero_division=0.0))
    assert NLL(truth, probabilities) == pytest.approx(sk.log_loss(truth, probabilities, labels=range(classes)))
    assert (confusion(truth, guess, classes) == sk.confusion_matrix(truth, guess, labels=range(classes))).all()


def test_calibration_error_agrees_with_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    truth, probabilities = predictions(500, 7, seed=3)
    reference = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=7, n_bins=15, norm="l1")
    assert ECE(truth, probabilities) == pytest.approx(float(reference), abs=1e-5)


def test_reliability_adds_up_to_the_calibration_error() -> None:
    truth, probabilities = predictions(400, 5, seed=4)
    count, confidence, accuracy = reliability(truth, probabilities).T
    full = count > 0
    gap = (count * np.abs(confidence - accuracy))[full].sum() / len(truth)
    assert count.sum() == len(truth)
    assert gap == pytest.approx(ECE(truth, probabilities))


@pytest.mark.parametrize("classes", [2, 7])
def test_a_constant_guess_has_chance_uar(classes: int) -> None:
    truth = np.repeat(np.arange(classes), [5 + 3 * index for index in range(classes)])
    probabilities = np.eye(classes)[np.zeros(len(truth), int)]
    assert UAR(truth, probabilities) == pytest.approx(1 / classes)


def test_a_perfect_guess() -> None:
    truth = np.arange(21) % 7
    values = {name: metric(truth, np.eye(7)[truth]) for name, metric in METRICS.items()}
    assert values == pytest.approx({"accuracy": 1.0, "uar": 1.0, "macro_f1": 1.0, "nll": 0.0, "ece": 0.0})


def test_order_of_rows_and_names_of_classes_do_not_matter() -> None:
    truth, probabilities = predictions(120, 6, seed=5)
    rows, classes = np.random.default_rng(0).permutation(120), np.random.default_rng(1).permutation(6)
    for metric in METRICS.values():
        assert metric(truth[rows], probabilities[rows]) == pytest.approx(metric(truth, probabilities))
        renamed = np.empty_like(probabilities)
        renamed[:, classes] = probabilities
        assert metric(classes[truth], renamed) == pytest.approx(metric(truth, probabilities))


def test_recall_of_a_class_is_a_row_of_the_confusion_matrix() -> None:
    truth, probabilities = predictions(200, 4, seed=6)
    by_class = recalls(confusion(truth, probabilities.argmax(1), 4))
    assert [recall_of(index)(truth, probabilities) for index in range(4)] == pytest.approx(by_class)


def test_bad_predictions_are_refused() -> None:
    with pytest.raises(MetricError, match=r"\(3,\) and \(2, 7\)"):
        ACCURACY(np.zeros(3, int), np.ones((2, 7)))
    with pytest.raises(MetricError, match="class 7, probabilities have 7 classes"):
        UAR(np.array([7]), np.ones((1, 7)))
    with pytest.raises(MetricError):
        UAR(np.zeros(0, int), np.ones((0, 7)))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([np.nan, np.nan, np.nan], "sum nan"),
        ([4.0, -2.0, 1.0], "sum 3, smallest -2"),  # logits
        ([0.9, 0.9, 0.1], r"1 of 2 rows are not, the first is row 1 with sum 1\.9"),  # scores of single classes
        ([np.inf, 0.0, 0.0], "sum inf"),
        ([1.5, -0.5, 0.0], "smallest -0.5"),
    ],
)
def test_what_is_no_probability_is_refused(row: list[float], told: str) -> None:
    table = np.array([[0.2, 0.3, 0.5], row])
    for metric in METRICS.values():
        with pytest.raises(MetricError, match=told):
            metric(np.array([2, 0]), table)
    with pytest.raises(MetricError, match=told):
        reliability(np.array([2, 0]), table)


def test_probabilities_that_were_rounded_pass() -> None:
    truth, probabilities = predictions(50, 7, seed=8)
    assert ACCURACY(truth, probabilities.astype(np.float16)) == pytest.approx(ACCURACY(truth, probabilities))


@pytest.mark.parametrize("truth", [np.array([0.0, 1.0]), np.array([True, False]), np.array(["0", "1"])])
def test_truth_that_holds_no_class_indices_is_refused(truth: np.ndarray) -> None:
    with pytest.raises(MetricError, match=f"truth must hold class indices, found {truth.dtype}"):
        UAR(truth, np.eye(2))
    with pytest.raises(MetricError, match="truth holds class -1, probabilities have 2 classes"):
        UAR(np.array([0, -1]), np.eye(2))
