"""Stable Diffusion 1.5's shapes: the published parameter counts, where the adapter joins, and (`-m heavy`) steps that really run."""

import json
import subprocess
import sys

import pytest
import torch

from synfer.diffusion.au_adapter import attach_au_adapter
from synfer.diffusion.lora import add_lora
from synfer.diffusion.sd15_shapes import PARAMETERS, sd15_autoencoder, sd15_text_encoder, sd15_unet

MADE = {"unet": sd15_unet, "vae": sd15_autoencoder, "text_encoder": sd15_text_encoder}


def size(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("part", MADE)
def test_the_shapes_have_the_published_number_of_parameters(part):
    with torch.device("meta"):  # shapes without memory
        assert size(MADE[part]().parameters()) == PARAMETERS[part]


def test_the_adapter_joins_all_sixteen_cross_attention_layers_for_a_fortieth_of_the_weights():
    with torch.device("meta"):
        unet = sd15_unet()
        adapter = attach_au_adapter(unet)
        lora = add_lora(unet, rank=32)
    assert len(adapter.processors) == 16
    assert size(adapter.parameters()) == 20_579_328
    assert size(adapter.parameters()) / PARAMETERS["unet"] < 1 / 40
    assert size(lora) == 6_377_472


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.timeout(1200)  # of a busy machine; alone it takes a minute
def test_a_training_step_and_a_steered_step_run_at_these_shapes(root):
    """In a process of its own, because the peak of memory is one of the process."""
    command = [sys.executable, "-m", "benchmarks.sd15", "--pixels", "256", "--device", "cpu"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name: found["parameters"][name] for name in PARAMETERS} == PARAMETERS
    assert 0 < found["loss"] < 10
    assert found["au_effect"] > 0  # the adapter was silent before the step
    assert found["latents_finite"]
    assert found["peak_gib"]["steered denoising step"] < 6
    assert found["checkpoint_mib"] < 600  # the base alone has 3,400
