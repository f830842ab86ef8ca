"""Executors: shards worked off here or by any number of actors of Ray leave the same bytes, and errors of actors arrive as they are."""

import sys

import pytest
from pydantic import ValidationError

from components import feranno, rectification, synthesis
from components.dvc_pipeline import pipeline
from components.executors.shards import Actors, ExecutorError, actors_of, device_of, run_shards
from components.image_stream import image_shards
from components.stages import STAGES, fingerprint_of
from synfer.classifiers.models import create, save
from synfer.config import EXECUTION, Synthesis
from synfer.images import DamagedShardError, shard_path
from synfer.vocabulary import DEFAULT_EXPRESSIONS


@pytest.fixture(scope="module")
def a_ray():
    """One Ray for all tests, with room for three actors."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'synfer[ray]'")
    from components.executors import ray_data

    ray = ray_data.load_ray()
    with ray_data.cluster(ray, Actors(3, 0.0, 1, None)):
        yield ray


@pytest.fixture(scope="module")
def models(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), folder / "guide", {"trained_on": {"images": 0, "identities": []}})
    judge = {"trained_on": {"images": 0, "identities": []}}
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=1), folder / "judge", judge)
    return {"development": world.stage("corpus") / "development", "generator": world.stage("generator"), "fer_models": folder}


@pytest.fixture(scope="module")
def section(settings):
    small = {"images": 12, "batch_size": 3, "shard_images": 3, "num_inference_steps": 2, "layout": "inversion", "layout_steps": 2}
    return settings.synthesis.model_copy(update=small)


@pytest.fixture(scope="module")
def drawn_here(models, section, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("here")
    synthesis.run(section, settings.common, **models, out=out)
    return out


def by_actors(section, actors):
    return section.model_copy(update={"executor": "ray", "actors": actors})


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("actors", [1, 2, 3])
def test_any_number_of_actors_leaves_the_files_that_this_process_leaves(a_ray, models, section, settings, drawn_here, tmp_path, actors):
    first = shard_path(tmp_path, 0)
    first.write_bytes(shard_path(drawn_here, 0).read_bytes())
    finished = first.stat().st_mtime_ns
    synthesis.run(by_actors(section, actors), settings.common, **models, out=tmp_path)
    assert files(tmp_path) == files(drawn_here)  # shards, manifest, sheets: with layouts
    assert first.stat().st_mtime_ns == finished


def test_labels_are_the_same_whoever_looks(a_ray, world, head, settings, tmp_path):
    folders = {name: world.stage(name) for name in ("generator", "fer_models", "synthesis")}
    folders |= {"development": world.stage("corpus") / "development", "feranno": head}
    for name, look in (("here", settings.rectification), ("actors", by_actors(settings.rectification, 1))):
        (tmp_path / name).mkdir()
        rectification.run(look, settings.common, **folders, out=tmp_path / name)
    assert files(tmp_path / "actors") == files(tmp_path / "here")


def test_features_are_the_same_whoever_computes_them(a_ray, world, settings, tmp_path):
    folders = {"development": world.stage("corpus") / "development", "generator": world.stage("generator")}
    for name, section in (("here", settings.feranno), ("actors", by_actors(settings.feranno, 2))):
        (tmp_path / name).mkdir()
        feranno.run(section, settings.common, **folders, out=tmp_path / name)
    assert files(tmp_path / "actors") == files(tmp_path / "here")  # the head that was trained on them, too


def refuse(shard, advance):
    raise DamagedShardError(shard.images, "cut off")


@pytest.fixture
def shards(generated, tmp_path):
    sample_ids = [f"syn-{index:04d}" for index in range(70)]
    return image_shards(generated, sample_ids, tmp_path)


def test_an_error_of_an_actor_arrives_as_it_was_raised(a_ray, shards):
    a_ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import a test
    with pytest.raises(DamagedShardError, match=r"images-0000[01]\.parquet is damaged: cut off") as caught:
        run_shards(refuse, shards, Actors(1, 0.0, 1, None), title="error")
    assert caught.value.path in [shard.images for shard in shards]
    assert "in refuse" in "".join(caught.value.__notes__)  # the traceback of the actor


def test_more_actors_than_there_is_room_for_are_told(a_ray, shards):
    with pytest.raises(ExecutorError, match=r"9 actors of 1 CPU need 9 CPUs, and Ray has 4; ask for fewer actors"):
        run_shards(refuse, shards, Actors(9, 0.0, 1, None), title="room")


def test_without_ray_this_process_works_and_actors_are_told_how_to_get_it(shards, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(ExecutorError, match=r"executor ray needs Ray, .*: pip install 'synfer\[ray\]'$"):
        run_shards(refuse, shards, Actors(1, 0.0, 1, None), title="missing")
    seen = []
    run_shards(lambda shard, advance: seen.append(len(shard)), shards, None, title="here")
    assert seen == [40, 30]


def test_the_configuration_says_who_works(settings):
    common = settings.common.model_copy(update={"device": "cpu", "threads": 3})
    assert actors_of(Synthesis(), common) is None
    assert device_of(None, common) == "cpu"
    found = actors_of(Synthesis(executor="ray", actors=4, gpus_per_actor=0.5, ray_address="auto"), common)
    assert found == Actors(4, 0.5, 3, "auto")
    assert device_of(found, common) == "cuda"
    assert device_of(actors_of(Synthesis(executor="ray"), common), common) == "cpu"
    for share in (1.5, -1, "half"):
        with pytest.raises(ValidationError, match=r"auto, a share of one GPU such as 0\.25, or a whole number"):
            Synthesis(gpus_per_actor=share)


def test_who_works_changes_neither_what_is_made_nor_what_is_rebuilt(settings, world):
    stage = STAGES["synthesis"]
    more = settings.model_copy(update={"synthesis": by_actors(settings.synthesis, 3)})
    assert fingerprint_of(stage, more, world) == fingerprint_of(stage, settings, world)
    tracked = pipeline()["stages"]["synthesis"]["params"]
    assert {f"synthesis.{key}" for key in set(Synthesis.model_fields) - EXECUTION} | {"common"} == set(tracked)
