"""Whom the latent guide of a backbone has learned from, and its hash: a judge may be neither of its kind nor of its people."""

from __future__ import annotations

from pathlib import Path

from components.fer_models import FerModelsError
from synfer.diffusion.latent_guide import CARD, GUIDE, read_card
from synfer.metrics.roles import Role, expand_identities

ROLE = "the latent guide"


def read_latent_guide_role(backbone: Path) -> dict[str, Role]:
    """The role of the guide in a backbone's folder, its hash and training people by name; empty where there is no guide.

    Raises FerModelsError if its card does not say whom it has seen.
    """
    if not (backbone / GUIDE).is_dir():
        return {}
    card = read_card(backbone / GUIDE)
    if "identities" not in card.get("trained_on", {}):
        raise FerModelsError(f"{backbone / GUIDE / CARD} lacks trained_on.identities; without it the judge's independence is unknown")
    return {ROLE: Role(card["sha256"], expand_identities(card["trained_on"]["identities"]))}
