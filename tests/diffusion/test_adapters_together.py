"""AU adapter, LoRA and a published image IP-Adapter in one U-Net, in any order: each acts, by its own scale, and none undoes another.

diffusers drops what it does not know with a log line only, and its IP-Adapter loader replaces every processor: the tests look at numbers.
"""

import itertools
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file

from synfer.diffusion.au_adapter import AdapterError, attach_au_adapter, au_condition, load_ip_adapter, unspecified
from synfer.diffusion.backbone import plain_unet
from synfer.diffusion.lora import LoraError, add_lora, load_lora, merge_lora, save_lora

IMAGE_WIDTH, IMAGE_TOKENS = 12, 4


def ip_adapter_state(unet, seed=0):
    """Random weights in the layout of the published IP-Adapter files (h94/IP-Adapter)."""
    generator = torch.Generator().manual_seed(seed)
    width = unet.config.cross_attention_dim
    projection = {
        "proj.weight": torch.randn(IMAGE_TOKENS * width, IMAGE_WIDTH, generator=generator),
        "proj.bias": torch.zeros(IMAGE_TOKENS * width), "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width),
    }  # fmt: skip
    layers = [unet.get_submodule(name.removesuffix(".processor")) for name in unet.attn_processors if "attn2" in name]
    weights = {}
    for number, layer in zip(itertools.count(1, 2), layers):
        for key in ("to_k_ip", "to_v_ip"):
            weights[f"{number}.{key}.weight"] = 0.3 * torch.randn(layer.to_k.weight.shape, generator=generator)
    return {"image_proj": projection, "ip_adapter": weights}


def add_au(unet):
    attach_au_adapter(unet)


def add_images(unet):
    load_ip_adapter(unet, ip_adapter_state(unet))


def add_low_rank(unet):
    with torch.no_grad():
        for parameter in add_lora(unet, rank=2):
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))


def predict(backbone, unet, *, au=2.0, picture=1.0, images=True):
    latents = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    pictures = [torch.full((2, 1, IMAGE_WIDTH), picture) * torch.linspace(-1, 1, IMAGE_WIDTH)] if images else []
    conditions = au_condition(unspecified(2).nan_to_num(au), images=pictures)
    with torch.no_grad():
        return unet(latents, torch.tensor([500, 500]), backbone.embed(["sad expression", ""]), added_cond_kwargs=conditions).sample


def apart(one, other):
    return (one - other).abs().max().item()


ORDERS = list(itertools.permutations([add_au, add_images, add_low_rank]))


@pytest.mark.parametrize("order", ORDERS, ids=["-".join(add.__name__ for add in order) for order in ORDERS])
def test_every_adapter_acts_in_any_order_of_loading(backbone, order):
    unet = plain_unet(backbone.unet)
    torch.manual_seed(5)
    for add in order:
        add(unet)
    whole = predict(backbone, unet)
    assert apart(whole, predict(backbone, unet, au=4.0)) > 1e-4
    assert apart(whole, predict(backbone, unet, picture=-1.0)) > 1e-4
    for name, module in unet.named_modules():
        if name.endswith("lora_B.default"):
            module.weight.data.zero_()
    assert apart(whole, predict(backbone, unet)) > 1e-4


def test_scales_are_independent_and_zero_takes_one_adapter_out(backbone):
    unet = plain_unet(backbone.unet)
    torch.manual_seed(5)
    adapter = attach_au_adapter(unet)
    alone = predict(backbone, unet, images=False)
    load_ip_adapter(unet, ip_adapter_state(unet))
    both = predict(backbone, unet)
    assert adapter.index == 1  # the image adapter came later and stands before it
    for processor in adapter.processors.values():
        processor.scale[0] = 0.0
    torch.testing.assert_close(predict(backbone, unet), alone)  # the AU branch is the one from before, weights and scale
    adapter.set_scale(0.5)
    halved = predict(backbone, unet)
    assert apart(halved, alone) > 1e-4
    for processor in adapter.processors.values():
        assert processor.scale[0] == 0.0
        processor.scale[0] = 1.0
    assert apart(predict(backbone, unet), both) > 1e-4
    adapter.set_scale(1.0)
    torch.testing.assert_close(predict(backbone, unet), both)


