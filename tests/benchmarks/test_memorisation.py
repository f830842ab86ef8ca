"""Memorisation study: references differ in nothing but their people, the judge is independent, and the program leaves what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.memorisation import (
    CONTROL,
    Compared,
    StudyError,
    app,
    check_independence,
    draw_references,
    measure,
    training_range,
)
from components.assets.renders import GENERATOR, Range, person, plan
from components.audits.references import HELD_OUT
from components.workspace import Workspace
from synfer.captions import vocabulary_corpus
from synfer.classifiers.models import create, save
from synfer.diffusion.backbone import save_backbone
from synfer.diffusion.tiny_sd import grammar_tokenizer, tiny_autoencoder, tiny_backbone
from synfer.faces.renderer import render
from synfer.metrics.memorisation import downsampled
from synfer.metrics.roles import RoleConflict
from synfer.vocabulary import DEFAULT_EXPRESSIONS

RANGE = {"count": 30, "first_identity": GENERATOR, "seed": 0, "size": 64, "independent": 0.4}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone with random weights whose card names thirty training faces."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    vae = tiny_autoencoder(channels=(16, 16, 16))
    save_backbone(tiny_backbone(vae, grammar_tokenizer(vocabulary_corpus()), channels=(16, 32, 32), width=32), folder)
    (folder / "card.json").write_text(json.dumps({"renders": RANGE}))
    return folder


@pytest.fixture(scope="module")
def fer_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fer")
    for seed, role in enumerate(("guide", "judge")):
        model = create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=seed)
        save(model, folder / role, {"trained_on": {"images": 1, "identities": [person(seed)]}})
    return folder


def test_references_have_the_same_places_in_the_plan_and_other_people(generator: Path) -> None:
    wanted = training_range(generator)
    references = draw_references(wanted, 12, 8, seed=0)
    trained_on = dict(enumerate(plan(wanted)))
    all_training = render(list(trained_on.values()), size=64)
    places = [int(np.flatnonzero((all_training == image).all(axis=(1, 2, 3))).item()) for image in references.training.images]
    assert len(set(places)) == 12
    assert references.training.people == [person(trained_on[place].identity) for place in places]
    held_out = plan(Range(**{**RANGE, "first_identity": HELD_OUT}))
    np.testing.assert_array_equal(references.held_out.images, render([held_out[place] for place in places], size=64))
    assert [trained_on[place].expression for place in places] == [held_out[place].expression for place in places]
    sets = [set(faces.people) for faces in (references.training, references.held_out, references.control)]
    assert not sets[0] & sets[1] and not sets[1] & sets[2]
    assert person(CONTROL) <= min(sets[2])
    assert len(references.control.images) == 8


def test_a_generator_without_known_training_faces_and_too_many_references_are_told(generator: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"card.json names no `renders`"):
        training_range(tmp_path)
    with pytest.raises(StudyError, match="31 faces are wanted of a plan that has 30"):
        draw_references(training_range(generator), 31, 8, seed=0)


def test_a_judge_who_knows_a_held_out_person_is_refused(generator: Path, fer_models: Path, tmp_path: Path) -> None:
    check_independence(training_range(generator), generator, fer_models)
    for first, who in ((HELD_OUT, "the held-out faces"), (GENERATOR, "the generator")):
        card = {"trained_on": {"images": 1, "identities": [person(first + 4)]}}
        save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), tmp_path / "judge", card)
        with pytest.raises(RoleConflict, match=f"{who} share 1 training identities"):
            check_independence(training_range(generator), generator, tmp_path)


def test_a_mirrored_copy_is_as_near_as_the_copy_itself(generator: Path) -> None:
    references = draw_references(training_range(generator), 12, 8, seed=0)
    copies = references.training.images[[3, 7, 11]]
    compared = {"copies": Compared(copies), "mirrored": Compared(copies[:, :, ::-1]), "held out": Compared(references.held_out.images)}
    found = measure(downsampled, compared, references, seed=0, title="pixel")
    for name, expected in (("copies", [3, 7, 11]), ("mirrored", [15, 19, 23])):
        assert found[name].share.value == 1.0
        assert found[name].training.tolist() == expected, "mirrored views follow the faces as they are"
        assert found[name].training_distances.max() < 1e-3
    np.testing.assert_allclose(found["mirrored"].held_out_distances, found["copies"].held_out_distances, rtol=1e-4)
    assert found["held out"].share.value == 0.0


def test_the_program_ends_with_shares_and_leaves_sheets_and_distances(generator: Path, fer_models: Path, in_workspace: Workspace) -> None:
    settings = in_workspace.params.read_text(encoding="utf-8")
    in_workspace.params.write_text(settings.replace("guidance_form: latent", "guidance_form: published"))  # the backbone has no guide
    arguments = ["--backbone", str(generator), "--fer-models", str(fer_models), "--images", "10", "--reference", "20", "--out", "out"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    shares = json.loads(done.stdout.splitlines()[-1])
    for name in ("share", "share_layout", "share_control", "share_copies"):
        for key in (name, f"pixel_{name}"):
            assert 0 <= shares[f"{key}_low"] <= shares[key] <= shares[f"{key}_high"] <= 1
    out = in_workspace.root / "out"
    assert json.loads((out / "memorisation.json").read_text()) == shares
    sheets = {f"closest_{name}_{space}.png" for name in ("generated", "layout") for space in ("feature", "pixel")}
    assert sheets == {path.name for path in out.glob("*.png")}
    distances = pd.read_parquet(out / "distances.parquet")
    assert len(distances) == 4 * 2 * 10
    generated = distances.query("faces == 'generated' and space == 'feature'")
    assert (generated["training_distance"] < generated["held_out_distance"]).mean() == pytest.approx(shares["share"], abs=1e-4)
