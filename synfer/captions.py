"""Captions from a grammar: what a face shows in words, deterministic given its generator.

A caption names the person ("a young woman with long red hair"), the expression ("a fearful expression") and up to three visible AUs
("raised inner brows"). Any part may be left out, so that a text-only model also learns each part alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from synfer.seeding import derive_seed
from synfer.vocabulary import ATTRIBUTES, AU_INDEX, COMPOUNDS, SIDED_AUS, check_attributes, check_expression, left_right

EXPRESSION_WORDS: dict[str, str] = {
    "neutral": "neutral", "happiness": "happy", "sadness": "sad", "surprise": "surprised", "fear": "fearful", "disgust": "disgusted",
    "anger": "angry", "contempt": "contemptuous",
}  # fmt: skip

AU_PHRASES: dict[str, str] = {
    "1": "raised inner brows", "2": "raised outer brows", "4": "lowered brows", "5": "wide open eyes", "6": "raised cheeks",
    "7": "tight eyelids", "9": "wrinkled nose", "10": "raised upper lip", "12": "pulled up lip corners", "14": "dimpled cheeks",
    "15": "lip corners pulled down", "16": "lowered lower lip", "17": "raised chin", "18": "puckered lips", "20": "stretched lips",
    "22": "funneled lips", "23": "tight lips", "24": "pressed lips", "25": "parted lips", "26": "dropped jaw", "27": "stretched mouth",
    "43": "closed eyes",
}  # fmt: skip

_VISIBLE = 1.5  # intensity from which an AU is worth a phrase
_MAX_PHRASES = 3
_EARLY = 8  # words before an expression that no text encoder cuts, even where its tokenizer makes five tokens of a foreign word
_OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}


def caption(
    expression: str,
    *,
    attributes: Mapping[str, str] | None = None,
    aus: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> str:
    """Caption of a face; `expression` may be a basic one, a compound ("happily surprised") or "" for none.

    Without `rng` the caption is the full one: every attribute, then up to three of the strongest AUs. With `rng` parts are left out at
    random.
    Raises VocabularyError on an unknown expression, attribute or value.
    """
    known = check_attributes(attributes or {})
    if rng is not None:
        known = {name: value for name, value in known.items() if rng.random() < 0.75}
    phrases = au_phrases(aus) if aus is not None and (rng is None or rng.random() < 0.5) else []
    parts = [f"a photo of {person(known)}", *_expression_part(expression), *([", ".join(phrases)] if phrases else [])]
    return ", ".join(parts)


def row_captions(rows: pd.DataFrame, *, seed: int) -> list[str]:
    """A caption of every manifest row, from its expression and what is known of attributes (attr_*) and AUs, parts left out at random.

    Each row draws from a generator of its own, so that its caption does not depend on the others.
    """
    names = [name for name in ATTRIBUTES if f"attr_{name}" in rows.columns]

    def write(row: pd.Series) -> str:
        rng = np.random.default_rng(derive_seed(seed, "caption", row["sample_id"]))
        known = {name: row[f"attr_{name}"] for name in names if row[f"attr_{name}"]}
        return caption(row["expression"], attributes=known, aus=np.nan_to_num(np.asarray(row["aus"])), rng=rng)

    return [write(row) for _, row in rows.iterrows()]


def with_expression(text: str, expression: str) -> str:
    """A caption from elsewhere that says early the grammar's words for `expression` ("happy expression"); "" adds none.

    A text encoder cuts what is long (tiny-sd after 48 tokens, Stable Diffusion after 77): words that are not there, or late, come first.
    """
    words = ", ".join(_expression_part(expression))
    said = re.search(rf"\b{re.escape(words)}\b", text, re.IGNORECASE) if words else None
    if not words or (said and len(text[: said.start()].split()) <= _EARLY):
        return text
    return ", ".join(filter(None, (words, text.strip(" .,"))))


def person(attributes: Mapping[str, str]) -> str:
    """Noun phrase of a person: "an elderly man with short grey hair, a beard and glasses"."""
    skin = attributes.get("skin")
    words = [attributes.get("age", ""), f"{skin}-skinned" if skin else "", attributes.get("sex", "person")]
    noun = " ".join(filter(None, words))
    features = [feature for feature in (_hair(attributes), _beard(attributes), _glasses(attributes)) if feature]
    article = "an" if noun[0] in "aeio" else "a"
    return f"{article} {noun}" + (f" with {_join(features)}" if features else "")


def mirror_caption(text: str) -> str:
    """The caption of the mirrored image: left and right change places."""
    return re.sub(rf"\b({'|'.join(_OTHER_SIDE)})\b", lambda found: _OTHER_SIDE[found[0]], text)


def au_phrases(aus: np.ndarray) -> list[str]:
    """Phrases of the strongest visible AUs of a vector (AU_COUNT,), strongest first; a one-sided unit is called so."""
    found: list[tuple[float, str]] = []
    for unit, phrase in AU_PHRASES.items():
        if unit not in SIDED_AUS:
            found.append((float(aus[AU_INDEX[unit]]), phrase))
            continue
        left, right = (float(side) for side in left_right(aus, unit))
        side = "" if abs(left - right) < _VISIBLE else ("left " if left > right else "right ")
        found.append((max(left, right), side + phrase))
    visible = sorted((item for item in found if item[0] >= _VISIBLE), key=lambda item: -item[0])
    return [phrase for _, phrase in visible[:_MAX_PHRASES]]


def _expression_part(expression: str) -> list[str]:
    if not expression:
        return []
    if expression in COMPOUNDS:
        return [f"{expression} expression"]
    return [f"{EXPRESSION_WORDS[check_expression(expression)]} expression"]


def _hair(attributes: Mapping[str, str]) -> str:
    style, color = attributes.get("hair_style"), attributes.get("hair_color")
    if style == "bald":
        return "a bald head"
    return " ".join(filter(None, (style, color, "hair"))) if style or color else ""


def _beard(attributes: Mapping[str, str]) -> str:
    kind = attributes.get("facial_hair", "none")
    return "" if kind == "none" else (kind if kind == "stubble" else f"a {kind}")


def _glasses(attributes: Mapping[str, str]) -> str:
    return "glasses" if attributes.get("glasses") == "glasses" else ""


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def vocabulary_corpus() -> Iterator[str]:
    """Every phrase that the grammar can produce, for training a tokenizer's merges on it."""
    from synfer.vocabulary import ATTRIBUTES

    yield from (f"{word} expression" for word in EXPRESSION_WORDS.values())
    yield from (f"{compound} expression" for compound in COMPOUNDS)
    yield from (f"{side}{phrase}" for phrase in AU_PHRASES.values() for side in ("", "left ", "right "))
    for age in ATTRIBUTES["age"]:
        for skin in ATTRIBUTES["skin"]:
            for sex in (*ATTRIBUTES["sex"], "person"):
                yield f"a photo of {person({'age': age, 'skin': skin, 'sex': sex})}"
    for color in ATTRIBUTES["hair_color"]:
        for style in ATTRIBUTES["hair_style"]:
            for beard in ATTRIBUTES["facial_hair"]:
                yield person({"hair_color": color, "hair_style": style, "facial_hair": beard, "glasses": "glasses"})
