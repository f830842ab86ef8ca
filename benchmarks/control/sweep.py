"""The sweep: one AU alone at intensities 0 to 5; people, seeds and captions stay the same. Drawn or rendered, then read by the AU judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.synthesis import draw_faces
from synfer.captions import caption
from synfer.classifiers.models import Classifier
from synfer.classifiers.predict import predict_aus
from synfer.config import Synthesis
from synfer.diffusion.backbone import Backbone
from synfer.faces.actions import SUPPORTED_AUS
from synfer.faces.face import Face, draw_face
from synfer.faces.identity import draw_identity
from synfer.faces.renderer import render
from synfer.seeding import derive_seed
from synfer.vocabulary import MAX_INTENSITY, SIDED_AUS, VocabularyError, au_vector, check_au, unknown

LEVELS = np.arange(MAX_INTENSITY + 1)
"""Asked intensities 0..5; at 0 every AU is 0, whichever is asked."""

FIRST_PERSON = 950_000
"""The swept people are nobody's training identities."""

KEPT_PEOPLE = 2
"""Faces of the first people are kept for the sheets."""


@dataclass(frozen=True)
class Ask:
    """A wanted face: the AU `code` alone at an intensity, on person number `person` of the sweep; all other AUs are relaxed."""

    code: str
    level: float
    person: int

    @property
    def aus(self) -> np.ndarray:
        """The AU vector, float32 (AU_COUNT,)."""
        return au_vector({self.code: self.level})

    @property
    def identity(self) -> int:
        """Number of the person."""
        return FIRST_PERSON + self.person

    @property
    def seed(self) -> int:
        """Seed of noise and scene, the same at every intensity and for every AU."""
        return derive_seed("control", self.person)


Draw = Callable[[Sequence[Ask]], np.ndarray]
"""Wanted faces to images uint8 (N, H, W, 3)."""


@dataclass(frozen=True)
class Sweep:
    """What the judge read: estimates (U, L, P, K) of U asked AUs at L intensities on P people, K outputs, and of the mirrored images.

    `images` are those of the first people, uint8 (U, L, KEPT_PEOPLE, H, W, 3).
    """

    codes: tuple[str, ...]
    outputs: tuple[str, ...]
    estimates: np.ndarray
    mirrored: np.ndarray
    images: np.ndarray

    def table(self, source: str) -> pd.DataFrame:
        """One row a face: source, asked AU, intensity, person, and what the judge read of each AU."""
        index = pd.MultiIndex.from_product([[source], self.codes, LEVELS, range(self.estimates.shape[2])])
        frame = pd.DataFrame(self.estimates.reshape(-1, len(self.outputs)), index=index.set_names(["source", "asked", "level", "person"]))
        return frame.set_axis([f"au_{code}" for code in self.outputs], axis=1).reset_index()


def parse_units(text: str) -> tuple[str, ...]:
    """AU codes of "12,L12,4", all that the renderer draws without any; raises VocabularyError naming the first that it cannot show."""
    codes = tuple(check_au(part) for part in text.split(",") if part.strip()) or SUPPORTED_AUS
    strange = next((code for code in codes if code not in SUPPORTED_AUS), None)
    if strange is not None:
        raise VocabularyError(unknown("action unit of the renderer", strange, SUPPORTED_AUS))
    return tuple(dict.fromkeys(codes))


def columns(outputs: Sequence[str], code: str) -> list[int]:
    """Where the judge tells of an asked AU: its own output, or both sides' where a sided unit is asked on both."""
    wanted = [f"L{code}", f"R{code}"] if code in SIDED_AUS else [code]
    for name in wanted:
        if name not in outputs:
            raise VocabularyError(unknown("output of the AU judge", name, outputs))
    return [outputs.index(name) for name in wanted]


def generated(backbone: Backbone, section: Synthesis) -> Draw:
    """Faces of the generator under the configured sampler and scales, unsteered; the caption names the person and no expression."""
    unguided = section.model_copy(update={"semantic_guidance": 0.0, "layout": "none"})

    def draw(asks: Sequence[Ask]) -> np.ndarray:
        people = [draw_identity(ask.identity).attributes for ask in asks]
        captions = [caption("", attributes=attributes) for attributes in people]
        rows = {"expression": "", "caption": captions, "aus": [ask.aus for ask in asks], "seed": [ask.seed for ask in asks]}
        return draw_faces(unguided, backbone, None, pd.DataFrame(rows))

    return draw


def rendered(size: int) -> Draw:
    """Renders of the same people and AUs: what a perfect generator would show, and so the judge's own ceiling."""

    def face(ask: Ask) -> Face:
        return replace(draw_face(ask.seed, identity=ask.identity, expression="", independent_aus=True), aus=ask.aus)

    return lambda asks: render([face(ask) for ask in asks], size=size)


def sweep(draw: Draw, judge: Classifier, codes: Sequence[str], *, people: int, batch_size: int, title: str) -> Sweep:
    """Draw every AU of `codes` at every intensity on `people` people and let the judge read the faces."""
    relaxed = [Ask(codes[0], 0.0, person) for person in range(people)]  # one for all AUs
    asks = relaxed + [Ask(code, level, person) for code in codes for level in LEVELS[1:] for person in range(people)]
    device = judge.module.mean.device
    read, mirrored, kept = [], [], []
    with tqdm(total=len(asks), desc=title, unit="face") as bar:
        for start in range(0, len(asks), batch_size):
            batch = asks[start : start + batch_size]
            images = draw(batch)
            read.append(predict_aus(judge, images, device=device))
            mirrored.append(predict_aus(judge, images[:, :, ::-1], device=device))
            kept.append(images[[ask.person < KEPT_PEOPLE for ask in batch]])
            bar.update(len(batch))
    count = min(people, KEPT_PEOPLE)
    parts = ((np.concatenate(read), people), (np.concatenate(mirrored), people), (np.concatenate(kept), count))
    return Sweep(tuple(codes), judge.classes, *(_by_ask(values, len(codes), number) for values, number in parts))


def _by_ask(values: np.ndarray, codes: int, people: int) -> np.ndarray:
    """Values of all asks in order (N, ...) as (U, L, P, ...); the relaxed faces stand for intensity 0 of every AU."""
    relaxed, rest = values[:people], values[people:]
    rest = rest.reshape(codes, len(LEVELS) - 1, people, *values.shape[1:])
    return np.concatenate([np.broadcast_to(relaxed, (codes, 1, *relaxed.shape)), rest], axis=1)
