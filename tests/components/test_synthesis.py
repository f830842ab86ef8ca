"""Synthesis: a dataset folder of marked faces, resumed shard by shard, each face its own seed's."""

import hashlib

import pytest

from components import synthesis
from synfer.classifiers.models import create, save
from synfer.images import is_marked_generated, iter_encoded, shard_path
from synfer.manifest import read_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS


@pytest.fixture(scope="module")
def models(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), folder / "guide", {"trained_on": {"images": 0, "identities": []}})
    return {"generator": world.stage("generator"), "fer_models": folder}


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
