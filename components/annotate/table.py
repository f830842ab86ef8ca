"""What an annotation leaves for programs: `labels.parquet`, and arrays as cleanlab takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.annotate.opinion import CLASSES_FILE
from components.annotate.verdicts import Verdicts
from synfer.annotation.rectify import ACTIONS, Thresholds
from synfer.files import whole_file, write_json

METADATA = b"synfer"
"""Key of the Parquet metadata that holds, as JSON, the classes of the lists and what the labels were decided by."""


def labels_table(verdicts: Verdicts) -> pa.Table:
    """One row an image in the order of the source; numbers of an unreadable image are null, labels that there are none are ""."""
    names = np.array([*verdicts.classes, ""])
    readable = verdicts.readable
    columns: dict[str, pa.Array] = {
        "sample_id": pa.array(verdicts.sample_ids, pa.string()),
        "given": pa.array(names[verdicts.given], pa.string()),
        "label": pa.array(names[verdicts.label], pa.string()),
        "posterior": _lists(verdicts.posterior, readable),
        "confidence": _numbers(verdicts.confidence),
        "entropy": _numbers(verdicts.entropy),
        "agreement": _numbers(verdicts.agreement),
        "action": pa.array(np.array(ACTIONS)[verdicts.action], pa.string()),
        "reason": pa.array(verdicts.reasons, pa.string()),
        "weight": _numbers(verdicts.weight),
        "label_quality": _numbers(verdicts.quality),
        "is_label_issue": pa.array(verdicts.is_issue, pa.bool_()),
    }
    members = {f"p_{name}": _lists(table, readable) for name, table in verdicts.probabilities.items()}
    return pa.table(columns | members).replace_schema_metadata({METADATA: json.dumps(decided_by(verdicts)).encode()})


def decided_by(verdicts: Verdicts) -> dict[str, Any]:
    """Classes, thresholds, the estimated share of wrong labels, temperatures and weights of the members.

    `labelled` and `unlabelled` are the thresholds of the images that came with a label and of those without, None where there is none.
    """
    fits = verdicts.fits
    groups = {name: result and _group(result.thresholds) for name, result in verdicts.groups.items()}
    return {
        "classes": list(verdicts.classes),
        "target_precision": fits.thresholds.target,
        "target_reached_on_val": all(group["target_reached_on_val"] for group in groups.values() if group),
        **groups,
        "given_wrong": None if fits.noise is None else fits.noise.wrong,
        "pool": fits.pool.rule,
        "temperatures": fits.pool.temperatures,
        "weights": fits.pool.weights,
    }


def _group(thresholds: Thresholds) -> dict[str, Any]:
    return {
        "target_reached_on_val": thresholds.reached,
        "precision_on_val": thresholds.precision,
        "reject_below": thresholds.reject_below,
        "assert_from": thresholds.assert_from,
    }


def write_table(table: pa.Table, path: Path) -> Path:
    """Write the table whole or not at all."""
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def write_cleanlab(verdicts: Verdicts, folder: Path) -> Path:
    """Write the readable images that came with a label as cleanlab takes them; returns the folder, whose other files stay.

    `classes.json` is taken away first and written last: where it is, all arrays are of one call.

    `labels.npy` (N,), `pred_probs.npy` (N, K): what the members see, without regard to the given label, so out of sample;
    `posterior.npy` (N, K): with it; `label_issues.npy` (N,) bool: `is_label_issue`; `sample_ids.npy` (N,); `classes.json`.
    """
    rows = np.flatnonzero(verdicts.has_label)
    arrays = {
        "labels": verdicts.given[rows],
        "pred_probs": verdicts.pooled[rows],
        "posterior": verdicts.posterior[rows],
        "label_issues": verdicts.is_issue[rows],
        "sample_ids": np.array([verdicts.sample_ids[row] for row in rows], dtype=np.str_),
    }
    (folder / CLASSES_FILE).unlink(missing_ok=True)
    for name, array in arrays.items():
        with whole_file(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    write_json(folder / CLASSES_FILE, list(verdicts.classes))
    return folder


def _numbers(values: np.ndarray) -> pa.Array:
    """Float32; NaN becomes null."""
    return pa.array(values.astype(np.float32), pa.float32(), from_pandas=True)


def _lists(table: np.ndarray, readable: np.ndarray) -> pa.Array:
    """Rows (K,) of a table (N, K) as lists; those of unreadable images are null."""
    values = pa.array(table.astype(np.float32).ravel(), pa.float32())
    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * table.shape[1])
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(~readable))
