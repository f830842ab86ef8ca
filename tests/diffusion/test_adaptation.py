"""Adapting a backbone: only what is named trains, checkpointing changes no gradient, a killed LoRA training resumes to the same bits."""

from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file

from synfer.diffusion.adaptation import load_trained_weights, lower_frozen, merge, set_trainable, trained_weights
from synfer.diffusion.au_adapter import au_condition, load_ip_adapter, unspecified
from synfer.diffusion.denoiser import Dropout, denoising_loss
from synfer.diffusion.training import Schedule, Training
from synfer.vocabulary import AU_COUNT

SCHEDULE = Schedule(steps=6, learning_rate=1e-2, warmup=1, save_every=2, gradient_accumulation=2)


class Killed(Exception):
    """Stands for the kill."""


def loss_of(backbone):
    def loss(step):
        generator = torch.Generator().manual_seed(step)
        latents, aus = torch.randn(2, 8, 8, 8, generator=generator), 5 * torch.rand(2, AU_COUNT, generator=generator)
        tokens = backbone.tokenize(["sad expression", "a photo of a woman"])
        return denoising_loss(backbone, latents, tokens, aus, generator=generator, dropout=Dropout(), min_snr_gamma=5.0), {}

    return loss


def predict(backbone):
    latents = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = au_condition(unspecified(1).nan_to_num(2.0))
    with torch.no_grad():
        return backbone.unet(latents, torch.tensor([9]), backbone.embed(["sad expression"]), added_cond_kwargs=condition).sample


def names_that_changed(before, after):
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


CASES = [("adapter", False), ("lora", False), ("lora", True), ("full", False), ("full", True)]


@pytest.mark.parametrize(("adapt", "text"), CASES)
def test_only_what_is_named_trains(backbone, tmp_path, adapt, text):
    untouched = deepcopy(backbone)
    modules = set_trainable(backbone, adapt, lora_rank=2, train_text_encoder=text)
    training = Training(modules, SCHEDULE, checkpoint=tmp_path / "c")
    training.run(loss_of(backbone), title=adapt)
    merge(backbone)
    changed = names_that_changed(untouched.unet.state_dict(), backbone.unet.state_dict())
    of_adapter = {name for name in changed if "_ip." in name or "encoder_hid_proj" in name}
    of_attention = {
        name for name in changed - of_adapter if ".attn" in name and any(part in name for part in (".to_q", ".to_k", ".to_v", ".to_out"))
    }
    assert of_adapter
    assert bool(of_attention) == (adapt != "adapter")
    assert (changed == of_adapter | of_attention) == (adapt != "full")
    assert bool(names_that_changed(untouched.text_encoder.state_dict(), backbone.text_encoder.state_dict())) == text
    assert not names_that_changed(untouched.vae.state_dict(), backbone.vae.state_dict())


@pytest.mark.parametrize("adapt", ["adapter", "lora"])
def test_a_killed_training_resumes_to_the_same_bits(backbone, tmp_path, adapt):
    steps = []

    def train(folder, last=None):
        def kill(step, _):
            steps.append(step)
            if step == last:
                raise Killed

        torch.manual_seed(3)  # of LoRA's first weights
        trained = deepcopy(backbone)
        training = Training(set_trainable(trained, adapt, lora_rank=2), SCHEDULE, checkpoint=tmp_path / folder)
        try:
            training.run(loss_of(trained), title=folder, on_step=kill)
        finally:
            trained.unet.zero_grad()
        return trained

    whole = train("whole")
    with pytest.raises(Killed):
        train("killed", last=5)  # one step after the last checkpoint
    steps.clear()
    resumed = train("killed")
    assert steps == list(range(5, SCHEDULE.steps + 1))  # from the checkpoint on: starting anew would end alike
    torch.testing.assert_close(resumed.unet.state_dict(), whole.unet.state_dict(), rtol=0, atol=0)
    saved = load_file(tmp_path / "whole" / "model.safetensors")
    assert all("lora_" in name or "_ip." in name or "encoder_hid_proj" in name for name in saved)


def test_trained_weights_move_to_a_backbone_read_anew_and_merge_there(backbone, tmp_path):
    fresh = deepcopy(backbone)
    set_trainable(backbone, "lora", lora_rank=2, train_text_encoder=True)
    Training([backbone.unet, backbone.text_encoder], SCHEDULE, checkpoint=tmp_path / "c").run(loss_of(backbone), title="lora")
    set_trainable(fresh, "lora", lora_rank=2, train_text_encoder=True)
    load_trained_weights(fresh, trained_weights(backbone))
    names = set(merge(deepcopy(fresh)).unet.state_dict())
    torch.testing.assert_close(predict(merge(fresh)), predict(backbone), atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name in names)


@pytest.mark.parametrize("images", [False, True], ids=["alone", "beside an IP-Adapter"])
def test_gradient_checkpointing_changes_no_gradient(backbone, images):
    from_adapter = backbone.au_adapter
    if images:
        load_ip_adapter(backbone.unet, random_ip_adapter(backbone.unet))
    set_trainable(backbone, "lora", lora_rank=2)
    backbone.unet.train()
    latents, text = torch.randn(2, 8, 8, 8), backbone.embed(["sad expression", ""])
    condition = au_condition(torch.full((2, AU_COUNT), 2.0), images=[torch.randn(2, 1, 12)] if images else [])

    def gradients():
        backbone.unet.zero_grad()
        backbone.unet(latents, torch.tensor([300, 700]), text, added_cond_kwargs=condition).sample.square().mean().backward()
        return [parameter.grad.clone() for parameter in backbone.unet.parameters() if parameter.requires_grad]

    without = gradients()
    backbone.unet.enable_gradient_checkpointing()
    torch.testing.assert_close(gradients(), without)
    assert all(
        parameter.grad.abs().sum() > 0 for name, parameter in from_adapter.named_parameters() if "to_k" in name or "increments" in name
    )


def random_ip_adapter(unet):
    layers = [unet.get_submodule(name.removesuffix(".processor")) for name in unet.attn_processors if "attn2" in name]
    width = unet.config.cross_attention_dim
    projection = {"proj.weight": torch.randn(4 * width, 12), "proj.bias": torch.zeros(4 * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    numbered = {
        f"{2 * place + 1}.{key}.weight": torch.randn(layer.to_k.weight.shape)
        for place, layer in enumerate(layers)
        for key in ("to_k_ip", "to_v_ip")
    }
    return {"image_proj": projection, "ip_adapter": numbered}


def test_frozen_weights_rest_in_half_precision_and_trained_ones_do_not(backbone, tmp_path):
    modules = set_trainable(backbone, "lora", lora_rank=2)
    lower_frozen(backbone, torch.bfloat16)
    kinds = {(parameter.requires_grad, parameter.dtype) for parameter in backbone.unet.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    before = trained_weights(backbone)
    schedule = Schedule(steps=2, learning_rate=1e-2, warmup=1, mixed_precision="bf16")
    Training(modules, schedule, checkpoint=tmp_path / "c").run(loss_of(backbone), title="bf16")
    after = trained_weights(backbone)
    assert names_that_changed(before, after)
    assert all(value.isfinite().all() for value in after.values())
