"""The one table of expressions, action units (AUs) and how they combine; every other module asks here.

Expressions follow AffectNet's order. The AU vector is OpenGraphAU's 41 entries (27 units, then left/right pairs of seven of them) followed
by AU 43, eyes closed, which that vector lacks. Entries are intensities 0..5: FACS' absent, A trace, B slight, C marked, D severe, E
maximum. Left and right are the person's own, as in FACS: the left half of a face is on the right of an unmirrored image.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synfer.errors import SynferError

EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""Canonical order (AffectNet's)."""

DEFAULT_EXPRESSIONS = EXPRESSIONS[:7]
"""The seven that AffectNet-7, RAF-DB and FER2013 share."""

ALIASES: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality", "ne", "neu"),
    "happiness": ("happy", "joy", "joyful", "ha", "hap"),
    "sadness": ("sad", "sa"),
    "surprise": ("surprised", "su", "sur"),
    "fear": ("fearful", "afraid", "scared", "fe", "fea", "af"),
    "disgust": ("disgusted", "di", "dis"),
    "anger": ("angry", "an", "ang"),
    "contempt": ("contemptuous", "co", "con"),
}
"""Other names that data sets give the expressions; the short ones are those of JAFFE, KDEF and CREMA-D."""

MAX_INTENSITY = 5.0

AU_NAMES: dict[str, str] = {
    "1": "inner brow raiser", "2": "outer brow raiser", "4": "brow lowerer", "5": "upper lid raiser", "6": "cheek raiser",
    "7": "lid tightener", "9": "nose wrinkler", "10": "upper lip raiser", "11": "nasolabial deepener", "12": "lip corner puller",
    "13": "sharp lip puller", "14": "dimpler", "15": "lip corner depressor", "16": "lower lip depressor", "17": "chin raiser",
    "18": "lip pucker", "19": "tongue show", "20": "lip stretcher", "22": "lip funneler", "23": "lip tightener", "24": "lip pressor",
    "25": "lips part", "26": "jaw drop", "27": "mouth stretch", "32": "lip bite", "38": "nostril dilator", "39": "nostril compressor",
}  # fmt: skip
SIDED_AUS = ("1", "2", "4", "6", "10", "12", "14")
"""Units that also have a left and a right entry."""

AU_NAMES |= {f"{side}{unit}": f"{'left' if side == 'L' else 'right'} {AU_NAMES[unit]}" for unit in SIDED_AUS for side in "LR"}
AU_NAMES["43"] = "eyes closed"

AU_CODES: tuple[str, ...] = tuple(AU_NAMES)
"""Code of every entry of the AU vector: ``AU_CODES[9] == "12"``, ``AU_CODES[37] == "L12"``, ``AU_CODES[41] == "43"``."""

AU_COUNT = len(AU_CODES)
OPENGRAPHAU_COUNT = 41
AU_INDEX: dict[str, int] = {code: index for index, code in enumerate(AU_CODES)}


class VocabularyError(SynferError):
    """A name or a value outside the vocabulary; the message says what was found and what is known."""


