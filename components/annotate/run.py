"""Rectify the labels of anybody's faces with the members of a run: `synfer annotate`, or from Python

    from components.annotate.run import annotate

    done = annotate("data/affectnet", "labels.parquet")
    done.table().query("action == 'relabel'")

The judge has no part in it and is not loaded. Scores are kept in shards beside the output, so that a call which was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from components.annotate.opinion import MEMBER, read_opinion
from components.annotate.scores import SHARD, score_source
from components.annotate.sources import IMAGE_FOLDER, Source, open_source
from components.annotate.verdicts import AnnotateError, Verdicts, judge_scores
from components.partial import fingerprint, open_partial
from components.workspace import Workspace
from synfer.annotation.calibration import as_scores
from synfer.annotation.rectifier import HeldOut
from synfer.annotation.rectify import ACTIONS
from synfer.config import Config, load_config
from synfer.datasets.names import LabelNames
from synfer.manifest import read_manifest

if TYPE_CHECKING:  # torch is imported where members are loaded: what is wrong with files is told before
    from components.member_scores import AnnotationMembers

SHOWN = 120
"""Suspicious faces on the page."""
_MADE_BY = {"corpus/development": "corpus", "fer_models": "fer_models", "generator": "generator", "feranno": "feranno"}


@dataclass(frozen=True)
class Annotation:
    """What an annotation left: images, those that could not be read, files that were no images, labels disputed, images an action.

    `given_wrong` is the estimated share of labels that are wrong, None where nothing came with a label.
    """

    out: Path
    page: Path
    images: int
    unreadable: int
    ignored: int
    disputed: int
    actions: dict[str, int]
    given_wrong: float | None

    def table(self) -> pd.DataFrame:
        """`labels.parquet` as a frame."""
        return pd.read_parquet(self.out)


def annotate(
    source: str | Path,
    out: str | Path,
    *,
    run: str | Path | None = None,
    config: Config | None = None,
    image_column: str = "image",
    label_column: str = "label",
    names: Mapping[str, str] | None = None,
    unlabelled: bool = False,
    pred_probs: str | Path | None = None,
    pred_probs_val: str | Path | None = None,
    pred_probs_classes: Sequence[str] | None = None,
    cleanlab: str | Path | None = None,
    skip_bad: int = 0,
    shown: int = SHOWN,
    shard: int = SHARD,
) -> Annotation:
    """Write `out` (Parquet) and a page of the same name (HTML) for the faces in `source`; see docs/labels.md for kinds and columns.

    `run` is the folder of a run's finished stages, by default that of the project around the current folder, whose configuration counts
    unless `config` is given. `names` says what labels mean that the vocabulary lacks; `unlabelled` looks at no label. `pred_probs` are the
    user's own model's probabilities for the images and `pred_probs_val` for the val faces of the run, see `components.annotate.opinion`.
    `cleanlab` is a folder for arrays. Raises DatasetError, LabelError, OpinionError or AnnotateError before any work, ImageError at an
    image that cannot be read unless `skip_bad` tolerates so many.
    """
    out, source = Path(out), Path(source)
    _check_out(out, source)
    folder, config = _run_and_config(run, config)
    common = config.common
    known = LabelNames(common.expressions, dict(names or {}))
    faces = open_source(source, known, image_column=image_column, label_column=label_column, unlabelled=unlabelled)
    if faces.kind != IMAGE_FOLDER and out.resolve().is_relative_to(source.resolve()):
        raise AnnotateError(f"{out} lies inside {source}, whose Parquet files are read; put it somewhere else")
    sample_ids = [row.sample_id for row in faces.rows()]
    if not sample_ids:
        raise AnnotateError(f"{source} holds no image that is to be looked at")
    own = read_opinion(Path(pred_probs), sample_ids, known, columns=pred_probs_classes) if pred_probs else None
    own_val = _own_val(pred_probs_val, folder, known, pred_probs_classes, needs=own)
    members = _members(folder, config)
    work = open_partial(out.resolve(), _fingerprint(faces, folder, config, [shard, image_column, label_column]))
    batch_size = config.rectification.batch_size
    scores = score_source(faces, members, work, total=len(sample_ids), skip_bad=skip_bad, batch_size=batch_size, shard=shard)
    held_out = _held_out(members(), folder, own_val)
    from synfer.seeding import derive_seed  # imports torch

    seed = derive_seed(common.seed, "annotate")
    verdicts = judge_scores(scores, held_out, config.rectification, classes=common.expressions, seed=seed, own=own)
    page = _write(verdicts, faces, out, title=source.resolve().name, cleanlab=cleanlab, shown=shown)
    shutil.rmtree(work)
    return _annotation(verdicts, faces, out, page)


# --- what is asked ----------------------------------------------------------------------------------------------------------------


def _check_out(out: Path, source: Path) -> None:
    if out.suffix != ".parquet":
        raise AnnotateError(f"--out {out}: the table is a Parquet file; give a name that ends in .parquet")
    if out.exists() and not out.is_file():
        raise AnnotateError(f"{out} is a folder; give a file")
    if out.resolve() == source.resolve():
        raise AnnotateError(f"{out} is the source itself; choose another file")


def _run_and_config(run: str | Path | None, config: Config | None) -> tuple[Path, Config]:
    """The folder of the run's stages, all of which must be there, and the configuration."""
    if run is None or config is None:
        workspace = Workspace.find(Path.cwd())
        run, config = run or workspace.artifacts, config or load_config(workspace.params)
    folder = Path(run)
    for name, stage in _MADE_BY.items():
        if not (folder / name).is_dir():
            raise AnnotateError(f"annotate needs {folder / name}, which does not exist; make it with: synfer run {stage}")
    return folder, config


