"""Captions and action units for a dataset folder of real faces that came without them.

Work is kept in parts beside the folder, so that a call which was interrupted goes on; the manifest changes at the end, whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.partial import fingerprint, open_partial
from synfer.descriptions.action_units import ActionUnitSource, ActionUnitTable, Scale
from synfer.errors import SynferError
from synfer.files import replace_folder, sha256, whole_file
from synfer.images import ImageError, decode, iter_encoded, iter_sample_ids
from synfer.manifest import FILE_NAME, read_manifest, stack, write_manifest
from synfer.vocabulary import AU_COUNT

if TYPE_CHECKING:  # torch is imported where a captioner is made: what is wrong with files is told before
    from synfer.descriptions.captioners import Captioner

GRAMMAR, PYFEAT = "grammar", "pyfeat"
SOUGHT_BY = "aus_sought_by"
"""Column of the manifest: names of the sources that have looked for AUs in the image."""
_PART = 512  # samples whose descriptions are written at once
_BATCH = 32  # samples described at once


class DescribeError(SynferError):
    """A call that asks for nothing, or would overwrite a folder."""


@dataclass(frozen=True)
class Description:
    """What was added to a dataset: rows, captions written, rows with a known AU among them, and the table's columns that no AU claims."""

    folder: Path
    rows: int
    captions: int
    with_aus: int
    ignored: tuple[str, ...] = ()


