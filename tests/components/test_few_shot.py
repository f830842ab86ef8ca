"""Study few_shot: its supervised encoders are those of study scaling, and the page says which classes are new to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.embedded_corpus import write_corpus
from components.studies import few_shot, scaling, supervised
from components.studies.cell import Outcome
from components.studies.cost import cost_of, passes_of
from components.studies.division import Sizes
from components.studies.encoders import RANDOM, SUPERVISED, TEST, encoded
from components.studies.few_shot import BASIC, NEW
from components.studies.results import ASKED, HITS, Results
from components.studies.run import StudyRun
from components.workspace import Workspace
from synfer.classifiers.models import create
from synfer.classifiers.predict import features
from synfer.config import Config, load_config
from synfer.vocabulary import COMPOUNDS

SIZES = Sizes(labelled=100, unlabelled=210, test=60, source="made up")
WITHOUT_LABELS = [RANDOM, "simclr, real", "simclr, synthetic", "simclr, real + synthetic"]
WITH_LABELS = ["supervised, real", "supervised, synthetic 1x", "supervised, real + synthetic 1x"]


@pytest.fixture(scope="module")
def laptop(root: Path) -> Config:
    return load_config(root / "params.yaml", overrides=["evaluation.bootstrap=50"])


# --- cells --------------------------------------------------------------------------------------------------------------------------


def test_supervised_encoders_are_the_trainings_of_scaling(laptop: Config) -> None:
    cells = {cell.arm: cell for cell in few_shot.cells(laptop, SIZES, 1)}
    assert list(cells) == WITHOUT_LABELS + WITH_LABELS
    trainings = {cell.arm: cell for cell in scaling.cells(laptop, SIZES, 1)}
    for arm in WITH_LABELS:
        found, wanted = cells[arm], trainings[arm.removeprefix(f"{SUPERVISED}, ")]
        assert (found.parts, found.repeat) == (wanted.parts, wanted.repeat)
        assert found.settings["encoder"] == {"method": SUPERVISED, **wanted.settings}
        assert {key: found.settings[key] for key in ("shots", "queries", "episodes")} == {"shots": [1, 5], "queries": 5, "episodes": 200}


def test_a_supervised_encoder_costs_what_a_classifier_costs(laptop: Config) -> None:
    cells = {cell.arm: cell for cell in few_shot.cells(laptop, SIZES, 0)}
    rates = laptop.studies.model_copy(update={"trained_per_second": 10.0, "pretrained_per_second": 1.0})
    passes = laptop.studies.steps * laptop.classifiers.batch_size
    assert passes_of(cells["supervised, real"]) == passes
    assert cost_of([], [cells["supervised, real"]], rates).seconds == passes / 10
    assert cost_of([], [cells["simclr, real"]], rates).seconds == passes_of(cells["simclr, real"])


def test_prototypes_form_in_the_penultimate_features_of_the_classifier_that_scaling_trains(
    tracked_workspace: Workspace, settings: Config
) -> None:
    write_corpus(tracked_workspace.data / "faces", identities=24, images_per_identity=7, size=32)
    config = settings.model_copy(update={
        "corpus": settings.corpus.model_copy(update={"train": 0, "val": 0, "test": 0}),
        "classifiers": settings.classifiers.model_copy(update={"batch_size": 8}),
        "studies": settings.studies.model_copy(update={"steps": 2, "shots": (1,), "queries": 2, "episodes": 5, "compound_faces": 3}),
    })  # fmt: skip
    run = StudyRun("few_shot", config, tracked_workspace)
    run.pool.jobs([])[0].run()
    cells = {cell.arm: cell for cell in run.cells if cell.repeat == 0}
    (training,) = [cell for cell in scaling.cells(config, run.sizes, 0) if cell.arm == "real"]
    model, _ = supervised.trained(training, run.bench, run.folder / "scaling")
    outcome = few_shot.run(cells["supervised, real"], run.bench, run.folder / "work")
    rows = outcome.predictions.set_index("sample_id")
    compounds = rows.index.str.startswith(NEW)
    assert len(rows) == len(run.bench.test().images) + compounds.sum()
    assert (rows.loc[compounds, "asked_basic 1-shot"] == 0).all()
    assert rows["asked_compound 1-shot"].sum() == 5 * len(COMPOUNDS) * 2
    assert outcome.metrics["basic 1-shot"].value == rows["hits_basic 1-shot"].sum() / rows["asked_basic 1-shot"].sum()
    found = encoded(cells["supervised, real"], run.bench, run.folder / "work").of[TEST]
    faces, fresh = run.bench.test().images, create(model.architecture, 0, image_size=model.image_size, seed=run.bench.seed(training))
    assert np.allclose(found, features(model, faces), atol=1e-5)
    assert not np.allclose(found, features(fresh, faces), atol=1e-2)


# --- results ------------------------------------------------------------------------------------------------------------------------


def results(config: Config, kinds: Mapping[str, Callable[[str], float]]) -> Results:
    """Faces that are asked a hundred times in every kind of episode, and are right as often as it says of an arm, about."""
    found = []
    for cell in few_shot.STUDY.all_cells(config, SIZES):
        rng = np.random.default_rng(cell.repeat)
        columns = {}
        for kind, accuracy in kinds.items():
            for shots in (1, 5):
                name = few_shot.measure(kind, shots)
                columns[ASKED + name] = np.full(40, 100)
                columns[HITS + name] = np.rint(100 * accuracy(cell.arm) + rng.normal(0, 1, 40)).astype(int)
        ids = [f"face-{row}" for row in range(40)]
        found.append(Outcome({}, pd.DataFrame({"sample_id": ids, "identity": ids, **columns})))
    return Results.of(few_shot.STUDY.all_cells(config, SIZES), found, config.evaluation, seed=0)


@pytest.fixture(scope="module")
def both(laptop: Config) -> Results:
    """Supervised encoders at 0.3 in basic episodes, that on both sources at 0.2 in compound ones; all others below chance."""
    return results(laptop, {
        BASIC: lambda arm: 0.3 if arm.startswith(SUPERVISED) else 0.12, NEW: lambda arm: 0.2 if arm == WITH_LABELS[2] else 0.08,
    })  # fmt: skip


def test_the_page_says_which_classes_are_new_and_who_is_above_chance(both: Results, laptop: Config) -> None:
    first, *told = few_shot.notes(both, laptop)
    assert first.startswith("Compound expressions are new to every encoder. Basic expressions are not new to supervised encoders")
    assert told == [
        "Chance: compound 0.091, basic 0.143.",
        f"Above chance with the whole interval, compound 1-shot, compound 5-shot: {WITH_LABELS[2]}.",
        f"Above chance with the whole interval, basic 1-shot, basic 5-shot: {'; '.join(WITH_LABELS)}.",
    ]
    assert [table.title for table in few_shot.tables(both)] == [
        "Compound expressions, new to all", "Basic expressions, known to supervised",
    ]  # fmt: skip


def test_without_compound_faces_nothing_is_new_to_supervised_encoders(laptop: Config) -> None:
    alone = results(laptop, {BASIC: lambda arm: 0.1})
    first, *told = few_shot.notes(alone, laptop)
    assert first.startswith("Nothing here is new to supervised encoders. Basic")
    assert told == ["Chance: basic 0.143.", "Above chance with the whole interval, basic 1-shot, basic 5-shot: no encoder."]
    assert [table.title for table in few_shot.tables(alone)] == ["Basic expressions, known to supervised"]
    assert len(few_shot.figure(alone, laptop).axes) == 1


def test_differences_between_known_classes_are_said_to_be_that_and_come_last(both: Results) -> None:
    found = few_shot.comparisons(both)
    assert [each.measure for each in found[:3]] == ["compound 1-shot"] * 3
    assert found[0].name == "supervised, synthetic 1x minus supervised, real"
    order = [each.measure.startswith(NEW) for each in found]
    assert order == sorted(order, reverse=True)
    for each in found:
        labels = each.ours.startswith(SUPERVISED)
        assert each.words.endswith("(known classes)") == (labels and each.measure.startswith(BASIC))
        assert each.measure.startswith(NEW) or labels == each.theirs.startswith(SUPERVISED) or each.theirs == RANDOM


def test_every_panel_of_the_figure_has_a_dashed_line_at_its_chance(both: Results, laptop: Config) -> None:
    axes = few_shot.figure(both, laptop).axes
    dashed = [[line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"] for axis in axes]
    assert dashed == [[pytest.approx(1 / 11)], [pytest.approx(1 / 7)]]
    rows = [label.get_text() for label in axes[0].get_yticklabels()]
    assert rows == WITHOUT_LABELS + WITH_LABELS
    low, high = axes[0].get_ylim()
    assert low > high, "the first arm is on top"
