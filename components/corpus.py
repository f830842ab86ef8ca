"""Stage corpus: check the real images, take as many as wanted, and part them into `development` (train and val) and `test`.

The two folders are apart so that no training stage can even read the test split.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from components.plots import confusion_matrices, grouped_bars, ranked_bars
from components.record import Record
from synfer.captions import row_captions
from synfer.classifiers.examples import class_indices
from synfer.config import Common
from synfer.config import Corpus as Section
from synfer.errors import SynferError
from synfer.faces.sheet import labelled_sheet
from synfer.images import ImageError, decode, iter_encoded, load_images, write_shard
from synfer.manifest import FILE_NAME, SPLITS, read_manifest, stack, write_manifest
from synfer.metrics.bootstrap import mean_interval
from synfer.metrics.classification import confusion
from synfer.vocabulary import AU_CODES, AU_NAMES

FOLDERS = {"development": ("train", "val"), "test": ("test",)}
_SHARD_IMAGES = 1000
_SHEET_FACES = 10
_VISIBLE = 1.0  # intensity from which an AU counts as shown


class CorpusError(SynferError):
    """A corpus that is missing, mixes people between splits, or holds a damaged image; the message names it."""


def run(section: Section, common: Common, *, out: Path) -> None:
    """Write the dataset folders `development` and `test` to `out`."""
    source = Path(section.source)
    frame = read_corpus(source, classes=common.expressions)
    frame = pd.concat([take_balanced(frame[frame["split"] == split], getattr(section, split)) for split in SPLITS])
    frame = with_captions(frame, seed=common.seed)
    for name, splits in FOLDERS.items():
        rows = frame[frame["split"].isin(splits)]
        copy_images(source, rows, out / name)
        write_manifest(rows, out / name)
    _record(frame, source, common, out)


def read_corpus(source: Path, *, classes: tuple[str, ...]) -> pd.DataFrame:
    """Manifest rows of the wanted classes; raises CorpusError if the folder is missing, a split is empty, or a person is in two."""
    if not (source / FILE_NAME).is_file():
        raise CorpusError(f"{source} holds no {FILE_NAME}; bring the corpus with: dvc pull data.dvc")
    frame = read_manifest(source)
    check_identities(frame, where=str(source))
    frame = frame[frame["expression"].isin(classes)]
    for split in SPLITS:
        if not (frame["split"] == split).any():
            raise CorpusError(f"{source} has no {split} image of {', '.join(classes)}")
    return frame


def check_identities(frame: pd.DataFrame, *, where: str) -> None:
    """Raise CorpusError naming the first person who is in more than one split; unknown people ("") cannot be checked."""
    known = frame[frame["identity"] != ""]
    splits = known.groupby("identity", sort=True)["split"].unique()
    mixed = splits[splits.map(len) > 1]
    if len(mixed):
        parts = " and ".join(sorted(mixed.iloc[0]))
        raise CorpusError(f"{where}: {mixed.index[0]} is in {parts} (and {len(mixed) - 1} more people); splits must not share identities")


def take_balanced(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """The first rows of every class in turn, `limit` in all (0: every row), in the order of the manifest."""
    if not limit or limit >= len(rows):
        return rows
    turn = rows.groupby("expression", sort=False).cumcount()
    chosen = rows.assign(turn=turn).sort_values(["turn", "expression"], kind="stable").index[:limit]
    return rows.loc[rows.index.isin(chosen)]


def with_captions(frame: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The rows with a caption from the grammar where there was none; each sample draws from a generator of its own."""
    missing = frame["caption"] == ""
    if not missing.any():
        return frame
    captions = frame["caption"].to_numpy(dtype=object, copy=True)
    captions[missing.to_numpy()] = row_captions(frame[missing], seed=seed)
    return frame.assign(caption=captions)


def copy_images(source: Path, rows: pd.DataFrame, folder: Path) -> None:
    """Copy the encoded images of these rows into shards; raises ImageError naming the first that is missing, undecodable or altered."""
    hashes = dict(zip(rows["sample_id"], rows["sha256"], strict=True))
    batch: list[tuple[str, bytes]] = []
    number = 0
    with tqdm(total=len(hashes), desc=f"corpus: {folder.name}", unit="image") as bar:
        for sample_id, data in iter_encoded(source):
            if sample_id not in hashes:
                continue
            _check_image(data, hashes.pop(sample_id), where=f"{source}, sample {sample_id}")
            batch.append((sample_id, data))
            bar.update()
            if len(batch) == _SHARD_IMAGES:
                _write(folder, number, batch)
                number, batch = number + 1, []
    if hashes:
        raise ImageError(f"{source} has no image for sample {min(hashes)} (and {len(hashes) - 1} more)")
    if batch:
        _write(folder, number, batch)


