"""Agreement of two measurements: the published example, and what shifts, noise and constants do."""

import numpy as np
import pytest
from scipy import stats

from synfer.metrics.agreement import AgreementError, icc, pearson, spearman

# Shrout and Fleiss 1979, table 2: six targets, four judges; table 4 gives ICC(3,1) = .71
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_icc_is_that_of_the_published_example() -> None:
    # worked by hand: mean square between targets 11.242, of the residual 1.019
    assert icc(RATINGS) == pytest.approx((11.2417 - 1.0194) / (11.2417 + 3 * 1.0194), abs=1e-4)
    assert round(icc(RATINGS), 2) == 0.71


def test_icc_forgives_a_shift_and_not_a_change_of_scale() -> None:
    truth = np.arange(6.0)
    assert icc(np.stack([truth, truth + 2], axis=1)) == pytest.approx(1)
    assert pearson(truth, 0.2 * truth) == pytest.approx(1)
    assert icc(np.stack([truth, 0.2 * truth], axis=1)) < 0.5
    assert icc(np.stack([truth, truth[::-1]], axis=1)) == pytest.approx(-1)


def test_a_rank_correlation_asks_for_order_alone() -> None:
    levels, found = np.repeat(np.arange(6.0), 2), np.exp(np.arange(12.0))
    assert spearman(np.arange(12.0), found) == pytest.approx(1)
    assert spearman(levels, found) == pytest.approx(stats.pearsonr(stats.rankdata(levels), stats.rankdata(found)).statistic)
    assert spearman(levels, -found) == pytest.approx(-spearman(levels, found))


def test_a_constant_says_nothing() -> None:
    assert spearman(np.arange(4.0), np.ones(4)) == 0
    assert pearson(np.ones(4), np.arange(4.0)) == 0
    assert np.isnan(icc(np.ones((3, 2))))


def test_measurements_that_do_not_fit_are_named() -> None:
    with pytest.raises(AgreementError, match=r"found \(3,\) and \(4,\)"):
        spearman(np.arange(3.0), np.arange(4.0))
    with pytest.raises(AgreementError, match=r"at least two of both, found \(5, 1\)"):
        icc(np.ones((5, 1)))
