"""The first reading of a data set: labels, splits and names alone, so that what is wrong with them is told before any work."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tqdm import tqdm

from synfer.datasets.entries import DatasetError, Entry, Item, LeftOut, Problem
from synfer.datasets.files import SUFFIXES

_MUCH = 100  # problems beyond those allowed, after which nobody reads on
_SHOWN = 3  # problems in the one line of the error; each has a line of its own before


@dataclass
class Problems:
    """What cannot be taken, up to `allowed`; each is told on stderr when it is met."""

    allowed: int
    found: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Note one more; raises DatasetError when there are far too many to go on."""
        self.found.append(Problem(where, what))
        if len(self.found) <= self.allowed + _MUCH:
            tqdm.write(f"cannot be taken: {where}: {what}", file=sys.stderr)
        if len(self.found) == self.allowed + _MUCH:
            self.check(further=" so far")

    def check(self, *, further: str = "") -> None:
        """Raise DatasetError if there are more than allowed."""
        if len(self.found) > self.allowed:
            shown = "; ".join(f"{problem.where}: {problem.what}" for problem in self.found[:_SHOWN])
            more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
            allowed = f"--skip-bad {self.allowed} allows fewer" if self.allowed else "take the others with --skip-bad N"
            raise DatasetError(f"{len(self.found)} images cannot be taken{further}: {shown}{more}; {allowed}")


@dataclass(frozen=True)
class Survey:
    """Sample id by name, images per expression and per split, and how many were left out for which reason."""

    sample_ids: dict[str, str]
    expressions: Counter[str]
    splits: Counter[str]
    left_out: Counter[str]


def survey(entries: Iterable[Entry], problems: Problems, *, where: str) -> Survey:
    """Read all entries once; raises DatasetError if there is no image, a name twice, or more problems than allowed."""
    names: dict[str, None] = {}
    expressions, splits, left_out = Counter[str](), Counter[str](), Counter[str]()
    for entry in tqdm(entries, desc="labels", unit="image", leave=False):
        if isinstance(entry, Problem):
            problems.add(entry.where, entry.what)
        elif isinstance(entry, LeftOut):
            left_out[entry.why] += 1
        elif entry.name in names:
            raise DatasetError(f"{entry.where}: the name {entry.name!r} occurs more than once")
        else:
            names[entry.name] = None
            expressions[entry.expression] += 1
            splits[entry.split] += 1
    problems.check()
    if not names:
        raise DatasetError(f"{where} holds no image that can be taken ({sum(left_out.values())} were left out)")
    return Survey(short_names(list(names)), expressions, splits, left_out)


def items_of(entries: Iterable[Entry]) -> Iterator[Item]:
    """The items among entries."""
    return (entry for entry in entries if isinstance(entry, Item))


def short_names(names: list[str]) -> dict[str, str]:
    """A sample id by name: the file's stem where no two share one, else the path with dashes, else that with its suffix."""
    plain = {name: _without_suffix(name) for name in names}
    stems = {name: path.rsplit("/", 1)[-1] for name, path in plain.items()}
    paths = {name: path.replace("/", "-") for name, path in plain.items()}
    unique = (ids for ids in (stems, paths) if len(set(ids.values())) == len(names))
    return next(unique, {name: name.replace("/", "-") for name in names})


def _without_suffix(name: str) -> str:
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)].replace(".parquet:", "-")  # a row of a Parquet file
