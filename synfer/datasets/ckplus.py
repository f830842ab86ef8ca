"""CK+ (Lucey et al., CVPRW 2010): 593 sequences of 123 people from neutral to the peak, FACS codes of the peak, 327 with an emotion.

Research use only, on request at http://www.jeffcohn.net/Resources/. The order of the labels is that of the distribution's readme.

Layouts: the distribution (`cohn-kanade-images`, `Emotion`, `FACS`), or CK+48, class folders of frames of 48 pixels with the subject in the
file name. Of a sequence come two frames: the last one, the peak, with emotion and AUs, and, where an emotion was coded, the first as
neutral, its AUs unknown because they were not coded. A peak without a coded emotion has AUs and no label.
A unit that was not coded on a peak is absent there; intensity 0 says that a unit is present at an intensity that was not coded.
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

PUBLISHED = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69, "sadness": 28, "surprise": 83}
"""Sequences with an emotion."""

_SUBJECT = re.compile(r"S\d{3}")


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
    peak, onset = frames[-1], frames[0]
    try:
        label, aus = _emotion(root / EMOTION / place), _facs(root / FACS / place)
    except DatasetError as error:
        yield Problem(str(peak), str(error))
        return
    yield Item(name_of(peak, root), str(peak), peak.read_bytes, expression=label, identity=subject, aus=aus)
    if label and onset != peak:
        yield Item(name_of(onset, root), str(onset), onset.read_bytes, expression="neutral", identity=subject)


def _emotion(folder: Path) -> str:
    """The coded emotion, "" where there is none."""
    files = sorted(folder.glob("*_emotion.txt")) if folder.is_dir() else []
    if not files:
        return ""
    text = files[0].read_text(encoding="utf-8").strip()
    try:
        return LABELS[str(int(float(text)))]
    except (ValueError, KeyError):
        raise DatasetError(f"{files[0]}: {unknown('label', text, LABELS)}") from None


def _facs(folder: Path) -> dict[str, float]:
    """Intensities of all units that have no side, 0 for those that were not coded; empty without a file."""
    files = sorted(folder.glob("*_facs.txt")) if folder.is_dir() else []
    if not files:
        return {}
    aus = {code: 0.0 for code in AU_CODES if code.isdigit()}
    for line in files[0].read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        try:
            unit, intensity = (float(value) for value in line.split())
        except ValueError:
            raise DatasetError(f"{files[0]}: {line.strip()!r} is not an AU and its intensity") from None
        if not 0 <= intensity <= MAX_INTENSITY:
            raise DatasetError(f"{files[0]}: intensity {intensity:g} lies outside 0..5")
        if str(int(unit)) in AU_INDEX:  # eye and head positions, for example, are no units of the vocabulary
            aus[str(int(unit))] = intensity or PRESENT
    return aus


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
