"""tiny-sd's generator: U-Net, text encoder and AU adapter trained together from scratch on latents of procedural faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from components.assets.renders import Renders
from synfer.captions import caption, mirror_caption, vocabulary_corpus
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Network
from synfer.classifiers.predict import predict
from synfer.diffusion.autoencoder import batch_rows, face_weight
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.denoiser import Dropout, Perception, denoising_loss
from synfer.diffusion.latent_guide import autoencoder_sha256
from synfer.diffusion.sampling import Conditions, decode, sample_latents
from synfer.diffusion.tiny_sd import grammar_tokenizer, tiny_backbone
from synfer.diffusion.training import Schedule, Training
from synfer.faces.expression import draw_aus
from synfer.faces.identity import draw_identity
from synfer.faces.sheet import labelled_sheet
from synfer.files import replace_folder, whole_file
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed
from synfer.vocabulary import DEFAULT_EXPRESSIONS, SIDED_AUS, flip_aus, left_right


@dataclass(frozen=True)
class LatentFaces:
    """A training set of the generator: latents float16 (N, C, h, w), token ids (N, L), AU intensities (N, AU_COUNT), class indices (N,).

    A face without an expression has class -1. Every face is there twice, the second half mirrored.
    """

    latents: Tensor
    token_ids: Tensor
    aus: Tensor
    classes: Tensor


def untrained_generator(vae: nn.Module, *, seed: int, tokenizer: Path) -> Backbone:
    """tiny-sd around a trained autoencoder, with fresh weights drawn from `seed`.

    The tokenizer of the caption grammar is kept in the folder `tokenizer`: merges that are equally frequent come in no certain order, and
    a resumed training must give a word the same number as before.
    """
    if not tokenizer.is_dir():
        temporary = tokenizer.with_name(f".{tokenizer.name}.tmp")
        grammar_tokenizer(vocabulary_corpus()).save_pretrained(temporary)
        replace_folder(temporary, tokenizer)
    torch.manual_seed(seed)
    return tiny_backbone(vae, CLIPTokenizer.from_pretrained(tokenizer))


@torch.no_grad()
def encode_faces(backbone: Backbone, faces: Renders, folder: Path) -> LatentFaces:
    """Latents of every render and of its mirror image, computed once and kept in `folder`, by the autoencoder's hash and their number."""
    path = folder / f"latents-{autoencoder_sha256(backbone.vae)[:8]}-{2 * len(faces)}.npy"
    if not path.is_file():
        parts = []
        for mirrored in (False, True):
            for start in tqdm(range(0, len(faces), 128), desc="encode mirrored" if mirrored else "encode", unit_scale=128, unit="face"):
                images = faces.images[start : start + 128]
                parts.append(backbone.encode(to_tensor(images[:, :, ::-1] if mirrored else images)).half().cpu().numpy())
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.concatenate(parts))
    captions = [*faces.captions, *(mirror_caption(text) for text in faces.captions)]
    aus = np.concatenate([faces.aus, flip_aus(faces.aus)])
    classes = [DEFAULT_EXPRESSIONS.index(name) if name else -1 for name in faces.expressions] * 2
    return LatentFaces(torch.from_numpy(np.load(path)), backbone.tokenize(captions), torch.from_numpy(aus), torch.tensor(classes))


def more_one_sided(data: LatentFaces, *, difference: float = 1.5) -> LatentFaces:
    """The same faces with so many copies of those on which a unit's sides differ by `difference` that they are about half of all."""
    sides = [left_right(data.aus.numpy(), unit) for unit in SIDED_AUS]
    one_sided = np.any([np.abs(left - right) >= difference for left, right in sides], axis=0)
    rows = np.flatnonzero(one_sided)
    copies = max(0, (~one_sided).sum() // max(1, len(rows)) - 1)
    chosen = torch.from_numpy(np.concatenate([np.arange(len(data.aus)), *[rows] * copies]))
    return LatentFaces(data.latents[chosen], data.token_ids[chosen], data.aus[chosen], data.classes[chosen])


def train_generator(
    backbone: Backbone,
    data: LatentFaces,
    *,
    schedule: Schedule,
    batch_size: int,
    dropout: Dropout,
    perception: Perception | None,
    checkpoint: Path,
    seed: int,
    on_checkpoint: Callable[[int], None],
) -> None:
    """Train to the end of the schedule, resuming from `checkpoint`; leaves the averaged weights in `backbone`.

    `on_checkpoint` is called with the averaged weights in place.
    """
    backbone.unet.requires_grad_(True).train()
    backbone.text_encoder.requires_grad_(True).train()
    training = Training([backbone.unet, backbone.text_encoder], schedule, checkpoint=checkpoint)
    device = backbone.device
    weight = face_weight(data.latents.shape[-1], emphasis=1.5).to(device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = batch_rows(len(data.latents), batch_size=batch_size, step=step, seed=seed)
        generator = torch.Generator().manual_seed(derive_seed("denoise", seed, step))
        parts = (data.latents[rows].float().to(device), data.token_ids[rows], data.aus[rows].clone())
        return denoising_loss(backbone, *parts, generator=generator, dropout=dropout, weight=weight, perception=perception), {}

    def show(step: int, _: dict[str, float]) -> None:
        if step % schedule.save_every == 0:
            backbone.eval()
            with training.averaged():
                on_checkpoint(step)
            backbone.unet.train()
            backbone.text_encoder.train()

    training.run(loss, title="generator", on_step=show)
    training.ema.copy_to(training.parameters)
    backbone.eval()


def watch(backbone: Backbone, monitor: Network, *, folder: Path, images: int, seed: int) -> float:
    """Draw faces of every expression, write their sheet, and return the share on which `monitor` agrees with the intent.

    The monitor is a network of the generator's own side; the judge sees nothing before the final measurement.
    """
    expressions = [DEFAULT_EXPRESSIONS[index % len(DEFAULT_EXPRESSIONS)] for index in range(images)]
    conditions = probe_conditions(expressions, seed=seed)
    pixels = decode(backbone, sample_latents(backbone, conditions))
    truth = class_indices(expressions, DEFAULT_EXPRESSIONS)
    by_row = np.argsort(truth, kind="stable")[: 7 * (images // 7)]
    sheet = labelled_sheet(pixels[by_row], columns=images // 7, row_titles=list(DEFAULT_EXPRESSIONS), scale=2)
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / "latest.png")
    return float((predict(monitor, pixels).argmax(1) == truth).mean())


def probe_conditions(expressions: list[str], *, seed: int) -> Conditions:
    """Captions, AUs and seeds of people that no corpus holds, one a wanted expression."""
    rngs = [np.random.default_rng(derive_seed("probe", seed, index)) for index in range(len(expressions))]
    aus = np.stack([draw_aus(expression, rng) for expression, rng in zip(expressions, rngs, strict=True)])
    people = [draw_identity(10**6 + derive_seed("person", seed, index) % 10**6).attributes for index in range(len(expressions))]
    captions = [caption(expression, attributes=person, aus=row) for expression, person, row in zip(expressions, people, aus, strict=True)]
    return Conditions(captions, aus, [derive_seed("probe noise", seed, index) for index in range(len(expressions))])
