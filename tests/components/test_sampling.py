"""`Sampler`: a prompt becomes faces, rows and a sheet; the folder they are saved to is replaced whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.sample_folder import SampleFolderError, check_replaceable
from components.sampling import Sampler, SamplingError
from components.workspace import Workspace, WorkspaceError
from synfer.captions import vocabulary_corpus
from synfer.classifiers.models import create, save
from synfer.config import Config, ConfigError, Synthesis
from synfer.diffusion.backbone import BackboneError, save_backbone
from synfer.diffusion.latent_guide import LatentGuide, LatentNetwork
from synfer.diffusion.tiny_sd import grammar_tokenizer, tiny_autoencoder, tiny_backbone
from synfer.images import is_marked_generated
from synfer.manifest import read_manifest
from synfer.vocabulary import AU_INDEX, DEFAULT_EXPRESSIONS, VocabularyError

FAST = Synthesis(num_inference_steps=2, batch_size=4)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained backbone and an untrained guide, laid out as in a project."""
    folder = tmp_path_factory.mktemp("assets")
    autoencoder, tokenizer = tiny_autoencoder(channels=(16, 16, 16)), grammar_tokenizer(vocabulary_corpus())
    backbone = tiny_backbone(autoencoder, tokenizer, channels=(16, 32, 32), width=32)
    network = LatentNetwork(len(DEFAULT_EXPRESSIONS), channels=8, size=16, width=16)
    backbone.guide = LatentGuide(network.eval(), DEFAULT_EXPRESSIONS, "", {"trained_on": {"images": 0, "identities": []}})
    save_backbone(backbone, folder / "generator" / "backbone")
    guide = create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64)
    save(guide, folder / "fer_models" / "guide", {"trained_on": {"images": 0, "identities": []}})
    return folder


@pytest.fixture(scope="module")
def sampler(assets: Path) -> Sampler:
    return Sampler.load(assets / "generator" / "backbone", guide=assets / "fer_models" / "guide", settings=FAST)


def test_the_same_call_gives_the_same_faces_and_another_seed_others(sampler: Sampler) -> None:
    first, again, other = (sampler("happiness", aus={"L2": 3}, n=2, seed=seed) for seed in (0, 0, 1))
    assert first.images.shape == (2, 64, 64, 3)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert [vector[AU_INDEX["L2"]] for vector in first.rows["aus"]] == [3.0, 3.0]


def test_faces_do_not_depend_on_the_batches_they_are_drawn_in(sampler: Sampler) -> None:
    many, few = sampler(n=6), sampler(n=2, batch_size=1)
    assert np.abs(many.images[:2].astype(int) - few.images.astype(int)).max() <= 1


def test_a_sweep_draws_a_row_a_unit_and_a_person(sampler: Sampler) -> None:
    faces = sampler("fear", sweeps=["12=0..5:3", "4=0..5:3"], n=2)
    assert len(faces.images) == 2 * 2 * 3
    assert faces.sheet.height > 4 * 128
    assert 3 * 128 < faces.sheet.width < 8 * 128


def test_a_prompt_without_a_class_of_the_guide_is_drawn_unsteered(sampler: Sampler, assets: Path, tmp_path: Path) -> None:
    unguided = Sampler.load(assets / "generator" / "backbone", guide=tmp_path / "missing", settings=FAST)
    for prompt in ("", "happily surprised"):
        assert len(unguided(prompt, n=1, semantic_guidance=0).images) == 1
        assert np.array_equal(sampler(prompt, n=1).images, unguided(prompt, n=1, semantic_guidance=0).images)
    assert len(sampler("contempt", n=1).images) == 1


