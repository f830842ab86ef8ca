"""Studies: whose labels are known, equal budgets, cells that are run once, intervals in words, result file and page, plan and cost."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.embedded_corpus import write_corpus
from components.record import Metric
from components.studies.bench import shows_what_was_asked
from components.studies.catalogue import NAMES, find_study
from components.studies.cell import LABELLED, SYNTHETIC, UNLABELLED, Cell, Outcome, Part, is_finished, read_outcome, write_outcome
from components.studies.cost import passes_of
from components.studies.division import Sizes, StudyError, divide, nested_order, sizes
from components.studies.document import headline_table, results_page
from components.studies.pool import RECTIFICATION, Pool
from components.studies.publish import publish
from components.studies.results import Comparison, Repeats, Results, verdict
from components.studies.run import StudyRun
from components.workspace import Workspace
from flows.study_run import PRESETS
from synfer.config import Config, Evaluation, load_config
from synfer.manifest import read_manifest
from synfer.metrics.bootstrap import Interval
from synfer.vocabulary import DEFAULT_EXPRESSIONS

K = len(DEFAULT_EXPRESSIONS)
SIZES = Sizes(labelled=100, unlabelled=210, test=60, source="made up")


def manifest(people: int, images: int) -> pd.DataFrame:
    """Training rows of people who show the expressions in turn, the first one twice as often."""
    rows = [(f"person-{who:03d}", DEFAULT_EXPRESSIONS[max(0, shot % (K + 1) - 1)]) for who in range(people) for shot in range(images)]
    frame = pd.DataFrame(rows, columns=["identity", "expression"])
    return frame.assign(sample_id=[f"s{row}" for row in range(len(frame))])


# --- whose labels are known -----------------------------------------------------------------------------------------------------------


def test_a_person_is_either_labelled_or_not_and_the_share_is_reached() -> None:
    train = manifest(30, 16)
    labelled, unlabelled = divide(train, 0.3, seed=0)
    assert not set(labelled["identity"]) & set(unlabelled["identity"])
    assert len(labelled) + len(unlabelled) == len(train)
    assert 0.3 * len(train) <= len(labelled) < 0.3 * len(train) + 16
    other, _ = divide(train, 0.3, seed=1)
    assert set(other["identity"]) != set(labelled["identity"])
    assert len(divide(train, 1.0, seed=0)[1]) == 0


def test_a_class_without_a_labelled_face_is_told() -> None:
    train = pd.concat([manifest(30, 8), manifest(1, 1).assign(identity="loner", sample_id="x", expression="contempt")])
    with pytest.raises(StudyError, match="no labelled face shows contempt"):
        divide(train, 0.05, seed=0)


def test_any_beginning_of_the_order_has_the_class_shares_of_the_whole() -> None:
    train = manifest(40, 16)
    order = nested_order(train, seed=3)
    assert sorted(order["sample_id"]) == sorted(train["sample_id"])
    for count in (K, 64, 300):
        found = order.iloc[:count]["expression"].value_counts(normalize=True).reindex(DEFAULT_EXPRESSIONS)
        whole = train["expression"].value_counts(normalize=True).reindex(DEFAULT_EXPRESSIONS)
        assert (found - whole).abs().max() < 1.01 / count + 0.12 * (count == K)
    assert not order["sample_id"].equals(nested_order(train, seed=4)["sample_id"])


def test_the_corpus_of_the_studies_hides_labels_and_keeps_the_test_split_apart(tracked_workspace: Workspace, settings: Config) -> None:
    write_corpus(tracked_workspace.data / "faces", identities=40, images_per_identity=7, size=32)
    config = settings.model_copy(update={"corpus": settings.corpus.model_copy(update={"train": 0, "val": 0, "test": 0})})
    expected = sizes(config, tracked_workspace.data / "faces")
    pool = Pool(config, tracked_workspace, block=expected.labelled)
    (job,) = pool.jobs([Cell("scaling", "real", 0, "supervised", (Part(LABELLED, 10),), {})])
    job.run()
    frames = {name: read_manifest(pool.corpus / name) for name in ("development", "unlabelled", "test")}
    train = frames["development"].query("split == 'train'")
    assert (len(train), len(frames["unlabelled"]), len(frames["test"])) == (expected.labelled, expected.unlabelled, expected.test)
    assert set(frames["unlabelled"]["expression"]) == {""}
    assert not {"votes", "true_expression"} & set(frames["unlabelled"].columns)
    assert not set(train["identity"]) & set(frames["unlabelled"]["identity"])
    assert pool.jobs([Cell("scaling", "real", 0, "supervised", (Part(LABELLED, 10),), {})]) == []
    assert [path.name for path in pool.folder.iterdir()] == ["corpus"]


# --- cells --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laptop(root: Path) -> Config:
    return load_config(root / "params.yaml")


@pytest.mark.parametrize("name", ["scaling", "ablation", "low_data"])
def test_trainings_that_are_compared_make_the_same_number_of_steps(name: str, laptop: Config) -> None:
    cells = [cell for cell in find_study(name).all_cells(laptop, SIZES) if cell.kind == "supervised"]
    assert {passes_of(cell) for cell in cells} == {laptop.studies.steps * laptop.classifiers.batch_size}
    assert {cell.repeat for cell in cells} == set(range(laptop.studies.seeds))


def test_scaling_has_every_multiple_and_the_control(laptop: Config) -> None:
    arms = {cell.arm: cell.parts for cell in find_study("scaling").cells(laptop, SIZES, 0)}
    assert [arms[f"synthetic {multiple}x"][0].count for multiple in (1, 2, 3, 4, 5)] == [100, 200, 300, 400, 500]
    assert arms["real + synthetic 5x"] == (Part(LABELLED, 100), Part(SYNTHETIC, 500, RECTIFICATION))
    assert arms["pseudo-labels 1x"] == (Part(UNLABELLED, 100),)
    assert arms["pseudo-labels 2x"] == (Part(UNLABELLED, 210),)
    alone = find_study("scaling").cells(laptop, Sizes(100, 0, 60, ""), 0)
    assert not [cell.arm for cell in alone if "pseudo" in cell.arm]


def test_low_data_takes_every_share_with_each_remedy(laptop: Config) -> None:
    arms = {cell.arm: cell for cell in find_study("low_data").cells(laptop, SIZES, 0)}
    assert len(arms) == 1 + 5 * len(laptop.studies.real_shares)
    assert arms["25 % real"].parts == (Part(LABELLED, 25),)
    assert arms["1 % real"].parts == (Part(LABELLED, K),), "at least as many faces as classes"
    assert arms["100 % real, with synthetic"].parts == (Part(LABELLED, 100), Part(SYNTHETIC, 100, RECTIFICATION))
    first = arms["25 % real, synthetic first"]
    assert first.parts == (Part(SYNTHETIC, 100, RECTIFICATION), Part(LABELLED, 25))
    assert first.settings["phases"] == 2
    assert arms["5 % real, class-balanced"].settings["changes"] == {"class_balanced": True}


def test_a_face_a_class_is_not_compared_with_balanced_classes() -> None:
    def outcomes(images: int) -> Repeats:
        table = np.full((2, K), 1 / K)
        rows = pd.DataFrame({"sample_id": ["a", "b"], "identity": "", "truth": DEFAULT_EXPRESSIONS[:2]})
        rows[[f"p_{name}" for name in DEFAULT_EXPRESSIONS]] = table
        return Repeats("real", (Outcome({"train_images": Metric(images)}, rows),))

    shares = {"1 % real": outcomes(K), "5 % real": outcomes(36)}
    asked = find_study("low_data").comparisons(Results(shares, Evaluation(), 0))
    assert [each.theirs for each in asked if each.ours.endswith("class-balanced")] == ["5 % real"]


def test_captions_of_faces_that_show_something_else_teach_nothing() -> None:
    rows = pd.DataFrame({"expression": "fear", "label": ["fear", "fear", "anger"], "action": ["keep", "reject", "relabel"]})
    assert shows_what_was_asked(rows).tolist() == [True, False, False]
    assert shows_what_was_asked(rows[["expression"]]).all()


def test_a_cell_is_known_by_what_it_does_and_not_by_its_name() -> None:
    cell = Cell("scaling", "real", 0, "supervised", (Part(LABELLED, 10),), {"rows": 64, "epochs": 1})
    renamed = Cell("scaling", "real faces", 0, "supervised", (Part(LABELLED, 10),), {"epochs": 1, "rows": 64})
    assert cell.digest({"pool": "a"}) == renamed.digest({"pool": "a"})
    others = [
        cell.digest({"pool": "b"}),
        Cell("scaling", "real", 1, "supervised", cell.parts, cell.settings).digest({"pool": "a"}),
        Cell("scaling", "real", 0, "supervised", (Part(LABELLED, 11),), cell.settings).digest({"pool": "a"}),
        Cell("scaling", "real", 0, "supervised", cell.parts, {"rows": 65, "epochs": 1}).digest({"pool": "a"}),
    ]
    assert len({cell.digest({"pool": "a"}), *others}) == 5


def test_an_outcome_is_whole_or_not_there(tmp_path: Path) -> None:
    cell, folder = Cell("scaling", "real", 0, "supervised", (), {}), tmp_path / "cell"
    broken = Outcome({"uar": Metric(0.5)}, pd.DataFrame({"sample_id": [object()]}))
    with pytest.raises(Exception, match="object"):
        write_outcome(broken, cell, {}, folder)
    assert not is_finished(folder)
    write_outcome(outcome(0.2, 0), cell, {}, folder)
    assert is_finished(folder)
    assert read_outcome(folder).metrics["train_images"] == Metric(100.0, n=100)


# --- results ------------------------------------------------------------------------------------------------------------------------


def outcome(error: float, seed: int, rows: int = 280) -> Outcome:
    """A training that errs on this share of the faces."""
    rng = np.random.default_rng(seed)
    truth = np.arange(rows) % K
    guess = np.where(rng.random(rows) < error, (truth + 1) % K, truth)
    table = {f"p_{name}": np.eye(K)[guess][:, index] * 0.9 + 0.1 / K for index, name in enumerate(DEFAULT_EXPRESSIONS)}
    ids = {"sample_id": [f"t{row}" for row in range(rows)], "identity": [f"p{row // 4}" for row in range(rows)]}
    frame = pd.DataFrame({**ids, "truth": [DEFAULT_EXPRESSIONS[index] for index in truth], **table})
    return Outcome({"train_images": Metric(100.0, n=100), "steps": Metric(50.0)}, frame)


def scaling_results(config: Config, errors: dict[str, float], default: float = 0.4) -> Results:
    cells = find_study("scaling").all_cells(config, SIZES)
    found = [outcome(errors.get(cell.arm, default), derive(cell)) for cell in cells]
    return Results.of(cells, found, config.evaluation, seed=0)


def derive(cell: Cell) -> int:
    return sum(cell.arm.encode()) * 10 + cell.repeat


@pytest.fixture(scope="module")
def quick(root: Path) -> Config:
    return load_config(root / "params.yaml", overrides=["evaluation.bootstrap=200", "studies.multiples=[1, 2, 3]"])


def test_growth_is_told_as_what_the_interval_says(quick: Config) -> None:
    notes = find_study("scaling").notes
    growing = scaling_results(quick, {"synthetic 1x": 0.6, "synthetic 3x": 0.2})
    assert "rises, and the paired interval excludes 0" in notes(growing, quick)[0]
    first, why = notes(scaling_results(quick, {}), quick)
    assert "does not rise: the paired interval holds 0" in first
    assert why.startswith("Why: all arms make 50 steps")
    assert "falls, and the paired interval excludes 0" in notes(scaling_results(quick, {"synthetic 3x": 0.8}), quick)[0]


def test_a_difference_is_paired_and_needs_the_same_faces(quick: Config) -> None:
    results = scaling_results(quick, {"real": 0.1})
    found = results.difference(Comparison("real", "synthetic 1x", ""))
    assert (verdict(found), found.n) == ("higher", 280)
    assert found.value == pytest.approx(results.figure("real", "uar").value - results.figure("synthetic 1x", "uar").value)
    cells = [Cell("scaling", arm, 0, "supervised", (), {}) for arm in ("a", "b")]
    shorter = Results.of(cells, [outcome(0.1, 0), outcome(0.1, 0, 70)], quick.evaluation, seed=0)
    with pytest.raises(StudyError, match="different images and cannot be paired"):
        shorter.difference(Comparison("a", "b", ""))


@pytest.mark.parametrize(("low", "high", "said"), [(0.1, 0.2, "higher"), (-0.2, -0.1, "lower"), (-0.1, 0.1, "inside the interval")])
def test_verdicts(low: float, high: float, said: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high, 10)).startswith(said)


class Page(HTMLParser):
    """Collects sources and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_study_leaves_every_figure_a_page_and_a_document(quick: Config, workspace: Workspace, tmp_path: Path) -> None:
    study, results = find_study("scaling"), scaling_results(quick, {"synthetic 3x": 0.2})
    facts = {"preset": "laptop", "corpus": "data/faces", "sizes": {"labelled": 100, "unlabelled": 210, "test": 280, "source": ""}}
    done = publish(study, results, quick, workspace, facts=facts, place="", models=workspace, out=tmp_path / "result")
    found = json.loads(done.result.read_text())
    assert done.result == workspace.reports / "studies" / "scaling.json"
    figures = [figure for measures in found["arms"].values() for figure in measures.values()]
    figures += [each["difference"] for each in found["comparisons"]]
    assert all(set(figure) == {"value", "low", "high", "n"} for figure in figures)
    assert set(found["arms"]) == set(results.arms)
    page = Page()
    page.feed(done.page.read_text())
    assert page.open == []
    assert len(page.sources) == 1 and page.sources[0].startswith("data:image/png;base64,")
    for text in (done.page.read_text(), results_page([found])):
        assert all(arm in text for arm in results.arms)
        assert found["notes"][0] in text
    assert headline_table([found]).count("\n") == 1 + 3
    assert "synthetic 3x minus synthetic 1x, UAR" in headline_table([found])
    assert "No study has been run" in headline_table([])


