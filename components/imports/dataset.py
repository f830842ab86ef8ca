"""`synfer import`: somebody's data set becomes a dataset folder, whole or not at all.

A reader of `synfer/datasets` says what the files mean; here every image is decoded and checked, splits are made, near copies are looked
for, and shards are written into a hidden folder that takes its name at the end. Memory holds one shard of images and the manifest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.imports.account import COPIES, SKIPPED, Account
from components.imports.images import Checked, check_image, format_of
from components.imports.probe import Probe, probe_labels
from components.imports.splits import SHARES, kept_together, split_rows
from components.imports.survey import Problems, Survey, items_of, survey
from components.near_duplicates import near_duplicate_clusters
from synfer.datasets.entries import DatasetError, Entry, Item, Layout
from synfer.datasets.registry import known_format
from synfer.files import whole_folder, write_json
from synfer.images import ImageError, write_shard
from synfer.manifest import SPLITS, write_manifest
from synfer.vocabulary import AU_COUNT, AU_INDEX, EXPRESSIONS

if TYPE_CHECKING:  # it needs torch, most imports do not
    from synfer.classifiers.embedding import Embedding

CARD = "card.json"
_SHARD_IMAGES = 1000
_SHARD_BYTES = 64 << 20
_PIXELS = "pixels"  # parameter of readers for which images are work
_UNKNOWN_AUS = np.full(AU_COUNT, np.nan, dtype=np.float32)


@dataclass(frozen=True)
class Imported:
    """What came of an import: the folder, images by expression and split, and what its reader should know."""

    folder: Path
    counts: pd.DataFrame
    notes: list[str]


@dataclass
class _Taken:
    """Rows of the manifest and perceptual hashes of the images written, and names of blank ones."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    hashes: list[tuple[int, ...]] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)


def import_dataset(
    format_name: str,
    root: Path,
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    shares: Mapping[str, float] = SHARES,
    carve: Sequence[str] = ("val",),
    resplit: bool = False,
    size: int | None = None,
    skip_bad: int = 0,
    seed: int = 0,
    embedding: Embedding | None = None,
    probe: Probe | None = None,
    shard_images: int = _SHARD_IMAGES,
) -> Imported:
    """Write the data set at `root` to the new dataset folder `out`.

    `options` go to the reader. A set without splits, or any with `resplit`, is parted by `shares`; a split of `carve` that it lacks is
    taken from its train. Up to `skip_bad` images that cannot be taken are passed over and recorded. With an `embedding` the look-alikes
    among people of unknown name stay in one split; with a `probe` the order of the labels is checked. A killed call leaves nothing at
    `out`. Raises DatasetError, or LabelError of the options, with `out` not made.
    """
    known = known_format(format_name)
    layout = known.layout_of(root)
    if out.exists():
        raise DatasetError(f"{out} exists already; choose another name, or remove it first")
    entries = _reader(layout, root, options or {}, format_name)
    problems = Problems(skip_bad)
    surveyed = survey(entries(pixels=False), problems, where=str(root))
    with whole_folder(out) as work:
        taken = _write_images(items_of(entries()), surveyed, problems, work, size=size, shard_images=shard_images)
        frame = pd.DataFrame(taken.rows)
        taken.rows.clear()
        frame["split"] = "" if resplit else frame["split"]
        clusters = near_duplicate_clusters(taken.hashes)
        together = kept_together(frame, clusters, work, carve=carve, embedding=embedding)
        frame["split"] = split_rows(frame, together.groups, shares=shares, carve=carve, seed=seed)
        copies = _copies_across(frame, clusters)
        probed = None if probe is None else probe_labels(work, frame, probe, seed=seed)
        account = Account(known, layout, surveyed, frame, problems, taken.blank, copies, together, probed)
        _write_tables(work, _columns(frame), problems, copies)
        write_json(work / CARD, {"format": format_name, **account.card(resplit=resplit)})
    return Imported(out, _counts(frame), account.notes())


def _reader(layout: Layout, root: Path, options: Mapping[str, Any], format_name: str) -> Callable[..., Iterator[Entry]]:
    """The entries of the data set, anew on every call, without `pixels` where that is less work.

    Raises DatasetError on an option that the layout does not take.
    """
    parameters = [name for name in inspect.signature(layout.read).parameters if name != "root"]
    taken = [name for name in parameters if name != _PIXELS]
    for name in options:
        if name not in taken:
            known = ", ".join(map(_flag, taken)) or "no option"
            raise DatasetError(f"{_flag(name)} says nothing to {format_name} ({layout.name}), which takes {known}")

    def entries(*, pixels: bool = True) -> Iterator[Entry]:
        return layout.read(root, **options, **({_PIXELS: pixels} if _PIXELS in parameters else {}))

    return entries


