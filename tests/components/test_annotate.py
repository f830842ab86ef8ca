"""Labels of anybody's faces: every kind of source, files that cannot be read, a kill, the user's own model, cleanlab."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.annotate.opinion import MEMBER, OpinionError, pool_with, read_opinion
from components.annotate.run import Annotation, annotate
from components.annotate.scores import Scores
from components.annotate.table import decided_by
from components.annotate.verdicts import AnnotateError, judge_scores
from components.member_scores import AnnotationMembers
from components.workspace import Workspace
from synfer.annotation.rectifier import HeldOut
from synfer.config import Config, Rectification
from synfer.datasets.names import LabelNames
from synfer.images import ImageError, iter_encoded
from synfer.manifest import read_manifest

FOLDERS = {"happiness": "Happy", "anger": "angry"}  # other names, as data sets have them
MEMBERS = ("FERAnno", "annotator_0", "annotator_1")


@pytest.fixture(scope="module")
def run(world: Workspace, head: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished stages of the small world; there is no judge among them."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("corpus", "fer_models", "generator"):
        (folder / name).symlink_to(world.stage(name))
    (folder / "feranno").symlink_to(head)
    assert not (folder / "fer_models" / "judge").exists()
    return folder


@pytest.fixture(scope="module")
def faces(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated faces in class folders, every fifth in the next class's."""
    root = tmp_path_factory.mktemp("faces") / "faces"
    frame = read_manifest(generated)
    names = frame["expression"].where(np.arange(len(frame)) % 5 > 0, frame["expression"].shift(-1, fill_value="neutral"))
    folders = {sample_id: FOLDERS.get(name, name) for sample_id, name in zip(frame["sample_id"], names, strict=True)}
    for sample_id, data in iter_encoded(generated):
        (root / folders[sample_id]).mkdir(parents=True, exist_ok=True)
        (root / folders[sample_id] / f"{sample_id}.png").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def done(faces: Path, run: Path, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Annotation:
    """What one call made of the class folders, without any interruption."""
    out = tmp_path_factory.mktemp("done")
    return annotate(faces, out / "labels.parquet", run=run, config=settings, cleanlab=out / "cleanlab", shown=12, shard=16)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids that the members are shown."""
    seen: list[str] = []
    scores = AnnotationMembers.scores

    def counted(self: AnnotationMembers, pixels: np.ndarray, sample_ids: Sequence[str]) -> dict[str, np.ndarray]:
        seen.extend(sample_ids)
        return scores(self, pixels, sample_ids)

    monkeypatch.setattr(AnnotationMembers, "scores", counted)
    return seen


def test_every_image_has_a_row_with_label_action_and_reason(done: Annotation, settings: Config) -> None:
    table, classes = done.table(), list(settings.common.expressions)
    assert len(table) == 70 == sum(done.actions.values())
    assert table["action"].value_counts().to_dict() == {name: count for name, count in done.actions.items() if count}
    posterior = np.stack(table["posterior"])
    given = np.array([classes.index(name) for name in table["given"]])
    assert posterior.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert [classes[index] for index in posterior.argmax(axis=1)] == table["label"].tolist()
    assert table["label_quality"].to_numpy() == pytest.approx(posterior[np.arange(70), given])
    assert table["is_label_issue"].tolist() == (posterior.argmax(axis=1) != given).tolist()
    assert (table.loc[table["action"] == "keep", "label"] == table.loc[table["action"] == "keep", "given"]).all()
    assert ((table["weight"] == 0) == (table["action"] == "reject")).all()
    assert table["reason"].str.contains("given").all()
    for name in MEMBERS:
        assert np.stack(table[f"p_{name}"]).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert done.given_wrong is not None and 0 < done.given_wrong < 1


def test_the_table_says_what_its_lists_are_and_how_it_was_decided(done: Annotation, settings: Config) -> None:
    said = json.loads(pq.read_schema(done.out).metadata[b"synfer"])
    assert said["classes"] == list(settings.common.expressions)
    assert set(said["weights"]) == set(MEMBERS)
    assert said["given_wrong"] == pytest.approx(done.given_wrong)
    assert said["unlabelled"] is None and 0 <= said["labelled"]["reject_below"] <= said["labelled"]["assert_from"] <= 1


def test_thresholds_of_images_without_a_label_are_told_too_and_a_missed_target_of_either_group() -> None:
    rng = np.random.default_rng(0)
    classes, truth = ("neutral", "fear", "anger"), rng.integers(0, 3, 600)
    seen = 1.2 * np.eye(3)[truth] + rng.normal(0, 1, (600, 3))  # alone they reach no 0.9, with labels they do
    given = [classes[label] if row % 2 else "" for row, label in enumerate(truth)]
    ids = [f"face-{row}" for row in range(600)]
    scores = Scores(ids, given, [""] * 600, {"annotator_0": seen})
    verdicts = judge_scores(scores, HeldOut({"annotator_0": seen}, truth), Rectification(target_precision=0.9), classes=classes, seed=0)
    said = decided_by(verdicts)
    for name, result in (("labelled", verdicts.labelled), ("unlabelled", verdicts.unlabelled)):
        assert result is not None and said[name]["reject_below"] == result.thresholds.reject_below
        assert said[name]["assert_from"] == result.thresholds.assert_from
    assert said["labelled"]["target_reached_on_val"] and not said["unlabelled"]["target_reached_on_val"]
    assert not said["target_reached_on_val"]


def test_the_page_shows_the_most_suspicious_faces_and_needs_nothing_else(done: Annotation) -> None:
    page, table = done.page.read_text(encoding="utf-8"), done.table()
    suspects = table[table["is_label_issue"] | table["action"].isin(["soften", "reject"])].sort_values("label_quality", kind="stable")
    shown = suspects.head(12)
    assert page.count("data:image/webp;base64,") == len(shown) > 0
    places = [page.index(f'<p class="name">{sample_id}</p>') for sample_id in shown["sample_id"]]
    assert places == sorted(places)
    assert all(f'data-given="{name}"' in page for name in shown["given"])
    assert "<script" not in page and "http" not in page and 'src="data:' in page


def test_cleanlab_reads_the_arrays_and_scores_the_labels_as_we_do(done: Annotation) -> None:
    folder, table = done.out.parent / "cleanlab", done.table()
    labels, pred_probs, posterior, issues, ids = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("labels", "pred_probs", "posterior", "label_issues", "sample_ids")
    )
    classes = json.loads((folder / "classes.json").read_text())
    assert [classes[index] for index in labels] == table["given"].tolist()
    assert ids.tolist() == table["sample_id"].tolist() and issues.tolist() == table["is_label_issue"].tolist()
    assert pred_probs.shape == (70, len(classes)) and pred_probs.sum(axis=1) == pytest.approx(1)
    filters, rank = (pytest.importorskip(f"cleanlab.{name}") for name in ("filter", "rank"))
    assert rank.get_label_quality_scores(labels, posterior) == pytest.approx(table["label_quality"].to_numpy(), abs=1e-6)
    assert filters.find_label_issues(labels, pred_probs, n_jobs=1).shape == (70,)


def test_a_kill_costs_a_shard_at_most_and_changes_no_byte(
    faces: Path, run: Path, settings: Config, done: Annotation, scored: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "labels.parquet"
    code = f"""
import os, signal
from pathlib import Path
from components.annotate.run import annotate
from components.member_scores import AnnotationMembers
from synfer.config import Config
scores, calls = AnnotationMembers.scores, []
def killed(self, pixels, sample_ids):
    calls.append(sample_ids)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return scores(self, pixels, sample_ids)
AnnotationMembers.scores = killed
config = Config.model_validate_json({settings.model_dump_json()!r})
annotate(Path({str(faces)!r}), Path({str(out)!r}), run=Path({str(run)!r}), config=config, shown=12, shard=16)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    work = tmp_path / ".labels.parquet.partial"
    assert not out.exists() and len(list(work.glob("shard-*.parquet"))) == 3
    resumed = annotate(faces, out, run=run, config=settings, shown=12, shard=16)
    assert scored == done.table()["sample_id"].tolist()[48:], "three shards of sixteen were finished"
    assert out.read_bytes() == done.out.read_bytes()
    assert resumed.page.read_bytes() == done.page.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.html", "labels.parquet"]


def test_other_labels_start_anew_and_other_thresholds_do_not(
    faces: Path, run: Path, settings: Config, scored: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.annotate.run._held_out", interrupted)
    laxer = settings.model_copy(update={"rectification": settings.rectification.model_copy(update={"target_precision": 0.9})})
    for config, names, shown in ((settings, {}, 70), (laxer, {}, 70), (settings, {"Happy": "fear"}, 140)):
        with pytest.raises(KeyboardInterrupt):
            annotate(faces, tmp_path / "labels.parquet", run=run, config=config, names=names)
        assert len(scored) == shown


def test_another_image_column_of_the_same_file_starts_anew(
    generated: Path, run: Path, settings: Config, scored: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.annotate.run._held_out", interrupted)
    images = [{"bytes": data, "path": f"{sample_id}.png"} for sample_id, data in list(iter_encoded(generated))[:6]]
    pq.write_table(pa.table({"image": pa.array(images), "crop": pa.array(images[::-1]), "label": ["fear"] * 6}), tmp_path / "hub.parquet")
    for column, shown in (("image", 6), ("image", 6), ("crop", 12)):
        with pytest.raises(KeyboardInterrupt):
            annotate(tmp_path / "hub.parquet", tmp_path / "labels.parquet", run=run, config=settings, image_column=column)
        assert len(scored) == shown


def test_what_an_older_call_left_does_not_stand_beside_the_parts_of_a_killed_one(
    faces: Path, run: Path, settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, classes = tmp_path / "labels.parquet", tmp_path / "cleanlab" / "classes.json"
    classes.parent.mkdir()
    out.write_bytes(b"older")
    classes.write_text("[]")
    save, saved = np.save, []

    def killed(file: object, array: np.ndarray, **options: object) -> None:
        saved.append(array)
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(file, array, **options)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        annotate(faces, out, run=run, config=settings, cleanlab=classes.parent)
    assert len(list(classes.parent.iterdir())) == 2 and not classes.exists() and not out.exists()


def test_an_unreadable_image_is_named_or_tolerated_and_rejected(faces: Path, run: Path, settings: Config, tmp_path: Path) -> None:
    mine, out = Path(shutil.copytree(faces, tmp_path / "mine")), tmp_path / "labels.parquet"
    whole = next((mine / "sadness").iterdir())
    (mine / "sadness" / "truncated.jpg").write_bytes(whole.read_bytes()[:300])
    (mine / "fear" / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.png: not a readable image .*--skip-bad"):
        annotate(mine, out, run=run, config=settings)
    with pytest.raises(ImageError, match=r"truncated\.jpg: not a readable image"):
        annotate(mine, out, run=run, config=settings, skip_bad=1)
    assert not out.exists()
    done = annotate(mine, out, run=run, config=settings, skip_bad=2)
    table = done.table().set_index("sample_id")
    assert (done.images, done.unreadable) == (72, 2)
    bad = table.loc[["fear/empty.png", "sadness/truncated.jpg"]]
    assert bad["action"].tolist() == ["reject"] * 2 and bad["weight"].tolist() == [0, 0]
    assert bad["reason"].str.startswith("cannot be read: ").all() and bad["posterior"].isna().all() and bad["confidence"].isna().all()
    assert bad["given"].tolist() == ["fear", "sadness"] and bad["label"].tolist() == ["", ""] and not bad["is_label_issue"].any()
    assert table.drop(bad.index)["posterior"].notna().all() and len(table) == 72
    assert "truncated.jpg" in done.page.read_text(encoding="utf-8")


def test_flat_images_are_labelled_by_the_members_alone(faces: Path, run: Path, settings: Config, done: Annotation, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted(faces.rglob("*.png"))[:20]:
        shutil.copy(path, flat)
    made = annotate(flat, tmp_path / "labels.parquet", run=run, config=settings, cleanlab=tmp_path / "cleanlab")
    table = made.table()
    assert len(table) == 20 and (table["given"] == "").all() and table["label_quality"].isna().all()
    assert made.given_wrong is None and made.disputed == 0 and made.actions["keep"] == 0
    assert len(np.load(tmp_path / "cleanlab" / "labels.npy")) == 0


def test_parquet_and_dataset_folder_keep_their_ids_and_labels(generated: Path, run: Path, settings: Config, tmp_path: Path) -> None:
    frame = read_manifest(generated)
    whole = annotate(generated, tmp_path / "dataset.parquet", run=run, config=settings)
    assert whole.table()["sample_id"].tolist() == frame["sample_id"].tolist()
    assert whole.table()["given"].tolist() == frame["expression"].tolist()
    images = dict(iter_encoded(generated))
    rows = [{"bytes": images[sample_id], "path": f"{sample_id}.png"} for sample_id in frame["sample_id"]]
    given = ["" if index % 7 == 0 else name for index, name in enumerate(frame["expression"])]  # partly labelled
    pq.write_table(pa.table({"sample_id": frame["sample_id"], "image": pa.array(rows), "label": given}), tmp_path / "hub.parquet")
    partly = annotate(tmp_path / "hub.parquet", tmp_path / "labels.parquet", run=run, config=settings).table()
    assert partly["given"].tolist() == given
    assert partly.loc[partly["given"] == "", "reason"].str.contains("no label came with it").any()
    assert np.stack(partly["p_FERAnno"]) == pytest.approx(np.stack(whole.table()["p_FERAnno"])), "same ids, same images"


def test_ones_own_model_joins_uncalibrated_or_calibrated(
    faces: Path, run: Path, settings: Config, done: Annotation, tmp_path: Path
) -> None:
    table, classes = done.table(), settings.common.expressions
    sure = np.full((70, 7), 0.01) + 0.93 * np.eye(7)[np.arange(70) % 7]
    alphabetical = sorted(classes)
    own = pd.DataFrame(sure[:, [classes.index(name) for name in alphabetical]], columns=alphabetical)
    own.assign(sample_id=table["sample_id"]).sample(frac=1, random_state=0).to_parquet(tmp_path / "own.parquet")
    settled = {"run": run, "config": settings, "pred_probs": tmp_path / "own.parquet"}
    taken = annotate(faces, tmp_path / "a.parquet", **settled)
    assert np.stack(taken.table()[f"p_{MEMBER}"]) == pytest.approx(sure, abs=1e-6)
    chosen = np.arange(70), np.arange(70) % 7
    pull = np.stack(taken.table()["posterior"])[chosen] - np.stack(table["posterior"])[chosen]
    assert (pull > -1e-6).all() and pull.max() > 0, "it pulls towards its own"
    assert "without calibration" in taken.page.read_text(encoding="utf-8")
    assert taken.given_wrong == pytest.approx(done.given_wrong), "noise is estimated without it"
    val = read_manifest(run / "corpus" / "development").query("split == 'val'")
    truth = np.array([classes.index(name) for name in val["expression"]])
    (tmp_path / "classes.json").write_text(json.dumps(list(classes)))
    followed = []
    for shift in (0, 1):  # a model that is right on val, and one that is always wrong there
        np.save(tmp_path / "val.npy", 0.01 + 0.93 * np.eye(7)[(truth + shift) % 7])
        weighed = annotate(faces, tmp_path / "b.parquet", pred_probs_val=tmp_path / "val.npy", **settled)
        assert MEMBER in json.loads(pq.read_schema(weighed.out).metadata[b"synfer"])["weights"]
        assert "without calibration" not in weighed.page.read_text(encoding="utf-8")
        followed.append(np.stack(weighed.table()["posterior"])[chosen].mean())
    assert followed[0] > followed[1] + 0.3


def test_an_uncalibrated_model_counts_half_a_member() -> None:
    pooled, own = np.array([[0.5, 0.3, 0.2]]), np.array([[0.1, 0.1, 0.8]])
    product = pooled * own ** (0.5 * 0.8)
    assert pool_with(pooled, own, mean_weight=0.8) == pytest.approx(product / product.sum())
    assert pool_with(pooled, own, mean_weight=0.0) == pytest.approx(pooled)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (np.full((70, 7), 1 / 7), "which column is which class"),
        (np.full((69, 7), 1 / 7), "has 69 rows, but there are 70 images"),
        (np.full((70, 7), 2.0), "row 0: 2, 2, .* are no probabilities"),
        (np.full((70, 5), 0.2), "does not fit 7 classes"),
    ],
    ids=["no names", "rows", "logits", "columns"],
)
def test_probabilities_that_do_not_fit_are_refused(
    faces: Path, run: Path, settings: Config, tmp_path: Path, table: np.ndarray, told: str
) -> None:
    np.save(tmp_path / "own.npy", table)
    names = None if "which" in told else settings.common.expressions
    with pytest.raises(OpinionError, match=told):
        annotate(faces, tmp_path / "a.parquet", run=run, config=settings, pred_probs=tmp_path / "own.npy", pred_probs_classes=names)
    assert [path.name for path in tmp_path.iterdir()] == ["own.npy"]


def test_columns_of_a_model_are_read_by_what_they_mean(tmp_path: Path) -> None:
    path, names = tmp_path / "own.parquet", LabelNames(("anger", "fear"))
    table = pd.DataFrame({"sample_id": ["a", "b"], "anger": [0.9, 0.2], "p_fear": [0.1, 0.8], "fold": [3, 4]})
    table.to_parquet(path)
    assert read_opinion(path, ["b", "a"], names).tolist() == [[0.2, 0.8], [0.9, 0.1]]
    table.assign(angry=[0.0, 0.0]).to_parquet(path)
    with pytest.raises(OpinionError, match=r"the columns 'anger' and 'angry' both mean anger"):
        read_opinion(path, ["a", "b"], names)
    table.rename(columns={"p_fear": "fright"}).to_parquet(path)
    with pytest.raises(OpinionError, match=r"no column of class 'fear'; there are: .*; these name none that is known: fright, fold"):
        read_opinion(path, ["a", "b"], names)


@pytest.mark.parametrize("text", ['{"a"', '{"anger": 0}'], ids=["broken", "no list"])
def test_classes_that_cannot_be_read_are_told_with_their_file(tmp_path: Path, text: str) -> None:
    np.save(tmp_path / "own.npy", np.full((2, 2), 0.5))
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(OpinionError, match=r"classes\.json (is not readable JSON|must hold a list)"):
        read_opinion(tmp_path / "own.npy", ["a", "b"], LabelNames(("anger", "fear")))


def test_an_array_of_words_is_told_with_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.array([["a", "b"]]))
    with pytest.raises(OpinionError, match=r"own\.npy holds <U1, no numbers"):
        read_opinion(tmp_path / "own.npy", ["a"], LabelNames(("anger", "fear")), columns=("anger", "fear"))


def test_what_is_missing_is_told_with_what_makes_it(faces: Path, run: Path, settings: Config, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    for name in ("corpus", "fer_models", "generator"):
        (tmp_path / "artifacts" / name).symlink_to(run / name)
    with pytest.raises(AnnotateError, match="feranno, which does not exist; make it with: synfer run feranno"):
        annotate(faces, tmp_path / "labels.parquet", run=tmp_path / "artifacts", config=settings)
    with pytest.raises(AnnotateError, match=r"ends in \.parquet"):
        annotate(faces, tmp_path / "labels.csv", run=run, config=settings)


def test_wrong_labels_are_told_before_the_seconds_that_torch_takes(faces: Path, run: Path, settings: Config, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(faces, tmp_path / "mine"))
    os.rename(mine / "fear", mine / "fright")
    code = f"""
import sys
from components.annotate.run import annotate
from synfer.config import Config
from synfer.errors import SynferError
config = Config.model_validate_json({settings.model_dump_json()!r})
try:
    annotate({str(mine)!r}, {str(tmp_path / "labels.parquet")!r}, run={str(run)!r}, config=config)
except SynferError as error:
    print("torch" in sys.modules, "unknown class 'fright'" in str(error))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False True\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
