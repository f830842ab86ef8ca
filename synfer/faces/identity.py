"""Identities: who a rendered face is; everything that does not change with the expression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synfer.vocabulary import ATTRIBUTES

IDENTITY_SALT = 0x5F3A
RGB = tuple[float, float, float]

SKIN_RGB: dict[str, RGB] = {
    "pale": (0.95, 0.80, 0.73),
    "light": (0.90, 0.71, 0.59),
    "olive": (0.79, 0.60, 0.45),
    "brown": (0.62, 0.43, 0.31),
    "dark": (0.44, 0.30, 0.22),
}
HAIR_RGB: dict[str, RGB] = {
    "black": (0.11, 0.09, 0.09),
    "brown": (0.33, 0.21, 0.13),
    "blond": (0.80, 0.64, 0.38),
    "red": (0.58, 0.25, 0.12),
    "grey": (0.66, 0.65, 0.65),
}
EYE_RGB: tuple[RGB, ...] = ((0.30, 0.17, 0.09), (0.40, 0.27, 0.13), (0.30, 0.45, 0.60), (0.34, 0.46, 0.32), (0.42, 0.48, 0.52))

# Probabilities in the order of ATTRIBUTES: balanced where nature is not, without what a viewer would take for an error.
HAIR_STYLE_ODDS = {"man": (0.20, 0.32, 0.20, 0.10, 0.18), "woman": (0.04, 0.16, 0.25, 0.31, 0.24)}
HAIR_COLOUR_ODDS = {
    "fair": (0.18, 0.27, 0.25, 0.20, 0.10),
    "deep": (0.46, 0.34, 0.06, 0.04, 0.10),
    "elderly": (0.10, 0.10, 0.08, 0.06, 0.66),
}
EYE_ODDS = {"fair": (0.24, 0.20, 0.24, 0.16, 0.16), "deep": (0.75, 0.25, 0.0, 0.0, 0.0)}
FACIAL_HAIR_ODDS = {"man": (0.38, 0.20, 0.20, 0.22), "woman": (1.0, 0.0, 0.0, 0.0)}


@dataclass(frozen=True)
class Identity:
    """One person; lengths are factors around 1 of the average face's, angles in radians, colours RGB 0..1, the rest 0..1."""

    number: int
    attributes: dict[str, str]
    head_width: float
    head_height: float
    jaw_square: float
    eye_size: float
    eye_open: float
    eye_spacing: float
    eye_tilt: float
    brow_thickness: float
    brow_height: float
    brow_arch: float
    nose_length: float
    nose_width: float
    lip_thickness: float
    mouth_width: float
    mouth_height: float
    cheek_fullness: float
    age: float
    freckles: float
    makeup: float
    hairline: float
    fringe: float
    parting: float
    hair_phase: float
    skin_rgb: RGB
    eye_rgb: RGB
    hair_rgb: RGB
    cloth_rgb: RGB


def _choice(rng: np.random.Generator, name: str, odds: tuple[float, ...] | None = None) -> str:
    return str(rng.choice(ATTRIBUTES[name], p=odds))


def _draw_attributes(rng: np.random.Generator) -> dict[str, str]:
    sex, age, skin = _choice(rng, "sex"), _choice(rng, "age"), _choice(rng, "skin")
    colours = "elderly" if age == "elderly" else "deep" if skin in ("brown", "dark") else "fair"
    return {
        "sex": sex,
        "age": age,
        "skin": skin,
        "hair_color": _choice(rng, "hair_color", HAIR_COLOUR_ODDS[colours]),
        "hair_style": _choice(rng, "hair_style", HAIR_STYLE_ODDS[sex]),
        "glasses": _choice(rng, "glasses", (0.75, 0.25)),
        "facial_hair": _choice(rng, "facial_hair", FACIAL_HAIR_ODDS[sex]),
    }


def _jitter(rng: np.random.Generator, rgb: RGB, spread: float) -> RGB:
    brightness = rng.normal(0.0, spread)
    red, green, blue = (float(np.clip(c + brightness + rng.normal(0.0, spread * 0.35), 0.03, 0.97)) for c in rgb)
    return red, green, blue


def _draw_cloth(rng: np.random.Generator) -> RGB:
    grey = rng.uniform(0.15, 0.75)
    red, green, blue = (float(np.clip(grey + rng.normal(0.0, 0.10), 0.05, 0.9)) for _ in range(3))
    return red, green, blue


@lru_cache(maxsize=65536)
def draw_identity(number: int) -> Identity:
    """The person with this number, the same on every machine; attributes are balanced over the numbers."""
    rng = np.random.default_rng((IDENTITY_SALT, number))
    attributes = _draw_attributes(rng)
    man = attributes["sex"] == "man"
    deep = attributes["skin"] in ("brown", "dark")
    low, high = {"young": (0.0, 0.25), "middle-aged": (0.35, 0.6), "elderly": (0.75, 1.0)}[attributes["age"]]

    def around(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.normal(), -2.0, 2.0))

    return Identity(
        number=number,
        attributes=attributes,
        head_width=around(1.03 if man else 0.98, 0.035),
        head_height=around(1.0, 0.02),
        jaw_square=float(np.clip(around(0.62 if man else 0.33, 0.14), 0.0, 1.0)),
        eye_size=around(0.97 if man else 1.06, 0.05),
        eye_open=around(1.0, 0.08),
        eye_spacing=around(1.0, 0.03),
        eye_tilt=around(0.02, 0.05),
        brow_thickness=around(1.15 if man else 0.80, 0.14),
        brow_height=around(0.0 if man else 0.025, 0.010),
        brow_arch=around(0.8 if man else 1.3, 0.25),
        nose_length=around(1.0, 0.05),
        nose_width=around(1.06 if man else 0.92, 0.07),
        lip_thickness=around((0.92 if man else 1.14) + (0.15 if deep else 0.0), 0.12),
        mouth_width=around(1.03 if man else 0.97, 0.05),
        mouth_height=around(0.0, 0.012),
        cheek_fullness=around(1.0, 0.25),
        age=float(rng.uniform(low, high)),
        freckles=float(rng.uniform(0.4, 1.0)) if attributes["skin"] in ("pale", "light") and rng.random() < 0.3 else 0.0,
        makeup=0.0 if man else float(rng.uniform(0.0, 1.0)),
        hairline=around(0.0, 0.03),
        fringe=float(rng.uniform(0.0, 1.0)) if rng.random() < (0.25 if man else 0.45) else 0.0,
        parting=float(rng.uniform(-1.0, 1.0)),
        hair_phase=float(rng.uniform(0.0, 6.28)),
        skin_rgb=_jitter(rng, SKIN_RGB[attributes["skin"]], 0.022),
        eye_rgb=_jitter(rng, EYE_RGB[int(rng.choice(len(EYE_RGB), p=EYE_ODDS["deep" if deep else "fair"]))], 0.02),
        hair_rgb=_jitter(rng, HAIR_RGB[attributes["hair_color"]], 0.025),
        cloth_rgb=_draw_cloth(rng),
    )
