"""timm's backbones at the size of small images: networks of stages are cut, vision transformers get smaller patches.

They are made for 224 pixels and shrink an image 32 times: of 64 pixels 2x2 cells would be left, too few to tell a brow from a mouth. So the
stages that leave less than `MIN_CELLS` cells a side are cut off, which also makes the network smaller and faster.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision before timm imports it

from typing import Any, cast

import timm
import torch
from torch import nn

from synfer.classifiers.plain import PLAIN, REDUCTION, WIDTHS, PlainCNN
from synfer.errors import SynferError
from synfer.vocabulary import unknown

MIN_CELLS = 4
"""Cells a side that the last feature map keeps."""

MIN_PATCHES = 8
"""Patches a side that a vision transformer cuts an image into at least: 8 pixels of 64, about the height of an eye."""


class ClassifierError(SynferError):
    """A classifier that cannot be built or read; the message names the architecture or the file."""


class Transformer(nn.Module):
    """A timm transformer of one width: images (N, 3, H, W) -> [maps (N, C, h, w)], the patch tokens of its last block, normalised.

    The class token and registers, where it has them, take part in the attention and are left out of the maps. Patches are the
    architecture's own, or the largest smaller ones that divide the image and give `MIN_PATCHES` a side.
    """

    def __init__(self, architecture: str, image_size: int, pretrained: bool, **options: Any) -> None:
        super().__init__()
        self.patch_size = _patch_size(architecture, image_size)
        sizes: dict[str, Any] = {"img_size": image_size, "patch_size": self.patch_size}
        self.vit = cast(Any, timm.create_model(architecture, pretrained=pretrained, num_classes=0, **sizes, **options))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.vit.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)


def backbone_of(architecture: str, image_size: int, pretrained: bool, *, drop_path: float = 0.0) -> tuple[nn.Module, int]:
    """A network images (N, 3, H, W) -> [maps (N, C, h, w)] of at least `MIN_CELLS` cells a side, and its width C.

    `drop_path` is the share of residual branches that training leaves out; raises ClassifierError where timm has none for the architecture.
    """
    try:
        return _backbone_of(architecture, image_size, pretrained, {"drop_path_rate": drop_path} if drop_path else {})
    except TypeError as error:
        if not drop_path:
            raise
        raise ClassifierError(f"{architecture} cannot drop residual branches (drop_path {drop_path:g}): {error}") from error


def _backbone_of(architecture: str, image_size: int, pretrained: bool, options: dict[str, Any]) -> tuple[nn.Module, int]:
    if architecture == PLAIN and options:
        raise TypeError("it has none")
    if architecture == PLAIN:
        _check_size(architecture, image_size, REDUCTION)
        return PlainCNN(), WIDTHS[-1]
    if not timm.is_model(architecture):
        raise ClassifierError(unknown("architecture", architecture, _nearest(architecture)))
    whole, sized = _of_stages(architecture, image_size)
    info = _feature_info(whole)
    if len(set(info.reduction())) == 1 < len(info.reduction()):
        transformer = Transformer(architecture, image_size, pretrained, **options)
        return transformer, transformer.vit.num_features
    kept = [index for index, reduction in enumerate(info.reduction()) if image_size // reduction >= MIN_CELLS]
    if not kept:
        _check_size(architecture, image_size, info.reduction()[0])
    backbone = timm.create_model(architecture, features_only=True, out_indices=(kept[-1],), pretrained=pretrained, **sized, **options)
    return backbone, _feature_info(backbone).channels()[-1]


def _of_stages(architecture: str, image_size: int) -> tuple[nn.Module, dict[str, Any]]:
    """The network with all its stages, and what timm must be told to make it for this image size, with channels first."""
    settings = timm.get_pretrained_cfg(architecture)
    sized: dict[str, Any] = {"img_size": image_size} if settings is not None and settings.fixed_input_size else {}
    if sized:
        sized["feature_cls"] = "getter"  # timm's other wrappers leave the channels of a Swin last
    return timm.create_model(architecture, features_only=True, **sized), sized


def _patch_size(architecture: str, image_size: int) -> int:
    own = getattr(getattr(timm.create_model(architecture, num_classes=0), "patch_embed", None), "patch_size", None)
    if not isinstance(own, tuple):
        raise ClassifierError(f"{architecture} cannot be made for small images: it has no embedding of square patches, as a ViT has")
    fitting = [size for size in range(1, own[0] + 1) if image_size % size == 0 and image_size // size >= MIN_PATCHES]
    if not fitting:
        raise ClassifierError(f"{architecture} needs images of at least {MIN_PATCHES} pixels, not {image_size}")
    return fitting[-1]


def _check_size(architecture: str, image_size: int, reduction: int) -> None:
    if image_size // reduction < MIN_CELLS:
        raise ClassifierError(f"{architecture} needs images of at least {reduction * MIN_CELLS} pixels, not {image_size}")


def _feature_info(backbone: nn.Module) -> timm.models.FeatureInfo:
    return cast(timm.models.FeatureInfo, backbone.feature_info)


def _nearest(architecture: str) -> list[str]:
    """timm's architectures of the same family, or all families when there is none."""
    return timm.list_models(f"{architecture.split('_')[0][:6]}*") or timm.list_modules()
