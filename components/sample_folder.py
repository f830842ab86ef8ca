"""The folder that `synfer sample` leaves: the PNG files, their manifest and one sheet, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from synfer.errors import SynferError
from synfer.files import replace_folder
from synfer.manifest import FILE_NAME, read_manifest, write_manifest

SHEET = "sheet.png"


class SampleFolderError(SynferError):
    """A folder that holds something else than an earlier sample, which must not be lost."""


def check_replaceable(folder: Path) -> None:
    """Raise SampleFolderError unless `folder` is missing, empty, or holds an earlier sample and nothing else, and nobody works in it."""
    if folder.exists() and not folder.is_dir():
        raise SampleFolderError(f"{folder} is a file; give a folder")
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    ours = {f"{sample_id}.png" for sample_id in read_manifest(folder)["sample_id"]} | {SHEET, FILE_NAME} if FILE_NAME in found else set()
    strange = [name for name in found if name not in ours]
    if strange:
        raise SampleFolderError(f"{folder} holds {strange[0]}, which is no earlier sample and would be lost; choose another folder")
    if folder.resolve() == Path.cwd():  # a sample comes by a rename, after which a shell would stand in a folder that is gone
        raise SampleFolderError(f"{folder} is the folder that you are in and cannot be replaced; name one inside it: {folder / 'faces'}")


def write_samples(folder: Path, rows: pd.DataFrame, images: Sequence[bytes], sheet: Image.Image) -> Path:
    """Put sheet, PNG files and manifest in the place of an earlier sample; returns the sheet's path."""
    check_replaceable(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for sample_id, data in zip(rows["sample_id"], images, strict=True):
            (temporary / f"{sample_id}.png").write_bytes(data)
        write_manifest(rows.assign(sha256=[hashlib.sha256(data).hexdigest() for data in images]), temporary)
        sheet.save(temporary / SHEET, format="PNG")
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / SHEET
