"""Is the pool calibrated against the truth, though it was fitted on noisy labels? Before and after, on val and on the test split."""

from __future__ import annotations

import numpy as np

from benchmarks.rectification.faces import Faces
from synfer.annotation.calibration import Reliability, chance_ece, fit_weights, log_probabilities, reliability, scale
from synfer.annotation.pooling import Members, fit_pool
from synfer.annotation.rectifier import HeldOut
from synfer.metrics.bootstrap import Interval


def pools(members: Members, held_out: HeldOut, *, rule: str) -> dict[str, np.ndarray]:
    """Pooled probabilities (N, K): the mean of uncalibrated members, the pool that takes val labels for the truth, and ours by `rule`."""
    names = sorted(members)
    raw, val = (np.stack([log_probabilities(table[name]) for name in names]) for table in (members, held_out.members))
    trusting = fit_weights(val, held_out.labels)
    return {
        "raw": np.mean([scale(scores, 1.0) for scores in raw], axis=0),
        "trusting": scale(np.tensordot(trusting, raw, axes=1), 1.0),
        "ours": fit_pool(held_out.members, held_out.labels, rule=rule)(members),
    }


def calibration(
    val: Faces, test: Faces, held_out: HeldOut, *, rule: str
) -> tuple[dict[str, Interval], dict[str, tuple[Reliability, Reliability]]]:
    """`ece` and its like against the exact truth, and the diagrams (trusting, ours) of both splits.

    They have no interval: resampling faces adds to an ECE. What chance alone would show, `ece_by_chance`, stands beside instead.
    """
    keys: dict[str, Interval] = {}
    diagrams = {}
    for split, faces in (("", val), ("_test", test)):
        found = pools(faces.members, held_out, rule=rule)
        for name, end in (("raw", "_raw"), ("trusting", "_trusting"), ("ours", "")):
            keys[f"ece{end}{split}"] = _plain(reliability(found[name], faces.truth).ece, faces)
        keys[f"ece_equal_mass{split}"] = _plain(reliability(found["ours"], faces.truth, equal_mass=True).ece, faces)
        keys[f"ece_by_chance{split}"] = _plain(chance_ece(found["ours"]), faces)
        diagrams["test" if split else "val"] = (reliability(found["trusting"], faces.truth), reliability(found["ours"], faces.truth))
    return keys | {name: _plain(value, val) for name, value in as_if_nobody_knew(val, held_out, rule=rule).items()}, diagrams


def as_if_nobody_knew(val: Faces, held_out: HeldOut, *, rule: str) -> dict[str, float]:
    """The ECE and the noise of the val labels that a run reports, which does not know the truth; and that noise as it is."""
    pool = fit_pool(held_out.members, held_out.labels, rule=rule)
    found = reliability(pool(val.members), held_out.labels, confusion=pool.noise.label_given_truth)
    really = float((val.labels != val.truth).mean())
    return {"ece_reported": found.ece, "val_label_wrong_reported": pool.noise.wrong, "val_label_wrong": really}


def _plain(value: float, faces: Faces) -> Interval:
    return Interval(value, value, value, len(faces))
