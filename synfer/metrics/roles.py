"""Who may judge: a judge shares neither weights nor training identities with any other role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from synfer.errors import SynferError

JUDGE = "judge"


class RoleConflict(SynferError):
    """A judge that appears in another role; the message names the role and the hash or the identities they share."""


@dataclass(frozen=True)
class Role:
    """Weights by hash ("" for a role without weights, such as the test split) and the identities seen in training."""

    sha256: str
    identities: frozenset[str] = field(default_factory=frozenset)


def check_roles(roles: Mapping[str, Role], *, judge: str = JUDGE) -> None:
    """Raise RoleConflict if there is no judge, or it shares weights or training identities with another role."""
    if judge not in roles:
        raise RoleConflict(f"no role is called {judge!r}; known: {', '.join(roles)}")
    ours = roles[judge]
    for name, other in roles.items():
        if name == judge:
            continue
        if ours.sha256 and ours.sha256 == other.sha256:
            raise RoleConflict(f"the judge and {name} are the same model, sha256 {ours.sha256}: a model cannot judge itself")
        if shared := ours.identities & other.identities:
            some = ", ".join(sorted(shared)[:3])
            raise RoleConflict(f"the judge (sha256 {ours.sha256}) and {name} share {len(shared)} training identities, for example {some}")
