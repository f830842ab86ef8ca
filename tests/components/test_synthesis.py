"""Synthesis: a dataset folder of marked faces, resumed shard by shard, each face its own seed's."""

import hashlib
import time
from multiprocessing import get_context

import numpy as np
import pytest

from components import layouts, synthesis
from components.layouts import LayoutError, choose_layouts, gather_layouts, layout_pool
from components.plan import plan_faces
from synfer.classifiers.models import create, load, save
from synfer.diffusion.backbone import load_backbone
from synfer.errors import SynferError
from synfer.images import ImageError, is_marked_generated, iter_encoded, load_images, shard_path
from synfer.manifest import read_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS


@pytest.fixture(scope="module")
def models(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), folder / "guide", {"trained_on": {"images": 0, "identities": []}})
    development = world.stage("corpus") / "development"
    identities = read_manifest(development).query("split == 'train'")["identity"].unique()
    judge = {"trained_on": {"images": 0, "identities": sorted(identities)[:2]}}
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=1), folder / "judge", judge)
    return {"development": development, "generator": world.stage("generator"), "fer_models": folder}


@pytest.fixture(scope="module")
def section(settings):
    return settings.synthesis.model_copy(update={"images": 14, "batch_size": 4, "shard_images": 7, "num_inference_steps": 3})


