from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from components import feranno, rectification
from components.au_check import check_aus, held_out_aus
from components.member_scores import AnnotationMembers, held_out_scores, load_members
from components.record import read_metrics, read_tables
from components.workspace import Workspace
from synfer.annotation.calibration import AnnotationError
from synfer.annotation.rectifier import HeldOut, rectify_labels
from synfer.annotation.rectify import ACTIONS
from synfer.classifiers.examples import class_indices
from synfer.config import Config, Rectification
from synfer.manifest import read_manifest, stack, write_manifest
from synfer.vocabulary import AU_COUNT, DEFAULT_EXPRESSIONS, EXPRESSIONS


def rectify(world: Workspace, settings: Config, head: Path, out: Path, *, synthesis: Path | None = None) -> pd.DataFrame:
    folders = {name: world.stage(name) for name in ("generator", "fer_models")} | {"synthesis": synthesis or world.stage("synthesis")}
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
    section = settings.rectification.model_copy(update={"batch_size": 9, "au_consistency": False})
    smaller = settings.model_copy(update={"rectification": section})
    rectify(world, settings, head, tmp_path / "again")
    other_batches = rectify(world, smaller, head, tmp_path / "batches")
    assert (out / "manifest.parquet").read_bytes() == (tmp_path / "again" / "manifest.parquet").read_bytes()
    assert np.abs(stack(read_manifest(out), "posterior") - stack(other_batches, "posterior")).max() < 1e-3
    assert "aus_seen" not in other_batches.columns
    assert "rectification/au_contradictions" not in read_metrics(tmp_path / "batches")


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


def test_aus_that_few_val_faces_cannot_vouch_for_are_unknown_and_soften_nothing(out: Path) -> None:
    assert np.isnan(stack(read_manifest(out), "aus_seen")).all()
    assert read_metrics(out)["rectification/au_contradictions"].value == 0
    table = next(table for table in read_tables(out) if table.title.startswith("Asked against seen action units"))
    assert {"L12", "26"} <= {row[0] for row in table.rows}


def test_a_face_that_contradicts_its_aus_is_not_asserted(out: Path) -> None:
    frame = read_manifest(out)
    asked = stack(frame, "aus")
    seen = np.where(np.arange(len(asked))[:, None] % 2, asked, 5.0 - asked).astype(np.float32)  # every second face shows something else
    known = np.random.default_rng(0).permutation(np.tile(asked, (8, 1)))
    check = check_aus(asked, seen, known=known, known_seen=known)
    found = check.contradictions.found
    assert found[::2].all()
    assert not found[1::2].any()
    sure = np.eye(7)[class_indices(frame["expression"].tolist(), DEFAULT_EXPRESSIONS)] * 8.0
    held_out = HeldOut({"annotator_0": np.tile(sure, (8, 1))}, np.tile(sure.argmax(axis=1), 8))
    given = sure.argmax(axis=1)
    rectified = rectify_labels({"annotator_0": sure}, given, held_out, classes=DEFAULT_EXPRESSIONS)
    assert (rectified.decisions.action == ACTIONS.index("keep")).all()
    decided = rectification.with_decisions(frame, rectification.without_contradictions(rectified, check))
    assert (decided["action"] == np.where(found, "soften", "keep")).all()
    assert decided.loc[found, "reason"].str.contains(r"asked AU \w+ at .* is seen.*so the label is not asserted").all()
    assert not decided.loc[~found, "reason"].str.contains("AU").any()
    assert (decided["weight"] == 1).all()


def test_a_compound_face_is_softened_where_its_two_parts_are_sure_and_never_asserted() -> None:
    classes = list(DEFAULT_EXPRESSIONS)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 7, 700)
    held_out = HeldOut({"annotator_0": 6.0 * np.eye(7)[truth] + rng.normal(0, 1, (700, 7))}, truth)
    happy, surprised, fear = (classes.index(name) for name in ("happiness", "surprise", "fear"))
    scores = np.zeros((4, 7))
    scores[0, [happy, surprised]] = 8.0  # both parts
    scores[1, happy] = 8.0  # one of them alone
    scores[2, fear] = 8.0  # something else
    scores[3, happy] = 8.0  # was asked for happiness itself
    rectified = rectify_labels({"annotator_0": scores}, np.array([-1, -1, -1, happy]), held_out, classes=classes)
    decided = rectification.with_compounds(rectified, [*["happily surprised"] * 3, ""])
    assert [ACTIONS[action] for action in decided.decisions.action] == ["soften", "soften", "relabel", "keep"]
    assert decided.posterior[0, [happy, surprised]] == pytest.approx([0.5, 0.5], abs=0.02)
    assert decided.reasons[0].endswith("asked was happily surprised")
    assert "soft label happiness 0.5" in decided.reasons[0]
    assert decided.reasons[2].endswith("fear (1.00), asked was happily surprised")
    assert "compound" not in decided.reasons[3] and decided.reasons[3] == rectified.reasons[3]


