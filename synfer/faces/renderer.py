"""The renderer: draws faces in batches, a head in relief painted part by part, then lit once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from synfer.faces.actions import SUPPORTED_AUS, Actions
from synfer.faces.canvas import Canvas, Stack, bell, paint, smoothstep
from synfer.faces.eye_paint import paint_brows, paint_eyes
from synfer.faces.face import Face
from synfer.faces.geometry import CHIN_Y, HEAD_HALF_WIDTH, Subject, brows, eyes, face_canvas, head_distance, jaw_drop, mouth
from synfer.faces.glasses import paint_glasses
from synfer.faces.hair import back_hair, front_hair, hair_albedo, strands
from synfer.faces.identity import draw_identity
from synfer.faces.mouth_paint import paint_mouth
from synfer.faces.relief import cheek_relief, dome, eye_creases, forehead_creases, mouth_relief, nose_relief, upper_relief
from synfer.faces.shading import backdrop, light_up, photograph
from synfer.faces.skin import bare_skin, lower_occlusion, paint_facial_hair, paint_nostrils, rgb, upper_occlusion

__all__ = ["SUPPORTED_AUS", "render"]

SMALLEST, LARGEST = 32, 256
UPPER_ROWS, NOSE_ROWS, LOWER_ROWS = (0.0, 0.72), (0.22, 0.82), (0.34, 1.0)
"""Fractions of the image's height that hold the parts of the face in any pose: painting no more halves the time."""

CHUNK_PIXELS = 8 * 128 * 128
"""Supersampled pixels drawn at once: the maps of so many fit the processor's cache."""


def _paint_body(subject: Subject, canvas: Canvas, albedo: torch.Tensor) -> torch.Tensor:
    """Paint neck, ears and clothes into `albedo`; returns their coverage (B, H, W)."""
    person = subject.person
    neck_half = 0.36 + 0.07 * subject.attribute("sex", "man")
    neck = canvas.cover(torch.maximum(canvas.across - neck_half - 0.25 * (canvas.y - 0.85).clamp(min=0.0), 0.45 - canvas.y), soft=2.0)
    shade = 0.50 + 0.28 * smoothstep(canvas.y - jaw_drop(subject.action), CHIN_Y - 0.05, CHIN_Y + 0.22)
    paint(albedo, neck, person.skin_rgb * shade.unsqueeze(1))
    ear_x = (canvas.across - HEAD_HALF_WIDTH * person.head_width**0.5 + 0.005) / 0.075
    ear = canvas.cover(0.06 * (ear_x**2 + ((canvas.y - 0.04) / 0.165) ** 2 - 1.0), soft=1.5)
    hollow = 1.0 - 0.35 * bell(ear_x - 0.35, 0.35) * bell(canvas.y - 0.03, 0.09)
    paint(albedo, ear, person.skin_rgb * rgb(0.92, 0.78, 0.75) * hollow.unsqueeze(1))
    cloth = canvas.cover(0.955 + 0.05 * bell(canvas.x, 0.3) - canvas.y - 0.02 * canvas.across, soft=2.0)
    paint(albedo, cloth, person.cloth_rgb)
    return torch.maximum(torch.maximum(neck, ear), cloth)


def band(canvas: Canvas, top: float, bottom: float) -> slice:
    """The rows between two fractions of the image's height."""
    rows = canvas.y.shape[1]
    return slice(int(top * rows), int(bottom * rows))


def _paint_upper_face(subject: Subject, canvas: Canvas, albedo: torch.Tensor, height: torch.Tensor) -> None:
    """Forehead, brows and eyes, into albedo and relief."""
    eye, brow = eyes(subject, canvas), brows(subject, canvas)
    creases = forehead_creases(subject, canvas, brow) + eye_creases(subject, canvas, eye)
    height += upper_relief(subject, canvas, eye, brow) - 0.013 * creases
    albedo *= (upper_occlusion(canvas) * (1.0 - 0.33 * creases.clamp(max=1.2))).unsqueeze(1)
    paint_eyes(subject, canvas, eye, albedo)
    paint_brows(subject, canvas, brow, albedo)


def _paint_lower_face(subject: Subject, canvas: Canvas, albedo: torch.Tensor, height: torch.Tensor) -> None:
    """Cheeks, mouth, chin and beard, into albedo and relief."""
    lips = mouth(subject, canvas)
    height += cheek_relief(subject, canvas, lips) + mouth_relief(subject, canvas, lips)
    albedo *= lower_occlusion(subject, canvas, lips).unsqueeze(1)
    paint_nostrils(subject, canvas, albedo)
    paint_facial_hair(subject, canvas, lips, albedo)
    paint_mouth(subject, canvas, lips, albedo)


def _paint_face(subject: Subject, canvas: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Albedo (B, 3, H, W) and relief (B, H, W) of the face without its outline and hair."""
    albedo, height = bare_skin(subject, canvas), dome(canvas)
    upper, nose, lower = (band(canvas, *rows) for rows in (UPPER_ROWS, NOSE_ROWS, LOWER_ROWS))
    height[:, nose] += nose_relief(subject, canvas.rows(nose))
    _paint_upper_face(subject, canvas.rows(upper), albedo[:, :, upper], height[:, upper])
    _paint_lower_face(subject, canvas.rows(lower), albedo[:, :, lower], height[:, lower])
    return albedo, height


@torch.no_grad()
def _render_batch(faces: Sequence[Face], size: int) -> np.ndarray:
    """uint8 (B, size, size, 3) of one batch."""
    pixels = 2 * size
    person, scene = Stack([draw_identity(face.identity) for face in faces]), Stack([face.scene for face in faces])
    subject = Subject(person, Actions(np.stack([face.aus for face in faces])), scene)
    canvas = face_canvas(subject, pixels)
    outline = head_distance(subject, canvas)
    head = canvas.cover(outline, soft=1.2)
    face, height = _paint_face(subject, canvas)
    locks = strands(subject, canvas)
    hair = hair_albedo(subject, canvas, locks)
    behind = back_hair(subject, canvas)
    over, shadow = front_hair(subject, canvas, outline, behind)
    albedo = hair * 0.78
    body = _paint_body(subject, canvas, albedo)
    paint(albedo, behind * (1.0 - body), hair * 0.78)
    paint(albedo, head, face)
    albedo *= (1.0 - 0.30 * shadow).unsqueeze(1)
    paint(albedo, over, hair)
    paint_glasses(subject, canvas, albedo)
    height = height + over * 0.005 * locks
    gloss = 0.055 * head * (1.0 - over) + 0.05 * over
    lit = light_up(albedo, height, gloss, scene)
    image = backdrop(scene, pixels)
    paint(image, torch.maximum(torch.maximum(head, body), torch.maximum(behind, over)), lit)
    return photograph(image, scene).numpy()


def render(faces: Sequence[Face], *, size: int = 64, batch_size: int = 64) -> np.ndarray:
    """Draw faces: uint8 (N, size, size, 3). An image depends on its face alone.

    At most `batch_size` faces are drawn at once, fewer where large images would not fit the cache.
    Raises ValueError unless size is in 32..256.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"size is {size}; faces are rendered at {SMALLEST} to {LARGEST} pixels")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    step = max(1, min(batch_size, CHUNK_PIXELS // (2 * size) ** 2))
    batches = [_render_batch(faces[start : start + step], size) for start in range(0, len(faces), step)]
    return np.concatenate(batches) if batches else np.zeros((0, size, size, 3), dtype=np.uint8)
