"""The gap between groups: what slow arithmetic says, near its chance level where groups do not differ, far from it where they do."""

import numpy as np
import pytest

from synfer.metrics.classification import ACCURACY, UAR
from synfer.metrics.groups import group_gap
from synfer.metrics.mcnemar import mcnemar


def faces(count: int = 600, *, worse: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities that are right in 80 % of the rows (less by `worse` in group b), and groups a, b, c."""
    rng = np.random.default_rng(seed)
    truth, groups = rng.integers(0, 3, count), np.array(["a", "b", "c"])[rng.integers(0, 3, count)]
    right = rng.random(count) < 0.8 - worse * (groups == "b")
    guess = np.where(right, truth, (truth + 1) % 3)
    return truth, np.eye(3)[guess] * 0.8 + 0.2 / 3, groups


def test_the_gap_is_the_difference_of_the_extreme_groups() -> None:
    truth, probabilities, groups = faces(worse=0.3)
    found = group_gap(truth, probabilities, groups, resamples=300)
    assert found is not None
    values = {name: UAR(truth[groups == name], probabilities[groups == name]) for name in "abc"}
    assert {name: value.value for name, value in found.groups.items()} == pytest.approx(values)
    assert (found.worst, found.groups["b"].n) == ("b", (groups == "b").sum())
    assert found.gap.value == pytest.approx(values["b"] - max(values.values()))
    assert found.gap.high < 0
    assert found.gap.value < 3 * found.by_chance < 0


def test_equal_groups_show_the_gap_of_chance() -> None:
    gaps = [group_gap(*faces(seed=seed), resamples=10) for seed in range(30)]
    found = [gap for gap in gaps if gap is not None]
    assert len(found) == 30
    assert np.mean([gap.gap.value for gap in found]) == pytest.approx(np.mean([gap.by_chance for gap in found]), abs=0.02)


def test_many_images_of_one_person_are_not_many_people() -> None:
    truth, probabilities, groups = (np.repeat(part, 10, axis=0) for part in faces(120, worse=0.2))
    people = np.repeat(np.arange(120), 10).astype(str)
    rows, persons = (group_gap(truth, probabilities, groups, people=who) for who in (None, people))
    assert rows is not None
    assert persons is not None
    assert rows.gap.value == persons.gap.value
    assert persons.gap.high - persons.gap.low > 2 * (rows.gap.high - rows.gap.low)
    assert persons.by_chance < 2 * rows.by_chance < 0


def test_people_with_many_images_and_people_with_few_are_dealt_out_whole() -> None:
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(60), rng.integers(1, 25, 60))
    groups, right = np.array(["a", "b"])[np.arange(60) % 2][person], (rng.random(60) < 0.5)[person]
    probabilities = np.eye(2)[np.where(right, 0, 1)]
    found = group_gap(np.zeros(len(person), int), probabilities, groups, people=person.astype(str), metric=ACCURACY)
    assert found is not None
    gaps = []
    for _ in range(300):  # by hand: the people in another order, the groups one after the other in the sizes they have
        dealt = np.concatenate([right[person == who] for who in rng.permutation(60)])
        sizes = np.cumsum([(groups == name).sum() for name in "ab"])[:-1]
        shares = [part.mean() for part in np.split(dealt, sizes)]
        gaps.append(min(shares) - max(shares))
    assert found.by_chance == pytest.approx(np.mean(gaps), rel=0.15)
    alone = group_gap(np.zeros(len(person), int), probabilities, groups, metric=ACCURACY)
    assert alone is not None
    assert found.by_chance < 1.5 * alone.by_chance
    widths = [gap.groups["a"].high - gap.groups["a"].low for gap in (found, alone)]
    assert widths[0] > 1.5 * widths[1], "the interval of a group is over people as that of the gap is"


def test_small_and_nameless_groups_take_no_part() -> None:
    truth, probabilities, groups = faces()
    groups = np.where(np.arange(600) < 20, "few", groups)
    groups = np.where(np.arange(600) > 500, "", groups)
    found = group_gap(truth, probabilities, groups)
    assert found is not None
    assert set(found.groups) == {"a", "b", "c"}
    assert found.small == {"few": 20}
    assert group_gap(truth, probabilities, ["all"] * 600) is None


def test_mcnemar_agrees_with_the_binomial_by_hand() -> None:
    truth = np.zeros(10, int)
    right, wrong = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    ours = np.stack([right] * 9 + [wrong])
    theirs = np.stack([right] * 3 + [wrong] * 6 + [right])
    found = mcnemar(truth, ours, theirs)
    assert (found.only_first, found.only_second) == (6, 1)
    assert found.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(truth, ours, ours).p_value == 1
