"""An epoch sees every row once, every class as often, or the parts in their ratio."""

import numpy as np
import pytest
import torch

from synfer.classifiers.examples import ExamplesError
from synfer.classifiers.sampling import epoch_rows

LABELS = np.array([0] * 50 + [1] * 8 + [2] * 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_by_default_every_row_comes_once_in_an_order_of_the_generator() -> None:
    draw = epoch_rows([60], [1.0])
    first, again, other = draw(generator()), draw(generator()), draw(generator(1))
    assert sorted(first) == list(range(60))
    assert first.tolist() == again.tolist() != other.tolist()


def test_balanced_epochs_have_every_class_as_often_and_repeat_no_row_before_its_class_is_used_up() -> None:
    draw = epoch_rows([60], [1.0], labels=LABELS)
    rows = draw(generator())
    assert np.bincount(LABELS[rows]).tolist() == [20, 20, 20]
    assert set(np.bincount(rows, minlength=60)[:50]) == {0, 1}
    assert set(np.bincount(rows, minlength=60)[50:58]) == {2, 3}
    assert np.bincount(rows, minlength=60)[58:].tolist() == [10, 10]


def test_parts_come_in_their_ratio_whatever_their_sizes() -> None:
    draw = epoch_rows([50, 10], [1.0, 3.0], rows=40)
    rows = draw(generator())
    assert draw.rows == len(rows) == 40
    assert (rows < 50).sum() == 10
    assert np.bincount(rows, minlength=60)[50:].tolist() == [3] * 10


def test_ratio_and_balance_hold_together() -> None:
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    rows = epoch_rows([4, 4], [1.0, 2.0], rows=24, labels=labels)(generator())
    assert [((rows < 4) & (labels[rows] == label)).sum() for label in (0, 1)] == [4, 4]
    assert [((rows >= 4) & (labels[rows] == label)).sum() for label in (0, 1)] == [8, 8]


def test_the_counts_add_up_when_they_do_not_divide() -> None:
    assert sum(epoch_rows([60], [1.0], rows=100, labels=LABELS).counts) == 100
    assert epoch_rows([10, 10, 10], [1, 1, 1], rows=10).counts == (3, 4, 3)


def test_rows_of_no_weight_are_never_drawn() -> None:
    weights = np.array([1.0, 0.0, 0.5, 0.0])
    assert set(epoch_rows([4], [1.0], rows=50, weights=weights)(generator())) == {0, 2}
    with pytest.raises(ExamplesError, match="part 2 of the training set has no image of positive weight"):
        epoch_rows([3, 1], [1.0, 1.0], weights=weights)
