"""The latent store: rows follow the manifest, a mirrored image is encoded as an image, a killed call goes on where it stopped."""

import numpy as np
import pytest
import torch

from components import latent_store
from components.latent_store import store_latents
from synfer.captions import mirror_caption
from synfer.diffusion.backbone import load_backbone
from synfer.images import load_images
from synfer.manifest import read_manifest, stack
from synfer.pixels import to_tensor
from synfer.vocabulary import flip_aus


@pytest.fixture(scope="module")
def backbone(world):
    return load_backbone(world.stage("generator") / "backbone").requires_grad_(False)


@pytest.fixture(scope="module")
def development(world):
    return world.stage("corpus") / "development"


@pytest.fixture(scope="module")
def rows(development):
    return read_manifest(development).sample(20, random_state=0).reset_index(drop=True)  # in another order than the shards'


def test_rows_hold_the_latents_caption_and_aus_of_their_image_and_of_its_mirror_image(backbone, development, rows, tmp_path):
    found = store_latents(backbone, development, rows, mirrored=True, store=tmp_path)
    images = load_images(development, rows["sample_id"].tolist(), size=backbone.image_size)
    captions = rows["caption"].tolist()
    for view, (pixels, texts, aus) in enumerate(
        [
            (images, captions, stack(rows, "aus")),
            (images[:, :, ::-1], [mirror_caption(text) for text in captions], flip_aus(stack(rows, "aus"))),
        ]
    ):
        latents, token_ids, intensities = found.batch(torch.arange(len(rows)), torch.full((len(rows),), view))
        with torch.no_grad():
            torch.testing.assert_close(latents, backbone.encode(to_tensor(pixels)), atol=2e-3, rtol=2e-3)
        assert torch.equal(token_ids, backbone.tokenize(texts))
        np.testing.assert_array_equal(intensities.numpy(), aus)


def test_mirrored_latents_are_not_the_latents_of_the_mirrored_image(backbone, development, rows, tmp_path):
    """Why images are mirrored and not their latents, although it takes a second pass of the encoder."""
    found = store_latents(backbone, development, rows, mirrored=True, store=tmp_path)
    plain, mirrored = found.latents[:, 0].astype(np.float32), found.latents[:, 1].astype(np.float32)
    assert np.abs(plain[..., ::-1] - mirrored).mean() > 0.05 * np.abs(mirrored).mean()


def test_a_killed_call_encodes_the_rest_only(backbone, development, rows, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    monkeypatch.setattr(latent_store, "_MAX_BATCH", 8)
    encode, seen = type(backbone).encode, []

    def dies_on_the_second_batch(self, images):
        seen.append(len(images))
        if len(seen) == 2:
            raise Killed
        return encode(self, images)

    monkeypatch.setattr(type(backbone), "encode", dies_on_the_second_batch)
    with pytest.raises(Killed):
        store_latents(backbone, development, rows, mirrored=False, store=tmp_path / "killed")
    resumed = store_latents(backbone, development, rows, mirrored=False, store=tmp_path / "killed")
    assert seen == [8, 8, 8, 4]  # the first batch is not encoded again
    monkeypatch.undo()
    whole = store_latents(backbone, development, rows, mirrored=False, store=tmp_path / "whole")
    np.testing.assert_array_equal(resumed.latents, whole.latents)
    np.testing.assert_array_equal(resumed.token_ids, whole.token_ids)
    assert resumed.views == 1


def test_latents_stay_on_disk(backbone, development, rows, tmp_path):
    found = store_latents(backbone, development, rows, mirrored=False, store=tmp_path)
    assert all(isinstance(array, np.memmap) for array in (found.latents, found.token_ids, found.aus))
    latents, _, _ = found.batch(torch.tensor([3, 0]), torch.tensor([0, 0]))
    np.testing.assert_array_equal(latents.numpy(), np.asarray(found.latents[[3, 0], 0], dtype=np.float32))
