"""Captions and action units for a dataset folder of real faces that came without them.

Work is kept in parts beside the folder, so that a call which was interrupted goes on; the manifest changes at the end, whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.device import torch_device
from components.partial import close_partial, fingerprint, open_partial
from synfer.descriptions.action_units import ActionUnitSource, ActionUnitTable, Scale
from synfer.descriptions.captioners import Captioner, GrammarCaptioner, ModelCaptioner
from synfer.descriptions.pyfeat import PyFeat
from synfer.errors import SynferError
from synfer.files import replace_folder, sha256, whole_file
from synfer.images import ImageError, decode, iter_encoded
from synfer.manifest import FILE_NAME, read_manifest, stack, write_manifest
from synfer.vocabulary import AU_COUNT

GRAMMAR, PYFEAT = "grammar", "pyfeat"
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
    not know keeps its value. The grammar sees new AUs.
    Raises DescribeError, CaptionerError, ActionUnitError, ManifestError or ImageError before anything is written.
    """
    if captions is None and aus is None:
        raise DescribeError("nothing to describe: ask for captions (grammar or a model), for AUs (a table or pyfeat), or for both")
    target = dataset if out is None else out
    if out is not None and out.exists():
        raise DescribeError(f"{out} exists already; choose another folder, or leave --out away to change {dataset} itself")
    frame = read_manifest(dataset)
    au_source = _au_source(aus, frame, scale, device)
    captioner = _captioner(captions, prompt, device, seed)
    files = [Path(name) for name in (captions, aus) if isinstance(name, str) and Path(name).exists()]
    settings = [repr(captions), prompt, repr(aus), scale, overwrite, seed, [sha256(file) for file in files if file.is_file()]]
    partial = open_partial(target.resolve(), fingerprint(settings, [dataset, *(folder for folder in files if folder.is_dir())]))
    found = _described(dataset, frame[_incomplete(frame, captioner, au_source, overwrite)], captioner, au_source, partial)
    described, written = _merged(frame, found, overwrite=overwrite)
    _write(described, dataset, out, partial)
    known = int((~np.isnan(stack(described, "aus"))).any(axis=1).sum()) if len(described) else 0
    ignored = tuple(au_source.ignored) if isinstance(au_source, ActionUnitTable) else ()
    return Description(target, rows=len(frame), captions=written, with_aus=known, ignored=ignored)


# --- who describes ----------------------------------------------------------------------------------------------------------------


def _captioner(captions: str | Captioner | None, prompt: str | None, device: str, seed: int) -> Captioner | None:
    if not isinstance(captions, str):
        return captions
    return GrammarCaptioner(seed) if captions == GRAMMAR else ModelCaptioner(captions, prompt=prompt, device=torch_device(device))


def _au_source(aus: str | ActionUnitSource | None, frame: pd.DataFrame, scale: Scale | None, device: str) -> ActionUnitSource | None:
    if not isinstance(aus, str):
        return aus
    if aus == PYFEAT:
        return PyFeat.load(device=torch_device(device))
    return ActionUnitTable.read(Path(aus), frame["sample_id"], scale=scale)


# --- the work ---------------------------------------------------------------------------------------------------------------------


def _incomplete(frame: pd.DataFrame, captioner: Captioner | None, au_source: ActionUnitSource | None, overwrite: bool) -> pd.Series:
    """Which rows lack what is asked for."""
    no_caption = frame["caption"] == "" if captioner is not None else pd.Series(False, index=frame.index)
    unknown_aus = frame["aus"].map(lambda vector: bool(np.isnan(vector).any()))
    return no_caption | (unknown_aus if au_source is not None else False) | overwrite


def _described(
    dataset: Path, rows: pd.DataFrame, captioner: Captioner | None, au_source: ActionUnitSource | None, partial: Path
) -> pd.DataFrame:
    """Captions ("" for none) and AUs (NaN where unknown) of the rows, by sample_id; finished parts are read, not made again."""
    looks = any(source.needs_images for source in (captioner, au_source) if source is not None)
    by_id = rows.set_index("sample_id", drop=False)
    parts = []
    with tqdm(total=len(rows), desc="describe", unit="face") as bar:
        for number, part in enumerate(_batches(_encoded(dataset, by_id.index.tolist(), looks), _PART)):
            path = partial / f"part-{number:05d}.parquet"
            if not path.is_file():
                batches = [_describe_batch(dataset, batch, by_id, captioner, au_source, looks, bar) for batch in _batches(part, _BATCH)]
                with whole_file(path) as temporary:
                    pd.concat(batches).to_parquet(temporary, index=False)
            else:
                bar.update(len(part))
            parts.append(pd.read_parquet(path))
    return pd.concat(parts) if parts else pd.DataFrame({"sample_id": [], "caption": [], "aus": []})


def _describe_batch(
    dataset: Path,
    batch: Sequence[tuple[str, bytes]],
    by_id: pd.DataFrame,
    captioner: Captioner | None,
    au_source: ActionUnitSource | None,
    looks: bool,
    bar: tqdm[None],
) -> pd.DataFrame:
    rows = by_id.loc[[sample_id for sample_id, _ in batch]]
    images = [decode(data, where=f"{dataset}, sample {sample_id}") for sample_id, data in batch] if looks else []
    old = stack(rows, "aus").astype(np.float32)
    new = au_source(images, rows) if au_source is not None else np.full((len(rows), AU_COUNT), np.nan, dtype=np.float32)
    best = rows.assign(aus=list(np.where(np.isnan(new), old, new)))
    captions = captioner(images, best) if captioner is not None else [""] * len(rows)
    bar.update(len(rows))
    return pd.DataFrame({"sample_id": rows["sample_id"].to_numpy(), "caption": captions, "aus": list(new)})


def _encoded(dataset: Path, sample_ids: Sequence[str], looks: bool) -> Iterator[tuple[str, bytes]]:
    """The wanted samples with their encoded images in the order of the shards, or, where nobody looks, without them in the order given."""
    if not looks:
        yield from ((sample_id, b"") for sample_id in sample_ids)
        return
    wanted = set(sample_ids)
    for sample_id, data in iter_encoded(dataset) if wanted else ():
        if sample_id in wanted:
            wanted.discard(sample_id)
            yield sample_id, data
    if wanted:
        raise ImageError(f"{dataset} has no image for sample {min(wanted)} (and {len(wanted) - 1} more)")


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
        first, second = (aus, intensities[row]) if overwrite else (intensities[row], aus)
        intensities[row] = np.where(np.isnan(first), second, first)
    return frame.assign(caption=captions, aus=list(intensities)), written


def _write(frame: pd.DataFrame, dataset: Path, out: Path | None, partial: Path) -> None:
    """Put the manifest in the place of the old one, or with the dataset's other files into a new folder; the parts go."""
    if out is None:
        write_manifest(frame, dataset)
        shutil.rmtree(partial)
        return
    for part in partial.glob("part-*.parquet"):
        part.unlink()
    for file in dataset.iterdir():
        if file.is_file() and file.name != FILE_NAME:
            _link_or_copy(file, partial / file.name)
    write_manifest(frame, partial)
    close_partial(partial)
    replace_folder(partial, out)


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)  # files of a dataset are replaced, never changed, so both folders may hold one
    except OSError:
        shutil.copy2(source, target)