# --- plan and cost ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_plans_every_study(name: str, workspace: Workspace, root: Path) -> None:
    (workspace.root / "assets").symlink_to(root / "assets")
    (workspace.root / "data").mkdir()
    (workspace.root / "data" / "faces").symlink_to(root / "data" / "faces")
    seconds = {}
    for preset, overlays in PRESETS.items():
        run = StudyRun(name, load_config(workspace.params, overlays=overlays), workspace, preset=preset)
        seconds[preset] = run.cost.seconds
        assert len(run.pending) == len(run.cells) > 0
        assert run.jobs[0].title == "corpus"
    assert seconds["smoke"] < 300 < seconds["laptop"] < 3 * 3600 < seconds["paper"]
    assert not workspace.studies.exists()


def test_an_absent_corpus_is_told_unless_its_size_is_expected(workspace: Workspace, laptop: Config) -> None:
    with pytest.raises(StudyError, match=r"holds no manifest\.parquet"):
        StudyRun("scaling", laptop, workspace)
    assumed = laptop.model_copy(update={"studies": laptop.studies.model_copy(update={"expected_train": 3000})})
    assert StudyRun("scaling", assumed, workspace).sizes.labelled == 500


def test_studies_share_encoders_and_pay_for_them_once(workspace: Workspace, laptop: Config) -> None:
    assumed = laptop.model_copy(update={"studies": laptop.studies.model_copy(update={"expected_train": 3000, "seeds": 1})})
    run = StudyRun("representation", assumed, workspace)
    assert run.cost.trainings == 4, "two readers look at each of four trained encoders"
    assert len(run.cells) == 2 * (1 + 4)


def test_one_study_at_a_time(tracked_workspace: Workspace, laptop: Config) -> None:
    assumed = laptop.model_copy(update={"studies": laptop.studies.model_copy(update={"expected_train": 3000})})
    first, second = (StudyRun("scaling", assumed, tracked_workspace) for _ in range(2))
    with first.open(), pytest.raises(StudyError, match="another study is running"), second.open():
        pass


def test_a_missing_cell_is_named(workspace: Workspace, laptop: Config) -> None:
    assumed = laptop.model_copy(update={"studies": laptop.studies.model_copy(update={"expected_train": 3000})})
    with pytest.raises(StudyError, match="33 cells of study scaling are not finished, the first is real, seed 0"):
        StudyRun("scaling", assumed, workspace).results()
