"""The plan: balanced, deterministic, a longer one begins with the shorter one, and it asks for nothing impossible."""

from pathlib import Path

import numpy as np
import pandas as pd

from components.plan import plan_faces
from components.plans.rows import planned_faces
from synfer.config import Common, Synthesis
from synfer.manifest import REQUIRED
from synfer.vocabulary import DEFAULT_EXPRESSIONS, exclusion_conflicts


def test_expressions_are_balanced_and_seeds_unique():
    plan = plan_faces(70, expressions=DEFAULT_EXPRESSIONS, seed=0)
    assert plan["expression"].value_counts().tolist() == [10] * 7
    assert plan["seed"].is_unique and plan["sample_id"].is_unique
    assert set(REQUIRED) - set(plan.columns) == {"sha256"}


def test_a_longer_plan_begins_with_the_shorter_one():
    short, long = (plan_faces(count, expressions=DEFAULT_EXPRESSIONS, seed=3) for count in (10, 25))
    pd.testing.assert_frame_equal(short, long.head(10))


def test_another_seed_asks_for_other_faces():
    one, two = (plan_faces(20, expressions=DEFAULT_EXPRESSIONS, seed=seed) for seed in (0, 1))
    assert not set(one["seed"]) & set(two["seed"])
    assert one["caption"].tolist() != two["caption"].tolist()


def test_nothing_impossible_is_asked():
    plan = plan_faces(300, expressions=DEFAULT_EXPRESSIONS, seed=0)
    assert not any(exclusion_conflicts(np.asarray(aus)) for aus in plan["aus"])
    women = plan[plan["attr_sex"] == "woman"]
    assert (women["attr_facial_hair"] == "none").all() and (women["attr_hair_style"] != "bald").all()


def test_a_series_draws_other_faces_of_the_same_plan_and_series_0_those_of_the_seed_alone() -> None:
    tonight, tomorrow, none = (planned_faces(Synthesis(images=14, series=number), Common(), inside=Path.cwd()) for number in (7, 8, 0))
    assert list(none["seed"]) == list(plan_faces(14, expressions=DEFAULT_EXPRESSIONS, seed=0)["seed"])
    assert [list(rows["expression"]) for rows in (tonight, tomorrow)] == [list(none["expression"])] * 2
    drawn = pd.concat([tonight, tomorrow, none])
    assert drawn["seed"].is_unique
    assert drawn["sample_id"].is_unique
