"""Who may judge: a judge shares neither weights nor training identities with any other role."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from synfer.errors import SynferError

JUDGE, AU_JUDGE = "judge", "au_judge"


class RoleConflict(SynferError):
    """A judge that appears in another role; the message names the role and the hash or the identities they share."""


@dataclass(frozen=True)
class Role:
    """Weights by hash ("" for a role without weights, such as the test split) and the identities seen in training."""

    sha256: str
    identities: frozenset[str] = field(default_factory=frozenset)


_NUMBERED = re.compile(r"(.*?)([0-9]+)")
_RANGE = ".."


def expand_identities(names: Iterable[str]) -> frozenset[str]:
    """Identities written one by one or as ranges: "person-00010..person-00012" is three; raises RoleConflict on a range it cannot read."""
    found: set[str] = set()
    for name in names:
        first, dots, last = name.partition(_RANGE)
        found.update(_range(first, last) if dots else (name,))
    return frozenset(found)


def compact_identities(names: Iterable[str]) -> list[str]:
    """Identities in sorted order, runs of consecutive numbers written as a range; the inverse of `expand_identities`."""
    found: list[str] = []
    ordered = sorted(set(names))
    for _, run in groupby(enumerate(ordered), key=lambda item: _run_key(*item)):
        members = [name for _, name in run]
        found.append(members[0] if len(members) == 1 else f"{members[0]}{_RANGE}{members[-1]}")
    return found


def _run_key(position: int, name: str) -> tuple[str, int, int]:
    """Equal for neighbours in sorted order whose numbers of one width go up by one."""
    match = _NUMBERED.fullmatch(name)
    return (match[1], len(match[2]), int(match[2]) - position) if match else (name, 0, position)


def _range(first: str, last: str) -> list[str]:
    start, end = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
    if not start or not end or start[1] != end[1] or len(start[2]) != len(end[2]) or int(start[2]) > int(end[2]):
        raise RoleConflict(f"cannot read {first}{_RANGE}{last} as a range of identities, for example person-00010..person-00012")
    return [f"{start[1]}{number:0{len(start[2])}d}" for number in range(int(start[2]), int(end[2]) + 1)]


def check_roles(roles: Mapping[str, Role], *, judge: str = JUDGE) -> None:
    """Raise RoleConflict if there is no judge, or it shares weights or training identities with another role."""
    if judge not in roles:
        raise RoleConflict(f"no role is called {judge!r}; known: {', '.join(roles)}")
    ours = roles[judge]
    for name, other in roles.items():
        if name == judge:
            continue
        if ours.sha256 and ours.sha256 == other.sha256:
            raise RoleConflict(f"the {judge} and {name} are the same model, sha256 {ours.sha256}: a model cannot judge itself")
        if shared := ours.identities & other.identities:
            some = ", ".join(sorted(shared)[:3])
            raise RoleConflict(f"the {judge} (sha256 {ours.sha256}) and {name} share {len(shared)} training identities, for example {some}")
