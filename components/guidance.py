"""Which guide steers: the backbone's own latent guide, or a pixel classifier behind the decoder, as published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier
from synfer.config import Synthesis
from synfer.diffusion.au_adapter import AdapterError
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.guidance import SemanticGuidance, published
from synfer.diffusion.latent_guide import LatentGuide, LatentGuideError
from synfer.files import write_json
from synfer.pixels import to_tensor
from synfer.vocabulary import unknown

LATENT, PUBLISHED, NONE = "latent", "published", "none"
STEERING = "guidance.json"
_FINISHED = 50  # timestep at which the latent guide reads a finished face: little noise, and still one that it was trained on


def semantic_guidance(section: Synthesis, backbone: Backbone, classifier: Classifier) -> tuple[SemanticGuidance, tuple[str, ...]]:
    """Semantic guidance as configured, and the classes that it can steer to; `classifier` reads pixels, for the published form.

    Raises LatentGuideError where the form is latent and the backbone has no guide.
    """
    strength, window = section.semantic_guidance, section.guidance_window
    if section.guidance_form == PUBLISHED:
        return published(backbone, classifier, strength=strength, window=window), classifier.classes
    guide = latent_guide(backbone)
    steering = SemanticGuidance(guide, strength, window, every=section.guidance_every, confidence=section.guidance_confidence)
    return steering, guide.classes


def steerable(section: Synthesis, backbone: Backbone, classifier: Classifier | None) -> tuple[str, ...]:
    """Classes that faces can be steered to as configured; none where guidance is off or there is no `classifier`.

    Raises LatentGuideError where the form is latent and the backbone has no guide.
    """
    if classifier is None or section.semantic_guidance == 0:
        return ()
    return classifier.classes if section.guidance_form == PUBLISHED else latent_guide(backbone).classes


def check_guidance(section: Synthesis, backbone: Backbone, classifier: Classifier, expressions: Iterable[str]) -> None:
    """Raise LatentGuideError, before any face is drawn, if the configured guide is missing or cannot tell one of the expressions."""
    classes = steerable(section, backbone, classifier)
    for name in expressions:
        if section.semantic_guidance > 0 and name not in classes:
            raise LatentGuideError(unknown(f"class of the {section.guidance_form} guide", name, classes))


def check_adapter(section: Synthesis, backbone: Backbone, aus: np.ndarray) -> None:
    """Raise AdapterError, before any face is drawn, if AUs are asked (N, AU_COUNT; NaN asks for nothing) that the backbone cannot draw."""
    if section.au_guidance_scale > 0 and not np.isnan(aus).all() and backbone.au_adapter.silent:
        raise AdapterError(
            f"the AU adapter of the backbone {backbone.name} was never trained: asked AUs would change nothing; train it with "
            "generator.adapt=adapter, or draw by caption alone with synthesis.au_guidance_scale=0"
        )


def latent_guide(backbone: Backbone) -> LatentGuide:
    """The guide in a backbone's folder; raises LatentGuideError with the ways out where there is none."""
    if backbone.guide is None:
        raise LatentGuideError(
            f"the backbone {backbone.name} has no latent guide; train one with generator.guide_steps=3000, "
            "or set synthesis.guidance_form=published (slower), or synthesis.semantic_guidance=0"
        )
    return backbone.guide


@torch.no_grad()
def guide_probabilities(backbone: Backbone, images: np.ndarray, classes: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
    """What the latent guide sees in finished faces uint8 (N, H, W, 3): probabilities (N, K) over `classes`, through the autoencoder."""
    guide = latent_guide(backbone)
    columns = class_indices(classes, guide.classes)
    timestep = torch.tensor(_FINISHED, device=backbone.device)
    batches = (to_tensor(images[start : start + batch_size]) for start in range(0, len(images), batch_size))
    found = torch.cat([guide(backbone.encode(batch), timestep).softmax(dim=1).cpu() for batch in batches])[:, columns].numpy()
    return found / found.sum(axis=1, keepdims=True)


# --- who steered, for those who judge the faces later -----------------------------------------------------------------------------


def write_steering(section: Synthesis, backbone: Backbone, classifier: Classifier, out: Path) -> None:
    """Write `guidance.json`: the form (none, latent, published), lambda, and the hash of the guide that steered."""
    form = section.guidance_form if section.semantic_guidance > 0 else NONE
    guides = {NONE: "", PUBLISHED: classifier.sha256, LATENT: backbone.guide.sha256 if backbone.guide is not None else ""}
    write_json(out / STEERING, {"form": form, "strength": section.semantic_guidance, "sha256": guides[form]})


def steered_by(synthesis: Path) -> str:
    """The form of guidance under which the faces of a folder were drawn."""
    form: str = json.loads((synthesis / STEERING).read_text(encoding="utf-8"))["form"]
    return form
