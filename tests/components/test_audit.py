"""The audit: copies are told from independent faces, lost and misread groups are named, and so are repeated images and empty cells."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components import audit
from components.assets.renders import GENERATOR, Range, person, plan
from components.audits.balance import audit_balance
from components.audits.coverage import audit_coverage
from components.audits.duplicates import audit_duplicates
from components.audits.finding import Finding, at_most, read_verdict, status
from components.audits.judged_groups import audit_judged_groups
from components.audits.references import choose_references, conditions, corpus_pools, recipe_rows, render_pools
from components.embedded_corpus import write_corpus
from components.generator_role import write_generator_role
from components.record import Record, read_metrics, read_pictures, read_tables
from synfer.classifiers.models import create, save
from synfer.config import Audit, Common
from synfer.faces.renderer import render
from synfer.files import write_json
from synfer.images import encode_png, load_images, write_shard
from synfer.manifest import read_manifest, write_manifest
from synfer.metrics.bootstrap import Interval
from synfer.vocabulary import AU_CODES, AU_COUNT, DEFAULT_EXPRESSIONS, EXPRESSIONS, au_vector

COMMON = Common(image_size=32, device="cpu")
TRAINED_ON = Range(count=40, first_identity=GENERATOR, seed=0, size=32)
SECTION = Audit(faces=40, min_group=5)


# --- memorisation, and the stage as a whole ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus, a judge without training, and a generator that has learned from forty renders; evaluation judged everything right."""
    root = tmp_path_factory.mktemp("artifacts")
    frame = write_corpus(root / "development", identities=40, images_per_identity=2, size=32)
    frame["split"] = np.where(np.arange(len(frame)) < 40, "train", "val")
    write_manifest(frame, root / "development")
    save(create("test_byobnet", DEFAULT_EXPRESSIONS, image_size=32), root / "fer_models" / "judge", {})
    write_json(root / "generator" / "backbone" / "card.json", {"renders": asdict(TRAINED_ON)})
    write_generator_role(root / "generator", sha256="0" * 64, identities=[person(GENERATOR + number) for number in range(7)])
    return {name: root / name for name in ("development", "fer_models", "generator")}


def generated(folder: Path, images: np.ndarray, rows: pd.DataFrame) -> dict[str, Path]:
    """Dataset folders of generated images and their rectified manifest, all kept, and what the evaluation left; `rows` were asked for."""
    names = [f"face-{index}" for index in range(len(images))]
    encoded = [encode_png(image, generator="test") for image in images]
    (folder / "synthesis").mkdir(parents=True)
    write_shard(folder / "synthesis", 0, names, encoded)
    hashes = [hashlib.sha256(data).hexdigest() for data in encoded]
    frame = rows.assign(sample_id=names, split="train", identity="", caption="a face", seed=range(len(rows)), sha256=hashes)
    frame = frame.assign(label=frame["expression"], action="keep", reason="for the test", weight=1.0)
    for name in ("synthesis", "rectification"):
        write_manifest(frame, folder / name)
    judge(frame, folder / "evaluation", frame["label"].tolist())
    return {name: folder / name for name in ("synthesis", "rectification", "evaluation")}


def judge(frame: pd.DataFrame, evaluation: Path, seen: list[str]) -> None:
    """Predictions in the form of stage evaluation: the judge is sure of `seen`."""
    table = {f"judge_{name}": [0.9 if one == name else 0.1 / 6 for one in seen] for name in DEFAULT_EXPRESSIONS}
    (evaluation / "predictions").mkdir(parents=True)
    pd.DataFrame({"sample_id": frame["sample_id"], "intent": frame["expression"], **table}).to_parquet(
        evaluation / "predictions" / "generated.parquet"
    )


def audited(inputs: dict[str, Path], stages: dict[str, Path], out: Path) -> dict[str, Finding]:
    out.mkdir()
    audit.run(SECTION, COMMON, **inputs, **stages, out=out)
    return {one.name: one for one in read_verdict(out)["findings"]}


def noisy(images: np.ndarray) -> np.ndarray:
    """Copies as a generator makes them, mirrored and not quite exact."""
    noise = np.random.default_rng(0).normal(0, 4, images.shape)
    return np.clip(images[:, :, ::-1] + noise, 0, 255).astype(np.uint8)


