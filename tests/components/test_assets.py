"""The making of the embedded weights, at the smallest size: mirrored faces keep their meaning, the perceptual network learns to read."""

from pathlib import Path

import numpy as np
import torch

from components.assets.generator import LatentFaces, encode_faces, more_one_sided, untrained_generator
from components.assets.latent_guide import make_latent_guide
from components.assets.perception import train_perception
from components.assets.renders import GENERATOR, Range, renders
from components.latent_guide_role import ROLE, read_latent_guide_role
from synfer.diffusion.backbone import load_backbone, save_backbone
from synfer.diffusion.tiny_sd import tiny_autoencoder
from synfer.diffusion.training import Schedule
from synfer.pixels import to_tensor
from synfer.vocabulary import AU_COUNT, AU_INDEX, DEFAULT_EXPRESSIONS, au_vector, flip_aus


def test_every_face_is_there_twice_the_second_time_mirrored_with_its_aus(tmp_path: Path) -> None:
    faces = renders(tmp_path / "renders", Range(6, GENERATOR, 0, size=32, independent=0.5))
    backbone = untrained_generator(tiny_autoencoder(channels=(8, 8, 16), image_size=32), seed=0, tokenizer=tmp_path / "tokenizer")
    data = encode_faces(backbone, faces, tmp_path)
    with torch.no_grad():
        mirrored = backbone.encode(to_tensor(faces.images[:, :, ::-1]))
    torch.testing.assert_close(data.latents[6:].float(), mirrored, atol=1e-2, rtol=1e-2)
    np.testing.assert_array_equal(data.aus[6:].numpy(), flip_aus(faces.aus))
    assert data.classes.tolist() == [0, 1, 2, -1, -1, -1] * 2
    assert data.token_ids.shape[0] == len(data.latents) == 12


def test_half_of_the_second_phases_faces_are_one_sided_and_none_is_lost() -> None:
    aus = torch.zeros(90, AU_COUNT)
    aus[:10, AU_INDEX["L12"]] = 4.0
    aus[10:20] = torch.from_numpy(au_vector({"12": 4, "L12": 4.5}))  # both sides smile
    numbers = torch.arange(90)
    more = more_one_sided(LatentFaces(numbers.clone(), numbers.clone(), aus, numbers.clone()))
    assert set(more.latents.tolist()) == set(range(90))
    assert (more.aus[:, AU_INDEX["L12"]] == 4.0).sum() == 80 == (more.latents < 10).sum()
    assert torch.equal(more.aus, aus[more.classes])


def test_a_resumed_training_gives_a_word_the_same_number(tmp_path: Path) -> None:
    vae = tiny_autoencoder(channels=(8, 8, 16), image_size=32)
    captions = ["a photo of an elderly woman with curly red hair, sad expression, lip corners pulled down"]
    first, second = (untrained_generator(vae, seed=0, tokenizer=tmp_path / "tokenizer").tokenize(captions) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert (tmp_path / "tokenizer").is_dir()


def test_the_perceptual_network_learns_to_read_latents(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 2, (256,), generator=generator)
    latents = torch.randn(256, 4, 8, 8, generator=generator)
    latents[:, 0] += 2.0 * classes[:, None, None]
    aus = torch.zeros(256, AU_COUNT)
    network = train_perception(
        latents, classes, aus, schedule=Schedule(40, 3e-3, warmup=5, save_every=100), checkpoint=tmp_path / "checkpoint", seed=0
    )
    logits, _ = network(latents)
    assert (logits.argmax(1) == classes).float().mean() > 0.95
    assert [maps.shape[-1] for maps in network.features(latents)[:-1]] == [8, 4, 2]


def test_the_latent_guide_lies_in_its_backbones_folder_and_names_the_generators_people(tmp_path: Path) -> None:
    wanted = Range(84, GENERATOR, 0, size=32, independent=0.1)
    backbone = untrained_generator(tiny_autoencoder(channels=(8, 8, 16), image_size=32), seed=0, tokenizer=tmp_path / "tokenizer")
    folder = save_backbone(backbone, tmp_path / "tiny-sd")
    faces = renders(tmp_path / "renders", wanted)
    schedule = Schedule(steps=2, learning_rate=1e-3, warmup=1, save_every=2)
    assert make_latent_guide(folder, faces, wanted, work=tmp_path, seed=0, schedule=schedule) == folder / "guide"
    guide = load_backbone(folder).guide
    assert guide is not None
    assert guide.classes == DEFAULT_EXPRESSIONS
    assert read_latent_guide_role(folder)[ROLE].identities == {f"person-{number}" for number in range(GENERATOR, GENERATOR + 14)}


def test_the_perceptual_network_reads_a_weak_and_a_strong_au_alike(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    aus = torch.zeros(512, AU_COUNT)
    aus[:, 0], aus[:, 1] = 5 * torch.rand(512, generator=generator), 0.2 * torch.rand(512, generator=generator)
    latents = 0.1 * torch.randn(512, 4, 8, 8, generator=generator)
    latents[:, 0, :4] += aus[:, 0, None, None] / 5
    latents[:, 1, 4:] += aus[:, 1, None, None] * 5
    network = train_perception(
        latents, torch.zeros(512, dtype=torch.long), aus, schedule=Schedule(80, 3e-3, warmup=5, save_every=100),
        checkpoint=tmp_path / "checkpoint", seed=0,
    )  # fmt: skip
    read = network(latents)[1]
    for unit in (0, 1):
        assert torch.corrcoef(torch.stack([read[:, unit], aus[:, unit]]))[0, 1] > 0.9
