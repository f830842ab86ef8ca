"""How often the data shows the same picture: clusters of near-duplicates by perceptual hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.audits.finding import Finding, at_most, unmeasured
from components.audits.groups import in_use
from components.intervals import keep
from components.near_duplicates import near_duplicate_clusters, perceptual_hash
from components.record import Record
from synfer.config import Audit
from synfer.faces.sheet import labelled_sheet
from synfer.images import iter_images, load_images
from synfer.metrics.proportions import proportion

NAME = "duplicates"
_TITLE = "Few images repeat another one"
_WHAT = "share of images that repeat an earlier one"
_CLUSTERS, _MEMBERS = 12, 8  # on the sheet
_SHOWN_SIDE = 128


def audit_duplicates(rectified: pd.DataFrame, synthesis: Path, section: Audit, record: Record, *, image_size: int) -> Finding:
    """Count the images in use that repeat another one in use; record the share, and the largest clusters as a sheet."""
    rows = rectified[in_use(rectified)]
    if rows.empty:
        return unmeasured(NAME, _TITLE, "no image is in use", wanted=f"{_WHAT} at most {section.max_duplicates:g}")
    clusters = duplicate_clusters(synthesis, rows["sample_id"].tolist())
    repeats = sum(len(cluster) - 1 for cluster in clusters)
    found = proportion(repeats, len(rows))
    keep(record, "audit/duplicates", found)
    record.metric("audit/duplicate_clusters", len(clusters), n=len(rows))
    if clusters:
        _sheet(clusters, repeats, synthesis, image_size, record)
    where = f"{repeats} images in {len(clusters)} clusters" if clusters else "none"
    return at_most(NAME, _TITLE, "warning", found, section.max_duplicates, what=_WHAT, where=where)


def duplicate_clusters(folder: Path, sample_ids: list[str]) -> list[list[str]]:
    """Clusters of two samples or more of a dataset folder, the largest first."""
    hashes = {name: perceptual_hash(pixels) for name, pixels in tqdm(iter_images(folder, sample_ids), desc="hashes", leave=False)}
    names = np.array(list(hashes), dtype=object)
    cluster = near_duplicate_clusters(list(hashes.values()))
    found = [names[cluster == number].tolist() for number in np.flatnonzero(np.bincount(cluster) > 1)]
    return sorted(found, key=len, reverse=True)


def _sheet(clusters: list[list[str]], repeats: int, synthesis: Path, image_size: int, record: Record) -> None:
    """A row a cluster, its first images; places stay empty where it has fewer than others."""
    shown = [cluster[:_MEMBERS] for cluster in clusters[:_CLUSTERS]]
    columns, side = max(map(len, shown)), min(image_size, _SHOWN_SIDE)
    images = load_images(synthesis, [name for cluster in shown for name in cluster], size=side)
    cells = np.full((len(shown) * columns, side, side, 3), 255, np.uint8)
    cells[[row * columns + place for row, cluster in enumerate(shown) for place in range(len(cluster))]] = images
    titles = [f"{len(cluster)} images" for cluster in clusters[:_CLUSTERS]]
    sheet = labelled_sheet(cells, columns=columns, row_titles=titles, scale=2 if side < _SHOWN_SIDE else 1)
    text = f"{repeats} images in use repeat another one, in {len(clusters)} clusters; the first images of the largest ones."
    record.figure("duplicates", sheet, title="Near-duplicates", caption=text)
