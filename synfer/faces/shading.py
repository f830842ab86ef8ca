"""Light: normals of the relief, key and fill, shine, camera."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from synfer.faces.canvas import Stack

# Light wraps further round skin for red than for blue: a cheap stand-in for scattering below the surface.
WRAP = torch.tensor([0.38, 0.24, 0.18])[None, :, None, None]


def slopes(height: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences of a height field (B, H, W) over the image, per half image size."""
    pixels = height.shape[-1]
    padded = F.pad(height.unsqueeze(1), (1, 1, 1, 1), mode="replicate").squeeze(1)
    scale = pixels / 4.0
    return (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * scale, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * scale


def light_up(albedo: torch.Tensor, height: torch.Tensor, gloss: torch.Tensor, scene: Stack) -> torch.Tensor:
    """Shaded colours 0..1, (B, 3, H, W), of an albedo (B, 3, H, W) on a relief (B, H, W) with shine `gloss` (B, H, W)."""
    slope_x, slope_y = slopes(height)
    slope_x, slope_y = slope_x - 0.8 * torch.sin(scene.yaw), slope_y - 0.8 * torch.sin(scene.pitch)
    norm = torch.rsqrt(1.0 + slope_x**2 + slope_y**2)
    light_x = torch.sin(scene.light_azimuth) * torch.cos(scene.light_elevation)
    light_y = -torch.sin(scene.light_elevation)
    light_z = torch.cos(scene.light_azimuth) * torch.cos(scene.light_elevation)
    facing = (light_z - slope_x * light_x - slope_y * light_y) * norm
    diffuse = ((facing.unsqueeze(1) + WRAP) / (1.0 + WRAP)).clamp_(min=0.0)
    warm = torch.tensor([0.07, 0.0, -0.08])[None, :, None, None] * scene.light_warmth.unsqueeze(1)
    sky = (0.82 + 0.18 * slope_y * norm + 0.0).unsqueeze(1)  # the ground gives less light than the sky
    light = scene.key.unsqueeze(1) * (1.0 + warm) * diffuse + scene.ambient.unsqueeze(1) * (1.0 - 0.7 * warm) * sky
    half_z = light_z + 1.0
    half_norm = torch.rsqrt(light_x**2 + light_y**2 + half_z**2)
    shine = ((half_z - slope_x * light_x - slope_y * light_y) * norm * half_norm).clamp_(min=0.0)
    shine = ((shine**2) ** 2 * shine) ** 2  # 10th power
    shine = shine * shine
    return torch.sqrt((albedo**2 * light + (gloss * shine).unsqueeze(1)).clamp_(0.0, 1.0))


def backdrop(scene: Stack, pixels: int) -> torch.Tensor:
    """The background's soft gradient, (B, 3, H, W)."""
    line = (torch.arange(pixels, dtype=torch.float32) + 0.5) * (2.0 / pixels) - 1.0
    x, y = line[None, None, :], line[None, :, None]
    t = 0.5 + 0.36 * (x * torch.cos(scene.background_angle) + y * torch.sin(scene.background_angle))
    vignette = (1.04 - 0.10 * (x**2 + y**2)).unsqueeze(1)
    return (torch.lerp(scene.background_rgb, scene.background_rgb2, t.unsqueeze(1)) * vignette).clamp_(0.0, 1.0)


def photograph(image: torch.Tensor, scene: Stack) -> torch.Tensor:
    """Camera: halve the size, expose, blur and add a little noise; uint8 (B, H, W, 3)."""
    image = F.avg_pool2d(image, 2)
    soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    image = torch.lerp(image, soft, scene.blur.unsqueeze(1)) * scene.exposure.unsqueeze(1)
    seeds = scene.column("noise_seed")
    grain = torch.stack([torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    image = image + grain * scene.noise.unsqueeze(1)
    return (image.clamp_(0.0, 1.0) * 255.0).round_().to(torch.uint8).permute(0, 2, 3, 1)
