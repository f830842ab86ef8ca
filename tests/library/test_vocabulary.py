"""The vocabulary: one table, names in, clear errors out, flips that undo themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synfer.vocabulary import (
    ALIASES,
    AU_CODES,
    AU_COUNT,
    AU_INDEX,
    COMPOUNDS,
    EXCLUSIONS,
    EXPRESSIONS,
    OPENGRAPHAU_COUNT,
    PROTOTYPES,
    SIDED_AUS,
    VocabularyError,
    as_expression,
    au_intensities,
    au_vector,
    check_attributes,
    check_au,
    check_exclusions,
    check_expression,
    exclusion_conflicts,
    flip_aus,
    flip_order,
    left_right,
    parse_aus,
    resolve_exclusions,
    set_left_right,
    shown_intensities,
)  # fmt: skip

vectors = st.lists(st.sampled_from([0.0, 1.0, 2.5, 5.0]), min_size=AU_COUNT, max_size=AU_COUNT).map(lambda v: np.array(v, np.float32))


def test_the_vector_begins_with_opengraphaus_41():
    assert AU_COUNT == OPENGRAPHAU_COUNT + 1
    assert [AU_CODES[i] for i in (0, 6, 9, 22, 26, 27, 38, 40, 41)] == ["1", "9", "12", "26", "39", "L1", "R12", "R14", "43"]


def test_every_table_speaks_of_known_names():
    assert set(PROTOTYPES) == set(EXPRESSIONS)
    named = [au for p in PROTOTYPES.values() for aus in (p.core, p.optional, *p.variants) for au in aus]
    assert {check_au(au) for au in named} <= set(AU_CODES)
    assert all(a in AU_INDEX and b in AU_INDEX for a, b in EXCLUSIONS)
    assert {name for pair in COMPOUNDS.values() for name in pair} <= set(EXPRESSIONS)


def test_every_other_name_means_one_expression():
    assert tuple(ALIASES) == EXPRESSIONS
    names = [name for expression, aliases in ALIASES.items() for name in (expression, *aliases)]
    assert len(names) == len(set(names))
    assert [as_expression(name) for name in ("Happy", " ANGRY ", "3_sad", "0-Neutral", "AF", "contempt")] == [
        "happiness", "anger", "sadness", "neutral", "fear", "contempt",
    ]  # fmt: skip
    for number in ("0", "7"):
        with pytest.raises(VocabularyError, match=f"unknown expression '{number}'"):
            as_expression(number)


@given(vectors)
def test_a_flip_undoes_itself_and_swaps_the_sides(vector):
    assert np.array_equal(flip_aus(flip_aus(vector)), vector)
    for unit in SIDED_AUS:
        assert left_right(flip_aus(vector), unit) == left_right(vector, unit)[::-1]


@given(st.sampled_from(SIDED_AUS), st.floats(0, 5), st.floats(0, 5))
def test_a_side_shows_its_intensity_however_it_was_written(unit, both, left):
    vector = au_vector({unit: both, f"L{unit}": left, "26": 2.0})
    shown = shown_intensities(np.stack([vector, flip_aus(vector)]), [f"L{unit}", "26", f"R{unit}"])
    expected = np.float32([max(both, left), 2.0, both])
    assert np.array_equal(shown, [expected, expected[flip_order([f"L{unit}", "26", f"R{unit}"])]])


def test_a_side_without_its_counterpart_cannot_be_mirrored():
    with pytest.raises(VocabularyError, match="AU L12 has no counterpart R12"):
        flip_order(["L12", "26"])


@given(vectors)
def test_resolving_leaves_no_conflict_and_adds_nothing(vector):
    resolved = resolve_exclusions(vector)
    assert exclusion_conflicts(resolved) == []
    assert ((resolved == vector) | (resolved == 0)).all()


@given(st.sampled_from(SIDED_AUS), st.floats(0, 5), st.floats(0, 5))
def test_sides_come_back_as_they_were_set(unit, left, right):
    vector = np.zeros(AU_COUNT)
    set_left_right(vector, unit, left=left, right=right)
    assert left_right(vector, unit) == (left, right)


def test_intensities_go_in_and_come_out():
    assert au_intensities(au_vector({"AU12": 3, "l2": 1.5})) == {"12": 3.0, "L2": 1.5}
    assert parse_aus("12=3, L2=1.5") == {"12": 3.0, "L2": 1.5}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_expression("hapiness"), "did you mean 'happiness'"),
        (lambda: check_au("99"), "unknown action unit '99'"),
        (lambda: au_vector({"12": 6}), "intensity of AU 12 is 6"),
        (lambda: parse_aus("12"), "cannot read '12'"),
        (lambda: parse_aus("12=9"), "must lie in 0..5"),
        (lambda: check_exclusions(au_vector({"5": 2, "43": 3})), "AU 5 .* and AU 43 .* exclude each other"),
        (lambda: check_attributes({"hair": "red"}), "unknown attribute 'hair'"),
        (lambda: check_attributes({"age": "ancient"}), "value of attribute age 'ancient'"),
    ],
)
def test_what_is_unknown_is_named(call, message):
    with pytest.raises(VocabularyError, match=message):
        call()
