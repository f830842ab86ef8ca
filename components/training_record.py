"""What a classifier was trained on, row by row, kept beside its weights: without it nobody can say on which images it may be measured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from synfer.classifiers.models import Classifier
from synfer.errors import SynferError
from synfer.files import whole_file
from synfer.metrics.roles import compact_identities, expand_identities

FILE_NAME = "trained_on.parquet"
_COLUMNS = ("use", "sample_id", "identity", "sha256")
_KNOWN = "without it nobody can say on which images the model may be measured"


class TrainingRecordError(SynferError):
    """A model that was trained on what it should be measured on, or that does not say; the message names rows, people or hash."""


def write_training_record(folder: Path, uses: Mapping[str, pd.DataFrame], *, images: int) -> dict[str, Any]:
    """Write the manifest rows that a training used, by what for (real, synthetic, val), to `folder`; returns the card's entry.

    The rows of val count: they chose the epoch.
    """
    rows = pd.concat([frame.assign(use=use)[list(_COLUMNS)] for use, frame in uses.items()], ignore_index=True)
    with whole_file(folder / FILE_NAME) as temporary:
        rows.to_parquet(temporary, index=False)
    known = rows.loc[rows["identity"] != "", "identity"]
    return {"images": images, "identities": compact_identities(known), "rows": len(rows), "rows_sha256": rows_digest(rows)}


def rows_digest(rows: pd.DataFrame) -> str:
    """SHA-256 over the sample ids and image hashes of manifest rows, in sorted order."""
    lines = sorted(f"{sample_id} {digest}" for sample_id, digest in zip(rows["sample_id"], rows["sha256"], strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_unseen(model: Classifier, folder: Path, rows: pd.DataFrame, *, where: str) -> None:
    """Raise TrainingRecordError if the classifier of `folder` was trained on these manifest rows, or on other images of their people.

    An image is the same where its encoded bytes are, whatever its sample is called. Of a FER model without a record its card knows the
    people (and the samples of unknown ones).
    """
    name = f"{folder.name} (sha256 {model.sha256[:12]})"
    if not (folder / FILE_NAME).is_file() and "identities" in model.card.get("trained_on", {}):
        person = rows["identity"].mask(rows["identity"] == "", rows["sample_id"])
        _check_people(person[person.isin(expand_identities(model.card["trained_on"]["identities"]))], name, where)
        return
    record = _read(model, folder)
    seen = rows[rows["sha256"].isin(record["sha256"])]
    if len(seen):
        use = record.set_index("sha256")["use"].to_dict()[seen["sha256"].iloc[0]]
        first = f"{seen['sample_id'].iloc[0]} (image sha256 {seen['sha256'].iloc[0][:12]}, used as {use})"
        raise TrainingRecordError(f"{name} was trained on {len(seen)} of the {len(rows)} images of {where}, for example {first}")
    _check_people(rows.loc[(rows["identity"] != "") & rows["identity"].isin(record["identity"]), "identity"], name, where)


def _check_people(met: pd.Series, name: str, where: str) -> None:
    if len(met):
        people = f"{met.nunique()} people of {where}, for example {met.iloc[0]}"
        raise TrainingRecordError(f"{name} was trained on images of {people}; splits must not share people")


def _read(model: Classifier, folder: Path) -> pd.DataFrame:
    """The rows of the record; raises TrainingRecordError if they are missing, or are not those that the card names."""
    if not (folder / FILE_NAME).is_file():
        raise TrainingRecordError(f"{folder} holds no {FILE_NAME}: {_KNOWN}; train it anew with: synfer run classifiers")
    rows = pd.read_parquet(folder / FILE_NAME)
    wanted, found = model.card.get("trained_on", {}).get("rows_sha256", ""), rows_digest(rows)
    if found != wanted:
        says = wanted[:12] or "nothing"
        raise TrainingRecordError(f"{folder / FILE_NAME} has rows of sha256 {found[:12]}, the card says {says}: {_KNOWN}")
    return rows