def describe(
    dataset: Path,
    *,
    captions: str | Captioner | None = None,
    aus: str | ActionUnitSource | None = None,
    out: Path | None = None,
    scale: Scale | None = None,
    prompt: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> Description:
    """Fill the empty captions and the unknown AUs of a dataset folder's manifest, in place or in a copy at `out`.

    `captions` is `grammar`, an image-text-to-text model or a captioner of your own, `prompt` what the model is given; `aus` is `pyfeat`, a
    table or a source of your own, `scale` says what a table's values are. `overwrite` replaces what is there; an AU that the source does
    not know keeps its value. The grammar sees new AUs. A source that looks at images gets each once: the manifest notes it.
    Raises DescribeError, CaptionerError, ActionUnitError, ManifestError, or ImageError for an image that is missing, before anything is
    written; one that cannot be decoded raises ImageError when its turn comes, and the manifest stays as it was.
    """
    if captions is None and aus is None:
        raise DescribeError("nothing to describe: ask for captions (grammar or a model), for AUs (a table or pyfeat), or for both")
    target = dataset if out is None else out
    if out is not None and out.exists():
        raise DescribeError(f"{out} exists already; choose another folder, or leave --out away to change {dataset} itself")
    frame = read_manifest(dataset)
    au_source = _au_source(aus, frame, scale, device)
    captioner = _captioner(captions, prompt, device, seed)
    task = _task(dataset, frame, captioner, au_source, overwrite)
    _check_images(task)
    files = [Path(name) for name in (captions, aus) if isinstance(name, str) and Path(name).exists()]
    settings = [_name(captions), prompt, _name(aus), scale, overwrite, seed, [sha256(file) for file in files if file.is_file()]]
    partial = open_partial(target.resolve(), fingerprint(settings, [dataset, *(folder for folder in files if folder.is_dir())]))
    described, written = _merged(frame, _described(task, partial), overwrite=overwrite)
    _write(_noted(described, task), dataset, out, partial)
    known = int((~np.isnan(stack(described, "aus"))).any(axis=1).sum()) if len(described) else 0
    ignored = tuple(au_source.ignored) if isinstance(au_source, ActionUnitTable) else ()
    return Description(target, rows=len(frame), captions=written, with_aus=known, ignored=ignored)


# --- who describes ----------------------------------------------------------------------------------------------------------------


def _captioner(captions: str | Captioner | None, prompt: str | None, device: str, seed: int) -> Captioner | None:
    if not isinstance(captions, str):
        return captions
    from components.device import torch_device
    from synfer.descriptions.captioners import GrammarCaptioner, ModelCaptioner

    return GrammarCaptioner(seed) if captions == GRAMMAR else ModelCaptioner(captions, prompt=prompt, device=torch_device(device))


def _au_source(aus: str | ActionUnitSource | None, frame: pd.DataFrame, scale: Scale | None, device: str) -> ActionUnitSource | None:
    if not isinstance(aus, str):
        return aus
    if aus != PYFEAT:
        return ActionUnitTable.read(Path(aus), frame["sample_id"], scale=scale)
    from components.device import torch_device
    from synfer.descriptions.pyfeat import PyFeat

    return PyFeat.load(device=torch_device(device))


def _name(source: object) -> str:
    """What tells a source from others, in this call and in the next: the name asked for, or an object's class and its `name` if any."""
    if source is None or isinstance(source, str):
        return source or ""
    kind = type(source)
    return f"{kind.__module__}.{kind.__qualname__} {getattr(source, 'name', '')}".rstrip()


# --- what there is to do ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Task:
    """Rows (by sample_id) that lack something; which of them go to the captioner, which to the AU source, and whose image is needed."""

    dataset: Path
    rows: pd.DataFrame
    captioner: Captioner | None
    au_source: ActionUnitSource | None
    for_captioner: frozenset[str]
    for_au_source: frozenset[str]
    looked_at: frozenset[str]
    overwrite: bool


def _task(dataset: Path, frame: pd.DataFrame, captioner: Captioner | None, au_source: ActionUnitSource | None, overwrite: bool) -> _Task:
    """The captioner gets rows without a caption, the AU source rows with an unknown AU, but no image that it has looked at before."""
    lacks_caption = (frame["caption"] == "").to_numpy()
    unsought = np.array([_name(au_source) not in names for names in _sought_by(frame)], dtype=bool)
    lacks_aus = np.array([np.isnan(vector).any() for vector in frame["aus"]], dtype=bool) & unsought
    for_captioner, for_au_source = (
        frozenset(frame.loc[lacks | overwrite, "sample_id"]) if source is not None else frozenset()
        for source, lacks in ((captioner, lacks_caption), (au_source, lacks_aus))
    )
    looked_at = frozenset[str]().union(
        *(ids for source, ids in ((captioner, for_captioner), (au_source, for_au_source)) if source is not None and source.needs_images)
    )
    rows = frame[frame["sample_id"].isin(for_captioner | for_au_source)].set_index("sample_id", drop=False)
    return _Task(dataset, rows, captioner, au_source, for_captioner, for_au_source, looked_at, overwrite)


def _check_images(task: _Task) -> None:
    missing = task.looked_at.difference(iter_sample_ids(task.dataset)) if task.looked_at else ()
    if missing:
        raise ImageError(f"{task.dataset} has no image for sample {min(missing)} (and {len(missing) - 1} more)")


# --- the work ---------------------------------------------------------------------------------------------------------------------


def _described(task: _Task, partial: Path) -> pd.DataFrame:
    """Captions ("" for none) and AUs (NaN where unknown) of the task's rows, by sample_id; finished parts are read, not made again."""
    parts = []
    with tqdm(total=len(task.rows), desc="describe", unit="face") as bar:
        for number, part in enumerate(_batches(_encoded(task), _PART)):
            path = partial / f"part-{number:05d}.parquet"
            if not path.is_file():
                batches = [_describe_batch(task, batch, bar) for batch in _batches(part, _BATCH)]
                with whole_file(path) as temporary:
                    pd.concat(batches).to_parquet(temporary, index=False)
            else:
                bar.update(len(part))
            parts.append(pd.read_parquet(path))
    return pd.concat(parts) if parts else pd.DataFrame({"sample_id": [], "caption": [], "aus": []})


def _describe_batch(task: _Task, batch: Sequence[tuple[str, bytes]], bar: tqdm[None]) -> pd.DataFrame:
    rows = task.rows.loc[[sample_id for sample_id, _ in batch]]
    images = {name: decode(data, where=f"{task.dataset}, sample {name}") for name, data in batch if name in task.looked_at}
    aus, captions = np.full((len(rows), AU_COUNT), np.nan, dtype=np.float32), np.full(len(rows), "", dtype=object)
    chosen = np.array([sample_id in task.for_au_source for sample_id in rows.index])
    if task.au_source is not None and chosen.any():
        aus[chosen] = task.au_source(_seen(task.au_source, images, rows[chosen]), rows[chosen])
    best = rows.assign(aus=list(_filled(stack(rows, "aus").astype(np.float32), aus, overwrite=task.overwrite)))
    chosen = np.array([sample_id in task.for_captioner for sample_id in rows.index])
    if task.captioner is not None and chosen.any():
        captions[chosen] = task.captioner(_seen(task.captioner, images, best[chosen]), best[chosen])
    bar.update(len(rows))
    return pd.DataFrame({"sample_id": rows["sample_id"].to_numpy(), "caption": captions, "aus": list(aus)})


def _seen(source: Captioner | ActionUnitSource, images: Mapping[str, np.ndarray], rows: pd.DataFrame) -> list[np.ndarray]:
    return [images[sample_id] for sample_id in rows.index] if source.needs_images else []


def _encoded(task: _Task) -> Iterator[tuple[str, bytes]]:
    """The task's samples: first those at which nobody looks, without image, then the others in the order of the shards."""
    yield from ((sample_id, b"") for sample_id in task.rows.index if sample_id not in task.looked_at)
    left = set(task.looked_at)
    for sample_id, data in iter_encoded(task.dataset) if left else ():
        if sample_id in left:
            left.discard(sample_id)
            yield sample_id, data
        if not left:
            return


def _batches(items: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    """Consecutive lists of `size` items, the last one shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


# --- the manifest -----------------------------------------------------------------------------------------------------------------


def _merged(frame: pd.DataFrame, found: pd.DataFrame, *, overwrite: bool) -> tuple[pd.DataFrame, int]:
    """The manifest with what was found, and how many captions are new."""
    captions, intensities = frame["caption"].tolist(), stack(frame, "aus").astype(np.float32)
    place = {sample_id: row for row, sample_id in enumerate(frame["sample_id"])}
    written = 0
    for sample_id, caption, aus in zip(found["sample_id"], found["caption"], found["aus"], strict=True):
        row = place[sample_id]
        if caption and (overwrite or not captions[row]):
            captions[row], written = caption, written + 1
        intensities[row] = _filled(intensities[row], aus, overwrite=overwrite)
    return frame.assign(caption=captions, aus=list(intensities)), written


def _filled(old: np.ndarray, new: np.ndarray, *, overwrite: bool) -> np.ndarray:
    """Intensities of any shape: where both are known the old ones, or with `overwrite` the new ones."""
    first, second = (new, old) if overwrite else (old, new)
    return np.where(np.isnan(first), second, first)


def _noted(frame: pd.DataFrame, task: _Task) -> pd.DataFrame:
    """The manifest with the name of an AU source that looks at images, at every row that it has been given."""
    if task.au_source is None or not task.au_source.needs_images:
        return frame
    given = ({_name(task.au_source)} if sample_id in task.for_au_source else set() for sample_id in frame["sample_id"])
    names = [sorted({*before, *now}) for before, now in zip(_sought_by(frame), given, strict=True)]
    return frame.assign(**{SOUGHT_BY: pd.Series(names, index=frame.index)})


def _sought_by(frame: pd.DataFrame) -> list[list[str]]:
    """Of every row, the sources that have looked for its AUs."""
    column = frame[SOUGHT_BY] if SOUGHT_BY in frame.columns else [None] * len(frame)
    return [[] if names is None else list(names) for names in column]


def _write(frame: pd.DataFrame, dataset: Path, out: Path | None, partial: Path) -> None:
    """Put the manifest in the place of the old one, or with the dataset's other files into a new folder; the parts go last."""
    if out is None:
        write_manifest(frame, dataset)
    else:
        finished = partial / "finished"
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        for file in dataset.iterdir():
            if file.is_file() and file.name != FILE_NAME:
                _link_or_copy(file, finished / file.name)
        write_manifest(frame, finished)
        replace_folder(finished, out)
    shutil.rmtree(partial)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # files of a dataset are replaced, never changed, so both folders may hold one
    except OSError:
        shutil.copy2(source, target)
