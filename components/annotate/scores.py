"""Members' scores of a stream of faces, shard by shard: a kill costs a shard at most, and memory does not grow with the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from components.annotate.sources import Item, Source
from synfer.files import whole_file
from synfer.images import ImageError, resize

SHARD = 512
"""Images whose scores are written at once."""

T = TypeVar("T")


class Scorer(Protocol):
    """Who looks at faces; see `components.member_scores.AnnotationMembers`."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the members."""
        ...

    @property
    def image_size(self) -> int:
        """Side of the faces that it is shown, in pixels."""
        ...

    def scores(self, pixels: np.ndarray, sample_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Scores (N, K) of every member for faces uint8 (N, side, side, 3)."""
        ...


@dataclass(frozen=True)
class Scores:
    """N images in the order of the source: id, label as it came ("" for none), what was wrong with the file ("" for nothing).

    `members` are scores (N, K) by name, NaN where the file could not be read.
    """

    sample_ids: list[str]
    given: list[str]
    errors: list[str]
    members: Mapping[str, np.ndarray]

    @property
    def readable(self) -> np.ndarray:
        """Whether an image could be read, bool (N,)."""
        return np.array([error == "" for error in self.errors], dtype=bool)


def score_source(
    source: Source, members: Callable[[], Scorer], work: Path, *, total: int, skip_bad: int, batch_size: int, shard: int = SHARD
) -> Scores:
    """Score every image of a source; a shard that an interrupted call has left in `work` is read, not made again.

    `members` is called when the first shard is to be made. Raises ImageError naming the file of the first unreadable image beyond
    `skip_bad`; shards that are finished stay.
    """
    bad, paths = 0, []
    with tqdm(total=total, desc="annotate", unit="face") as bar:
        for number, items in enumerate(batches(source.items(), shard)):
            path = work / f"shard-{number:05d}.parquet"
            if not path.is_file():
                table = _score_shard(items, members(), skip_bad=skip_bad - bad, batch_size=batch_size, bar=bar)
                with whole_file(path) as temporary:
                    pq.write_table(table, temporary)
            else:
                bar.update(len(items))
            bad += _count_bad(path, skip_bad=skip_bad - bad)
            paths.append(path)
    return _read(paths)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive lists of `size` items, the last one shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def _score_shard(items: Sequence[Item], members: Scorer, *, skip_bad: int, batch_size: int, bar: tqdm[None]) -> pa.Table:
    errors: list[str] = []
    scores: dict[str, list[np.ndarray | None]] = {name: [] for name in members.names}
    for batch in batches(items, batch_size):
        faces = [_face(item, members.image_size) for item in batch]
        good = [index for index, face in enumerate(faces) if not isinstance(face, str)]
        errors += [face if isinstance(face, str) else "" for face in faces]
        _check_bad(errors, skip_bad)
        found = members.scores(np.stack([faces[index] for index in good]), [batch[index].sample_id for index in good]) if good else {}
        for name, column in scores.items():
            rows: list[np.ndarray | None] = [None] * len(batch)
            for place, index in enumerate(good):
                rows[index] = found[name][place]
            column += rows
        bar.update(len(batch))
    columns = {"sample_id": [item.sample_id for item in items], "given": [item.given for item in items], "error": errors}
    return pa.table(
        {name: pa.array(values, pa.string()) for name, values in columns.items()}
        | {f"score_{name}": pa.array(rows, pa.list_(pa.float64())) for name, rows in scores.items()}
    )


def _face(item: Item, size: int) -> np.ndarray | str:
    """Pixels uint8 (size, size, 3) of an item, or what is wrong with it."""
    try:
        return resize(item.pixels(), size)
    except ImageError as error:
        return str(error)


def _check_bad(errors: Sequence[str], allowed: int) -> None:
    bad = [error for error in errors if error]
    if len(bad) > allowed:
        raise ImageError(f"{bad[allowed]}; go on without such images with --skip-bad N, which tolerates up to N of them")


def _count_bad(path: Path, *, skip_bad: int) -> int:
    """Unreadable images of a finished shard; raises ImageError if they are more than `skip_bad`."""
    errors = pq.read_table(path, columns=["error"])["error"].to_pylist()
    _check_bad(errors, skip_bad)
    return sum(error != "" for error in errors)


def _read(paths: Sequence[Path]) -> Scores:
    """All shards as arrays: what remains of an image is numbers."""
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    columns = [name for name in table.column_names if name.startswith("score_")]
    members = {name.removeprefix("score_"): _matrix(table[name]) for name in columns}
    sample_ids, given, errors = (table[name].to_pylist() for name in ("sample_id", "given", "error"))
    return Scores(sample_ids, given, errors, members)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A list column as float (N, K); rows that are null become NaN."""
    valid = pc.is_valid(column).to_numpy()
    values = pc.list_flatten(column).to_numpy()
    matrix = np.full((len(column), len(values) // max(int(valid.sum()), 1)), np.nan)
    matrix[valid] = values.reshape(int(valid.sum()), -1)
    return matrix
