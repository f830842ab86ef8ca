"""Shares with intervals: Wilson's and Newcombe's published examples, and what holds at the ends."""

import math

import pytest

from synfer.metrics.proportions import proportion, proportion_difference


def test_intervals_are_those_of_the_papers() -> None:
    """Newcombe (1998), Statistics in Medicine 17: 81 of 263 (pp. 857-872), and 56 of 70 against 48 of 80 (pp. 873-890, method 10)."""
    found = proportion(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert (found.value, found.n) == (81 / 263, 263)
    gap = proportion_difference(proportion(56, 70), proportion(48, 80))
    assert (gap.value, gap.low, gap.high) == (pytest.approx(0.2), pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_all_or_nothing_of_a_few_is_still_uncertain() -> None:
    assert proportion(4, 4).low < 0.55
    assert proportion(0, 20).high > 0.1
    assert math.isnan(proportion(0, 0).value)
