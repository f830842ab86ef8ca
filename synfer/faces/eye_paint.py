"""Eyes and brows: sclera, iris, pupil, catchlight, lids, lashes, and the hairs of the brow."""

from __future__ import annotations

import torch

from synfer.faces.canvas import Canvas, bell, paint, smoothstep
from synfer.faces.geometry import EYE_X, EYE_Y, Brows, Eyes, Subject
from synfer.faces.skin import rgb

IRIS_RADIUS = 0.066


def _paint_iris(subject: Subject, canvas: Canvas, opening: torch.Tensor, albedo: torch.Tensor) -> None:
    person, scene = subject.person, subject.scene
    side = torch.where(canvas.x > 0, 1.0, -1.0)
    x = canvas.across - EYE_X * person.eye_spacing - side * 0.035 * scene.gaze_x
    y = canvas.y - EYE_Y + 0.004 - 0.014 * scene.gaze_y
    radius = torch.sqrt(x**2 + y**2) / (IRIS_RADIUS * person.eye_size**0.5)
    ring = smoothstep(radius, 0.70, 1.0)
    lit = (0.80 + 0.55 * smoothstep(y, -0.03, 0.05) - 0.55 * ring).unsqueeze(1)
    iris = (person.eye_rgb * lit).clamp(0.0, 1.0)
    disc = opening * smoothstep(radius, 1.10, 0.90)
    paint(albedo, disc, iris)
    paint(albedo, opening * smoothstep(radius, 0.52, 0.36), rgb(0.03, 0.02, 0.02))
    glint_x, glint_y = canvas.across * side - side * EYE_X * person.eye_spacing - 0.035 * scene.gaze_x, y
    shift = 0.026 * torch.sin(scene.light_azimuth).sign()
    glint = torch.exp(-(((glint_x - shift) / 0.017) ** 2) - ((glint_y + 0.024) / 0.017) ** 2)
    paint(albedo, 0.95 * opening * smoothstep(glint, 0.25, 0.7), rgb(1.0, 1.0, 1.0))


def paint_eyes(subject: Subject, canvas: Canvas, eye: Eyes, albedo: torch.Tensor) -> None:
    """Everything between the lids, then the lids' edges and lashes."""
    person = subject.person
    inside = torch.maximum(eye.upper - eye.y, eye.y - eye.lower)
    opening = canvas.cover(inside) * smoothstep(eye.u.abs(), 1.0, 0.96) * smoothstep(eye.lower - eye.upper, 0.004, 0.016)
    shade = 1.0 - 0.30 * smoothstep(eye.y - eye.upper, 0.035, 0.0) - 0.22 * eye.u**2
    paint(albedo, opening, rgb(0.93, 0.915, 0.905) * shade.clamp(0.0, 1.0).unsqueeze(1))
    paint(albedo, 0.6 * opening * smoothstep(eye.u, -0.75, -0.98), person.skin_rgb * rgb(0.95, 0.62, 0.58))
    _paint_iris(subject, canvas, opening, albedo)
    _paint_lids(subject, eye, albedo)


def _paint_lids(subject: Subject, eye: Eyes, albedo: torch.Tensor) -> None:
    """Lashes, the lower lid's edge and the fold of the upper lid."""
    person = subject.person
    woman = subject.attribute("sex", "woman")
    lash = 0.0125 + 0.004 * woman + 0.006 * person.makeup
    outer = 0.75 + 0.35 * eye.u.clamp(-1.0, 1.0)
    edge = bell(eye.y - eye.upper + 0.006, lash * outer) * smoothstep(eye.u.abs(), 1.16, 0.98)
    wing = woman * bell(eye.y - eye.upper + 0.10 * (eye.u - 0.95), 0.013) * bell(eye.u - 1.08, 0.11)
    dark = rgb(0.10, 0.07, 0.06) * 0.6 + person.hair_rgb * 0.15
    paint(albedo, (0.92 * edge).clamp(0.0, 1.0), dark)
    paint(albedo, 0.6 * wing, dark)
    lower_edge = bell(eye.y - eye.lower - 0.005, 0.011) * smoothstep(eye.u.abs(), 1.05, 0.85)
    paint(albedo, 0.38 * lower_edge, person.skin_rgb * rgb(0.45, 0.30, 0.28))
    fold = bell(eye.y - eye.upper + 0.040 - 0.012 * eye.u**2, 0.012) * smoothstep(eye.u.abs(), 1.15, 0.8)
    fold = fold * (1.0 - 0.6 * subject.action.both("43"))
    paint(albedo, (0.36 + 0.1 * person.age) * fold, person.skin_rgb * rgb(0.50, 0.36, 0.33))


def paint_brows(subject: Subject, canvas: Canvas, brow: Brows, albedo: torch.Tensor) -> None:
    """Tapered brows with a soft upper edge."""
    person = subject.person
    taper = smoothstep(brow.v, 1.10, 0.15) * 0.75 + 0.25
    half = 0.031 * person.brow_thickness * taper
    distance = (canvas.y - brow.y).abs() - half
    ends = smoothstep(brow.v, -1.12, -0.92) * smoothstep(brow.v, 1.12, 0.95)
    hairs = 0.96 + 0.04 * torch.sin(brow.v * 24.0 + canvas.y * 40.0)
    mask = canvas.cover(distance - 0.002, soft=1.7) * ends * hairs
    colour = person.hair_rgb * (0.55 - 0.16 * subject.attribute("skin", "brown", "dark").unsqueeze(1))
    paint(albedo, (0.90 - 0.10 * person.age) * mask, colour)
