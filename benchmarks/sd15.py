"""Stable Diffusion 1.5's shapes at work: ``python -m benchmarks.sd15`` prints a table and, as its last line, the same as JSON.

Random weights, real shapes: one training step of LoRA and AU adapter under gradient checkpointing, through the same code as stage
generator, and one denoising step that a classifier steers through the decoder. What runs here runs with the real weights; what they would
draw is another matter. Seconds are of single calls on this machine, the first one included.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.program import run_study
from components.device import torch_device
from synfer.classifiers.models import create
from synfer.diffusion.adaptation import lower_frozen, set_trainable
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.denoiser import Dropout, denoising_loss
from synfer.diffusion.guidance import published
from synfer.diffusion.prediction import predict
from synfer.diffusion.sampling import Conditions, sample_latents
from synfer.diffusion.sd15_shapes import sd15_backbone
from synfer.diffusion.training import Schedule, Training
from synfer.errors import SynferError
from synfer.vocabulary import AU_COUNT, DEFAULT_EXPRESSIONS

GUIDE, GUIDE_PIXELS = "resnet18", 224
_CAPTION = "a photo of a woman, happy expression"
_NO_DROPOUT = Dropout(caption=0.0, aus=0.0, nothing=0.0, some_aus=0.0)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Stopwatch:
    """Seconds and peak memory of phases, in the order they ran."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name], self.peak[name] = time.perf_counter() - started, peak_gib(self.device)


def peak_gib(device: torch.device) -> float:
    """Most memory so far in GiB: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


@app.command()
def main(
    pixels: Annotated[int, typer.Option(min=64, help="Side of the images, a multiple of 64.")] = 512,
    precision: Annotated[str, typer.Option(help="no, bf16, or fp16 (GPU only).")] = "bf16",
    rank: Annotated[int, typer.Option(min=1, help="Of the LoRA layers.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
) -> None:
    """Run a training step and a steered denoising step at the shapes of Stable Diffusion 1.5."""
    if pixels % 64:
        raise SynferError(f"--pixels {pixels} is no multiple of 64, which four halvings of latents that are an eighth of it need")
    watch = Stopwatch(torch_device(device))
    with watch.phase("build"):
        backbone = sd15_backbone(sample_size=pixels // 8)
    counts = _counts(backbone)
    with watch.phase("prepare"):
        modules = _prepare(backbone, precision, rank, watch.device)
    trained = sum(parameter.numel() for parameter in backbone.unet.parameters() if parameter.requires_grad)
    counts |= {"lora": trained - counts["au_adapter"]}
    with tempfile.TemporaryDirectory() as folder, watch.phase("training step"):
        loss, checkpoint, training = _train(backbone, modules, precision, Path(folder))
    with watch.phase("steered denoising step"), training.accelerator.autocast():
        latents = _sample(backbone)
    with training.accelerator.autocast():
        effect = _au_effect(backbone)
    found: dict[str, object] = {
        "pixels": pixels, "precision": precision, "rank": rank, "device": _name(watch.device), "threads": torch.get_num_threads(),
        "parameters": counts, "adapter_share": round(counts["au_adapter"] / counts["unet"], 4),
        "seconds": _rounded(watch.seconds), "peak_gib": _rounded(watch.peak), "checkpoint_mib": round(checkpoint, 1),
        "loss": round(loss, 4), "au_effect": effect, "latents_finite": bool(latents.isfinite().all()),
    }  # fmt: skip
    _print(found, counts, watch)
    print(json.dumps(found))


def _counts(backbone: Backbone) -> dict[str, int]:
    """Parameters of the base's parts and of the adapter."""
    adapter = sum(parameter.numel() for parameter in backbone.au_adapter.parameters())
    unet = sum(parameter.numel() for parameter in backbone.unet.parameters()) - adapter
    others = {name: sum(parameter.numel() for parameter in getattr(backbone, name).parameters()) for name in ("vae", "text_encoder")}
    return {"unet": unet, **others, "au_adapter": adapter}


