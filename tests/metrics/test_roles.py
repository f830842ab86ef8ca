"""A judge may share neither weights nor training identities with another role."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synfer.metrics.roles import Role, RoleConflict, check_roles, compact_identities, expand_identities

GUIDE = Role("aa11", frozenset({"person-00001", "person-00002"}))
JUDGE = Role("bb22", frozenset({"person-00003"}))


def test_separate_roles_pass() -> None:
    check_roles({"guide": GUIDE, "annotator_0": Role("cc33", GUIDE.identities), "test": Role(""), "judge": JUDGE})


def test_the_same_weights_are_named_by_their_hash() -> None:
    with pytest.raises(RoleConflict, match="annotator_1 are the same model, sha256 bb22"):
        check_roles({"guide": GUIDE, "annotator_1": Role("bb22"), "judge": JUDGE})


def test_shared_identities_are_named() -> None:
    with pytest.raises(RoleConflict, match=r"sha256 bb22.*generator share 1 training identities, for example person-00003"):
        check_roles({"generator": Role("dd44", frozenset({"person-00003"})), "judge": JUDGE})


def test_a_judge_is_needed() -> None:
    with pytest.raises(RoleConflict, match="no role is called 'judge'; known: guide"):
        check_roles({"guide": GUIDE})


def test_ranges_of_identities() -> None:
    assert compact_identities(["person-00011", "person-00010", "x", "person-00012", "person-00020"]) == [
        "person-00010..person-00012",
        "person-00020",
        "x",
    ]
    assert expand_identities(["person-00010..person-00012", "x"]) == {"person-00010", "person-00011", "person-00012", "x"}
    with pytest.raises(RoleConflict, match=r"cannot read a1\.\.b2"):
        expand_identities(["a1..b2"])


_NAMES = st.one_of(st.integers(0, 120).map("p{:03d}".format), st.integers(0, 12).map(str), st.sampled_from(["S005", "KA", "", "AF01A"]))


@given(st.sets(_NAMES))
def test_compact_and_expand_are_inverse(names: set[str]) -> None:
    assert expand_identities(compact_identities(names)) == names
