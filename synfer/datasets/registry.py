"""Every format that can be read, by name."""

from __future__ import annotations

from synfer.datasets import affectnet, ckplus, disfa, fer2013, ferplus, folders, jaffe, kdef, parquet, rafdb, sfew
from synfer.datasets.entries import DatasetError, Format
from synfer.vocabulary import unknown

FORMATS: dict[str, Format] = {
    "folder": folders.FORMAT,
    "parquet": parquet.FORMAT,
    "affectnet": affectnet.FORMAT,
    "rafdb": rafdb.FORMAT,
    "fer2013": fer2013.FORMAT,
    "ferplus": ferplus.FORMAT,
    "sfew": sfew.FORMAT,
    "ckplus": ckplus.FORMAT,
    "jaffe": jaffe.FORMAT,
    "kdef": kdef.FORMAT,
    "disfa": disfa.FORMAT,
}


def known_format(name: str) -> Format:
    """The format of that name; raises DatasetError with the known ones."""
    if name not in FORMATS:
        raise DatasetError(unknown("format", name, FORMATS))
    return FORMATS[name]
