"""Stage generator: untouched weights stay byte for byte; fine-tuning changes what it names, survives a kill, spares the judge's people."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from components import fine_tuning, generator
from components.generator_role import read_generator_role
from components.record import read_metrics, read_pictures
from synfer.classifiers.models import create, load, save
from synfer.diffusion.backbone import BackboneError, backbone_sha256, load_backbone, plain_unet
from synfer.manifest import read_manifest, write_manifest
from synfer.metrics.roles import RoleConflict, expand_identities
from synfer.vocabulary import DEFAULT_EXPRESSIONS

QUICK = {"steps": 2, "batch_size": 4, "lora_rank": 2, "flips": False, "validate_every": 0}


class Killed(Exception):
    """Stands for the kill."""


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory) -> Path:
    """A guide, and a judge who was trained on one person of the corpus."""
    folder = tmp_path_factory.mktemp("fer_models")
    train = read_manifest(world.stage("corpus") / "development").query("split == 'train'")
    people = {"guide": [], "judge": [train["identity"].iloc[0]]}
    for seed, (role, identities) in enumerate(people.items()):
        card = {"trained_on": {"images": 1, "identities": identities}}
        save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=seed), folder / role, card)
    return folder


@pytest.fixture
def run(world, settings, judged):
    def call(out, fer_models=judged, development=None, **changes):
        source = str(world.stage("generator") / "backbone")
        section = settings.generator.model_copy(update={"backbone": source, **QUICK, **changes})
        out.mkdir(exist_ok=True)
        faces = world.stage("corpus") / "development"
        generator.run(section, settings.common, development=development or faces, fer_models=fer_models, out=out)
        return out / "backbone"

    return call


def weights(backbone):
    parts = {
        "adapter": backbone.au_adapter.state_dict(),
        "unet": plain_unet(backbone.unet).state_dict(),
        "text_encoder": backbone.text_encoder.state_dict(),
        "vae": backbone.vae.state_dict(),
    }
    return {(part, name): value for part, state in parts.items() for name, value in state.items()}


def test_without_adaptation_the_weights_are_the_same_bytes(world, run, tmp_path):
    backbone = run(tmp_path)
    assert backbone_sha256(backbone) == backbone_sha256(world.stage("generator") / "backbone")
    assert read_metrics(tmp_path)["generator/reconstruction_l1"].value > 0


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"adapt": "adapter", "flips": True}, {"adapter"}),
        ({"adapt": "lora"}, {"adapter", "unet"}),
        ({"adapt": "full", "train_text_encoder": True}, {"adapter", "unet", "text_encoder"}),
        ({"adapt": "lora", "mixed_precision": "bf16", "gradient_checkpointing": True, "gradient_accumulation": 2}, {"adapter", "unet"}),
    ],
    ids=["adapter", "lora", "full and text", "lora in bf16"],
)
def test_fine_tuning_changes_what_it_names_and_nothing_else(world, run, tmp_path, changes, moved):
    before = weights(load_backbone(world.stage("generator") / "backbone"))
    after = weights(load_backbone(run(tmp_path, **changes)))
    assert set(before) == set(after)
    assert {part for (part, name), value in before.items() if not torch.equal(value, after[part, name])} == moved
    assert (tmp_path / "lora" / "pytorch_lora_weights.safetensors").is_file() == (changes["adapt"] == "lora")
    assert not (tmp_path / "work").exists()  # latents and checkpoint are no result


def test_a_killed_stage_goes_on_and_leaves_what_a_whole_one_leaves(run, tmp_path, monkeypatch):
    def killed_at(place):
        once = [place]

        def log(metrics, *, step=None):
            if once == [step]:
                once.clear()
                raise Killed

        monkeypatch.setattr(fine_tuning, "log_metrics", log)

    settings = {"adapt": "lora", "steps": 4}
    monkeypatch.setattr(fine_tuning, "Schedule", partial(fine_tuning.Schedule, save_every=2))
    whole = run(tmp_path / "whole", **settings)
    killed_at(3)
    with pytest.raises(Killed):
        run(tmp_path / "killed", **settings)
    assert (tmp_path / "killed" / "work" / "latents" / "latents.npy").is_file()
    killed = run(tmp_path / "killed", **settings)
    assert backbone_sha256(killed) == backbone_sha256(whole)
    first, second = (read_metrics(tmp_path / name) for name in ("whole", "killed"))
    assert first == second


def test_looks_are_kept_as_figures_and_rated_by_the_guide(run, tmp_path):
    run(tmp_path, adapt="adapter", steps=3, validate_every=2, validation_images=14, mixed_precision="bf16")
    sheets = sorted(path.stem for path in (tmp_path / "figures").glob("look-*.png"))
    assert sheets == ["look-000000", "look-000002", "look-000003"]  # before, on the way, at the end
    metrics = read_metrics(tmp_path)
    assert 0 <= metrics["generator/guide_accuracy"].value <= 1
    assert metrics["generator/guide_accuracy"].n == 14
    assert metrics["generator/loss"].value > 0
    assert not any("judge" in key for key in metrics)
    assert {"progress", "training"} <= {Path(picture.file).stem for picture in read_pictures(tmp_path)}
    with Image.open(tmp_path / "figures" / "progress.png") as progress:
        assert progress.height > 3 * 2 * 64  # three looks


def test_it_learns_from_nobody_whom_a_judge_knows(world, run, judged, tmp_path):
    run(tmp_path, adapt="adapter")
    role = read_generator_role(tmp_path)
    (known,) = json.loads((judged / "judge" / "card.json").read_text())["trained_on"]["identities"]
    train = set(read_manifest(world.stage("corpus") / "development").query("split == 'train'")["identity"])
    assert role.identities == train - {known}
    card = json.loads((tmp_path / "backbone" / "card.json").read_text())
    assert card["generator"]["adapt"] == "adapter"


def test_fine_tuning_does_not_forget_which_renders_the_base_has_seen(world, run, tmp_path):
    base = shutil.copytree(world.stage("generator") / "backbone", tmp_path / "base")
    renders = {"count": 12, "first_identity": 10_000, "seed": 0}
    (base / "card.json").write_text(json.dumps({"renders": renders, "trained_on": {"identities": ["person-10000..person-10001"]}}))
    card = json.loads((run(tmp_path / "out", backbone=str(base), adapt="adapter") / "card.json").read_text())
    assert card["renders"] == renders
    assert "person-10000..person-10001" in card["trained_on"]["identities"]


def test_photographs_for_a_backbone_that_has_seen_rendered_faces_only_are_told(world, run, judged, tmp_path, capsys):
    base = shutil.copytree(world.stage("generator") / "backbone", tmp_path / "base")
    (base / "card.json").write_text(json.dumps({"renders": {"count": 12}, "trained_on": {"identities": []}}))
    generator._tell_photographs(base, world.stage("corpus") / "development")
    assert not capsys.readouterr().err
    photographs = shutil.copytree(world.stage("corpus") / "development", tmp_path / "photographs")
    frame = read_manifest(photographs)
    write_manifest(frame.assign(seed=-1), photographs)
    run(tmp_path / "out", backbone=str(base), development=photographs)
    assert f"the corpus holds {len(frame)} photographs" in capsys.readouterr().err


@pytest.mark.parametrize("adapt", ["none", "lora"])
def test_a_backbone_that_knows_the_judges_people_is_refused_before_any_work(world, run, judged, tmp_path, adapt):
    source = tmp_path / "known"
    (source).mkdir()
    for part in (world.stage("generator") / "backbone").iterdir():
        (source / part.name).symlink_to(part)
    identities = json.loads((judged / "judge" / "card.json").read_text())["trained_on"]["identities"]
    (source / "card.json").write_text(json.dumps({"trained_on": {"images": 1, "identities": identities}}))
    with pytest.raises(RoleConflict, match=r"the judge .* and the generator share 1 training identities"):
        run(tmp_path / "out", adapt=adapt, backbone=str(source))
    assert not list((tmp_path / "out").iterdir())


def test_a_backbone_without_a_part_names_it(world, settings, tmp_path):
    (tmp_path / "broken" / "unet").mkdir(parents=True)
    section = settings.generator.model_copy(update={"backbone": str(tmp_path / "broken")})
    with pytest.raises(BackboneError, match="has no vae/"):
        generator.run(section, settings.common, development=world.root, fer_models=world.root, out=tmp_path)


def test_a_latent_guide_is_trained_on_nobody_whom_the_judge_knows(world, run, judged, tmp_path):
    before = load_backbone(world.stage("generator") / "backbone")
    target = run(tmp_path, guide_steps=3)
    after = load_backbone(target)
    assert after.guide.sha256 != before.guide.sha256
    assert after.guide.classes == DEFAULT_EXPRESSIONS
    assert set(after.guide.card["val_accuracy_at"]) == {"50", "250", "500", "750"}
    known = load(judged / "judge").card["trained_on"]["identities"]
    people = expand_identities(after.guide.card["trained_on"]["identities"])
    assert people
    assert not people & frozenset(known)
    same = weights(after)
    assert all(torch.equal(value, same[name]) for name, value in weights(before).items())


def test_fine_tuning_keeps_the_guide_of_the_backbone(world, run, tmp_path):
    before, after = load_backbone(world.stage("generator") / "backbone"), load_backbone(run(tmp_path, adapt="adapter"))
    assert all(torch.equal(value, after.guide.module.state_dict()[name]) for name, value in before.guide.module.state_dict().items())
