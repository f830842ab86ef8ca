"""MAE: the loss agrees with a slow reference, the encoder sees nothing of a hidden patch, other backbones are refused."""

import pytest
import torch

from synfer.classifiers.backbones import ClassifierError
from synfer.classifiers.masked_autoencoder import MAE, masked_error
from synfer.classifiers.models import create
from synfer.classifiers.views import MILD


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mae() -> MAE:
    torch.manual_seed(0)
    return MAE(create("test_vit", 0, image_size=32), views=MILD).eval()


def test_the_loss_is_the_squared_error_of_hidden_normalised_patches() -> None:
    painted, patches = torch.randn(2, 3, 12, generator=seeded(1)), torch.randn(2, 5, 12, generator=seeded(2)) * 3 + 1
    hidden = torch.tensor([[0, 2, 4], [3, 1, 2]])
    total = 0.0
    for row in range(2):
        for place, number in enumerate(hidden[row]):
            patch = patches[row, number]
            wanted = (patch - patch.mean()) / patch.std()
            total += sum(float(painted[row, place, i] - wanted[i]) ** 2 for i in range(12))
    assert float(masked_error(painted, patches, hidden)) == pytest.approx(total / (2 * 3 * 12), rel=1e-4)


def test_a_mask_hides_three_quarters_of_the_patches_and_no_prefix_token() -> None:
    module = mae()
    seen, hidden = module.mask(20, seeded())
    assert (seen.shape, hidden.shape) == ((20, 1 + 16), (20, 48))
    assert (seen[:, 0] == 0).all()
    assert (torch.cat([seen, hidden], 1).sort(1).values == torch.arange(65)).all()
    assert not torch.equal(hidden[0].sort().values, hidden[1].sort().values)


def test_what_is_hidden_cannot_change_the_reconstruction_and_what_is_seen_does() -> None:
    module = mae()
    pixels = torch.randn(1, 3, 32, 32, generator=seeded())
    seen, hidden = module.mask(1, seeded())

    def changed(token: int) -> torch.Tensor:
        """The pixels with another patch at this token's place."""
        row, column = divmod(token - 1, 8)
        other = pixels.clone()
        other[..., row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 1.0
        return other

    with torch.no_grad():
        base, unseen, visible = (
            module.reconstruct(image, seen, hidden) for image in (pixels, changed(int(hidden[0, 0])), changed(int(seen[0, 1])))
        )
    assert torch.equal(base, unseen)
    assert not torch.allclose(base, visible, atol=1e-5)


def test_the_weights_of_the_transformer_are_in_the_state_once() -> None:
    module = mae()
    names = [name for name in module.state_dict() if "blocks.0.attn.qkv.weight" in name]
    assert sorted(names) == ["decoder.blocks.0.attn.qkv.weight", "encoder.backbone.vit.blocks.0.attn.qkv.weight"]


@pytest.mark.parametrize("backbone", ["resnet10t", "plain_cnn", "swin_tiny_patch4_window7_224", "deit_tiny_distilled_patch16_224"])
def test_other_backbones_are_told_what_mae_needs(backbone: str) -> None:
    with pytest.raises(ClassifierError, match=rf"plain vision transformer, such as timm's vit_tiny.*{backbone}"):
        MAE(create(backbone, 0, image_size=64), views=MILD)
