"""A folder as the hub has Stable Diffusion 1.5: old names, half-precision variants, a PNDM scheduler, parts that we do not read."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from synfer.captions import vocabulary_corpus
from synfer.diffusion.au_adapter import au_condition, unspecified
from synfer.diffusion.backbone import BackboneError, load_backbone, plain_unet, save_backbone
from synfer.diffusion.sampling import Conditions, sample_latents
from synfer.diffusion.tiny_sd import grammar_tokenizer, tiny_autoencoder, tiny_backbone

PNDM = {  # scheduler/scheduler_config.json of stable-diffusion-v1-5
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None, "clip_sample": False,
}  # fmt: skip
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture
def made():
    torch.manual_seed(0)
    vae = tiny_autoencoder(channels=(8, 8, 16), image_size=32, latent_channels=4)
    vae.register_to_config(scaling_factor=0.18215)
    return tiny_backbone(vae, grammar_tokenizer(vocabulary_corpus()), channels=(16, 16, 32), width=16).requires_grad_(False).eval()


def rename(path, names):
    """Save the tensors of a file under other names, in half precision."""
    state = {names(name): value.half() for name, value in load_file(path).items()}
    save_file(state, path, metadata={"format": "pt"})


@pytest.fixture
def hub(made, tmp_path):
    """The folder, without an AU adapter, and with nothing but half-precision variants of the weights."""
    folder = tmp_path / "stable-diffusion-v1-5"
    for part, model in {"unet": plain_unet(made.unet), "vae": made.vae, "text_encoder": made.text_encoder}.items():
        model.save_pretrained(folder / part)
        (weights,) = (folder / part).glob("*.safetensors")
        rename(weights, lambda name, part=part: f"text_model.{name}" if part == "text_encoder" else name)
        weights.rename(weights.with_name(f"{weights.stem}.fp16.safetensors"))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(PNDM))
    old_tokenizer(made.tokenizer, folder / "tokenizer")
    for part in ("safety_checker", "feature_extractor"):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def old_tokenizer(tokenizer, folder):
    """vocab.json and merges.txt, as the hub's folder has them."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {**special, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "model_max_length": tokenizer.model_max_length}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def predict(backbone, aus=2.0):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = au_condition(unspecified(1).nan_to_num(aus))
    with torch.no_grad():
        return backbone.unet(latents, torch.tensor([9]), backbone.embed(["sad expression"]), added_cond_kwargs=condition).sample


def test_the_hubs_folder_is_read_and_draws_what_its_base_draws(made, hub):
    found = load_backbone(hub)
    assert found.unet.dtype == torch.float32
    assert found.tokenize(["sad expression"]).equal(made.tokenize(["sad expression"]))
    made.au_adapter.set_scale(0.0)
    torch.testing.assert_close(predict(found), predict(made), atol=5e-3, rtol=5e-3)  # the file has half precision
    torch.testing.assert_close(predict(found, aus=5.0), predict(found), atol=0, rtol=0)  # an untrained adapter is silent
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.encode(images), made.encode(images), atol=5e-3, rtol=5e-3)


def test_its_noise_schedule_is_kept_and_latents_are_never_clipped(hub):
    config = load_backbone(hub).scheduler.config
    assert (config.beta_schedule, config.steps_offset, config.set_alpha_to_one, config.clip_sample) == ("scaled_linear", 1, False, False)
    assert config.prediction_type == "epsilon"
    bare = {name: value for name, value in PNDM.items() if name not in ("clip_sample", "set_alpha_to_one")}
    (hub / "scheduler" / "scheduler_config.json").write_text(json.dumps(bare))
    config = load_backbone(hub).scheduler.config
    assert (config.set_alpha_to_one, config.clip_sample) == (False, False)  # DDIM's own defaults would cut latents to [-1, 1]


@pytest.mark.parametrize("sampler", ["dpm", "ddim"])
def test_it_samples(hub, sampler):
    conditions = Conditions(["sad expression"], unspecified(1).nan_to_num(1.0).numpy(), [1])
    latents = sample_latents(load_backbone(hub), conditions, sampler=sampler, num_inference_steps=3)
    assert latents.shape == (1, 4, 8, 8)
    assert latents.isfinite().all()


