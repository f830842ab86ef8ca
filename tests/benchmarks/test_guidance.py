"""The guidance study's arithmetic: which strength is reported, what a face has drifted by, what an arm costs."""

import numpy as np
import pytest

from benchmarks.guidance.__main__ import StudyError, parse_strengths
from benchmarks.guidance.arms import NONE, UNGUIDED, Arm, Drawn, arms
from benchmarks.guidance.measures import class_distance, cost, feature_drift, pixel_drift
from benchmarks.guidance.report import as_json, best
from components.guidance import LATENT, PUBLISHED
from synfer.config import Synthesis
from synfer.metrics.bootstrap import Interval

WEAK, MIDDLE, STRONG = (Arm(LATENT, strength) for strength in (0.02, 0.05, 0.2))


def around(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01, 350)


def figures(judge: float, precision: float) -> dict[str, Interval]:
    others = ("cost", "gap", "kid", "drift", "feature_drift", "diversity")
    return {"judge": around(judge), "precision": around(precision), **{name: around(0.5) for name in others}}


def drawn(wall, processor) -> Drawn:
    return Drawn(np.zeros((6, 4, 4, 3), np.uint8), np.array(wall), np.array(processor), np.array([3, 3]))


def test_every_form_is_drawn_at_every_strength_and_nothing_is_drawn_twice():
    study = arms([0.05, 0.1])
    assert study[0] == UNGUIDED
    assert sorted(study[1:], key=str) == [Arm(form, strength) for form in (LATENT, PUBLISHED) for strength in (0.05, 0.1)]


def test_an_arm_changes_the_form_and_the_strength_alone():
    section = Synthesis(images=7)
    changed = Arm(PUBLISHED, 0.1).section(section)
    assert (changed.guidance_form, changed.semantic_guidance) == ("published", 0.1)
    assert changed.model_copy(update={"guidance_form": section.guidance_form, "semantic_guidance": section.semantic_guidance}) == section
    assert UNGUIDED.section(section).semantic_guidance == 0.0


def test_the_most_accurate_strength_is_reported_unless_it_costs_realism():
    found = {UNGUIDED: figures(0.84, 0.75), WEAK: figures(0.88, 0.76), MIDDLE: figures(0.92, 0.73), STRONG: figures(0.99, 0.60)}
    assert best(found, LATENT) == MIDDLE
    assert best({**found, STRONG: figures(0.99, 0.73)}, LATENT) == STRONG


def test_where_all_strengths_cost_realism_the_gentlest_is_reported():
    found = {UNGUIDED: figures(0.84, 0.75), MIDDLE: figures(0.92, 0.70), STRONG: figures(0.99, 0.60)}
    assert best(found, LATENT) == MIDDLE


def test_of_equal_strengths_the_smaller_is_reported():
    found = {UNGUIDED: figures(0.84, 0.75), WEAK: figures(0.92, 0.75), STRONG: figures(0.92, 0.75)}
    assert best(found, LATENT) == WEAK


def test_the_json_names_every_form_with_its_interval():
    published = Arm(PUBLISHED, 0.1)
    found = {UNGUIDED: figures(0.84, 0.75), published: figures(0.9, 0.74), MIDDLE: figures(0.92, 0.73)}
    picked = {NONE: UNGUIDED, PUBLISHED: published, LATENT: MIDDLE}
    flat = as_json(found, picked, around(0.001), {UNGUIDED: 0.1, published: 0.35, MIDDLE: 0.12})
    assert (flat["judge_none"], flat["judge_published"], flat["judge_ours"]) == (0.84, 0.9, 0.92)
    assert (flat["precision_ours_low"], flat["precision_ours_high"]) == (0.72, 0.74)
    assert (flat["strength_ours"], flat["seconds_published"], flat["kid_floor"]) == (0.05, 0.35, 0.001)
    assert {"cost_published", "cost_ours", "gap_ours", "gap_ours_low", "gap_ours_high", "kid_ours", "precision_none"} <= set(flat)


def test_cost_is_the_ratio_of_all_the_time_that_was_taken():
    ours, plain = drawn([1.0, 9.0], [2.0, 4.0]), drawn([2.0, 2.0], [2.0, 2.0])
    assert cost(ours, plain, wall=False).value == pytest.approx(1.5)
    assert cost(ours, plain, wall=True).value == pytest.approx(2.5)
    assert (cost(ours, plain, wall=False).low, cost(ours, plain, wall=False).high) == pytest.approx((1.0, 2.0))
    assert ours.seconds(wall=False) == pytest.approx(1.0)


def test_drift_in_pixels_is_a_share_of_their_range():
    black = np.zeros((2, 4, 4, 3), np.uint8)
    changed = black.copy()
    changed[1, :2] = 255
    assert pixel_drift(changed, black) == pytest.approx([0.0, 0.5])


def test_drift_in_features_is_a_share_of_the_distance_between_faces():
    plain = np.array([[0.0, 0.0], [0.0, 4.0]])
    assert feature_drift(np.array([[0.0, 0.0], [3.0, 4.0]]), plain) == pytest.approx([0.0, 0.75])


def test_variety_is_the_distance_within_a_class():
    found = np.array([[0.0, 0.0], [0.0, 2.0], [0.0, 4.0], [9.0, 0.0]])
    assert class_distance(found, np.array([0, 0, 0, 1])) == pytest.approx([3.0, 2.0, 3.0, 0.0])


def test_strengths_are_numbers_above_zero():
    assert parse_strengths("0.1, 0.02,0.1") == [0.02, 0.1]
    with pytest.raises(StudyError, match="'a,b' are not numbers"):
        parse_strengths("a,b")
    with pytest.raises(StudyError, match="found 0; the unguided"):
        parse_strengths("0,0.1")
