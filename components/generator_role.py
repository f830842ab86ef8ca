"""Whom the generator has learned from, and the hash of its weights: what later stages must know to keep the judge independent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from synfer.files import write_json
from synfer.metrics.roles import Role, compact_identities, expand_identities

ROLE = "generator.json"


def read_generator_role(generator: Path) -> Role:
    """Hash of the generator's weights and the people it has seen."""
    role = json.loads((generator / ROLE).read_text(encoding="utf-8"))
    return Role(role["sha256"], expand_identities(role["identities"]))


def write_generator_role(generator: Path, *, sha256: str, identities: Iterable[str]) -> None:
    """Write what `read_generator_role` reads."""
    write_json(generator / ROLE, {"sha256": sha256, "identities": compact_identities(identities)})
