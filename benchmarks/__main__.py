"""Speed of the pipeline's parts on this machine: ``python -m benchmarks`` (or `make bench`)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from components.device import torch_device
from components.plan import plan_faces
from components.synthesis import draw_faces
from components.workspace import Workspace
from synfer.classifiers.models import load
from synfer.classifiers.predict import predict
from synfer.config import load_config
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.diffusion.features import unet_features
from synfer.faces.face import draw_face
from synfer.faces.renderer import render
from synfer.images import decode, encode_png, encode_webp
from synfer.pixels import to_tensor
from synfer.vocabulary import DEFAULT_EXPRESSIONS

IMAGES = 70
ROUNDS = 3


def best_seconds(work: Callable[[], object]) -> float:
    """Least wall time of three calls after one that warms up."""
    work()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def parts(workspace: Workspace) -> dict[str, Callable[[], object]]:
    """What is measured, each on 70 images of the laptop run's size."""
    config = load_config(workspace.params)
    device = torch_device(config.common.device)
    backbone = load_backbone(workspace.resolve(config.generator.backbone), device=device).requires_grad_(False)
    guide = load(workspace.resolve(config.fer_models.source) / "guide", device=device)
    faces = [draw_face(seed, identity=seed, expression=DEFAULT_EXPRESSIONS[seed % 7]) for seed in range(IMAGES)]
    images = render(faces, size=config.common.image_size)
    encoded = [encode_webp(image) for image in images]
    plan = plan_faces(IMAGES, expressions=config.common.expressions, seed=0)
    unguided = config.synthesis.model_copy(update={"semantic_guidance": 0.0})
    steps = config.synthesis.num_inference_steps
    return {
        f"render {config.common.image_size} px": lambda: render(faces, size=config.common.image_size),
        "render 128 px": lambda: render(faces, size=128),
        "encode PNG": lambda: [encode_png(image) for image in images],
        "encode WebP": lambda: [encode_webp(image) for image in images],
        "decode WebP": lambda: [decode(data, where="benchmark") for data in encoded],
        f"classify ({guide.module.architecture})": lambda: predict(guide, images, device=device),
        "diffusion features": lambda: features(backbone, images),
        f"generate, {steps} steps": lambda: draw_faces(unguided, backbone, guide, plan),
        f"generate, {steps} steps, guided": lambda: draw_faces(config.synthesis, backbone, guide, plan),
    }


def features(backbone: Backbone, images: np.ndarray) -> object:
    """Features of all images at FERAnno's noise level."""
    with torch.inference_mode():
        return unet_features(backbone, to_tensor(images), timestep=10, seeds=range(len(images)))


def main() -> None:
    """Print the table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    table = Table(title=f"{platform.machine()}, {device}", title_justify="left", box=None)
    table.add_column("part")
    table.add_column("ms an image", justify="right")
    table.add_column("images a second", justify="right")
    for name, work in parts(Workspace.find(Path.cwd())).items():
        seconds = best_seconds(work) / IMAGES
        table.add_row(name, f"{1000 * seconds:.2f}", f"{1 / seconds:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
