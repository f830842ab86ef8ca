"""Stage generator: unchanged weights stay byte for byte; LoRA and full fine-tuning change the U-Net and leave a readable backbone."""

import pytest

from components import generator
from components.record import read_metrics
from synfer.diffusion.backbone import BackboneError, backbone_sha256, load_backbone


def run(world, settings, out, **changes):
    source = str(world.stage("generator") / "backbone")
    section = settings.generator.model_copy(update={"backbone": source, **changes})
    out.mkdir(exist_ok=True)
    generator.run(section, settings.common, development=world.stage("corpus") / "development", fer_models=world.root, out=out)
    return out / "backbone"


def test_without_adaptation_the_weights_are_the_same_bytes(world, settings, tmp_path):
    backbone = run(world, settings, tmp_path)
    assert backbone_sha256(backbone) == backbone_sha256(world.stage("generator") / "backbone")
    assert read_metrics(tmp_path)["generator/reconstruction_l1"].value > 0


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_fine_tuning_changes_the_unet_and_nothing_else(world, settings, tmp_path, adapt):
    before = load_backbone(world.stage("generator") / "backbone")
    after = load_backbone(run(world, settings, tmp_path, adapt=adapt, steps=2, batch_size=4, lora_rank=2))
    old, new = before.unet.state_dict(), after.unet.state_dict()
    assert set(old) == set(new)
    assert any(not (old[name] == new[name]).all() for name in old if "attn2.to_k.weight" in name)
    assert all((before.vae.state_dict()[name] == value).all() for name, value in after.vae.state_dict().items())


def test_a_backbone_without_a_part_names_it(world, settings, tmp_path):
    (tmp_path / "broken" / "unet").mkdir(parents=True)
    section = settings.generator.model_copy(update={"backbone": str(tmp_path / "broken")})
    with pytest.raises(BackboneError, match="has no vae/"):
        generator.run(section, settings.common, development=world.root, fer_models=world.root, out=tmp_path)
