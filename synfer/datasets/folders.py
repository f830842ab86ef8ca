"""Class folders: `split/class/*.png` or `class/*.png`, the layout of torchvision's ImageFolder and of many a published set.

Licence and origin are those of the images. The label is the name of the innermost folder that names a class, so that no order of classes
is ever needed; a folder of another name is a problem, unless `names` says what it means (a bare number means nothing by itself).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, LeftOut, Problem
from synfer.datasets.files import SPLITS, images, name_of
from synfer.datasets.names import LEFT_OUT, UNLABELLED, LabelNames
from synfer.vocabulary import EXPRESSIONS, unknown

Identify = Callable[[Path], str]
Meaning = Callable[[str], str | None]


def nobody(file: Path) -> str:
    """The identity of an image of which nothing is known."""
    return ""


def unknown_class(name: str) -> str:
    """One line for a folder that is no class of a set with names of its own."""
    return unknown("class", name, EXPRESSIONS)


def read_class_folders(
    root: Path,
    *,
    meaning: Meaning,
    splits: Mapping[str, str] = SPLITS,
    identity: Identify = nobody,
    strange: Callable[[str], str] = unknown_class,
) -> Iterator[Entry]:
    """Items of class folders, in the order of their paths.

    `meaning` of a folder's name is an expression, UNLABELLED, LEFT_OUT, or None where it is unknown; `strange` says so.
    `splits` are names of split folders in lower case, LEFT_OUT one without labels. Where one folder at the top is a split, all must be.
    """
    parted = any(child.is_dir() and child.name.lower() in splits for child in root.iterdir())
    for file in images(root):
        folders = file.relative_to(root).parts[:-1]
        split = splits.get(folders[0].lower()) if parted and folders else ""
        if split is None or (parted and not folders):
            yield Problem(str(file), unknown("split", folders[0] if folders else "", splits))
        elif split == LEFT_OUT:
            yield LeftOut(str(file), f"split {folders[0]}, which has no labels")
        elif not (classes := folders[1:] if parted else folders):
            yield Problem(str(file), "lies beside class folders, so it has no label")
        elif (name := next((name for name in reversed(classes) if meaning(name) is not None), None)) is None:
            yield Problem(str(file), strange(classes[-1]))
        elif (label := str(meaning(name))) == LEFT_OUT:
            yield LeftOut(str(file), f"label {name}")
        else:
            expression = "" if label == UNLABELLED else label
            yield Item(name_of(file, root), str(file), file.read_bytes, expression=expression, split=split, identity=identity(file))


def read(root: Path, *, names: LabelNames | None = None, identity: str | None = None) -> Iterator[Entry]:
    """Class folders whose names the vocabulary or `names` knows; `identity` is a pattern whose match in the path is the person.

    With a group in the pattern the person is what the group matched.
    """
    names = names or LabelNames()
    identify = identify_by(identity) if identity else nobody
    return read_class_folders(root, meaning=names.meaning, identity=identify, strange=names.strange)


def identify_by(pattern: str) -> Identify:
    """Identity by a regular expression looked for in the path; raises DatasetError if it is none."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"--identity {pattern!r} is not a regular expression: {error}") from None

    def identify(file: Path) -> str:
        found = compiled.search(file.as_posix())
        return "" if found is None else (found.group(1) if compiled.groups else found.group())

    return identify


def holds_classes(root: Path, *names: str) -> bool:
    """Whether a folder has sub-folders of all these names, whatever their case."""
    there = {child.name.lower() for child in root.iterdir()} if root.is_dir() else set()
    return set(names) <= there


def _is_here(root: Path) -> bool:
    return root.is_dir() and any(child.is_dir() for child in root.iterdir())


FORMAT = Format(
    title="class folders",
    licence="that of the images",
    source="your own",
    layouts=(Layout("class folders", "[SPLIT/]CLASS/*.png", _is_here, read),),
)