def test_an_adapter_that_another_loader_threw_out_is_told_of(backbone):
    adapter = backbone.au_adapter
    backbone.unet._load_ip_adapter_weights([ip_adapter_state(backbone.unet)], low_cpu_mem_usage=False)
    with pytest.raises(AdapterError, match="carries 1 IP-Adapters and no longer this AU adapter"):
        adapter.set_scale(1.0)


def test_diffusers_ignores_an_au_condition_where_no_adapter_is_attached_and_wants_it_where_one_is(backbone):
    """Why the tests above look at numbers: a condition that reaches nobody raises nothing."""
    plain, latents, text = plain_unet(backbone.unet), torch.randn(1, 8, 8, 8), backbone.embed(["sad expression"])
    with torch.no_grad():
        without = plain(latents, torch.tensor([5]), text).sample
        assert torch.equal(plain(latents, torch.tensor([5]), text, added_cond_kwargs=au_condition(unspecified(1))).sample, without)
    with pytest.raises(ValueError, match="image_embeds"):
        backbone.unet(latents, torch.tensor([5]), text, added_cond_kwargs={})


def test_au_weights_read_back_beside_an_image_adapter_and_lora(backbone, tmp_path):
    unet = plain_unet(backbone.unet)
    adapter = attach_au_adapter(unet)
    add_images(unet)
    add_low_rank(unet)
    before = predict(backbone, unet)
    adapter.save(tmp_path)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.zero_()
    assert apart(before, predict(backbone, unet)) > 1e-4
    adapter.load_state_dict(load_file(tmp_path / "au_adapter.safetensors"))
    torch.testing.assert_close(predict(backbone, unet), before)


def test_lora_reads_back_and_merges_beside_the_other_adapters(backbone, tmp_path):
    units = []
    for _ in range(2):
        unet = plain_unet(backbone.unet)
        torch.manual_seed(5)
        attach_au_adapter(unet)
        add_images(unet)
        units.append(unet)
    first, second = units
    add_low_rank(first)
    with_lora = predict(backbone, first)
    assert apart(with_lora, predict(backbone, second)) > 1e-4
    save_lora(tmp_path, unet=first)
    load_lora(tmp_path, unet=second)
    torch.testing.assert_close(predict(backbone, second), with_lora)
    merge_lora(second)
    torch.testing.assert_close(predict(backbone, second), with_lora, atol=1e-4, rtol=1e-4)
    assert apart(with_lora, predict(backbone, second, au=4.0)) > 1e-4


def test_lora_of_the_text_encoder_reads_back(backbone, tmp_path):
    def embed(text_encoder):
        with torch.no_grad():
            return text_encoder(backbone.tokenize(["sad expression"])).last_hidden_state

    other = deepcopy(backbone.text_encoder)
    plain = embed(other)
    add_low_rank(backbone.unet)
    add_low_rank(backbone.text_encoder)
    assert apart(embed(backbone.text_encoder), plain) > 1e-4
    save_lora(tmp_path, unet=backbone.unet, text_encoder=backbone.text_encoder)
    load_lora(tmp_path, unet=plain_unet_of(backbone), text_encoder=other)
    torch.testing.assert_close(embed(other), embed(backbone.text_encoder))
    merge_lora(other)
    torch.testing.assert_close(embed(other), embed(backbone.text_encoder), atol=1e-5, rtol=1e-5)


def plain_unet_of(backbone):
    merged = deepcopy(backbone.unet)
    merge_lora(merged)
    return plain_unet(merged)


def test_a_folder_without_lora_is_named(backbone, tmp_path):
    with pytest.raises(LoraError, match="holds no pytorch_lora_weights"):
        load_lora(tmp_path, unet=backbone.unet)