def test_semantic_guidance_acts_on_an_expression_and_in_a_sweep_only_when_asked(sampler: Sampler) -> None:
    strong = {"semantic_guidance": 0.5, "guidance_window": (0.0, 1.0), "guidance_every": 1, "n": 1}
    assert not np.array_equal(sampler("anger", **strong).images, sampler("anger", n=1, semantic_guidance=0).images)
    sweep = {"sweeps": ["12=0..5:2"], "guidance_window": (0.0, 1.0), "guidance_every": 1}
    unsteered, steered = sampler("anger", **sweep), sampler("anger", **sweep, semantic_guidance=0.5)
    assert not np.array_equal(unsteered.images, steered.images)
    assert np.array_equal(unsteered.images, sampler("anger", **sweep, semantic_guidance=0).images)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"expression": "joy"}, VocabularyError, "unknown expression 'joy'"),
        ({"guidance_scale": -1}, ConfigError, "synthesis.guidance_scale = -1"),
        ({"sampler": "euler"}, ConfigError, "synthesis.sampler = 'euler'.*'dpm' or 'ddim'"),
        ({"step": 3}, ConfigError, "unknown key 'synthesis.step'"),
        ({"n": 0}, SamplingError, "n is 0"),
        ({"caption": "very " * 200}, SamplingError, r"the caption has \d+ tokens, the text encoder of backbone reads 48"),
    ],
)
def test_what_cannot_be_drawn_is_told(sampler: Sampler, arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sampler(**arguments)


def test_saved_faces_are_marked_and_hashed_and_replace_an_earlier_sample_only(sampler: Sampler, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "faces"
    sampler(n=3).save(folder)
    sheet = sampler("happily surprised", n=2, seed=1).save(folder)
    frame = read_manifest(folder)
    files = ["manifest.parquet", "sheet.png", *(f"{sample_id}.png" for sample_id in frame["sample_id"])]
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    assert len(frame) == 2 and set(frame["compound"]) == {"happily surprised"}
    for sample_id, digest in zip(frame["sample_id"], frame["sha256"], strict=True):
        data = (folder / f"{sample_id}.png").read_bytes()
        assert is_marked_generated(data)
        assert hashlib.sha256(data).hexdigest() == digest
    with Image.open(sheet) as image:
        assert image.width > 2 * 128
    assert [path.name for path in folder.parent.iterdir()] == ["faces"], "nothing temporary stays"


def test_a_folder_with_other_files_is_never_replaced(sampler: Sampler, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SampleFolderError, match=r"holds mine\.txt, which is no earlier sample"):
        sampler(n=1).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(SampleFolderError, match="is a file"):
        check_replaceable(tmp_path / "mine.txt")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "sheet.png").touch()
    with pytest.raises(SampleFolderError, match=r"sheet\.png"):
        check_replaceable(tmp_path / "album")


def test_the_folder_that_one_is_in_is_not_replaced(sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path("."), tmp_path):
        with pytest.raises(SampleFolderError, match="is the folder that you are in"):
            sampler(n=1).save(folder)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SampleFolderError, match="name one inside it: faces"):
        check_replaceable(Path("."))
    (tmp_path / "faces").mkdir()
    check_replaceable(Path("faces"))


def configured(assets: Path, *, adapt: str, source: str) -> Config:
    return Config.model_validate({
        "generator": {"backbone": str(assets / "generator" / "backbone"), "adapt": adapt}, "fer_models": {"source": source},
        "synthesis": FAST.model_dump(),
    })  # fmt: skip


def test_the_projects_sampler_takes_what_the_configuration_names(assets: Path, workspace: Workspace) -> None:
    faces = Sampler.of_project(configured(assets, adapt="none", source=str(assets / "fer_models")), workspace)("fear", n=1)
    assert faces.generator == "backbone"


def test_the_projects_sampler_takes_what_the_stages_have_trained(assets: Path, workspace: Workspace) -> None:
    trained = configured(assets, adapt="lora", source="train")
    with pytest.raises(WorkspaceError, match="artifacts/generator/backbone does not exist; make it with: synfer run generator"):
        Sampler.of_project(trained, workspace)
    workspace.artifacts.mkdir()
    (workspace.artifacts / "generator").symlink_to(assets / "generator")
    with pytest.raises(WorkspaceError, match="artifacts/fer_models/guide does not exist; make it with: synfer run fer_models"):
        Sampler.of_project(trained, workspace)
    (workspace.artifacts / "fer_models").symlink_to(assets / "fer_models")
    assert Sampler.of_project(trained, workspace)("fear", n=1).images.any()


def test_a_missing_backbone_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="has no unet/"):
        Sampler.load(tmp_path / "nowhere")


def test_the_embedded_weights_answer_a_sweep_of_the_lip_corners(root: Path) -> None:
    """The three lines of the documentation; AU 12 must move the mouth's half of the face more than the forehead."""
    faces = Sampler.load(settings=Synthesis(num_inference_steps=4))(sweeps=["12=0..5:2"])
    change = np.abs(faces.images[1].astype(int) - faces.images[0].astype(int)).mean(axis=2)
    assert change[36:56].mean() > 2 * change[4:20].mean()
