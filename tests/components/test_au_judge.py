"""The AU judge: how it is made, and what its card says."""

import json
from pathlib import Path

import numpy as np
import pytest

from components.assets.fer import AU_OUTPUTS, RECIPES, Recipe, au_agreement, train_au_regressor
from components.assets.renders import AU_JUDGE, Range, plan, renders
from synfer.classifiers.models import WEIGHTS, load
from synfer.metrics.roles import expand_identities
from synfer.vocabulary import flip_order


def test_it_tells_every_unit_of_the_renderer_left_and_right_apart() -> None:
    assert len(AU_OUTPUTS) == 29
    assert [AU_OUTPUTS[place] for place in flip_order(AU_OUTPUTS)[-2:]] == [AU_OUTPUTS[-1], AU_OUTPUTS[-2]] == ["R14", "L14"]


def test_agreement_is_told_by_output_and_on_average() -> None:
    truth = np.random.default_rng(0).uniform(0, 5, (30, 29))
    found = truth.copy()
    found[:, 0] = truth[::-1, 0]
    found[:, 1] += 1
    told = au_agreement(found, truth)
    assert told["outputs"][AU_OUTPUTS[2]] == {"r": 1, "mae": 0, "icc": 1}
    assert told["outputs"][AU_OUTPUTS[1]] == {"r": 1, "mae": 1, "icc": 1}  # ICC(3,1) forgives a shift
    assert told["outputs"][AU_OUTPUTS[0]]["r"] < 0.5
    assert told["r"] == pytest.approx((27 + 1 + told["outputs"][AU_OUTPUTS[0]]["r"]) / 29, abs=1e-3)
    assert told["n"] == 30


def test_its_recipe_trains_on_a_few_renders(tmp_path: Path) -> None:
    wanted = Range(96, AU_JUDGE, 0, independent=0.7)
    recipe = Recipe("au_judge", "plain_cnn", AU_JUDGE, images=96, epochs=2, batch_size=16, train=train_au_regressor)
    model, val = recipe.train(recipe, renders(tmp_path / "au_judge", wanted), 0)
    assert model.classes == AU_OUTPUTS
    assert set(val) == {"r", "mae", "icc", "n", "outputs"}
    assert val["mae"] < 2


def test_no_two_recipes_share_a_person() -> None:
    people = [{face.identity for face in plan(Range(recipe.images, recipe.first_identity, 0))} for recipe in RECIPES]
    assert sum(map(len, people)) == len(set().union(*people))


def test_the_embedded_one_is_as_its_card_says(root: Path) -> None:
    folder = root / "assets" / "fer" / "au_judge"
    judge, card = load(folder), json.loads((folder / "card.json").read_text())
    assert judge.classes == AU_OUTPUTS
    assert (card["role"], card["command"], card["trained_on"]["images"]) == ("au_judge", "make assets", 10_000)
    assert min(expand_identities(card["trained_on"]["identities"])) == f"person-{AU_JUDGE}"
    assert card["val"]["r"] > 0.85
    assert (folder / WEIGHTS).stat().st_size < 6_000_000