@pytest.fixture(scope="module")
def drawn(models, section, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("synthesis")
    synthesis.run(section, settings.common, **models, out=out)
    return out


def test_every_face_is_marked_and_hashed(drawn):
    frame = read_manifest(drawn).set_index("sample_id")
    encoded = dict(iter_encoded(drawn))
    assert len(encoded) == len(frame) == 14
    for sample_id, data in encoded.items():
        assert is_marked_generated(data)
        assert frame.loc[sample_id, "sha256"] == hashlib.sha256(data).hexdigest()


def test_a_resumed_run_repeats_no_finished_shard_and_leaves_the_same_manifest(drawn, models, section, settings, tmp_path):
    finished = shard_path(drawn, 0)
    kept = shard_path(tmp_path, 0)
    kept.write_bytes(finished.read_bytes())
    before = kept.stat().st_mtime_ns
    synthesis.run(section, settings.common, **models, out=tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert (tmp_path / "manifest.parquet").read_bytes() == (drawn / "manifest.parquet").read_bytes()


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_the_files_of_an_undisturbed_run(models, section, settings, tmp_path):
    many = section.model_copy(update={"images": 42, "batch_size": 1, "shard_images": 1})
    context = get_context("forkserver")  # modules are imported once, in a process that no test has touched
    context.set_forkserver_preload(["components.synthesis", "components.generator"])
    rng, disturbed = np.random.default_rng(0), tmp_path / "disturbed"

    def shards() -> int:
        return len(list(disturbed.glob("images-*.parquet")))

    for kills in range(20):
        before = shards()
        process = context.Process(target=synthesis.run, args=(many, settings.common), kwargs={**models, "out": disturbed})
        process.start()
        while process.is_alive() and shards() == before:
            time.sleep(0.002)
        process.join(timeout=rng.uniform(0, 0.06))  # a shard takes about 0.04 s: the middle of a drawing, of a file, or between two
        assert process.is_alive(), f"it ended with status {process.exitcode} after {kills} kills"
        process.kill()
        process.join()
    assert shards() < 42
    synthesis.run(many, settings.common, **models, out=disturbed)
    synthesis.run(many, settings.common, **models, out=tmp_path / "undisturbed")
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.parquet")) for folder in (disturbed, tmp_path / "undisturbed")]
    assert files[0] == files[1]
    assert all((disturbed / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes() for name in files[0])


@pytest.fixture(scope="module")
def with_layouts(section):
    return section.model_copy(update={"layout": "inversion", "layout_steps": 4})


@pytest.fixture(scope="module")
def laid_out(models, with_layouts, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("laid_out")
    synthesis.run(with_layouts, settings.common, **models, out=out)
    return out


def test_every_face_names_the_training_image_it_started_from_and_no_judge_knows_the_person(drawn, laid_out, models):
    assert (read_manifest(drawn)["layout_from"] == "").all()
    corpus = read_manifest(models["development"]).set_index("sample_id")
    chosen = corpus.loc[read_manifest(laid_out)["layout_from"]]
    assert (chosen["split"] == "train").all()
    train = sorted(corpus.loc[corpus["split"] == "train", "identity"].unique())
    pool = corpus.loc[layout_pool(models["development"], models["fer_models"])]
    assert sorted(pool["identity"].unique()) == train[2:]  # the judge has seen the first two
    assert set(chosen["identity"]) <= set(train[2:])
    assert chosen["identity"].nunique() > 1
    assert (laid_out / "figures" / "layouts.png").is_file()


def test_a_layout_changes_the_face_and_is_the_choice_of_its_own_seed(drawn, laid_out, models):
    rows = read_manifest(laid_out)
    pool = layout_pool(models["development"], models["fer_models"])
    assert choose_layouts(rows["seed"][5:6], pool) == rows["layout_from"][5:6].tolist()
    ids = rows["sample_id"].tolist()
    ours, theirs = (load_images(folder, ids, size=64).astype(int) for folder in (laid_out, drawn))
    assert (np.abs(ours - theirs).reshape(len(ids), -1).max(axis=1) > 0).all()


def test_layouts_are_gathered_from_the_corpus_once_for_all_shards_and_for_the_run_after_a_kill(
    models, with_layouts, settings, tmp_path, monkeypatch
):
    opened, real = [], layouts.iter_encoded

    def iter_encoded(folder):
        opened.append(folder)
        return real(folder)

    monkeypatch.setattr(layouts, "iter_encoded", iter_encoded)
    with monkeypatch.context() as killed:
        killed.setattr(synthesis, "write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            synthesis.run(with_layouts, settings.common, **models, out=tmp_path)
    assert len(list(tmp_path.glob("images-*.parquet"))) == 2
    synthesis.run(with_layouts, settings.common, **models, out=tmp_path)
    assert opened == [models["development"]]
    assert not (tmp_path / "layouts.arrow").exists()


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_a_resumed_run_with_layouts_leaves_the_same_files(laid_out, models, with_layouts, settings, tmp_path):
    shard_path(tmp_path, 1).write_bytes(shard_path(laid_out, 1).read_bytes())
    synthesis.run(with_layouts, settings.common, **models, out=tmp_path)
    for path in sorted(laid_out.glob("*.parquet")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_face_with_a_layout_is_the_same_in_any_batch(models, with_layouts):
    backbone = load_backbone(models["generator"] / "backbone").requires_grad_(False)
    rows = plan_faces(3, expressions=DEFAULT_EXPRESSIONS, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    together = synthesis.draw_faces(with_layouts, backbone, None, rows, layouts=images).astype(int)
    alone = synthesis.draw_faces(with_layouts, backbone, None, rows[1:2], layouts=images[1:2])
    assert np.abs(together[1:2] - alone).max() <= 1  # a rounding of the last bit


def test_layouts_that_are_not_there_are_told(models, with_layouts, section, tmp_path):
    backbone = load_backbone(models["generator"] / "backbone").requires_grad_(False)
    rows = plan_faces(1, expressions=DEFAULT_EXPRESSIONS, seed=0)
    with pytest.raises(LayoutError, match=r"only stage synthesis has corpus images .* --set synthesis.layout=none"):
        synthesis.draw_faces(with_layouts, backbone, None, rows)
    with pytest.raises(ImageError, match="has no image for sample nobody"):
        gather_layouts(models["development"], ["nobody"], tmp_path / "layouts.arrow")
    assert not list(tmp_path.iterdir())
    everybody = {"images": 0, "identities": sorted(read_manifest(models["development"])["identity"].unique())}
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), tmp_path / "judge", {"trained_on": everybody})
    with pytest.raises(LayoutError, match="no training face of a person whom no judge has seen"):
        layout_pool(models["development"], tmp_path)


def test_faces_without_an_expression_of_the_guide_are_drawn_as_without_it_beside_steered_ones(models, section):
    backbone = load_backbone(models["generator"] / "backbone").requires_grad_(False)
    guide = load(models["fer_models"] / "guide")
    strong = section.model_copy(update={"semantic_guidance": 0.5, "guidance_window": (0.0, 1.0), "guidance_confidence": 1.0})
    rows = plan_faces(4, expressions=DEFAULT_EXPRESSIONS, seed=0)
    rows.loc[[0, 2], "expression"] = ["", "contempt"]
    plain, mixed = (synthesis.draw_faces(strong, backbone, by, rows).astype(int) for by in (None, guide))
    changed = np.abs(mixed - plain).reshape(4, -1).max(axis=1)
    assert (changed[[0, 2]] <= 1).all()  # a rounding of the last bit
    assert (changed[[1, 3]] > 1).all()


def test_a_guide_that_cannot_tell_an_asked_expression_is_told_before_any_face(models, section, settings, tmp_path):
    common = settings.common.model_copy(update={"expressions": (*DEFAULT_EXPRESSIONS, "contempt")})
    with pytest.raises(SynferError, match="'contempt'"):
        synthesis.run(section, common, **models, out=tmp_path)
    assert not list(tmp_path.iterdir())


PLAN = """\
cells:
  - {count: 6, expression: fear, age: elderly}
  - {count: 3, expression: happiness, aus: {12: [4, 5]}}
  - {count: 3, compound: happily surprised}
"""


@pytest.fixture
def planned(models, section, settings, workspace):
    (workspace.root / "configs" / "plans" / "few.yaml").write_text(PLAN)
    out = workspace.stage(".synthesis.partial")
    out.mkdir(parents=True)

    def run(**changes):
        synthesis.run(section.model_copy(update={"plan": "few", **changes}), settings.common, **models, out=out)
        return out

    return run


def test_a_plan_is_drawn_cell_by_cell_compounds_among_them(planned):
    frame = read_manifest(planned())
    assert frame["plan_cell"].value_counts().to_dict() == {"fear-elderly": 6, "happiness-au12-4-5": 3, "happily-surprised": 3}
    assert set(frame.loc[frame["plan_cell"] == "happily-surprised", "expression"]) == {""}
    assert frame["sample_id"].tolist()[:2] == ["synthetic-0-fear-elderly-000000", "synthetic-0-happiness-au12-4-5-000000"]


def test_what_a_killed_run_has_drawn_for_another_plan_is_drawn_anew(planned, workspace, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(synthesis, "write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            planned()
    (workspace.root / "configs" / "plans" / "few.yaml").write_text(PLAN.replace("elderly", "young"))
    out = planned()
    assert sorted(read_manifest(out)["sample_id"]) == sorted(sample_id for sample_id, _ in iter_encoded(out))
    assert not list(out.glob("planned*"))


def test_a_plan_that_cannot_be_drawn_is_told_before_any_model_is_read(settings, section, workspace, tmp_path):
    nothing = dict.fromkeys(("development", "generator", "fer_models"), tmp_path / "nothing")
    with pytest.raises(SynferError, match="unknown plan 'fewer'"):
        synthesis.run(section.model_copy(update={"plan": "fewer"}), settings.common, **nothing, out=workspace.root)
