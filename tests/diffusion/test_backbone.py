"""A backbone folder: what is saved comes back and draws the same, names no machine, and says which part is missing."""

import pytest
import torch

from synfer.diffusion.au_adapter import au_condition, unspecified
from synfer.diffusion.backbone import PARTS, BackboneError, load_backbone, save_backbone


def test_a_saved_backbone_predicts_the_same(backbone, tmp_path):
    again = load_backbone(save_backbone(backbone, tmp_path / "tiny"))
    latents, condition = torch.randn(1, 8, 8, 8), au_condition(unspecified(1).nan_to_num(3.0))
    with torch.no_grad():
        found, wanted = (
            b.unet(latents, torch.tensor([9]), b.embed(["sad expression"]), added_cond_kwargs=condition).sample for b in (again, backbone)
        )
    torch.testing.assert_close(found, wanted)
    assert (again.image_size, again.downscale, again.latent_shape()) == (32, 4, (8, 8, 8))


def test_weights_carry_no_path_of_the_machine(backbone, tmp_path):
    reread = load_backbone(save_backbone(backbone, tmp_path / "first"))
    folder = save_backbone(reread, tmp_path / "second")
    assert not [path for path in folder.rglob("*.json") if str(tmp_path) in path.read_text()]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(backbone, tmp_path, part):
    folder = save_backbone(backbone, tmp_path / "tiny")
    (folder / part).rename(tmp_path / part)
    with pytest.raises(BackboneError, match=f"has no {part}/"):
        load_backbone(folder)
