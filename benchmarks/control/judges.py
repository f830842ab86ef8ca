"""Who may read the faces of this study: judges that share neither weights nor people with anything they judge."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch

from components.assets.renders import person
from components.fer_models import read_roles
from components.generator import CARD
from synfer.classifiers.models import Classifier, load
from synfer.diffusion.backbone import backbone_sha256
from synfer.metrics.roles import AU_JUDGE, JUDGE, Role, check_roles, expand_identities


def independent_judges(fer_models: Path, backbone: Path, *, people: Iterable[int], device: torch.device) -> tuple[Classifier, Classifier]:
    """The expression judge and the AU judge, checked against every other model, the generator, and the study's own `people`.

    Raises RoleConflict if one of them is missing, or shares weights or training identities with another role.
    """
    here = {"the generator": generator_role(backbone), "the study's own faces": Role("", frozenset(map(person, people)))}
    roles = {**read_roles(fer_models), **here}
    for name in (JUDGE, AU_JUDGE):
        check_roles(roles, judge=name)
    return load(fer_models / JUDGE, device=device), load(fer_models / AU_JUDGE, device=device)


def generator_role(backbone: Path) -> Role:
    """Hash of a backbone folder and the people on its cards, its latent guide's too; without a card it has seen nobody that we know."""
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(backbone.rglob(CARD))]
    seen = chain.from_iterable(card.get("trained_on", {}).get("identities", ()) for card in cards)
    return Role(backbone_sha256(backbone), expand_identities(seen))