def test_faces_of_a_plan_with_compounds_pass_the_whole_stage(world: Workspace, settings: Config, head: Path, tmp_path: Path) -> None:
    asked = read_manifest(world.stage("synthesis")).assign(plan_cell="all", compound="")
    asked.loc[asked.index % 7 == 1, ["expression", "compound"]] = ["", "happily surprised"]
    faces = tmp_path / "faces"
    faces.mkdir()
    write_manifest(asked, faces)
    for shard in world.stage("synthesis").glob("images-*.parquet"):
        (faces / shard.name).symlink_to(shard)
    frame = rectify(world, settings, head, tmp_path / "out", synthesis=faces)
    compound = frame["compound"] != ""
    assert compound.sum() == 10 and (frame["plan_cell"] == "all").all()
    assert not (frame.loc[compound, "action"] == "keep").any()
    assert frame.loc[compound, "reason"].str.contains("asked was happily surprised").all()
    parts = frame["label"].isin(["happiness", "surprise"])
    assert not (frame.loc[compound & parts, "action"] == "relabel").any()
    assert read_metrics(tmp_path / "out")["rectification/agreement"].n == 60


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
    left.assign(sample_id=["nobody", *left["sample_id"].iloc[1:]], aus_seen=list(np.zeros((len(left), AU_COUNT)))).to_parquet(
        foreign / feranno.PREDICTIONS
    )
    with pytest.raises(AnnotationError, match="knows no sample 'nobody'"):
        held_out_aus(world.stage("corpus") / "development", foreign / feranno.PREDICTIONS)


def test_a_coverage_of_nothing_is_no_setting() -> None:
    assert Rectification(min_coverage=1.0).min_coverage == 1
    for value in (0.0, 1.1):
        with pytest.raises(ValidationError, match="min_coverage"):
            Rectification(min_coverage=value)


def members(world: Workspace, settings: Config, head: Path) -> AnnotationMembers:
    return load_members(generator=world.stage("generator"), feranno=head, fer_models=world.stage("fer_models"), common=settings.common)


def test_a_head_with_another_order_of_classes_and_a_run_without_annotators_are_refused(
    world: Workspace, settings: Config, head: Path, tmp_path: Path
) -> None:
    backwards = settings.common.model_copy(update={"expressions": settings.common.expressions[::-1]})
    with pytest.raises(AnnotationError, match=rf"{head}: FERAnno tells neutral, .*; the configuration wants .*, neutral, in this order"):
        members(world, settings.model_copy(update={"common": backwards}), head)
    with pytest.raises(AnnotationError, match=r"holds no annotator_\*"):
        load_members(generator=world.stage("generator"), feranno=head, fer_models=tmp_path, common=settings.common)


def test_val_is_looked_at_in_batches_of_the_size_that_generated_faces_have(
    world: Workspace, settings: Config, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, shapes, development = members(world, settings, head), [], world.stage("corpus") / "development"
    whole = held_out_scores(held, development=development, feranno=head)
    see = AnnotationMembers.of_annotators

    def watched(self: AnnotationMembers, pixels: np.ndarray) -> dict[str, np.ndarray]:
        shapes.append(pixels.shape)
        return see(self, pixels)

    monkeypatch.setattr(AnnotationMembers, "of_annotators", watched)
    parts = held_out_scores(held, development=development, feranno=head, batch_size=16)
    assert {shape[1:] for shape in shapes} == {(held.image_size, held.image_size, 3)}
    assert max(shape[0] for shape in shapes) == 16 and sum(shape[0] for shape in shapes) == len(parts.labels)
    for name, scores in whole.members.items():
        assert parts.members[name] == pytest.approx(scores, abs=1e-3)
