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


@pytest.fixture(scope="module")
def head(world: Workspace, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("head")
    development, generator = world.stage("corpus") / "development", world.stage("generator")
    feranno.run(settings.feranno, settings.common, development=development, generator=generator, out=out)
    return out


def rectify(world: Workspace, settings: Config, head: Path, out: Path) -> pd.DataFrame:
    folders = {name: world.stage(name) for name in ("generator", "synthesis", "fer_models")}
    out.mkdir()
    rectification.run(
        settings.rectification, settings.common, development=world.stage("corpus") / "development", feranno=head, out=out, **folders
    )
    return read_manifest(out)


def test_every_row_and_column_stays_and_the_labels_join(
    world: Workspace, settings: Config, head: Path, tmp_path: Path
) -> None:
    frame = rectify(world, settings, head, tmp_path / "first")
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


def test_a_rerun_leaves_the_same_manifest(world: Workspace, settings: Config, head: Path, tmp_path: Path) -> None:
    smaller = settings.model_copy(update={"rectification": settings.rectification.model_copy(update={"batch_size": 9})})
    first = rectify(world, settings, head, tmp_path / "a")
    again = rectify(world, settings, head, tmp_path / "b")
    other_batches = rectify(world, smaller, head, tmp_path / "c")
    assert (tmp_path / "a" / "manifest.parquet").read_bytes() == (tmp_path / "b" / "manifest.parquet").read_bytes()
    assert first["label"].tolist() == again["label"].tolist()
    assert np.abs(stack(first, "posterior") - stack(other_batches, "posterior")).max() < 1e-3


def test_metrics_have_intervals_and_the_table_of_rules_names_what_one_might_do_instead(
    world: Workspace, settings: Config, head: Path, tmp_path: Path
) -> None:
    frame = rectify(world, settings, head, tmp_path / "out")
    metrics = read_metrics(tmp_path / "out")
    kept = metrics["rectification/kept"]
    assert kept.value == pytest.approx((frame["action"] != "reject").mean())
    assert kept.n == len(frame)
    assert kept.low is not None and kept.high is not None and kept.low <= kept.value <= kept.high  # noqa: PT018
    names = ("relabelled", "softened", "rejected", "agreement", "ece", "target_precision", "val_precision", "val_coverage")
    assert all(f"rectification/{name}" in metrics for name in names)
    rules = next(table for table in read_tables(tmp_path / "out") if table.title.startswith("Which label"))
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
