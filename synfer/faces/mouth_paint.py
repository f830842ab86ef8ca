"""The mouth: cavity, teeth, tongue and lips."""

from __future__ import annotations

import torch

from synfer.faces.canvas import Canvas, bell, paint, smoothstep
from synfer.faces.geometry import Mouth, Subject
from synfer.faces.skin import rgb


def _paint_inside(subject: Subject, canvas: Canvas, lips: Mouth, albedo: torch.Tensor) -> None:
    action = subject.action
    opening = canvas.cover(torch.maximum(lips.upper_edge - canvas.y, canvas.y - lips.lower_edge))
    opening = opening * smoothstep(lips.lower_edge - lips.upper_edge, 0.002, 0.014) * smoothstep(lips.q, 1.0, 0.97)
    paint(albedo, opening, rgb(0.20, 0.055, 0.06))
    tongue_y = canvas.y - lips.lower_edge + 0.25 * lips.gap
    tongue = smoothstep(tongue_y, -0.035, 0.02) * smoothstep(lips.q, 0.85, 0.55) * smoothstep(lips.gap, 0.10, 0.17)
    paint(albedo, 0.85 * opening * tongue, rgb(0.66, 0.30, 0.29))
    shown = 0.024 + 0.040 * action.both("25") + 0.022 * action.both("20")
    shown = shown + 0.050 * action.on("10", canvas) + 0.030 * action.on("12", canvas)
    height = torch.minimum(shown, torch.full_like(shown, 0.070))
    teeth = canvas.cover(canvas.y - lips.upper_edge - height * (1.0 - 0.25 * lips.q**2), soft=1.5) * smoothstep(lips.q, 0.96, 0.80)
    shade = 1.0 - 0.42 * lips.q.clamp(max=1.0) ** 2 - 0.18 * smoothstep(canvas.y - lips.upper_edge, 0.02, 0.0)
    ivory = rgb(0.94, 0.91, 0.86) * shade.unsqueeze(1)
    paint(albedo, 0.97 * opening * teeth, ivory)
    lower = smoothstep(lips.lower_edge - canvas.y, 0.045, 0.03) * action.both("16").clamp(max=0.5) * 2.0 * smoothstep(lips.q, 0.8, 0.6)
    paint(albedo, 0.85 * opening * lower, rgb(0.86, 0.82, 0.76))


def paint_mouth(subject: Subject, canvas: Canvas, lips: Mouth, albedo: torch.Tensor) -> None:
    """Lips around whatever the gap shows, and the dark line where they meet."""
    person = subject.person
    tint = person.skin_rgb * rgb(0.86, 0.58, 0.56) + rgb(0.05, 0.01, 0.015)
    tint = torch.lerp(tint, rgb(0.66, 0.20, 0.22).expand_as(tint), 0.40 * person.makeup.unsqueeze(1))
    ends = smoothstep(lips.q, 1.03, 0.94)
    upper = canvas.cover(torch.maximum(lips.upper_top - canvas.y, canvas.y - lips.upper_edge), soft=1.3) * ends
    lower = canvas.cover(torch.maximum(lips.lower_edge - canvas.y, canvas.y - lips.lower_bottom), soft=1.3) * ends
    paint(albedo, 0.92 * upper, tint * 0.80)
    paint(albedo, 0.88 * lower, tint)
    shine = bell(canvas.y - lips.lower_edge * 0.55 - lips.lower_bottom * 0.45, 0.016) * bell(canvas.x, 0.11) * lower
    paint(albedo, 0.22 * shine, rgb(1.0, 0.9, 0.88))
    _paint_inside(subject, canvas, lips, albedo)
    line = (lips.upper_edge + lips.lower_edge) / 2.0
    closed = smoothstep(lips.lower_edge - lips.upper_edge, 0.03, 0.0)
    seam = bell(canvas.y - line, 0.0125 + 0.004 * lips.pressed) * smoothstep(lips.q, 1.08, 0.96) * closed
    paint(albedo, 0.85 * seam, person.skin_rgb * rgb(0.36, 0.17, 0.17))