def unknown(kind: str, found: object, known: Iterable[str]) -> str:
    """One line for an unknown name: what was found, the nearest known name, all known names."""
    known = list(known)
    near = difflib.get_close_matches(str(found), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {found!r}{hint}; known: {', '.join(known)}"


def check_expression(name: str) -> str:
    """Return `name` if it is an expression, else raise VocabularyError with the known ones."""
    if name not in EXPRESSIONS:
        raise VocabularyError(unknown("expression", name, EXPRESSIONS))
    return name


def as_expression(name: str) -> str:
    """The expression that a data set means by `name` ("Happy", "3_sad", "AN"), else VocabularyError with the known names.

    A bare number is unknown: AffectNet, RAF-DB and FER2013 each count the expressions in another order.
    """
    plain = re.sub(r"^\d+[\s_.-]+", "", name.strip().lower())
    for expression, aliases in ALIASES.items():
        if plain == expression or plain in aliases:
            return expression
    raise VocabularyError(unknown("expression", name, EXPRESSIONS))


def check_au(code: str) -> str:
    """Return the canonical code of an AU ("12", "AU12", "au 12", "L12"), else raise VocabularyError."""
    canonical = re.sub(r"^AU\s*", "", str(code).strip().upper())
    if canonical not in AU_INDEX:
        raise VocabularyError(unknown("action unit", code, AU_CODES))
    return canonical


def flip_order(codes: Sequence[str]) -> np.ndarray:
    """Positions int (K,) such that ``values[..., flip_order(codes)]`` belong to the mirrored face; left and right codes change places.

    Raises VocabularyError if a side has no counterpart among the codes.
    """
    partners = [code.translate(str.maketrans("LR", "RL")) for code in codes]
    for code, partner in zip(codes, partners, strict=True):
        if partner not in codes:
            raise VocabularyError(f"AU {code} has no counterpart {partner} to mirror it; found: {', '.join(codes)}")
    return np.array([codes.index(partner) for partner in partners])


FLIP_ORDER = flip_order(AU_CODES)
"""``vector[..., FLIP_ORDER]`` is the AU vector of the mirrored face."""


# --- AU vectors -------------------------------------------------------------------------------------------------------------------


def au_vector(intensities: Mapping[str, float]) -> np.ndarray:
    """AU vector, float32 (AU_COUNT,), of the named intensities 0..5; raises VocabularyError on an unknown AU or a bad intensity."""
    vector = np.zeros(AU_COUNT, dtype=np.float32)
    for code, intensity in intensities.items():
        if not 0.0 <= float(intensity) <= MAX_INTENSITY:
            raise VocabularyError(f"intensity of AU {code} is {intensity}; it must lie in 0..5 (0 absent, 5 maximum)")
        vector[AU_INDEX[check_au(code)]] = float(intensity)
    return vector


def au_intensities(vector: np.ndarray) -> dict[str, float]:
    """The non-zero entries of an AU vector by code; the inverse of `au_vector`."""
    return {code: round(float(value), 3) for code, value in zip(AU_CODES, vector, strict=True) if value > 0}


def parse_aus(text: str) -> dict[str, float]:
    """Read "12=3,L2=1.5" into intensities by code; raises VocabularyError naming the part that is wrong."""
    found: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        code, equals, value = part.partition("=")
        try:
            found[check_au(code)] = float(value)
        except VocabularyError:
            raise
        except ValueError:
            raise VocabularyError(f"cannot read {part!r} as AU=INTENSITY, for example 12=3 or L12=2") from None
        if not equals or not 0.0 <= found[check_au(code)] <= MAX_INTENSITY:
            raise VocabularyError(f"intensity in {part!r} must lie in 0..5 (0 absent, 5 maximum)")
    return found


def left_right(vector: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Intensity of a unit on the person's left and right side: the bilateral entry or the side's own, whichever is larger.

    `vector` is (..., AU_COUNT); both results are (...).
    """
    both = vector[..., AU_INDEX[check_au(unit)]]
    if unit not in SIDED_AUS:
        return both, both
    return np.maximum(both, vector[..., AU_INDEX[f"L{unit}"]]), np.maximum(both, vector[..., AU_INDEX[f"R{unit}"]])


def shown_intensities(vector: np.ndarray, codes: Sequence[str]) -> np.ndarray:
    """Intensities (..., K) that a face of AU vector (..., AU_COUNT) shows at `codes`: L12 is the left half's 12, however it was written."""

    def shown(code: str) -> np.ndarray:
        if code[0] in "LR":
            left, right = left_right(vector, code[1:])
            return left if code[0] == "L" else right
        return vector[..., AU_INDEX[code]]

    return np.stack([shown(check_au(code)) for code in codes], axis=-1)


def set_left_right(vector: np.ndarray, unit: str, *, left: float, right: float) -> None:
    """Write a sided unit in canonical form: the common part in the bilateral entry, the stronger side in its own."""
    vector[AU_INDEX[unit]] = min(left, right)
    vector[AU_INDEX[f"L{unit}"]] = left if left > right else 0.0
    vector[AU_INDEX[f"R{unit}"]] = right if right > left else 0.0


def flip_aus(vector: np.ndarray) -> np.ndarray:
    """AU vector (..., AU_COUNT) of the mirrored image: left and right entries change places."""
    return vector[..., FLIP_ORDER]


# --- which AUs exclude each other -------------------------------------------------------------------------------------------------

EXCLUSIONS: tuple[tuple[str, str], ...] = (
    ("27", "26"), ("26", "24"), ("27", "24"), ("25", "24"),  # an open mouth cannot press its lips; 27 is the far end of 26's axis
    ("18", "20"), ("22", "20"), ("23", "22"),  # the lips are either drawn together or stretched
    ("5", "43"),  # a raised lid is not a closed eye
)  # fmt: skip
"""Pairs that one face cannot show together (after the FACS manual)."""


def exclusion_conflicts(vector: np.ndarray) -> list[tuple[str, str]]:
    """The pairs of `EXCLUSIONS` that an AU vector (AU_COUNT,) violates."""
    return [(a, b) for a, b in EXCLUSIONS if vector[AU_INDEX[a]] > 0 and vector[AU_INDEX[b]] > 0]


def check_exclusions(vector: np.ndarray) -> None:
    """Raise VocabularyError naming the first pair of AUs that exclude each other."""
    for a, b in exclusion_conflicts(vector):
        raise VocabularyError(f"AU {a} ({AU_NAMES[a]}) and AU {b} ({AU_NAMES[b]}) exclude each other on one face; ask for one of them")


def resolve_exclusions(vector: np.ndarray) -> np.ndarray:
    """A copy of an AU vector (AU_COUNT,) in which the weaker of two excluding AUs is absent; on a tie the first of the pair stays."""
    resolved = vector.copy()
    for a, b in EXCLUSIONS:
        first, second = AU_INDEX[a], AU_INDEX[b]
        if resolved[first] > 0 and resolved[second] > 0:
            resolved[second if resolved[first] >= resolved[second] else first] = 0.0
    return resolved


# --- expressions as AUs (EMFACS) --------------------------------------------------------------------------------------------------

PROTOTYPE_VERSION = "emfacs-1"


@dataclass(frozen=True)
class Prototype:
    """AUs of an expression: `core` make it, one of `variants` (when given) replaces the core, `optional` may join."""

    core: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()


PROTOTYPES: dict[str, Prototype] = {
    "neutral": Prototype(core=()),
    "happiness": Prototype(core=("6", "12"), optional=("25", "26")),
    "sadness": Prototype(core=("1", "4", "15"), optional=("6", "11", "17")),
    "surprise": Prototype(core=("1", "2", "5", "26"), variants=(("1", "2", "5", "27"),), optional=("25",)),
    "fear": Prototype(core=("1", "2", "4", "5", "7", "20", "26"), variants=(("1", "2", "4", "5", "20", "25"),)),
    "disgust": Prototype(core=("9", "15", "17"), variants=(("9", "10", "17"), ("4", "10", "17"), ("9", "15", "16")), optional=("4", "7")),
    "anger": Prototype(core=("4", "5", "7", "23"), variants=(("4", "5", "7", "24"),), optional=("10", "17")),
    "contempt": Prototype(core=("R12", "R14"), variants=(("L12", "L14"),)),
}
"""EMFACS prototypes; sources differ, so the table has a version."""

COMPOUNDS: dict[str, tuple[str, str]] = {
    "happily surprised": ("happiness", "surprise"), "happily disgusted": ("happiness", "disgust"), "sadly fearful": ("sadness", "fear"),
    "sadly angry": ("sadness", "anger"), "sadly surprised": ("sadness", "surprise"), "sadly disgusted": ("sadness", "disgust"),
    "fearfully angry": ("fear", "anger"), "fearfully surprised": ("fear", "surprise"), "angrily surprised": ("anger", "surprise"),
    "angrily disgusted": ("anger", "disgust"), "disgustedly surprised": ("disgust", "surprise"),
}  # fmt: skip
"""RAF-DB's compound expressions and the two basic ones each joins."""

# --- attributes of a person that a caption may name -------------------------------------------------------------------------------

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "sex": ("woman", "man"),
    "age": ("young", "middle-aged", "elderly"),
    "skin": ("pale", "light", "olive", "brown", "dark"),
    "hair_color": ("black", "brown", "blond", "red", "grey"),
    "hair_style": ("bald", "short", "medium", "long", "curly"),
    "glasses": ("none", "glasses"),
    "facial_hair": ("none", "stubble", "moustache", "beard"),
}


def check_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `attributes` if every name and value is known, else raise VocabularyError."""
    for name, value in attributes.items():
        if name not in ATTRIBUTES:
            raise VocabularyError(unknown("attribute", name, ATTRIBUTES))
        if value not in ATTRIBUTES[name]:
            raise VocabularyError(unknown(f"value of attribute {name}", value, ATTRIBUTES[name]))
    return dict(attributes)
