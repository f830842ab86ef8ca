"""From a prompt to manifest rows: who is drawn with which caption, AUs and seed when somebody tries a prompt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from components.plan import draw_attributes, with_attributes
from components.rendering import with_aus
from synfer.captions import caption
from synfer.faces.expression import draw_aus, draw_compound_aus
from synfer.prompt import Prompt
from synfer.seeding import derive_seed
from synfer.vocabulary import ATTRIBUTES, AU_COUNT, COMPOUNDS, EXPRESSIONS, au_vector


def plan_samples(prompt: Prompt, *, n: int, seed: int) -> pd.DataFrame:
    """Manifest rows (without `sha256`) of `n` faces of a prompt, or of `n` people for every sweep, a row of the sheet after the other.

    Person i has the attributes and the seed that person i of `plan_faces` has. Without sweeps: an expression brings AUs drawn around its
    prototype; asked AUs join them and what excludes one gives way; asked AUs alone leave the others relaxed; nothing asked, or a caption
    alone, leaves all of them unspecified (NaN). With sweeps: the same person, caption and seed along a row, and every AU relaxed but those
    asked and the swept one; the columns `swept_au` and `swept_intensity` say which.
    """
    rows = [_face(prompt, index, seed) for index in range(n)] if not prompt.sweeps else _sweeps(prompt, n, seed)
    frame = pd.DataFrame(rows)
    return frame.assign(sample_id=[f"synthetic-{seed}-{index:06d}" for index in range(len(frame))], split="train", identity="")


def _face(prompt: Prompt, index: int, seed: int) -> dict[str, object]:
    sample_seed, rng, person = _person(prompt, index, seed)
    aus = with_aus(_own_aus(prompt, rng), prompt.aus)
    return _row(prompt, sample_seed, person, aus=aus, named_aus=np.nan_to_num(aus))


def _sweeps(prompt: Prompt, people: int, seed: int) -> list[dict[str, object]]:
    rows = []
    for sweep in prompt.sweeps:
        for index in range(people):
            sample_seed, _, person = _person(prompt, index, seed)
            for intensity in sweep.intensities:
                aus = au_vector({**prompt.aus, sweep.au: intensity})
                row = _row(prompt, sample_seed, person, aus=aus, named_aus=au_vector(prompt.aus))
                rows.append({**row, "swept_au": sweep.au, "swept_intensity": intensity})
    return rows


def _person(prompt: Prompt, index: int, seed: int) -> tuple[int, np.random.Generator, dict[str, str]]:
    """Seed, generator and attributes of a person; a caption of the user's own leaves the attributes unknown ("")."""
    sample_seed = derive_seed("synthesis", seed, index)
    rng = np.random.default_rng(sample_seed)
    person = with_attributes(draw_attributes(rng), prompt.attributes)
    return sample_seed, rng, person if prompt.caption is None else dict.fromkeys(ATTRIBUTES, "")


def _own_aus(prompt: Prompt, rng: np.random.Generator) -> np.ndarray:
    """What the face shows beside the asked AUs, float32 (AU_COUNT,)."""
    if prompt.expression in COMPOUNDS:
        return draw_compound_aus(prompt.expression, rng)
    if prompt.expression:
        return draw_aus(prompt.expression, rng)
    relaxed = prompt.aus and prompt.caption is None
    return np.full(AU_COUNT, 0.0 if relaxed else np.nan, dtype=np.float32)


def _row(prompt: Prompt, seed: int, person: Mapping[str, str], *, aus: np.ndarray, named_aus: np.ndarray) -> dict[str, object]:
    text = prompt.caption if prompt.caption is not None else caption(prompt.expression, attributes=person, aus=named_aus)
    compound = {"compound": prompt.expression} if prompt.expression in COMPOUNDS else {}
    return {
        "expression": prompt.expression if prompt.expression in EXPRESSIONS else "",  # a manifest knows the basic ones
        "caption": text,
        "aus": aus,
        "seed": seed,
        **compound,
        **{f"attr_{name}": value for name, value in person.items()},
    }
