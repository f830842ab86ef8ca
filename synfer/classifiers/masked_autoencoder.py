"""MAE on a timm vision transformer: the encoder sees a quarter of the patches, a small decoder paints the others (arXiv:2111.06377)."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision before lightly imports it

import torch
from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
from lightly.models.modules.masked_vision_transformer_timm import MaskedVisionTransformerTIMM
from lightly.models.utils import get_at_index, patchify, repeat_token, set_at_index
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from synfer.classifiers.backbones import ClassifierError, Transformer
from synfer.classifiers.models import Network
from synfer.classifiers.views import Views, view

MASKED = 0.75
"""Share of the patches that the encoder does not see; the paper's best."""

HEAD_WIDTH, DEPTH = 32, 2
"""Of the decoder; one block already serves a linear probe nearly as well as eight (table 1a)."""


class MAE(nn.Module):
    """Encoder, decoder and the projections around it; raises ClassifierError if the encoder is not a plain vision transformer."""

    def __init__(self, encoder: Network, *, views: Views, masked: float = MASKED) -> None:
        super().__init__()
        vit = _plain_vit(encoder)
        self.encoder, self.views, self.share = encoder, views, masked
        self.patches, self.prefix = vit.patch_embed.num_patches, vit.num_prefix_tokens
        self.patch_size = vit.patch_embed.patch_size[0]
        # Kept out of the module's state, which has the transformer's weights as the encoder's already; the mask token is the decoder's.
        self._masked = (MaskedVisionTransformerTIMM(vit, pos_embed_initialization="learn" if vit.no_embed_class else "sincos"),)
        width = max(2, encoder.width // (2 * HEAD_WIDTH)) * HEAD_WIDTH
        self.embed = nn.Linear(encoder.width, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=self.patches, embed_dim=width, depth=DEPTH, num_heads=width // HEAD_WIDTH, num_prefix_tokens=self.prefix
        )
        self.paint = nn.Linear(width, self.patch_size**2 * 3)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the hidden patches of images (N, 3, H, W) in [-1, 1]."""
        pixels = self.encoder.normalised(view(images, generator, self.views))
        seen, hidden = self.mask(len(images), generator)
        painted = self.reconstruct(pixels, seen.to(images.device), hidden.to(images.device))
        return masked_error(painted.float(), patchify(pixels, self.patch_size).float(), hidden.to(images.device) - self.prefix)

    def mask(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Token numbers (count, seen), prefix tokens first, and (count, hidden), drawn for each image."""
        order = torch.rand(count, self.patches, generator=generator).argsort(1) + self.prefix
        seen = self.patches - int(self.share * self.patches)
        return torch.cat([torch.arange(self.prefix).expand(count, -1), order[:, :seen]], 1), order[:, seen:]

    def reconstruct(self, pixels: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
        """Patches (N, hidden, 3 P^2) at the hidden tokens of pixels (N, 3, H, W), from the seen ones."""
        tokens = self.embed(self._masked[0].encode(pixels, idx_keep=seen))
        whole = repeat_token(self.decoder.mask_token, (len(pixels), self.patches + self.prefix)).to(tokens)
        return self.paint(get_at_index(self.decoder(set_at_index(whole, seen, tokens)), hidden))

    def update(self, step: int, steps: int) -> None:
        """MAE has no momentum network."""


def masked_error(painted: Tensor, patches: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error of painted patches (N, M, D) against patches `hidden` (N, M) of (N, P, D), each brought to mean 0 and variance 1.

    A patch's own contrast is the target, not its brightness: the paper's better variant (section 4.1, "normalized pixels").
    """
    wanted = get_at_index(patches, hidden)
    mean, variance = wanted.mean(-1, keepdim=True), wanted.var(-1, keepdim=True)
    return (painted - (wanted - mean) / (variance + 1e-6).sqrt()).square().mean()


def _plain_vit(encoder: Network) -> VisionTransformer:
    backbone = encoder.backbone
    vit = backbone.vit if isinstance(backbone, Transformer) else None
    if not isinstance(vit, VisionTransformer) or getattr(vit, "dist_token", None) is not None or vit.pos_embed is None:
        raise ClassifierError(
            f"MAE hides tokens of a plain vision transformer, such as timm's vit_tiny_patch16_224 (its patches are made to fit the image); "
            f"{encoder.architecture} is none"
        )
    return vit