def _check_image(data: bytes, expected: str, *, where: str) -> None:
    decode(data, where=where)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ImageError(f"{where}: sha256 is {found[:12]}, the manifest says {expected[:12]}; the image was altered")


def _write(folder: Path, number: int, batch: list[tuple[str, bytes]]) -> None:
    with Image.open(io.BytesIO(batch[0][1])) as image:
        suffix = str(image.format).lower()
    write_shard(folder, number, [sample_id for sample_id, _ in batch], [data for _, data in batch], suffix=suffix)


# --- what people see --------------------------------------------------------------------------------------------------------------


def _record(frame: pd.DataFrame, source: Path, common: Common, out: Path) -> None:
    record = Record(out)
    record.metric("corpus/images", len(frame), n=len(frame))
    record.metric("corpus/identities", frame["identity"].nunique(), n=len(frame))
    for split, rows in frame.groupby("split"):
        record.metric(f"corpus/{split}_images", len(rows), n=len(rows))
    _sheet(frame, source, common, record)
    _balance(frame, common.expressions, record)
    if "true_expression" in frame.columns:
        _label_noise(frame, common.expressions, record)
    _au_frequency(frame, record)
    record.save()


def _sheet(frame: pd.DataFrame, source: Path, common: Common, record: Record) -> None:
    train = frame[frame["split"] == "train"].drop_duplicates(["identity", "expression"])
    shown = {name: train.loc[train["expression"] == name, "sample_id"].tolist()[:_SHEET_FACES] for name in common.expressions}
    columns = min(map(len, shown.values()))
    if not columns:
        return  # a class without a training face has no row to show
    ids = [sample_id for row in shown.values() for sample_id in row[:columns]]
    sheet = labelled_sheet(load_images(source, ids, size=common.image_size), columns=columns, row_titles=list(shown))
    record.figure("faces", sheet, title="Real faces", caption="Training faces, one row a class, titled by the label they came with.")


def _balance(frame: pd.DataFrame, classes: tuple[str, ...], record: Record) -> None:
    counts = pd.crosstab(frame["expression"], frame["split"]).reindex(index=classes, columns=SPLITS, fill_value=0)
    series = {split: dict(zip(classes, counts[split].astype(float).tolist(), strict=True)) for split in SPLITS}
    record.figure("class_balance", grouped_bars(series, ylabel="images"), title="Class balance", caption="Images of every class by split.")
    people = frame.groupby("split")["identity"].nunique()
    table = counts.T.assign(images=counts.sum(), identities=people).reset_index(names="split")
    record.table("Real images by split and class", table)


def _label_noise(frame: pd.DataFrame, classes: tuple[str, ...], record: Record) -> None:
    known = frame[frame["true_expression"].isin(classes)]
    truth, label = (class_indices(known[name].tolist(), classes) for name in ("true_expression", "expression"))
    right = mean_interval((truth == label).astype(float))
    record.metric("corpus/label_accuracy", right.value, low=right.low, high=right.high, n=right.n)
    figure = confusion_matrices({"annotators": confusion(truth, label, len(classes))}, classes, columns="majority label")
    text = f"The label is what most annotators said, right on {right.value:.1%} of {right.n} faces; cells are per cent of the true class."
    record.figure("annotator_noise", figure, title="Annotator noise", caption=text)


def _au_frequency(frame: pd.DataFrame, record: Record) -> None:
    aus = stack(frame[frame["split"] == "train"], "aus")
    known = (~np.isnan(aus)).sum(axis=0)
    if not (aus >= _VISIBLE).any():
        return  # a corpus without action units has no frequency to show
    share = (aus >= _VISIBLE).sum(axis=0) / np.maximum(known, 1)
    order = [index for index in np.argsort(-share, kind="stable") if share[index] > 0]
    values = {f"{AU_CODES[index]} {AU_NAMES[AU_CODES[index]]}": float(share[index]) for index in order}
    bars = ranked_bars(values, xlabel="share of training faces")
    text = "Share of training faces that show each AU with intensity 1 or more, of those where it is known."
    record.figure("au_frequency", bars, title="Action units", caption=text)
