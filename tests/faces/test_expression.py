import numpy as np
import pytest

from synfer.faces.actions import SUPPORTED_AUS
from synfer.faces.annotators import CONFUSIONS, vote
from synfer.faces.expression import DISTRACTOR, ESSENTIAL, WEAKEST, draw_aus, draw_independent_aus
from synfer.faces.face import draw_face
from synfer.faces.identity import draw_identity
from synfer.faces.scene import draw_scene
from synfer.vocabulary import (
    ATTRIBUTES,
    AU_COUNT,
    DEFAULT_EXPRESSIONS,
    EXPRESSIONS,
    SIDED_AUS,
    VocabularyError,
    au_intensities,
    check_attributes,
    exclusion_conflicts,
    left_right,
    set_left_right,
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_drawn_aus_are_supported_bounded_and_without_conflict(expression):
    for seed in range(200):
        aus = draw_aus(expression, np.random.default_rng(seed))
        assert aus.shape == (AU_COUNT,)
        assert aus.dtype == np.float32
        assert aus.min() >= 0
        assert aus.max() <= 5
        assert not exclusion_conflicts(aus)
        assert set(au_intensities(aus)) <= {*SUPPORTED_AUS, "11"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_drawn_aus_are_canonical(expression):
    for seed in range(50):
        aus = draw_aus(expression, np.random.default_rng(seed))
        canonical = aus.copy()
        for unit in SIDED_AUS:
            left, right = left_right(aus, unit)
            set_left_right(canonical, unit, left=float(left), right=float(right))
        assert np.allclose(canonical, aus)


@pytest.mark.parametrize("expression", sorted(ESSENTIAL))
def test_an_expression_keeps_one_of_its_essential_aus(expression):
    for seed in range(100):
        found = au_intensities(draw_aus(expression, np.random.default_rng(seed)))
        assert any(found.get(code, 0.0) >= WEAKEST * 0.8 for code in ESSENTIAL[expression])


def test_neutral_has_faint_aus_only():
    assert max(draw_aus("neutral", np.random.default_rng(seed)).max() for seed in range(200)) <= DISTRACTOR


def test_independent_aus_cover_the_supported_ones():
    drawn = [draw_independent_aus(np.random.default_rng(seed)) for seed in range(1500)]
    assert not any(exclusion_conflicts(aus) for aus in drawn)
    assert {code for aus in drawn for code in au_intensities(aus)} == set(SUPPORTED_AUS)
    assert {np.count_nonzero(aus) for aus in drawn} == {1, 2, 3, 4, 5, 6}


def test_unknown_expressions_are_named():
    with pytest.raises(VocabularyError, match="happines"):
        draw_aus("happines", np.random.default_rng(0))
    with pytest.raises(VocabularyError, match="joy"):
        draw_face(1, identity=1, expression="joy")
    with pytest.raises(VocabularyError, match="joy"):
        vote("joy", np.zeros(AU_COUNT), np.random.default_rng(0))


def test_a_face_follows_from_its_seed():
    one, same, other = (draw_face(seed, identity=3, expression="anger") for seed in (1, 1, 2))
    assert np.array_equal(one.aus, same.aus)
    assert one.scene == same.scene
    assert one.scene != other.scene


def test_a_face_of_independent_aus_has_no_expression():
    face = draw_face(1, identity=3, expression="anger", independent_aus=True)
    assert face.expression == ""
    assert face.independent_aus


def test_scenes_stay_mild():
    scenes = [draw_scene(np.random.default_rng(seed)) for seed in range(300)]
    assert max(abs(scene.yaw) for scene in scenes) <= np.deg2rad(20)
    assert max(abs(scene.pitch) for scene in scenes) <= np.deg2rad(12)
    assert max(abs(scene.roll) for scene in scenes) <= np.deg2rad(10)


def test_identities_are_balanced_over_attributes():
    attributes = [draw_identity(number).attributes for number in range(1000)]
    for name, values in ATTRIBUTES.items():
        for value in values:
            share = np.mean([a[name] == value for a in attributes])
            assert share > 0.25 / len(values), (name, value, share)
    assert all(check_attributes(a) == a for a in attributes)


def test_votes_sum_to_the_annotators():
    votes = vote("fear", draw_aus("fear", np.random.default_rng(0)), np.random.default_rng(1), annotators=7)
    assert votes.shape == (8,)
    assert votes.sum() == 7


def test_confusions_are_distributions_over_other_expressions():
    assert set(CONFUSIONS) == set(EXPRESSIONS)
    for expression, row in CONFUSIONS.items():
        assert expression not in row
        assert sum(row.values()) == pytest.approx(1.0)


def test_the_majority_of_votes_is_right_as_often_as_documented():
    right = []
    for seed in range(2100):
        rng, expression = np.random.default_rng(seed), DEFAULT_EXPRESSIONS[seed % 7]
        right.append(EXPRESSIONS[vote(expression, draw_aus(expression, rng), rng).argmax()] == expression)
    assert 0.86 < np.mean(right) < 0.91


def test_weak_expressions_confuse_more():
    strong = draw_aus("anger", np.random.default_rng(0))
    index = EXPRESSIONS.index("anger")
    share = [np.mean([vote("anger", aus, np.random.default_rng(s))[index] for s in range(300)]) for aus in (strong * 0.4, strong)]
    assert share[0] < share[1] - 1
