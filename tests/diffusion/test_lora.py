"""LoRA: nothing changes at first, merging keeps the function and takes the layers out, it composes with the AU adapter."""

import torch

from synfer.diffusion.au_adapter import au_condition, unspecified
from synfer.diffusion.lora import add_lora, merge_lora


def predict(backbone):
    latents = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        condition = au_condition(unspecified(1).nan_to_num(2.0))
        return backbone.unet(latents, torch.tensor([9]), backbone.embed(["sad expression"]), added_cond_kwargs=condition).sample


def test_merging_keeps_the_function(backbone):
    before, names = predict(backbone), set(backbone.unet.state_dict())
    parameters = add_lora(backbone.unet, rank=2)
    torch.testing.assert_close(predict(backbone), before)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1)
    trained = predict(backbone)
    assert (trained - before).abs().max() > 1e-4
    merge_lora(backbone.unet)
    torch.testing.assert_close(predict(backbone), trained, atol=1e-4, rtol=1e-4)
    assert set(backbone.unet.state_dict()) == names
