"""Drift: rectified images against a previous release, by labels, certainty, asked AUs and look; the release is read in a stream.

Shares of labels are compared by their total variation distance, means by their difference in pooled standard deviations (Cohen's d, 1988:
0.2 is small, 0.5 medium), asked AUs by the difference of their mean intensity.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from synfer.config import Validation
from synfer.errors import SynferError
from synfer.images import ImageError, decode, shard_paths
from synfer.manifest import FILE_NAME
from synfer.vocabulary import AU_CODES, EXPRESSIONS

SCALARS = ("entropy", "agreement", "brightness", "contrast")
_ROWS_AT_ONCE = 256
_COLUMNS = ("sample_id", "label", "action", "entropy", "agreement", "aus", "image")


class DriftError(SynferError):
    """A previous release that cannot be read; the message names the folder or file."""


@dataclass
class Moments:
    """Mean and standard deviation of values that come in batches; NaN counts as nothing."""

    count: np.ndarray = field(default_factory=lambda: np.zeros(()))
    total: np.ndarray = field(default_factory=lambda: np.zeros(()))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(()))

    def add(self, values: np.ndarray) -> None:
        """Add values (N,) or (N, K)."""
        wide = np.asarray(values, dtype=np.float64)
        self.count = self.count + np.isfinite(wide).sum(axis=0)
        self.total = self.total + np.nansum(wide, axis=0)
        self.squares = self.squares + np.nansum(wide**2, axis=0)

    @property
    def mean(self) -> np.ndarray:
        """Mean () or (K,); NaN where nothing came."""
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)

    @property
    def variance(self) -> np.ndarray:
        """Variance () or (K,)."""
        return np.maximum(self.squares / np.maximum(self.count, 1) - self.mean**2, 0.0)


@dataclass
class Profile:
    """What drift looks at, of any number of rectified images: labels of those that are kept, and moments of all."""

    images: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    scalars: dict[str, Moments] = field(default_factory=lambda: {name: Moments() for name in SCALARS})
    aus: Moments = field(default_factory=Moments)

    def add(self, rows: pd.DataFrame) -> None:
        """Add rows with label, action, aus and the SCALARS."""
        self.images += len(rows)
        self.labels.update(rows.loc[rows["action"] != "reject", "label"])
        for name, moments in self.scalars.items():
            moments.add(rows[name].to_numpy(dtype=np.float64, na_value=np.nan))
        self.aus.add(np.stack([np.asarray(vector, dtype=np.float64) for vector in rows["aus"]]))

    @property
    def kept(self) -> float:
        """Share of the images that is not rejected."""
        return self.labels.total() / max(self.images, 1)

    def share(self, label: str) -> float:
        """Share of a label among the kept images."""
        return self.labels[label] / max(self.labels.total(), 1)


def look(pixels: np.ndarray) -> tuple[float, float]:
    """Brightness and contrast of an image uint8 (H, W, 3): mean and standard deviation of its grey levels 0..255."""
    grey = pixels.mean(axis=2)
    return float(grey.mean()), float(grey.std())


def profile_release(folder: Path) -> Profile:
    """The profile of a published release, shard by shard; raises DriftError or ImageError naming what cannot be read."""
    if not (folder / FILE_NAME).is_file():
        raise DriftError(f"{folder} is no release: it holds no {FILE_NAME}")
    profile = Profile()
    with tqdm(desc="previous release", unit="image", leave=False) as bar:
        for path in shard_paths(folder):
            try:
                _add_shard(profile, path, bar)
            except (pa.ArrowException, OSError) as error:
                raise DriftError(f"{path} cannot be read, see what is wrong with: synfer verify {folder} ({error})") from error
    if not profile.images:
        raise DriftError(f"{folder} holds no image to compare with")
    return profile


def _add_shard(profile: Profile, path: Path, bar: tqdm[None]) -> None:
    with pq.ParquetFile(path) as file:
        lacking = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if lacking:
            raise DriftError(f"{path} has no column {lacking[0]!r}; validation.previous names a release, whose shards hold labels")
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(_COLUMNS)):
            rows = batch.to_pandas()
            looks = [look(_decode(row.image, path, row.sample_id)) for row in rows.itertuples()]
            profile.add(rows.assign(brightness=[one for one, _ in looks], contrast=[other for _, other in looks]))
            bar.update(len(rows))


def _decode(image: dict[str, bytes], path: Path, sample_id: str) -> np.ndarray:
    try:
        return decode(image["bytes"], where=f"{path}, sample {sample_id}")
    except (ImageError, TypeError) as error:
        raise DriftError(f"the previous release is broken: {error}") from error


# --- what has changed -------------------------------------------------------------------------------------------------------------


def drift_facts(now: Profile, before: Profile) -> pd.DataFrame:
    """One row: label_change, kept_change, au_change (and au, the code of the largest), and `<name>_change` of the SCALARS."""
    labels = sum(abs(now.share(name) - before.share(name)) for name in EXPRESSIONS) / 2
    steps = np.nan_to_num(np.abs(now.aus.mean - before.aus.mean))
    facts = {
        "label_change": labels,
        "kept_change": abs(now.kept - before.kept),
        "au_change": float(steps.max()),
        "au": AU_CODES[int(steps.argmax())],
    }
    return pd.DataFrame([facts | {f"{name}_change": _effect(now.scalars[name], before.scalars[name]) for name in SCALARS}])


def drift_table(section: Validation, now: Profile, before: Profile) -> pd.DataFrame:
    """For people: what was measured before and now, the change, and from which change on it is a warning."""
    facts = drift_facts(now, before).iloc[0]
    rows: list[tuple[str, float, float, float, float]] = [
        (f"share of {name}", before.share(name), now.share(name), abs(now.share(name) - before.share(name)), float("nan"))
        for name in EXPRESSIONS
        if before.labels[name] or now.labels[name]
    ]
    rows += [
        ("labels, total variation", float("nan"), float("nan"), facts["label_change"], section.max_label_drift),
        ("share kept", before.kept, now.kept, facts["kept_change"], section.max_kept_drift),
    ]
    place = AU_CODES.index(facts["au"])
    rows.append(
        (f"asked AU {facts['au']}, of all the farthest", float(before.aus.mean[place]), float(now.aus.mean[place]), facts["au_change"],
         section.max_au_drift)
    )  # fmt: skip
    for name in SCALARS:
        means = (float(profile.scalars[name].mean) for profile in (before, now))
        rows.append((f"{name}, change in standard deviations", *means, facts[f"{name}_change"], section.max_drift))
    table = pd.DataFrame(rows, columns=["measure", "before", "now", "change", "warning above"]).astype(object)
    return table.where(table.notna(), "")


def _effect(now: Moments, before: Moments) -> float:
    """Difference of two means in pooled standard deviations; infinite where nothing varies and the means differ."""
    difference = abs(float(now.mean) - float(before.mean))
    spread = float(np.sqrt((now.variance + before.variance) / 2))
    if difference < 1e-9:
        return 0.0
    return difference / spread if spread > 1e-9 else float("inf")
