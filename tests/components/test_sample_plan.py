"""From a prompt to rows: who is drawn with which AUs, what is relaxed and what is left unspecified."""

from __future__ import annotations

import numpy as np
import pytest

from components.plan import plan_faces, with_attributes
from components.sample_plan import plan_samples
from synfer.faces.expression import draw_compound_aus
from synfer.manifest import stack
from synfer.prompt import make_prompt
from synfer.vocabulary import AU_INDEX, COMPOUNDS, PROTOTYPES, VocabularyError, au_intensities, exclusion_conflicts


def test_an_expression_alone_gives_the_faces_of_the_synthesis_plan() -> None:
    sampled, planned = plan_samples(make_prompt("fear"), n=5, seed=3), plan_faces(5, expressions=["fear"], seed=3)
    assert sampled[["seed", "caption", "sample_id"]].equals(planned[["seed", "caption", "sample_id"]])
    assert np.array_equal(stack(sampled, "aus"), stack(planned, "aus"))


def test_asked_aus_join_the_expression_and_what_excludes_them_gives_way() -> None:
    for vector in stack(plan_samples(make_prompt("surprise", aus={"24": 3, "12": 2}), n=20, seed=0), "aus"):
        found = au_intensities(vector)
        assert (found["24"], found["12"], found.keys() & {"25", "26", "27"}) == (3.0, 2.0, set())


@pytest.mark.parametrize("compound", COMPOUNDS)
def test_a_compound_shows_both_expressions_and_nothing_that_excludes_itself(compound: str) -> None:
    for seed in range(30):
        vector = draw_compound_aus(compound, np.random.default_rng(seed))
        assert exclusion_conflicts(vector) == []
        for part in COMPOUNDS[compound]:
            either = (PROTOTYPES[part].core, *PROTOTYPES[part].variants)
            assert any(vector[AU_INDEX[code]] > 0 for codes in either for code in codes)


def test_a_compound_is_named_by_its_caption_and_kept_beside_the_basic_expressions() -> None:
    rows = plan_samples(make_prompt("happily surprised"), n=3, seed=0)
    assert rows["caption"].str.contains("happily surprised expression").all()
    assert rows["compound"].tolist() == ["happily surprised"] * 3
    assert rows["expression"].tolist() == [""] * 3


def test_an_unknown_compound_is_told() -> None:
    with pytest.raises(VocabularyError, match="unknown compound expression 'happily bored'"):
        draw_compound_aus("happily bored", np.random.default_rng(0))


def test_without_an_expression_the_others_are_relaxed_or_unspecified() -> None:
    (relaxed,) = stack(plan_samples(make_prompt(aus={"12": 3}), n=1, seed=0), "aus")
    assert au_intensities(relaxed) == {"12": 3.0}
    assert not np.isnan(relaxed).any()
    assert np.isnan(stack(plan_samples(make_prompt(), n=2, seed=0), "aus")).all()
    assert np.isnan(stack(plan_samples(make_prompt(caption="a face"), n=2, seed=0), "aus")).all()
    (some,) = stack(plan_samples(make_prompt(caption="a face", aus={"12": 3}), n=1, seed=0), "aus")
    assert some[AU_INDEX["12"]] == 3.0
    assert np.isnan(some[AU_INDEX["4"]])


def test_a_sweep_changes_one_unit_and_nothing_else_along_a_row() -> None:
    rows = plan_samples(make_prompt("happiness", aus={"25": 2}, sweeps=["12=0..5", "L4=5..0"]), n=2, seed=0)
    assert len(rows) == 2 * 2 * 6
    assert rows["sample_id"].is_unique
    for start, code in ((0, "12"), (6, "12"), (12, "L4"), (18, "L4")):
        row = rows.iloc[start : start + 6]
        assert row[["seed", "caption", "attr_sex", "swept_au"]].drop_duplicates().shape[0] == 1
        assert row["swept_au"].iloc[0] == code
        for asked, vector in zip(row["swept_intensity"], row["aus"], strict=True):
            assert au_intensities(vector) == ({"25": 2.0, code: asked} if asked else {"25": 2.0})
        assert "lip corners" not in row["caption"].iloc[0], "the caption must not name what changes"
        assert "parted lips" in row["caption"].iloc[0]
    assert rows["seed"].iloc[0] == rows["seed"].iloc[12] != rows["seed"].iloc[6], "the same people in every sweep"


def test_asked_attributes_are_the_persons_and_the_captions() -> None:
    rows = plan_samples(make_prompt("anger", attributes={"age": "elderly", "glasses": "glasses"}), n=8, seed=0)
    assert set(rows["attr_age"]) == {"elderly"}
    assert rows["caption"].str.contains("elderly").all()
    assert rows["caption"].str.contains("glasses").all()
    assert rows["attr_sex"].nunique() == 2, "what was not asked still varies"


def test_a_beard_alone_asks_for_a_man_and_a_woman_for_no_beard() -> None:
    bearded = plan_samples(make_prompt(attributes={"facial_hair": "beard"}), n=20, seed=0)
    assert set(bearded["attr_sex"]) == {"man"}
    woman = {"sex": "woman", "hair_style": "bald", "facial_hair": "beard"}
    assert with_attributes(woman, {"sex": "woman"}) == {"sex": "woman", "hair_style": "short", "facial_hair": "none"}
    assert with_attributes(woman, {"sex": "woman", "facial_hair": "beard"})["facial_hair"] == "beard", "who asks for it gets it"


def test_a_caption_of_ones_own_stands_alone() -> None:
    rows = plan_samples(make_prompt("anger", caption="an angry face"), n=2, seed=0)
    assert rows["caption"].tolist() == ["an angry face"] * 2
    assert set(rows["attr_age"]) == {""}
    assert rows["aus"].map(lambda vector: vector[AU_INDEX["4"]] > 0).all(), "the AUs are still those of the expression"
