import numpy as np
import pytest

from synfer.annotation.au_consistency import (
    GROSS,
    SIDE_CODES,
    Tolerance,
    au_vectors,
    choose_tolerance,
    contradictions,
    side_intensities,
    soften_contradicting,
)
from synfer.annotation.calibration import AnnotationError
from synfer.annotation.rectify import ACTIONS, Decisions
from synfer.vocabulary import AU_COUNT, AU_INDEX, SIDED_AUS, au_vector, set_left_right

UNITS = ("1", "2", "4", "6", "9", "12", "14", "15", "17", "20", "25", "26")


def asked_faces(rng: np.random.Generator, n: int) -> np.ndarray:
    """AU vectors of faces that show each unit in three of ten cases, the sided ones a little stronger on one side."""
    aus = np.zeros((n, AU_COUNT), dtype=np.float32)
    for vector in aus:
        for unit in UNITS:
            if rng.random() < 0.3:
                left, right = np.clip(rng.uniform(1.0, 5.0) + rng.normal(0, 0.2, 2), 0, 5)
                if unit in SIDED_AUS:
                    set_left_right(vector, unit, left=left, right=right)
                else:
                    vector[AU_INDEX[unit]] = left
    return aus


def seen_in(asked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a reader sees that shrinks intensities and errs; it knows the units of UNITS only."""
    codes = [code for code in SIDE_CODES if code.lstrip("LR") in UNITS]
    sides = side_intensities(asked)[:, [SIDE_CODES.index(code) for code in codes]]
    return au_vectors(0.85 * sides + rng.normal(0, 0.7, sides.shape), codes)


def test_injected_contradictions_are_found_and_whole_faces_raise_false_alarms_at_the_rate_asked_for() -> None:
    rng = np.random.default_rng(0)
    held, faces = asked_faces(rng, 1000), asked_faces(rng, 3000)
    seen = seen_in(faces, rng)
    tolerance = choose_tolerance(held, seen_in(held, rng), false_alarms=0.01)
    assert tolerance.faces == 1000
    assert 0.002 <= contradictions(faces, seen, tolerance).found.mean() <= 0.02  # of faces, with 19 codes on each
    for unit in ("12", "26"):
        columns = [AU_INDEX[code] for code in (unit, f"L{unit}", f"R{unit}") if code in AU_INDEX]
        shown, wrong = faces[:, AU_INDEX[unit]] >= 4, faces.copy()
        wrong[:, columns] = 0.0  # asked 0 where it is shown
        assert contradictions(wrong[shown], seen[shown], tolerance).found.mean() > 0.9
        absent, wrong = (faces[:, columns] == 0).all(axis=1), faces.copy()
        wrong[:, AU_INDEX[unit]] = 4.0  # asked at 4 where it is absent
        assert contradictions(wrong[absent], seen[absent], tolerance).found.mean() > 0.9


def test_a_stricter_rate_widens_every_tolerance_and_none_is_finer_than_gross() -> None:
    rng = np.random.default_rng(1)
    held = asked_faces(rng, 1000)
    seen = seen_in(held, rng)
    loose, strict = (choose_tolerance(held, seen, false_alarms=rate).steps for rate in (0.2, 0.01))
    assert (strict >= loose).all()
    assert (strict > loose).any()
    assert loose.min() >= GROSS


def test_units_that_are_not_readable_and_too_few_faces_contradict_nothing() -> None:
    rng = np.random.default_rng(2)
    held = asked_faces(rng, 600)
    seen = seen_in(held, rng)
    tolerance = choose_tolerance(held, seen, readable=["26"])
    judged = np.isfinite(tolerance.steps).any(axis=0)
    assert [code for code, found in zip(SIDE_CODES, judged, strict=True) if found] == ["26"]
    assert np.isinf(choose_tolerance(held[:60], seen[:60]).steps).all()  # a hundred faces are needed to know one in a hundred


def test_what_is_unknown_never_contradicts() -> None:
    rng = np.random.default_rng(3)
    seen = np.full((3, AU_COUNT), 5.0, dtype=np.float32)
    unknown = np.full((3, AU_COUNT), np.nan, dtype=np.float32)
    for asked, found in ((unknown, seen), (au_vector({})[None].repeat(3, axis=0), unknown), (unknown, unknown)):
        checked = contradictions(asked, found, Tolerance.of(GROSS))
        assert not checked.found.any()
        assert checked.words() == ["", "", ""]
        assert (checked.worst == 0).all()
    asked = asked_faces(rng, 50)
    asked[:, AU_INDEX["26"]] = np.nan
    found = contradictions(asked, 5.0 - np.nan_to_num(asked), Tolerance.of(GROSS)).excess
    assert np.isnan(found[:, SIDE_CODES.index("26")]).all()
    assert np.isfinite(found).any()


def test_sides_are_compared_however_a_source_writes_them() -> None:
    both = au_vector({"12": 4})
    each = au_vector({"L12": 4, "R12": 4})
    table = np.where(both > 0, both, np.nan).astype(np.float32)  # a detector without sides knows 12 alone
    for asked in (both, each):
        for seen in (both, each, table):
            assert not contradictions(asked[None], seen[None], Tolerance.of(GROSS)).found[0]
    left_only = contradictions(au_vector({"L12": 4})[None], both[None], Tolerance.of(GROSS))
    assert left_only.words() == ["asked AU R12 at 0.0, 4.0 is seen"]


def test_the_words_name_the_grossest_first_and_both_sides_once() -> None:
    asked, seen = au_vector({"12": 4.1, "26": 3, "9": 2.6}), au_vector({"L12": 0.2, "R12": 0.2, "4": 3.5})
    checked = contradictions(asked[None], seen[None], Tolerance.of(GROSS))
    assert checked.words() == ["asked AU 12 at 4.1, 0.2 is seen; asked AU 4 at 0.0, 3.5 is seen; 2 more AUs contradict"]
    assert checked.worst[0] == pytest.approx(1.9)
    faint = contradictions(au_vector({"12": 2.4})[None], au_vector({})[None], Tolerance.of(GROSS))
    assert faint.words() == [""]  # not clearly asked


def test_vectors_by_side_are_canonical_and_come_back() -> None:
    codes = ("26", "L12", "R12")
    vectors = au_vectors(np.array([[6.0, 3.0, 1.0], [-1.0, 2.0, 2.0]]), codes)
    assert {code: vectors[0, AU_INDEX[code]] for code in ("26", "12", "L12", "R12")} == {"26": 5.0, "12": 1.0, "L12": 3.0, "R12": 0.0}
    assert {code: vectors[1, AU_INDEX[code]] for code in ("26", "12", "L12", "R12")} == {"26": 0.0, "12": 2.0, "L12": 0.0, "R12": 0.0}
    assert np.isnan(vectors[:, AU_INDEX["4"]]).all()
    places = [SIDE_CODES.index(code) for code in codes]
    assert np.array_equal(side_intensities(vectors)[:, places], [[5, 3, 1], [0, 2, 2]])


def test_a_contradiction_softens_what_was_asserted_and_rejects_nothing() -> None:
    actions = np.array([ACTIONS.index(name) for name in ("keep", "relabel", "soften", "reject", "keep")])
    decisions = Decisions(np.zeros(5, int), actions, np.ones(5), np.zeros(5), np.ones(5))
    asked = np.stack([au_vector({"12": 4})] * 4 + [au_vector({})])
    checked = contradictions(asked, np.zeros_like(asked), Tolerance.of(GROSS))
    softened, words = soften_contradicting(decisions, ["a", "b", "c", "d", "e"], checked)
    assert [ACTIONS[action] for action in softened.action] == ["soften", "soften", "soften", "reject", "keep"]
    clause, effect = "asked AU 12 at 4.0, 0.0 is seen", "so the label is not asserted"
    assert words == [f"a; {clause}; {effect}", f"b; {clause}; {effect}", f"c; {clause}", f"d; {clause}", "e"]
    assert np.array_equal(decisions.action, actions)
    assert np.array_equal(softened.label, decisions.label)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AnnotationError, match=f"must be \\(N, {AU_COUNT}\\), found \\(2, 5\\)"):
        side_intensities(np.zeros((2, 5)))
    with pytest.raises(AnnotationError, match="2 faces were asked and 3 were looked at"):
        contradictions(np.zeros((2, AU_COUNT)), np.zeros((3, AU_COUNT)), Tolerance.of(GROSS))
    with pytest.raises(AnnotationError, match="must lie between 0 and 1"):
        choose_tolerance(np.zeros((2, AU_COUNT)), np.zeros((2, AU_COUNT)), false_alarms=0.0)


def test_faces_whose_aus_nobody_knows_have_no_say_in_the_tolerance() -> None:
    rng = np.random.default_rng(5)
    known = asked_faces(rng, 800)
    seen = seen_in(known, rng)
    nobody = np.full((800, AU_COUNT), np.nan, dtype=np.float32)
    alone = choose_tolerance(known, seen)
    mixed = choose_tolerance(np.concatenate([nobody, known]), np.concatenate([seen, seen]))
    assert mixed.faces == alone.faces == 800
    assert np.array_equal(mixed.steps, alone.steps)
    nothing = choose_tolerance(nobody, seen)
    assert nothing.faces == 0 and np.isinf(nothing.steps).all()