def _prepare(backbone: Backbone, precision: str, rank: int, device: torch.device) -> list[nn.Module]:
    modules = set_trainable(backbone, "lora", lora_rank=rank)
    lower_frozen(backbone, {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision])
    for module in (backbone.unet, backbone.vae, backbone.text_encoder):
        nn.Module.to(module, device)
        module.eval()
    backbone.unet.enable_gradient_checkpointing()
    backbone.vae.enable_gradient_checkpointing()  # the steered step differentiates the decoder
    return modules


def _train(backbone: Backbone, modules: list[nn.Module], precision: str, folder: Path) -> tuple[float, float, Training]:
    """Loss of one optimiser step, and the size of the checkpoint in MiB."""
    schedule = Schedule(steps=1, learning_rate=1e-4, warmup=0, mixed_precision=precision)
    training, losses = Training(modules, schedule, checkpoint=folder / "checkpoint"), []

    def loss(batch: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(batch)
        latents = torch.randn(1, *backbone.latent_shape(), generator=generator).to(backbone.device)
        aus = 5 * torch.rand(1, AU_COUNT, generator=generator)
        parts = (latents, backbone.tokenize([_CAPTION]), aus)
        return denoising_loss(backbone, *parts, generator=generator, dropout=_NO_DROPOUT, min_snr_gamma=5.0), {}

    training.run(loss, title="training step", on_step=lambda _, shown: losses.append(shown["loss"]))
    size = sum(path.stat().st_size for path in (folder / "checkpoint").iterdir()) / 2**20
    return losses[0], size, training


def _sample(backbone: Backbone) -> Tensor:
    """Latents after one denoising step, steered as published: a pixel classifier behind the decoder, a second forward."""
    guide = create(GUIDE, DEFAULT_EXPRESSIONS, image_size=GUIDE_PIXELS).to(backbone.device).eval().requires_grad_(False)
    semantic = published(backbone, guide, strength=0.05, window=(0.0, 1.0))
    conditions = Conditions([_CAPTION], torch.full((1, AU_COUNT), 2.0).numpy(), [0])
    targets = torch.tensor([1], device=backbone.device)
    return sample_latents(backbone, conditions, num_inference_steps=1, semantic=semantic, targets=targets)


@torch.no_grad()
def _au_effect(backbone: Backbone) -> float:
    """Largest difference that the AUs make to a prediction, after one training step."""
    latents = torch.randn(1, *backbone.latent_shape(), generator=torch.Generator().manual_seed(1)).to(backbone.device)
    timestep, embeds = torch.tensor(500, device=backbone.device), backbone.embed([_CAPTION])
    relaxed, strong = (predict(backbone, latents, timestep, embeds, torch.full((1, AU_COUNT), value).to(latents)) for value in (0.0, 5.0))
    return float((relaxed - strong).abs().max())


def _print(found: dict[str, object], counts: dict[str, int], watch: Stopwatch) -> None:
    sizes = Table(title="Parameters", title_justify="left", box=None)
    sizes.add_column("part")
    for name in ("parameters", "of the U-Net"):
        sizes.add_column(name, justify="right")
    for name, count in counts.items():
        sizes.add_row(name, f"{count:,}", f"{count / counts['unet']:.2%}")
    phases = Table(title=f"{found['pixels']} px, {found['precision']}, {found['device']}", title_justify="left", box=None)
    phases.add_column("phase")
    for name in ("seconds", "peak GiB so far"):
        phases.add_column(name, justify="right")
    for name, seconds in watch.seconds.items():
        phases.add_row(name, f"{seconds:.1f}", f"{watch.peak[name]:.2f}")
    console = Console(width=100)
    console.print(sizes, phases, sep="\n")
    console.print(f"loss {found['loss']}, checkpoint {found['checkpoint_mib']} MiB (LoRA and adapter, their optimiser state and average)")


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


if __name__ == "__main__":
    run_study(app, "benchmarks.sd15")
