"""CK+ (Lucey et al., CVPRW 2010): 593 sequences of 123 people from neutral to the peak, FACS codes of the peak, 327 with an emotion.

Research use only, on request at http://www.jeffcohn.net/Resources/. The order of the labels is that of the distribution's readme.

Layouts: the distribution (`cohn-kanade-images`, `Emotion`, `FACS`), or CK+48, class folders of frames of 48 pixels with the subject in the
file name. Of a sequence come two frames: the last one, the peak, with emotion and AUs, and, where an emotion was coded, the first as
neutral, its AUs unknown because they were not coded. A peak without a coded emotion has AUs and no label. The peak is the frame that the
files of the codes are named after.

A FACS file has a line a unit: its number and an intensity, 1 to 5 or the manual's letters A to E. A unit that is not in the file is absent
on the peak; intensity 0, or none, says that a unit is present at an intensity that nobody coded. L or R before a unit is a side of the
face: of the other side, and of the unit as a whole, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, Problem
from synfer.datasets.files import images, name_of
from synfer.datasets.folders import holds_classes, read_class_folders
from synfer.datasets.names import LabelNames
from synfer.vocabulary import AU_CODES, AU_INDEX, MAX_INTENSITY, unknown

LABELS = {
    "0": "neutral", "1": "anger", "2": "contempt", "3": "disgust", "4": "fear", "5": "happiness", "6": "sadness", "7": "surprise",
}  # fmt: skip
IMAGES, EMOTION, FACS = "cohn-kanade-images", "Emotion", "FACS"
PRESENT = 3.0
"""Intensity of a unit that is coded as present and no more: marked."""

LETTERS = {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0, "E": 5.0}
"""The manual's intensities: trace, slight, marked, severe, maximum."""

PUBLISHED = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69, "sadness": 28, "surprise": 83}
"""Sequences with an emotion."""

_SUBJECT = re.compile(r"S\d{3}")
_CODED = re.compile(r"([LR]?)(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([A-E]|\s\d+(?:\.\d+)?(?:e[+-]?\d+)?)?", re.IGNORECASE)
"""`12 3`, `12`, `12C`, `L12 b`, `1.2000000e+01   3.0000000e+00`: side, unit, intensity."""


def read_sequences(root: Path) -> Iterator[Entry]:
    """Peaks and neutral onsets of all sequences; raises DatasetError if the folder of labels or of FACS codes is missing."""
    for name in (IMAGES, EMOTION, FACS):
        if not (root / name).is_dir():
            raise DatasetError(f"{root} has no folder {name}")
    for subject in sorted(child for child in (root / IMAGES).iterdir() if child.is_dir()):
        for sequence in sorted(child for child in subject.iterdir() if child.is_dir()):
            if frames := list(images(sequence)):
                yield from _sequence(frames, root, f"{subject.name}/{sequence.name}", subject.name)


def _sequence(frames: list[Path], root: Path, place: str, subject: str) -> Iterator[Entry]:
    emotions, codes = _codes(root / EMOTION / place, "emotion"), _codes(root / FACS / place, "facs")
    try:
        peak, onset = _peak(frames, [*emotions, *codes]), frames[0]
        label, aus = _emotion(emotions), _facs(codes)
    except DatasetError as error:
        yield Problem(str(frames[-1]), str(error))
        return
    yield Item(name_of(peak, root), str(peak), peak.read_bytes, expression=label, identity=subject, aus=aus)
    if label and onset != peak:
        yield Item(name_of(onset, root), str(onset), onset.read_bytes, expression="neutral", identity=subject)


def _codes(folder: Path, kind: str) -> list[Path]:
    """The file of emotion or FACS codes of a sequence; most sequences have an empty folder for the emotion, or none."""
    return sorted(folder.glob(f"*_{kind}.txt"))[:1] if folder.is_dir() else []


def _peak(frames: list[Path], codes: list[Path]) -> Path:
    """The frame that was coded, without codes the last one; raises DatasetError if it is not there."""
    by_name = {frame.stem: frame for frame in frames}
    for file in codes:
        if (name := file.stem.rpartition("_")[0]) not in by_name:
            raise DatasetError(f"{file} codes the frame {name}, which is not there")
    return by_name[codes[0].stem.rpartition("_")[0]] if codes else frames[-1]


def _emotion(files: list[Path]) -> str:
    """The coded emotion, "" where there is none."""
    if not files:
        return ""
    text = files[0].read_text(encoding="utf-8").strip()
    try:
        return LABELS[str(int(float(text)))]
    except (ValueError, KeyError):
        raise DatasetError(f"{files[0]}: {unknown('label', text, LABELS)}") from None


def _facs(files: list[Path]) -> dict[str, float]:
    """Intensities of all units that have no side, 0 for those that were not coded, and of those coded on a side; empty without a file."""
    if not files:
        return {}
    aus = {code: 0.0 for code in AU_CODES if code.isdigit()}
    for line in files[0].read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        side, unit, intensity = _coded(line.strip(), files[0])
        if side:
            aus.pop(unit, None)
        if side + unit in AU_INDEX:  # eye and head positions, for example, are no units of the vocabulary
            aus[side + unit] = intensity
    return aus


def _coded(line: str, file: Path) -> tuple[str, str, float]:
    """Side ("" for none), unit and intensity 1..5 of a line; raises DatasetError on another one."""
    found = _CODED.fullmatch(line)
    if found is None or not float(found[2]).is_integer():
        raise DatasetError(f"{file}: {line!r} is not an AU and its intensity, such as '12 3', '12C' or 'L12 0'")
    text = (found[3] or "0").strip().upper()
    intensity = LETTERS[text] if text in LETTERS else float(text)
    if intensity > MAX_INTENSITY:
        raise DatasetError(f"{file}: intensity {intensity:g} lies outside 0..5")
    return found[1].upper(), str(int(float(found[2]))), intensity or PRESENT


def read_cropped(root: Path) -> Iterator[Entry]:
    """CK+48: `happy/S010_006_00000013.png`; three frames a sequence."""

    def subject(file: Path) -> str:
        found = _SUBJECT.match(file.name)
        return found.group() if found else ""

    for entry in read_class_folders(root, meaning=LabelNames().meaning, identity=subject):
        named = not isinstance(entry, Item) or entry.identity
        yield entry if named else Problem(entry.where, "no subject (S and three digits) at the beginning of the file name")


FORMAT = Format(
    title="CK+",
    licence="research only, by agreement with the authors",
    source="http://www.jeffcohn.net/Resources/",
    layouts=(
        Layout(
            "sequences", "cohn-kanade-images/S005/001/*.png with Emotion/ and FACS/ alike",
            lambda root: any((root / name).is_dir() for name in (IMAGES, EMOTION, FACS)), read_sequences,
        ),
        Layout("CK+48", "class folders of S010_004_00000017.png", lambda root: holds_classes(root, "anger", "happy"), read_cropped),
    ),
    published=PUBLISHED,
)  # fmt: skip
