"""The plan of a synthetic dataset: who shows which expression with which AUs, drawn from a prior and never from test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from synfer.captions import caption
from synfer.faces.expression import draw_aus
from synfer.seeding import derive_seed
from synfer.vocabulary import ATTRIBUTES


def series_seed(seed: int, series: int) -> int | str:
    """What names the faces of a series and is mixed into their seeds: the seed alone for series 0, `0s20261123` for others."""
    return f"{seed}s{series}" if series else seed


def plan_faces(count: int, *, expressions: Sequence[str], seed: int | str) -> pd.DataFrame:
    """One row a face to draw: sample_id, expression, caption, aus, seed and attr_*; expressions in turn, so any prefix is balanced.

    Row i depends on (seed, i) alone: a longer plan begins with the shorter one.
    """
    return pd.DataFrame([_plan_face(index, expressions[index % len(expressions)], seed) for index in range(count)])


def _plan_face(index: int, expression: str, seed: int | str) -> dict[str, object]:
    sample_seed = derive_seed("synthesis", seed, index)
    rng = np.random.default_rng(sample_seed)
    attributes = draw_attributes(rng)
    aus = draw_aus(expression, rng)
    return {
        "sample_id": f"synthetic-{seed}-{index:06d}",
        "split": "train",
        "identity": "",
        "expression": expression,
        "caption": caption(expression, attributes=attributes, aus=aus),
        "aus": aus,
        "seed": sample_seed,
        **{f"attr_{name}": value for name, value in attributes.items()},
    }


def draw_attributes(rng: np.random.Generator, asked: Mapping[str, str] | None = None) -> dict[str, str]:
    """Attributes of a person, uniform over the vocabulary but for what would look like a mistake: bearded or bald women.

    Those that hang on others (grey hair on age) follow the `asked` ones.
    """
    drawn = {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()} | dict(asked or {})
    if drawn["sex"] == "woman":
        drawn["facial_hair"] = "none"
        if drawn["hair_style"] == "bald":
            drawn["hair_style"] = "short"
    if drawn["age"] == "elderly" and rng.random() < 0.7:
        drawn["hair_color"] = "grey"
    return drawn


def with_attributes(drawn: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """The drawn attributes under the asked ones; what was merely drawn gives way: who is asked to have a beard becomes a man."""
    person = {**drawn, **asked}
    manly = asked.get("hair_style") == "bald" or asked.get("facial_hair", "none") != "none"
    if manly and "sex" not in asked:
        person["sex"] = "man"
    if person["sex"] == "woman":
        person["facial_hair"] = asked.get("facial_hair", "none")
        if person["hair_style"] == "bald" and "hair_style" not in asked:
            person["hair_style"] = "short"
    return person
