"""The control study's arithmetic on readings that are made up, and the AU judge it rests on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.control.expressions import scores
from benchmarks.control.judges import independent_judges
from benchmarks.control.report import as_json, figures, summary, units_table
from benchmarks.control.response import flip, leakage, leakages, off_target, on_target, separation, sides, slopes, spearmans
from benchmarks.control.rivals import SingleToken, single_token_width
from benchmarks.control.sweep import LEVELS, Ask, Sweep, columns, parse_units, rendered, sweep
from components.assets.renders import AU_JUDGE, Range, plan
from synfer.classifiers.models import load, save
from synfer.classifiers.predict import predict_aus
from synfer.diffusion.au_adapter import AUTokens
from synfer.faces.actions import SUPPORTED_AUS
from synfer.faces.renderer import render
from synfer.metrics.agreement import pearson
from synfer.metrics.roles import RoleConflict
from synfer.vocabulary import AU_COUNT, AU_INDEX, VocabularyError, au_vector, shown_intensities

OUTPUTS = ("L12", "R12", "26", "43")
CODES = ("12", "L12", "R12", "26")
PEOPLE = 4
EVERYBODY = np.arange(PEOPLE)


def constructed(*, gain: float = 1.0, spill: float = 0.0, across: float = 0.0) -> Sweep:
    """Readings that rise by `gain` a step; 43 changes by `spill` a step of anything, the other side by `across`; people differ at rest."""
    estimates = np.zeros((len(CODES), len(LEVELS), PEOPLE, len(OUTPUTS)))
    estimates += 0.001 * np.arange(PEOPLE)[:, None]
    for row, code in enumerate(CODES):
        for name in ("L12", "R12") if code == "12" else (code,):
            estimates[row, ..., OUTPUTS.index(name)] += gain * LEVELS[:, None]
        estimates[row, ..., OUTPUTS.index("43")] += spill * LEVELS[:, None]
        if code in ("L12", "R12"):
            estimates[row, ..., OUTPUTS.index({"L12": "R12", "R12": "L12"}[code])] += across * LEVELS[:, None]
    mirrored = estimates[..., [1, 0, 2, 3]]
    return Sweep(CODES, OUTPUTS, estimates, mirrored, np.zeros((len(CODES), len(LEVELS), 2, 4, 4, 3), np.uint8))


def test_a_graded_au_has_its_slope_and_the_best_rank_correlation_that_ties_allow() -> None:
    graded = constructed(gain=0.7)
    assert slopes(graded, EVERYBODY) == pytest.approx([0.7] * 4)
    assert spearmans(graded, EVERYBODY) == pytest.approx([0.986] * 4, abs=0.002)
    assert spearmans(constructed(gain=-0.7), EVERYBODY) == pytest.approx([-0.986] * 4, abs=0.002)


def test_leakage_is_the_mean_change_of_the_other_units_for_a_step_of_the_asked_one() -> None:
    spilling = constructed(gain=0.5, spill=-0.2)
    assert on_target(spilling, EVERYBODY) == pytest.approx([0.5 * 3] * 4)  # the mean of the levels 1 to 5 is 3
    # others of 12, L12 and R12: 26 (still) and 43; others of 26: both sides of 12 (still) and 43
    assert off_target(spilling, EVERYBODY) == pytest.approx([0.3, 0.3, 0.3, 0.2])
    assert leakages(spilling, EVERYBODY) == pytest.approx([0.2, 0.2, 0.2, 0.2 / 1.5])
    assert leakage(spilling, EVERYBODY) == pytest.approx(1.1 / 6.0)
    assert leakage(constructed(), EVERYBODY) == 0


def test_an_au_without_response_has_no_leakage_of_its_own() -> None:
    assert np.isnan(leakages(constructed(gain=0.0, spill=0.2), EVERYBODY)).all()
    assert np.isnan(leakage(constructed(gain=0.0, spill=0.2), EVERYBODY))


def test_the_other_side_is_told_apart_from_leakage() -> None:
    half = constructed(across=0.5)
    assert sides(half, EVERYBODY) == {"L12": pytest.approx((3.0, 1.5)), "R12": pytest.approx((3.0, 1.5))}
    assert separation(half, EVERYBODY) == pytest.approx(1 / 3)
    assert separation(constructed(), EVERYBODY) == pytest.approx(1)
    assert separation(constructed(across=1.0), EVERYBODY) == pytest.approx(0)
    assert leakage(half, EVERYBODY) == 0


def test_a_mirrored_wish_is_the_mirrored_face() -> None:
    mirrored_well = constructed()
    assert flip(mirrored_well, EVERYBODY) == pytest.approx((0.0, 1.0))
    mae, r = flip(replace(mirrored_well, mirrored=mirrored_well.estimates), EVERYBODY)  # a generator that knows no sides
    assert mae == pytest.approx(2.5)
    assert r < 0


def test_without_sides_there_is_no_separation() -> None:
    bilateral = constructed()
    bilateral = replace(bilateral, codes=("12",), estimates=bilateral.estimates[:1], mirrored=bilateral.mirrored[:1])
    found = figures(bilateral, EVERYBODY)
    assert np.isnan([found["separation"], found["flip_mae"]]).all()
    assert "12" in units_table(bilateral, bilateral).columns[0]._cells
    assert json.loads(json.dumps(as_json(summary(bilateral, bilateral))))["separation"] is None


def test_only_what_exceeds_the_renders_is_leakage() -> None:
    found = summary(constructed(spill=0.2), constructed(spill=0.05))
    assert found["leakage"].value == pytest.approx(found["leakage_raw"].value - found["leakage_raw_renders"].value)
    assert found["leakage_raw_renders"].value == pytest.approx(found["leakage_raw"].value / 4)
    assert found["leakage"].n == PEOPLE


def test_asked_codes_are_found_among_the_outputs() -> None:
    assert columns(OUTPUTS, "12") == [0, 1]
    assert columns(OUTPUTS, "R12") == [1]
    assert parse_units("") == SUPPORTED_AUS
    assert parse_units("12, l12,12") == ("12", "L12")
    with pytest.raises(VocabularyError, match="unknown output of the AU judge '9'"):
        columns(OUTPUTS, "9")
    with pytest.raises(VocabularyError, match="unknown action unit of the renderer '11'"):
        parse_units("12,11")


def test_a_wish_is_one_au_on_one_person() -> None:
    low, high, other = Ask("L12", 1.0, 3), Ask("L12", 5.0, 3), Ask("26", 5.0, 4)
    assert np.array_equal(high.aus, au_vector({"L12": 5}))
    assert (low.seed, low.identity) == (high.seed, high.identity)
    assert low.seed != other.seed
    relaxed, smiling = rendered(64)([Ask("12", 0.0, 3), Ask("12", 5.0, 3)]).astype(int)
    changed = np.abs(smiling - relaxed).max(axis=2) > 20
    assert changed[32:].any()
    assert not changed[:16].any()


def test_gains_are_paired() -> None:
    truth = np.array([0, 1, 2, 0])
    right, wrong = np.eye(3)[truth], np.eye(3)[(truth + 1) % 3]
    found = scores(truth, {"text": wrong, "text_au": right, "guided": right})
    assert (found["judge_text"].value, found["judge_text_au"].value) == (0, 1)
    assert (found["gain_au"].value, found["gain_guidance"].value) == (1, 0)


def test_a_single_token_has_the_parameters_of_one_per_au() -> None:
    budget = sum(parameter.numel() for parameter in AUTokens(96).parameters())
    single = SingleToken(96, budget=budget)
    assert sum(parameter.numel() for parameter in single.parameters()) == pytest.approx(budget, rel=0.003)
    assert single_token_width(96, 10 * budget) > 9 * single_token_width(96, budget)
    aus = torch.zeros(2, AU_COUNT)
    aus[1, AU_INDEX["12"]] = float("nan")
    relaxed, unspecified = single(aus)
    assert relaxed.shape == (1, 96)
    assert (relaxed - unspecified).abs().max() > 1e-4


# --- the judge on disk ------------------------------------------------------------------------------------------------------------


def test_the_au_judge_reads_fresh_renders(root: Path) -> None:
    judge = load(root / "assets" / "fer" / "au_judge")
    faces = plan(Range(60, 940_000, 5, independent=1.0))
    truth = shown_intensities(np.stack([face.aus for face in faces]), judge.classes)
    found = predict_aus(judge, render(faces))
    shown = [column for column in range(len(judge.classes)) if np.ptp(truth[:, column]) > 0]
    assert len(shown) > 20
    assert np.mean([pearson(found[:, column], truth[:, column]) for column in shown]) > 0.8


def test_a_sweep_of_renders_is_graded_and_sided(root: Path) -> None:
    judge = load(root / "assets" / "fer" / "au_judge")
    found = sweep(rendered(64), judge, ("12", "L12", "R12", "26"), people=2, batch_size=16, title="renders")
    people = np.arange(2)
    assert found.estimates.shape == (4, 6, 2, len(judge.classes))
    assert np.array_equal(found.estimates[0, 0], found.estimates[3, 0])  # one relaxed face for all AUs
    assert spearmans(found, people).min() > 0.8
    assert separation(found, people) > 0.5
    assert flip(found, people)[1] > 0.8
    assert found.table("renders").query("asked == 'L12' and level == 5").shape == (2, 4 + len(judge.classes))


def test_the_judges_of_the_repository_are_independent(root: Path) -> None:
    fer, backbone = root / "assets" / "fer", root / "assets" / "tiny-sd"
    judge, au_judge = independent_judges(fer, backbone, people=[10_000, 950_000], device=torch.device("cpu"))
    assert judge.sha256 != au_judge.sha256
    with pytest.raises(RoleConflict, match=r"the au_judge .* the study's own faces share 1 training identities, .* person-60003"):
        independent_judges(fer, backbone, people=[AU_JUDGE + 3], device=torch.device("cpu"))


def test_an_au_judge_that_has_seen_the_generators_people_is_refused(root: Path, tmp_path: Path) -> None:
    for role in ("judge", "au_judge"):
        model = load(root / "assets" / "fer" / role)
        seen = {"images": 6, "identities": ["person-10000"]} if role == "au_judge" else model.card["trained_on"]
        save(model.module, tmp_path / role, {**model.card, "trained_on": seen})
    with pytest.raises(RoleConflict, match=r"the au_judge .* and the generator share 1 training identities"):
        independent_judges(tmp_path, root / "assets" / "tiny-sd", people=[], device=torch.device("cpu"))
