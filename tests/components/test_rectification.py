from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components import feranno, rectification
from components.record import read_metrics, read_tables
from components.workspace import Workspace
from synfer.annotation.calibration import AnnotationError
from synfer.config import Config
from synfer.manifest import read_manifest, stack
from synfer.vocabulary import EXPRESSIONS


def rectify(world: Workspace, settings: Config, head: Path, out: Path) -> pd.DataFrame:
    folders = {name: world.stage(name) for name in ("generator", "synthesis", "fer_models")}
    out.mkdir()
    rectification.run(
        settings.rectification, settings.common, development=world.stage("corpus") / "development", feranno=head, out=out, **folders
    )
    return read_manifest(out)


@pytest.fixture(scope="module")
def out(world: Workspace, settings: Config, head: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rectification") / "out"
    rectify(world, settings, head, folder)
    return folder


def test_every_row_and_column_stays_and_the_labels_join(world: Workspace, out: Path) -> None:
    frame = read_manifest(out)
    before = read_manifest(world.stage("synthesis"))
    for column in ("sample_id", "expression", "seed", "sha256"):
        assert frame[column].tolist() == before[column].tolist()
    posterior = stack(frame, "posterior")
    assert posterior.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert [EXPRESSIONS[index] for index in posterior.argmax(axis=1)] == frame["label"].tolist()
    assert (posterior[:, EXPRESSIONS.index("contempt")] == 0).all()  # no class of this run
    assert ((frame["weight"] == 0) == (frame["action"] == "reject")).all()
    assert {"p_FERAnno", "p_annotator_0", "p_annotator_1"} <= set(frame.columns)
    assert (frame.loc[frame["action"] == "keep", "label"] == frame.loc[frame["action"] == "keep", "expression"]).all()
    assert frame["reason"].str.contains("asked").all()


def test_a_rerun_leaves_the_same_manifest_and_other_batches_the_same_posterior(
    world: Workspace, settings: Config, head: Path, out: Path, tmp_path: Path
) -> None:
    smaller = settings.model_copy(update={"rectification": settings.rectification.model_copy(update={"batch_size": 9})})
    rectify(world, settings, head, tmp_path / "again")
    other_batches = rectify(world, smaller, head, tmp_path / "batches")
    assert (out / "manifest.parquet").read_bytes() == (tmp_path / "again" / "manifest.parquet").read_bytes()
    assert np.abs(stack(read_manifest(out), "posterior") - stack(other_batches, "posterior")).max() < 1e-3


def test_metrics_have_intervals_and_the_table_of_rules_names_what_one_might_do_instead(out: Path) -> None:
    frame, metrics = read_manifest(out), read_metrics(out)
    kept = metrics["rectification/kept"]
    assert kept.value == pytest.approx((frame["action"] != "reject").mean())
    assert kept.n == len(frame)
    assert kept.low is not None
    assert kept.high is not None
    assert kept.low <= kept.value <= kept.high + 1e-9
    names = ("relabelled", "softened", "rejected", "agreement", "ece", "target_precision", "val_precision", "val_coverage")
    assert all(f"rectification/{name}" in metrics for name in names)
    rules = next(table for table in read_tables(out) if table.title.startswith("Which label"))
    assert "the intent as it is" in {row[0] for row in rules.rows}


def test_a_head_of_another_corpus_is_refused(world: Workspace, settings: Config, head: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for path in head.iterdir():
        if path.is_file():
            (foreign / path.name).write_bytes(path.read_bytes())
    left = pd.read_parquet(head / feranno.PREDICTIONS)
    left.iloc[1:].to_parquet(foreign / feranno.PREDICTIONS)
    with pytest.raises(AnnotationError, match="knows no val sample"):
        rectify(world, settings, foreign, tmp_path / "out")
