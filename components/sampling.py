"""A few generated faces for somebody who wants to see: `synfer sample`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from components.device import torch_device
from components.plan import plan_faces
from components.rendering import with_aus
from components.synthesis import draw_faces
from components.workspace import Workspace
from synfer.captions import caption as write_caption
from synfer.classifiers.models import load
from synfer.config import Config
from synfer.diffusion.backbone import load_backbone
from synfer.faces.sheet import labelled_sheet
from synfer.files import whole_file
from synfer.images import encode_png
from synfer.manifest import write_manifest
from synfer.vocabulary import au_vector, check_exclusions, check_expression

_SHEET_COLUMNS = 8


def sample_faces(
    config: Config,
    workspace: Workspace,
    *,
    expression: str,
    aus: Mapping[str, float],
    caption: str | None,
    seed: int,
    n: int,
    out: Path,
) -> Path:
    """Draw `n` faces of an expression with the asked AUs; writes the PNGs, `manifest.parquet` and `sheet.png` to `out`, returns the sheet.

    The expression's own AUs join the asked ones unless they exclude each other. Raises VocabularyError on an unknown expression or AU.
    """
    check_expression(expression)
    check_exclusions(au_vector(aus))
    rows = _rows(expression, aus=aus, caption=caption, seed=seed, n=n)
    device = torch_device(config.common.device)
    backbone = load_backbone(workspace.resolve(config.generator.backbone), device=device).requires_grad_(False)
    guide = load(workspace.resolve(config.fer_models.source) / "guide", device=device)
    images = draw_faces(config.synthesis, backbone, guide, rows)
    return _write(rows, images, out, generator=backbone.name, title=_title(expression, aus))


def _rows(expression: str, *, aus: Mapping[str, float], caption: str | None, seed: int, n: int) -> pd.DataFrame:
    rows = plan_faces(n, expressions=[expression], seed=seed)
    rows["aus"] = rows["aus"].map(lambda vector: with_aus(np.asarray(vector), aus))
    attributes = [{name.removeprefix("attr_"): row[name] for name in row.index if name.startswith("attr_")} for _, row in rows.iterrows()]
    rows["caption"] = [
        caption or write_caption(expression, attributes=person, aus=vector) for person, vector in zip(attributes, rows["aus"], strict=True)
    ]
    return rows


def _write(rows: pd.DataFrame, images: np.ndarray, out: Path, *, generator: str, title: str) -> Path:
    encoded = [encode_png(image, generator=generator) for image in images]
    for sample_id, data in zip(rows["sample_id"], encoded, strict=True):
        with whole_file(out / f"{sample_id}.png") as temporary:
            temporary.write_bytes(data)
    write_manifest(rows.assign(sha256=[hashlib.sha256(data).hexdigest() for data in encoded]), out)
    sheet = labelled_sheet(
        images, columns=min(len(images), _SHEET_COLUMNS), titles=[title] * len(images), scale=max(1, 128 // images.shape[1])
    )
    with whole_file(out / "sheet.png") as temporary:
        sheet.save(temporary, format="PNG")
    return out / "sheet.png"


def _title(expression: str, aus: Mapping[str, float]) -> str:
    return " ".join([expression, *(f"{code}={intensity:g}" for code, intensity in aus.items())])
