"""What a reader yields: items, problems, and what the set itself says is no face of any class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synfer.errors import SynferError


class DatasetError(SynferError):
    """A data set whose files do not lie as expected; the message names what was found and what is known."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image with all that its data set says of it; `read` gives the encoded bytes, `where` is what an error calls it.

    `name` is its path below the root, or another name that no second image has. `expression` is one of the vocabulary, "" where the set
    has none. `votes` are the annotators' over EXPRESSIONS. `aus` holds the intensities 0..5 of the units that were coded, by code; all
    others are unknown. `box` is where the face lies: left, top, width, height in pixels.
    """

    name: str
    where: str
    read: Callable[[], bytes]
    expression: str = ""
    split: str = ""
    identity: str = ""
    votes: tuple[int, ...] | None = None
    aus: Mapping[str, float] = field(default_factory=dict)
    valence: float = math.nan
    arousal: float = math.nan
    attributes: Mapping[str, str] = field(default_factory=dict)
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that cannot be taken: a label that is unknown, a name that says nothing, a file that is missing."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that the set itself, or the user, says is none of the classes; `why` is a reason that many share."""

    where: str
    why: str


Entry = Item | Problem | LeftOut


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on a disk: how it looks (`tree`), how it is told from others, and who reads it.

    `note` is what a user must know of it, such as that its labels are not the authors'.
    """

    name: str
    tree: str
    is_here: Callable[[Path], bool]
    read: Callable[..., Iterator[Entry]]
    note: str = ""


@dataclass(frozen=True)
class Format:
    """A data set: its name, its terms, where to get it, its layouts, and the images per expression that its authors published.

    `published` is what a shifted table of labels is found by; empty where nothing was published.
    """

    title: str
    licence: str
    source: str
    layouts: tuple[Layout, ...]
    published: Mapping[str, int] = field(default_factory=dict)

    def layout_of(self, root: Path) -> Layout:
        """The layout that lies at `root`; raises DatasetError that shows the known ones."""
        if not root.exists():
            raise DatasetError(f"{root} does not exist")
        for layout in self.layouts:
            if layout.is_here(root):
                return layout
        known = "; or ".join(layout.tree for layout in self.layouts)
        raise DatasetError(f"{root} is not laid out as {self.title}; expected there: {known}")
