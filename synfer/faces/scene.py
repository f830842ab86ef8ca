"""Scenes: how a face is photographed; everything that is neither the person nor the expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Pose and light in radians, colours RGB 0..1, offsets in half image sizes; positive x is the image's right, positive y its bottom."""

    yaw: float
    pitch: float
    roll: float
    shift_x: float
    shift_y: float
    scale: float
    gaze_x: float
    gaze_y: float
    light_azimuth: float
    light_elevation: float
    light_warmth: float
    key: float
    ambient: float
    exposure: float
    blur: float
    noise: float
    noise_seed: int
    background_rgb: RGB
    background_rgb2: RGB
    background_angle: float


def _draw_background(rng: np.random.Generator) -> RGB:
    """A muted colour: any lightness, little saturation."""
    grey = rng.uniform(0.22, 0.80)
    red, green, blue = (float(np.clip(grey + rng.normal(0.0, 0.06), 0.05, 0.92)) for _ in range(3))
    return red, green, blue


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random mild pose (about +-20, 12, 10 degrees), light, camera and background."""

    def degrees(spread: float, most: float) -> float:
        return float(np.deg2rad(np.clip(rng.normal(0.0, spread), -most, most)))

    return Scene(
        yaw=degrees(9.0, 20.0),
        pitch=degrees(5.0, 12.0),
        roll=degrees(4.0, 10.0),
        shift_x=float(rng.uniform(-0.03, 0.03)),
        shift_y=float(rng.uniform(-0.05, 0.0)),
        scale=float(rng.uniform(0.99, 1.07)),
        gaze_x=float(np.clip(rng.normal(0.0, 0.35), -1.0, 1.0)),
        gaze_y=float(np.clip(rng.normal(0.0, 0.25), -1.0, 1.0)),
        light_azimuth=float(np.deg2rad(rng.uniform(-55.0, 55.0))),
        light_elevation=float(np.deg2rad(rng.uniform(15.0, 50.0))),
        light_warmth=float(rng.uniform(-0.6, 1.0)),
        key=float(rng.uniform(0.66, 0.95)),
        ambient=float(rng.uniform(0.38, 0.54)),
        exposure=float(rng.uniform(0.90, 1.10)),
        blur=float(rng.uniform(0.0, 0.35)),
        noise=float(rng.uniform(0.0, 1.5)) / 255.0,
        noise_seed=int(rng.integers(2**31)),
        background_rgb=_draw_background(rng),
        background_rgb2=_draw_background(rng),
        background_angle=float(rng.uniform(0.0, 2.0 * np.pi)),
    )
