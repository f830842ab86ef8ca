"""Skin: its colour over the face, occluded light, freckles and stubble, moustache and beard."""

from __future__ import annotations

import torch

from synfer.faces.canvas import Canvas, bell, paint, smoothstep, spot
from synfer.faces.geometry import EYE_X, EYE_Y, Mouth, Subject, jaw_drop


def rgb(red: float, green: float, blue: float) -> torch.Tensor:
    """A colour 0..1 as a tensor (1, 3, 1, 1)."""
    return torch.tensor([red, green, blue])[None, :, None, None]


def flush(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Blood under the skin, 0..1: cheeks, tip of the nose, chin; stronger in a smile or in an effort."""
    action = subject.action
    cheeks = spot(canvas, 0.38, 0.18, 0.19, 0.15) * (0.55 + 0.3 * action.both("12") + 0.35 * subject.person.makeup)
    nose = 0.45 * torch.exp(-((canvas.x / 0.11) ** 2) - ((canvas.y - 0.25) / 0.08) ** 2)
    return cheeks + nose + 0.25 * spot(canvas, 0.0, 0.76, 0.15, 0.09)


def upper_occlusion(canvas: Canvas) -> torch.Tensor:
    """Light that reaches the skin, 0..1: less in the eye sockets."""
    sockets = 0.16 * spot(canvas, EYE_X - 0.11, EYE_Y - 0.03, 0.085, 0.085) + 0.08 * spot(canvas, EYE_X, EYE_Y - 0.04, 0.2, 0.10)
    return 1.0 - sockets


def lower_occlusion(subject: Subject, canvas: Canvas, lips: Mouth) -> torch.Tensor:
    """Light that reaches the skin, 0..1: less beside and under the nose, under the lip, in the mouth's corners."""
    nose = 0.30 * torch.exp(-((canvas.x / 0.115) ** 2) - ((canvas.y - 0.352) / 0.032) ** 2) + 0.14 * spot(canvas, 0.155, 0.275, 0.03, 0.06)
    lip = 0.20 * bell(canvas.x, 0.14) * bell(canvas.y - lips.lower_bottom - 0.028, 0.026)
    dimple = 0.20 + 0.60 * subject.action.on("14", canvas)
    corner = dimple * bell(canvas.across - lips.half_width - 0.015, 0.028) * bell(canvas.y - lips.corner_y, 0.034)
    return 1.0 - nose - lip - corner


def freckles(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Soft freckles over nose and cheeks, 0..1."""
    phase = subject.person.hair_phase
    bent_x = canvas.x * 61.0 + 4.0 * torch.sin(canvas.y * 19.0 + phase)
    bent_y = canvas.y * 67.0 + 4.0 * torch.sin(canvas.x * 23.0 + phase)
    dots = torch.sin(bent_x) * torch.sin(bent_y)
    return subject.person.freckles * smoothstep(dots, 0.45, 0.9) * bell(canvas.across - 0.22, 0.25) * bell(canvas.y - 0.14, 0.15)


def bare_skin(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Albedo of the bare face, (B, 3, H, W)."""
    red = flush(subject, canvas).unsqueeze(1)
    skin = subject.person.skin_rgb * (1.0 - red * torch.tensor([0.01, 0.10, 0.09])[None, :, None, None])
    paint(skin, 0.35 * freckles(subject, canvas), subject.person.skin_rgb * rgb(0.70, 0.55, 0.45))
    return skin


def paint_nostrils(subject: Subject, canvas: Canvas, albedo: torch.Tensor) -> None:
    """Dark nostrils; AU 9 lifts and widens them."""
    wrinkle, person = subject.action.both("9"), subject.person
    x = (canvas.across - (0.056 + 0.008 * wrinkle) * person.nose_width) / (0.030 * person.nose_width)
    y = (canvas.y - 0.314 * person.nose_length + 0.024 * wrinkle - 0.25 * (canvas.across - 0.056)) / 0.0165
    paint(albedo, 0.80 * smoothstep(x**2 + y**2, 1.6, 0.4), subject.person.skin_rgb * rgb(0.28, 0.18, 0.17))
    wing = bell(canvas.across - 0.142 * person.nose_width, 0.013) * bell(canvas.y - 0.275 + 0.024 * wrinkle, 0.036)
    paint(albedo, 0.35 * wing, subject.person.skin_rgb * rgb(0.45, 0.33, 0.30))


def paint_facial_hair(subject: Subject, canvas: Canvas, lips: Mouth, albedo: torch.Tensor) -> None:
    """Stubble, moustache or beard around the lips; the lips are painted later and stay free."""
    stubble, moustache = subject.attribute("facial_hair", "stubble"), subject.attribute("facial_hair", "moustache")
    beard = subject.attribute("facial_hair", "beard")
    above = lips.upper_top - canvas.y
    lip_hair = smoothstep(above, -0.03, 0.012) * smoothstep(canvas.y - 0.05 * lips.q**2, 0.36, 0.415) * smoothstep(lips.q, 1.3, 0.85)
    jaw_line = 0.42 - 0.85 * (canvas.across - 0.34).clamp(min=0.0) ** 0.9 + 0.55 * (0.30 - canvas.across).clamp(min=0.0)
    below = smoothstep(canvas.y - jaw_line - 0.3 * jaw_drop(subject.action), -0.03, 0.14)
    beside_mouth = smoothstep(lips.q - 3.0 * (canvas.y - lips.corner_y).clamp(min=0.0), 0.98, 1.12)
    below = below * torch.maximum(beside_mouth, smoothstep(canvas.y - lips.lower_bottom, 0.015, 0.075))
    strands = 0.95 + 0.05 * torch.sin(canvas.x * 60.0 + 12.0 * canvas.y.sin())
    whole = torch.maximum(lip_hair, below)
    cover = 0.26 * stubble * whole + 0.85 * moustache * lip_hair + 0.82 * beard * whole
    paint(albedo, cover * strands, subject.person.hair_rgb * 0.85)