def test_a_generator_that_repeats_its_training_faces_fails_and_the_pairs_are_shown(inputs: dict[str, Path], tmp_path: Path) -> None:
    faces = plan(TRAINED_ON)
    stages = generated(tmp_path / "run", noisy(render(faces, size=32)), recipe_rows(faces))
    found = audited(inputs, stages, tmp_path / "audit")
    for name in ("memorisation/renders/feature", "memorisation/renders/pixel"):
        assert found[name].value == 1.0
        assert (found[name].severity, found[name].success) == ("critical", False)
    verdict = read_verdict(tmp_path / "audit")
    assert not verdict["success"]
    assert status(verdict) == "failed: memorisation/renders/feature, memorisation/renders/pixel"
    assert verdict["compared"] == [
        "40 generated faces in use with 40 of the 40 renders that the backbone was trained on, and with as many that it has not seen"
    ]
    assert (tmp_path / "audit" / verdict["sheet"]).is_file()
    assert verdict["publish_sheet"], "renders show nobody"
    assert read_metrics(tmp_path / "audit")["audit/memorisation/renders/pixel"].n == 40


def test_an_independent_generator_passes_with_all_that_a_report_needs(inputs: dict[str, Path], tmp_path: Path) -> None:
    strangers = plan(Range(count=40, first_identity=700_000, seed=9, size=32))
    stages = generated(tmp_path / "run", render(strangers, size=32), recipe_rows(strangers))
    found = audited(inputs, stages, tmp_path / "audit")
    assert [name for name, one in found.items() if name.startswith("memorisation") and not one.success] == []
    assert abs(found["memorisation/renders/pixel"].value - 0.5) < 0.3
    assert read_verdict(tmp_path / "audit")["success"]
    assert read_metrics(tmp_path / "audit")["audit/failed_critical"].value == 0
    pictures = {picture.file for picture in read_pictures(tmp_path / "audit")}
    assert {"closest_pairs.png", "balance.png", "judge_groups.png", "coverage_aus.png", "coverage_attributes.png"} <= pictures
    first = read_tables(tmp_path / "audit")[0]
    assert first.title == "Findings"
    assert len(first.rows) == len(found)