def test_old_names_of_the_autoencoders_attention_are_read(made, hub):
    plain = tiny_autoencoder(channels=(8, 8, 16), image_size=32, latent_channels=4)
    vae = AutoencoderKL.from_config({**plain.config, "mid_block_add_attention": True})
    vae.save_pretrained(hub / "vae")
    path = hub / "vae" / "diffusion_pytorch_model.safetensors"
    mid = "mid_block.attentions.0."

    def old(name):
        for new, earlier in OLD_ATTENTION.items():
            name = name.replace(f"{mid}{new}.", f"{mid}{earlier}.") if mid in name else name
        return name

    rename(path, old)
    assert any(f"{mid}query" in name for name in load_file(path))
    found = load_backbone(hub).vae.state_dict()[f"encoder.{mid}to_q.weight"]
    torch.testing.assert_close(found, vae.state_dict()[f"encoder.{mid}to_q.weight"].half().float())


def test_what_is_saved_is_a_pipeline(hub, tmp_path):
    backbone = load_backbone(hub)
    pipeline = StableDiffusionPipeline.from_pretrained(save_backbone(backbone, tmp_path / "saved"))
    images = pipeline("sad expression", num_inference_steps=2, height=32, width=32, output_type="np").images
    assert images.shape == (1, 32, 32, 3)
    torch.testing.assert_close(pipeline.unet.state_dict(), plain_unet(backbone.unet).state_dict())


def change(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def drop_weight(folder):
    (path,) = folder.glob("*.safetensors")
    state = load_file(path)
    state.pop("conv_in.weight")
    save_file(state, path, metadata={"format": "pt"})


BROKEN = {
    "no weights": (lambda hub: next((hub / "unet").glob("*.safetensors")).unlink(), "unet holds no weights"),
    "one weight less": (lambda hub: drop_weight(hub / "unet"), r"unet lacks the weight conv_in.weight \(and 0 more\)"),
    "damaged weights": (lambda hub: next((hub / "vae").glob("*.safetensors")).write_bytes(b"x" * 100), "vae cannot be read"),
    "another class": (
        lambda hub: change(hub / "unet" / "config.json", _class_name="SD3Transformer2DModel"),
        "holds a SD3Transformer2DModel",
    ),
    "no configuration": (lambda hub: (hub / "vae" / "config.json").unlink(), "config.json does not exist"),
    "flow matching": (
        lambda hub: (hub / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}'),
        "FlowMatchEulerDiscreteScheduler.* has no beta_schedule",
    ),
    "predicts samples": (lambda hub: change(hub / "scheduler" / "scheduler_config.json", prediction_type="sample"), "predicts 'sample'"),
    "other channels": (lambda hub: change_channels(hub / "unet", 9), "the U-Net takes 9 channels, the autoencoder has 4; an inpainting"),
    "other text": (lambda hub: change_width(hub / "text_encoder", 32), "reads text of width 16, the text encoder writes 32"),
}


def change_channels(folder, channels):
    (path,) = folder.glob("*.safetensors")
    state = load_file(path)
    state["conv_in.weight"] = torch.zeros(state["conv_in.weight"].shape[0], channels, 3, 3)
    save_file(state, path, metadata={"format": "pt"})
    change(folder / "config.json", in_channels=channels)


def change_width(folder, width):
    from synfer.diffusion.tiny_sd import tiny_text_encoder

    for path in folder.iterdir():
        path.unlink()
    tiny_text_encoder(grammar_tokenizer(vocabulary_corpus()), width=width).save_pretrained(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_told_in_one_line(hub, name):
    spoil, message = BROKEN[name]
    spoil(hub)
    with pytest.raises(BackboneError, match=message) as told:
        load_backbone(hub)
    assert "\n" not in str(told.value)


def test_a_trained_adapter_of_the_folder_is_taken(made, hub):
    torch.nn.init.normal_(made.au_adapter.tokens.unspecified)
    made.au_adapter.save(hub / "au_adapter")
    found = load_backbone(hub)
    torch.testing.assert_close(found.au_adapter.state_dict(), made.au_adapter.state_dict())
    assert not torch.equal(predict(found, aus=5.0), predict(found, aus=0.0))