def _flag(option: str) -> str:
    """The command line's name of a reader's option."""
    return "--map" if option == "names" else f"--{option.replace('_', '-')}"


# --- images -----------------------------------------------------------------------------------------------------------------------


def _write_images(
    items: Iterator[Item], surveyed: Survey, problems: Problems, work: Path, *, size: int | None, shard_images: int
) -> _Taken:
    """Decode and check every image and write it into shards; blank ones are left out, bad ones noted."""
    taken = _Taken()
    batch: list[tuple[str, bytes]] = []
    number = held = 0
    for item in tqdm(items, total=len(surveyed.sample_ids), desc="import", unit="image"):
        try:
            checked = check_image(item, size=size)
        except ImageError as error:
            problems.add(item.where, str(error).removeprefix(f"{item.where}: "))
            continue
        if checked.blank:
            taken.blank.append(item.where)
            continue
        row = _row(item, surveyed.sample_ids[item.name], checked)
        taken.rows.append(row)
        taken.hashes.append(checked.hash)
        batch.append((row["sample_id"], checked.data))
        held += len(checked.data)
        if len(batch) == shard_images or held > _SHARD_BYTES:
            _write_shard(work, number, batch)
            number, held, batch = number + 1, 0, []
    problems.check()
    if batch:
        _write_shard(work, number, batch)
    if not taken.rows:
        raise DatasetError(f"none of the {len(surveyed.sample_ids)} images can be taken: {len(taken.blank)} are blank")
    return taken


def _write_shard(work: Path, number: int, batch: Sequence[tuple[str, bytes]]) -> None:
    sample_ids, images = zip(*batch, strict=True)
    write_shard(work, number, sample_ids, images, suffix=format_of(images[0]))


def _row(item: Item, sample_id: str, checked: Checked) -> dict[str, Any]:
    """The manifest row of an image; `votes` and what no image of the set has is taken away again at the end."""
    return {
        "sample_id": sample_id,
        "split": item.split,
        "identity": item.identity,
        "expression": item.expression,
        "caption": "",
        "aus": _aus(item.aus),
        "seed": -1,
        "sha256": checked.sha256,
        "votes": None if item.votes is None else np.array(item.votes, dtype=np.int16),
        "valence": item.valence,
        "arousal": item.arousal,
        "source_name": item.name,
        **{f"attr_{name}": value for name, value in item.attributes.items()},
    }


def _aus(coded: Mapping[str, float]) -> np.ndarray:
    if not coded:
        return _UNKNOWN_AUS  # one array for all: a set without AUs holds no million NaNs
    vector = _UNKNOWN_AUS.copy()
    for code, intensity in coded.items():
        vector[AU_INDEX[code]] = intensity
    return vector


# --- what is written beside -------------------------------------------------------------------------------------------------------


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The manifest without the columns of which the set knows nothing."""
    empty = [name for name in ("votes", "valence", "arousal") if frame[name].isna().all()]
    attributes = [name for name in frame.columns if name.startswith("attr_")]
    return frame.drop(columns=empty).fillna(dict.fromkeys(attributes, ""))


def _copies_across(frame: pd.DataFrame, clusters: np.ndarray) -> pd.DataFrame:
    """Rows of near-duplicates that lie in more than one split, with the number of their cluster."""
    rows = frame[["sample_id", "split", "expression", "source_name"]].assign(cluster=clusters)
    return rows[rows.groupby("cluster")["split"].transform("nunique") > 1].sort_values(["cluster", "split", "sample_id"])


def _write_tables(work: Path, frame: pd.DataFrame, problems: Problems, copies: pd.DataFrame) -> None:
    write_manifest(frame, work)
    if problems.found:
        pd.DataFrame(map(asdict, problems.found)).to_csv(work / SKIPPED, index=False)
    if len(copies):
        copies.to_csv(work / COPIES, index=False)


def _counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Images by expression (rows, "" for none) and split (columns), without empty rows."""
    counts = pd.crosstab(frame["expression"], frame["split"])
    return counts.reindex(index=[name for name in (*EXPRESSIONS, "") if name in counts.index], columns=list(SPLITS), fill_value=0)
