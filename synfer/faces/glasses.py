"""Glasses: two rims, a bridge and temples."""

from __future__ import annotations

import torch

from synfer.faces.canvas import Canvas, bell, paint, smoothstep
from synfer.faces.geometry import EYE_X, EYE_Y, Subject
from synfer.faces.skin import rgb


def paint_glasses(subject: Subject, canvas: Canvas, albedo: torch.Tensor) -> None:
    """Thin dark rims, rounder on some people, with a faint tint of the lenses."""
    worn = subject.attribute("glasses", "glasses")
    person = subject.person
    power = 2.4 + 2.0 * person.jaw_square
    across = ((canvas.across - EYE_X - 0.005) / 0.215).abs()
    down = ((canvas.y - EYE_Y - 0.025) / 0.150).abs()
    level = (across**power + down**power + 1e-6) ** (1.0 / power) - 1.0
    rim = bell(level * 0.17, 0.014)
    bridge = bell(canvas.y - EYE_Y + 0.015 - 0.5 * canvas.across**2, 0.013) * smoothstep(canvas.across, 0.09, 0.07)
    temple = bell(canvas.y - EYE_Y + 0.02, 0.015) * smoothstep(canvas.across, 0.495, 0.505) * smoothstep(canvas.across, 0.66, 0.63)
    frame = torch.maximum(torch.maximum(rim, bridge), temple)
    paint(albedo, 0.06 * worn * smoothstep(level, 0.02, -0.02), rgb(0.75, 0.82, 0.86))
    colour = 0.06 + 0.25 * (person.hair_rgb + person.hairline.unsqueeze(1) * 2.0).clamp(0.0, 1.0)
    paint(albedo, 0.85 * worn * frame, colour)