def _own_val(
    path: str | Path | None, run: Path, names: LabelNames, columns: Sequence[str] | None, *, needs: np.ndarray | None
) -> np.ndarray | None:
    """The own model's probabilities for the run's val faces, rows in the order of its manifest."""
    if path is None:
        return None
    if needs is None:
        raise AnnotateError("--pred-probs-val says how the model of --pred-probs does on val; give that too")
    frame = read_manifest(run / "corpus" / "development")
    val = frame[(frame["split"] == "val") & frame["expression"].isin(names.classes)]
    return read_opinion(Path(path), val["sample_id"].tolist(), names, columns=columns)


def _fingerprint(source: Source, run: Path, config: Config, asked: list[int | str]) -> str:
    """Of all that the shards depend on: images, labels, members, what was `asked`; not of thresholds, which are chosen anew."""
    labels = hashlib.sha256()
    for row in source.rows():
        labels.update(f"{row.sample_id}={row.given}\n".encode())
    settings = [source.digest(), labels.hexdigest(), config.common.model_dump(mode="json"), asked]
    folders = [run / "generator" / "backbone", run / "feranno", *sorted((run / "fer_models").glob("annotator_*"))]
    return fingerprint(settings, folders)


# --- the work ---------------------------------------------------------------------------------------------------------------------


def _members(run: Path, config: Config) -> Callable[[], AnnotationMembers]:
    """The members, loaded when they are first called for."""

    @cache
    def load() -> AnnotationMembers:
        from components.member_scores import load_members

        return load_members(generator=run / "generator", feranno=run / "feranno", fer_models=run / "fer_models", common=config.common)

    return load


def _held_out(members: AnnotationMembers, run: Path, own: np.ndarray | None) -> HeldOut:
    """The members' scores on the run's val faces, with the own model's where they are known."""
    from components.member_scores import held_out_scores

    held_out = held_out_scores(members, development=run / "corpus" / "development", feranno=run / "feranno")
    return held_out if own is None else HeldOut({**held_out.members, MEMBER: as_scores(own)}, held_out.labels)


def _write(verdicts: Verdicts, source: Source, out: Path, *, title: str, cleanlab: str | Path | None, shown: int) -> Path:
    """Arrays and page first, the table last: where it is, everything is, and an older one must not stand beside newer parts."""
    from components.annotate.page import write_page
    from components.annotate.table import labels_table, write_cleanlab, write_table

    out.unlink(missing_ok=True)
    if cleanlab is not None:
        write_cleanlab(verdicts, Path(cleanlab))
    page = write_page(out.with_suffix(".html"), verdicts, source, title=title, shown=shown)
    write_table(labels_table(verdicts), out)
    return page


def _annotation(verdicts: Verdicts, source: Source, out: Path, page: Path) -> Annotation:
    noise = verdicts.fits.noise
    return Annotation(
        out,
        page,
        images=len(verdicts.sample_ids),
        unreadable=int((~verdicts.readable).sum()),
        ignored=source.ignored,
        disputed=int(verdicts.is_issue.sum()),
        actions={name: int((verdicts.action == index).sum()) for index, name in enumerate(ACTIONS)},
        given_wrong=None if noise is None else noise.wrong,
    )