def test_faces_of_the_corpus_are_compared_where_the_generator_has_learned_from_them(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus = read_manifest(inputs["development"])
    training = corpus[corpus["split"] == "train"].reset_index(drop=True)
    write_generator_role(tmp_path / "generator", sha256="1" * 64, identities=training["identity"].unique())
    copies = noisy(load_images(inputs["development"], training["sample_id"].tolist(), size=32))
    columns = ["expression", "aus", *(name for name in training if name.startswith("attr_"))]
    stages = generated(tmp_path / "run", copies, training[columns])
    found = audited(inputs | {"generator": tmp_path / "generator"}, stages, tmp_path / "audit")
    share = found["memorisation/corpus/pixel"]
    assert share.value > 0.9
    assert not share.success
    assert any("its card names no renders" in line for line in read_verdict(tmp_path / "audit")["compared"])


def test_a_foreign_generator_is_not_called_clean(inputs: dict[str, Path], tmp_path: Path) -> None:
    write_generator_role(tmp_path / "generator", sha256="2" * 64, identities=[])
    faces = plan(TRAINED_ON)[:14]
    stages = generated(tmp_path / "run", render(faces, size=32), recipe_rows(faces))
    found = audited(inputs | {"generator": tmp_path / "generator"}, stages, tmp_path / "audit")
    assert (found["memorisation"].success, found["memorisation"].severity, found["memorisation"].value) == (False, "warning", None)
    assert "not measured: faces that the backbone had seen before it came here are not known" in found["memorisation"].observed
    verdict = read_verdict(tmp_path / "audit")
    assert verdict["success"]
    assert "memorisation" in verdict["warning"]
    assert verdict["sheet"] is None


def test_photographs_are_no_part_of_a_sheet_that_may_be_published(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus = read_manifest(inputs["development"]).drop(columns="true_expression")
    photographs = tmp_path / "development"
    photographs.mkdir()
    (photographs / "images-00000.parquet").symlink_to(inputs["development"] / "images-00000.parquet")
    write_manifest(corpus, photographs)
    write_generator_role(tmp_path / "generator", sha256="1" * 64, identities=corpus["identity"][corpus["split"] == "train"].unique())
    faces = plan(TRAINED_ON)[:14]
    stages = generated(tmp_path / "run", render(faces, size=32), recipe_rows(faces))
    audited(inputs | {"generator": tmp_path / "generator", "development": photographs}, stages, tmp_path / "audit")
    verdict = read_verdict(tmp_path / "audit")
    assert verdict["sheet"] == "figures/closest_pairs.png"
    assert not verdict["publish_sheet"]


def test_references_are_those_whose_conditions_were_asked() -> None:
    wanted = Range(count=60, first_identity=GENERATOR, seed=0, size=32)
    training, held_out = render_pools(wanted, 60, size=32, seed=0)
    asked = [plan(wanted)[place] for place in (3, 20, 41)]
    found = choose_references(conditions(recipe_rows(asked)), training, held_out, count=3, seed=0)
    assert sorted(found.training.people) == sorted(person(face.identity) for face in asked)
    np.testing.assert_array_equal(found.training.images, render(asked, size=32))
    assert len(found.held_out.people) == 3
    assert not set(found.held_out.people) & {person(GENERATOR + number) for number in range(10)}


def test_pools_of_a_corpus_have_of_every_expression_equally_many(inputs: dict[str, Path]) -> None:
    corpus = read_manifest(inputs["development"])
    training = corpus[corpus["split"] == "train"]
    held_out = corpus[(corpus["split"] == "val") & (corpus["expression"] != "fear")].head(20)
    pools = corpus_pools(training, held_out, inputs["development"], size=16, seed=0)
    by_expression = [pool.conditions[:, : len(EXPRESSIONS)].sum(axis=0) for pool in pools]
    np.testing.assert_array_equal(*by_expression)
    assert by_expression[0][EXPRESSIONS.index("fear")] == 0
    assert len(pools[0]) == by_expression[0].sum() > 0


# --- groups, duplicates, cells --------------------------------------------------------------------------------------------------------


def people(count: int) -> pd.DataFrame:
    """A rectified manifest, all kept: every expression of every sex and skin, with the AUs 12 = 2 or 12 = 4."""
    index = np.arange(count)
    expression = [DEFAULT_EXPRESSIONS[one % 7] for one in index]
    return pd.DataFrame(
        {
            "sample_id": [f"face-{one:04d}" for one in index],
            "expression": expression,
            "label": expression,
            "action": "keep",
            "aus": [au_vector({"12": 2 + 2 * (one // 7 % 2)}) for one in index],
            "attr_sex": np.array(["woman", "man"])[index // 14 % 2],
            "attr_skin": np.array(["pale", "light", "olive", "brown", "dark"])[index // 28 % 5],
        }
    )


def test_a_group_that_was_rejected_is_an_imbalance(tmp_path: Path) -> None:
    frame, record = people(700), Record(tmp_path)
    lost = (frame["attr_skin"] == "dark") & (np.arange(700) % 4 > 0)
    frame.loc[lost, "action"] = "reject"
    finding = audit_balance(frame, Audit(), record, seed=0)
    assert not finding.success
    assert finding.observed.startswith("skin: dark: -0.7")
    assert finding.n == 140
    used = frame["action"] != "reject"
    dark = frame["attr_skin"] == "dark"
    assert finding.value == pytest.approx(dark[used].mean() / dark.mean() - 1)
    assert finding.low < finding.value < finding.high
    assert record.tables[0].rows[0][0] == "skin: dark"
    assert record.metrics["audit/balance/skin/dark"].value == finding.value


def test_without_a_rejection_nothing_changes_and_that_is_no_estimate(tmp_path: Path) -> None:
    record = Record(tmp_path)
    finding = audit_balance(people(700), Audit(), record, seed=0)
    assert (finding.success, finding.observed, finding.value) == (True, "no image was rejected", 0)
    assert (finding.low, finding.high, finding.n) == (None, None, 700)
    changes = {name: metric for name, metric in record.metrics.items() if name.startswith("audit/balance/")}
    assert "audit/balance/largest_change" in changes
    assert changes["audit/balance/skin/dark"].n == 140
    assert {(metric.value, metric.low, metric.high) for metric in changes.values()} == {(0, None, None)}
    assert {row[record.tables[0].columns.index("change")] for row in record.tables[0].rows} == {"+0.000"}


def test_rejection_that_hits_all_alike_is_balanced_and_small_groups_decide_nothing(tmp_path: Path) -> None:
    frame = people(700)
    frame.loc[np.arange(700) % 3 == 0, "action"] = "reject"
    frame.loc[frame.index[:5], "attr_sex"] = "man"
    frame["attr_glasses"] = np.where(np.arange(700) < 6, "glasses", "none")
    frame.loc[frame.index[:6], "action"] = "reject"
    record = Record(tmp_path)
    assert audit_balance(frame, Audit(), record, seed=0).success
    assert record.tables[0].rows[0][0] == "glasses: glasses"
    assert record.tables[0].rows[0][-1] == "too few to say"
    assert "audit/balance/glasses/glasses" not in record.metrics


def test_without_any_image_in_use_nothing_passes(tmp_path: Path) -> None:
    frame = people(70).assign(action="reject")
    judge(frame, tmp_path, frame["label"].tolist())
    record = Record(tmp_path)
    for finding in (
        audit_balance(frame, Audit(), record, seed=0),
        audit_judged_groups(frame, tmp_path, Audit(), record),
        audit_duplicates(frame, tmp_path, Audit(), record, image_size=64),
    ):
        assert not finding.success
        assert finding.observed.startswith("not measured")
    assert not audit_coverage(frame, DEFAULT_EXPRESSIONS, Audit(), record)[0].success


def test_the_group_whose_faces_the_judge_misreads_is_named(tmp_path: Path) -> None:
    frame, record = people(700), Record(tmp_path)
    misread = (frame["attr_skin"] == "dark") & (frame["attr_sex"] == "woman")
    judge(frame, tmp_path, np.where(misread, "neutral", frame["label"]).tolist())
    finding = audit_judged_groups(frame, tmp_path, Audit(), record)
    assert not finding.success
    assert finding.observed.startswith("skin: dark against ")
    dark = record.metrics["audit/judge_accuracy/skin/dark"]
    right = 1 - (misread & (frame["label"] != "neutral"))[frame["attr_skin"] == "dark"].mean()
    assert dark.value == pytest.approx(right)
    assert dark.n == 140
    assert finding.value == pytest.approx(1 - right)
    assert record.metrics["audit/judge_gap/sex"].value < finding.value


def test_the_judge_is_measured_on_the_label_in_use_and_rejected_images_do_not_count(tmp_path: Path) -> None:
    frame = people(700)
    seen = frame["label"].to_numpy(copy=True)
    frame.loc[:9, "label"], seen[:10] = "anger", "anger"  # relabelled, and the judge sees it as well
    frame.loc[10:39, "action"], seen[10:40] = "reject", "fear"
    judge(frame, tmp_path, seen.tolist())
    record = Record(tmp_path)
    assert audit_judged_groups(frame, tmp_path, Audit(), record).success
    overall = record.metrics["audit/judge_accuracy"]
    assert (overall.value, overall.n) == (1.0, 670)


def test_groups_that_are_too_small_are_shown_as_such(tmp_path: Path) -> None:
    frame = people(140)
    judge(frame, tmp_path, frame["label"].tolist())
    record = Record(tmp_path)
    finding = audit_judged_groups(frame, tmp_path, Audit(min_group=50), record)
    rows = {row[0]: row[-1] for row in record.tables[0].rows}
    assert (rows["skin: dark"], rows["sex: man"]) == ("too few to say", "")
    assert finding.success
    assert "audit/judge_gap/skin" not in record.metrics
    assert audit_judged_groups(frame, tmp_path, Audit(min_group=100), record).observed.startswith("not measured")


def test_repeated_images_are_counted_and_shown(tmp_path: Path) -> None:
    images = render(plan(Range(count=20, first_identity=GENERATOR, seed=0, size=64)), size=64)
    images[[5, 6, 7]] = images[4]
    images[12] = images[11]
    frame = people(20)
    write_shard(tmp_path, 0, frame["sample_id"].tolist(), [encode_png(image) for image in images])
    record = Record(tmp_path)
    finding = audit_duplicates(frame, tmp_path, Audit(), record, image_size=64)
    assert not finding.success
    assert finding.observed.startswith("4 images in 2 clusters")
    assert record.metrics["audit/duplicates"].value == 4 / 20
    assert [picture.file for picture in record.pictures] == ["duplicates.png"]
    frame.loc[[5, 6, 7, 12], "action"] = "reject"
    assert audit_duplicates(frame, tmp_path, Audit(), Record(tmp_path), image_size=64).value == 0


def test_cells_that_nobody_fills_are_named(tmp_path: Path) -> None:
    frame, record = people(700), Record(tmp_path)
    women = (frame["attr_sex"] == "woman") & (frame["expression"] == "fear") & (np.arange(700) // 7 % 2 == 1)
    frame.loc[women, "label"] = "surprise"  # nobody is left of the women who were asked for fear and a strong smile
    finding, emptiest = audit_coverage(frame, DEFAULT_EXPRESSIONS, Audit(min_cells=0.95), record)
    cells = 7 * 2 * (2 + 5)
    assert (finding.n, finding.value) == (cells, 1 - 1 / cells)
    assert finding.success
    assert "empty are fear x AU 12 at 3 to 5 x sex: woman" in finding.observed
    assert emptiest[0] == {
        "expression": "fear", "AU": "12", "intensity": "3 to 5", "attribute": "sex: woman", "asked": int(women.sum()), "in use": 0,
    }  # fmt: skip
    assert record.tables[0].rows[0][0] == "fear"
    assert not audit_coverage(frame, DEFAULT_EXPRESSIONS, Audit(min_cells=1.0), Record(tmp_path))[0].success
    assert {picture.file for picture in record.pictures} == {"coverage_aus.png", "coverage_attributes.png"}
    never = [code for code in AU_CODES if code != "12"]
    assert len(never) == AU_COUNT - 1
    assert f"Nobody was asked for {', '.join(never)}" in record.pictures[0].caption


def test_a_limit_breaks_where_the_whole_interval_is_beyond_it() -> None:
    for low, success in ((0.54, True), (0.56, False)):
        assert at_most("one", "One", "critical", Interval(0.6, low, 0.7, 90), 0.55, what="share").success is success
