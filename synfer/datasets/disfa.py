"""DISFA (Mavadati et al., IEEE TAC 2013): 27 people watching films, 4,845 frames each, twelve AUs coded 0 to 5 in every frame; no emotion.

Research use only, on request at http://mohammadmahoor.com/disfa/. The labels are `ActionUnit_Labels/SN001/SN001_au1.txt`, a line
"frame,intensity", frames from 1 on. The set comes as videos; their frames are expected in `Images/SN001/00001.png` (any width of the
number), as `ffmpeg -i LeftVideoSN001_comp.avi Images/SN001/%05d.png` writes them. AUs beyond the twelve are unknown, and so is the
expression: such faces teach the AU adapter, not the classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, LeftOut, Problem
from synfer.datasets.files import first_existing, images, name_of
from synfer.vocabulary import MAX_INTENSITY

AUS = ("1", "2", "4", "5", "6", "9", "12", "15", "17", "20", "25", "26")
LABELS = "ActionUnit_Labels"

_IMAGES = ("Images/Left", "Images")


def read(root: Path, *, every: int = 1) -> Iterator[Entry]:
    """Every so-many-th frame that is there; raises DatasetError if a folder or the table of an AU is missing, or a line of it is wrong."""
    if every < 1:
        raise DatasetError(f"every {every}th frame cannot be taken; --every begins at 1")
    folder = first_existing(root, *_IMAGES)
    if folder is None or not (root / LABELS).is_dir():
        raise DatasetError(f"{root} has no folder {'Images' if folder is None else LABELS}")
    for subject in sorted(child for child in folder.iterdir() if child.is_dir()):
        coded = {code: _intensities(root / LABELS / subject.name / f"{subject.name}_au{code}.txt") for code in AUS}
        for file in images(subject):
            yield _frame(file, root, subject.name, coded, every)


def _frame(file: Path, root: Path, subject: str, coded: dict[str, dict[int, float]], every: int) -> Entry:
    if not file.stem.isdigit():
        return Problem(str(file), "the name of a frame is its number, such as 00001.png")
    number = int(file.stem)
    if (number - 1) % every:
        return LeftOut(str(file), f"not one of every {every} frames")
    missing = [code for code in AUS if number not in coded[code]]
    if missing:
        return Problem(str(file), f"frame {number} of {subject} has no intensity of AU {missing[0]}")
    return Item(name_of(file, root), str(file), file.read_bytes, identity=subject, aus={code: coded[code][number] for code in AUS})


def _intensities(path: Path) -> dict[int, float]:
    """Intensity of a unit by frame."""
    if not path.is_file():
        raise DatasetError(f"{path} does not exist")
    found: dict[int, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        frame, _, intensity = line.partition(",")
        try:
            found[int(frame)] = float(intensity)
        except ValueError:
            raise DatasetError(f"{path}: {line.strip()!r} is not a frame and its intensity") from None
        if not 0 <= found[int(frame)] <= MAX_INTENSITY:
            raise DatasetError(f"{path}: intensity {intensity.strip()} of frame {frame} lies outside 0..5")
    return found


FORMAT = Format(
    title="DISFA",
    licence="research only, by agreement with the authors",
    source="http://mohammadmahoor.com/disfa/",
    layouts=(
        Layout("frames", "ActionUnit_Labels/SN001/SN001_au1.txt with Images/SN001/00001.png", lambda root: (root / LABELS).is_dir(), read),
    ),
)
