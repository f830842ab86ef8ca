"""Hair: behind the head, over the forehead, and its strands."""

from __future__ import annotations

import torch

from synfer.faces.canvas import Canvas, bell, smoothstep
from synfer.faces.geometry import CHEEKBONE_Y, HEAD_HALF_WIDTH, Subject


def strands(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Brightness about 1 of the locks: combed from the parting, or curls."""
    phase, curly = subject.person.hair_phase, subject.attribute("hair_style", "curly")
    part = 0.3 * subject.person.parting
    angle = torch.atan2(canvas.x - part, canvas.y + 1.45)
    flow = angle * 13.0 + phase + 0.9 * torch.sin(canvas.y * 3.0 + phase)
    combed = 0.6 * torch.sin(flow) + 0.4 * torch.sin(2.3 * flow + 1.0)
    bent_x = canvas.x * 15.0 + 2.2 * torch.sin(canvas.y * 8.0 + phase)
    bent_y = canvas.y * 14.0 + 2.2 * torch.sin(canvas.x * 9.0 - phase)
    curls = torch.sin(bent_x) * torch.sin(bent_y)
    return torch.lerp(combed, 1.3 * curls, curly.expand_as(combed))


def back_hair(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Coverage of the hair behind the face, 0..1."""
    bald, short = subject.attribute("hair_style", "bald"), subject.attribute("hair_style", "short")
    long, curly = subject.attribute("hair_style", "long"), subject.attribute("hair_style", "curly")
    volume = 0.10 - 0.075 * short + 0.085 * curly
    half_width = HEAD_HALF_WIDTH * subject.person.head_width**0.5 + volume
    reach = 0.80 - 0.50 * short + 1.5 * long + 0.12 * curly
    up = ((CHEEKBONE_Y - canvas.y) / (1.09 + volume)).clamp(min=0.0)
    down = ((canvas.y - CHEEKBONE_Y) / reach).clamp(min=0.0)
    level = (canvas.across / half_width) ** 2 + up**2.4 + down**3 - 1.0
    bumps = curly * 0.09 * torch.sin(torch.atan2(canvas.x, -canvas.y + 0.1) * 17.0 + subject.person.hair_phase)
    return canvas.cover(0.33 * (level + bumps), soft=1.6) * (1.0 - bald)


def hairline(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """y of the lower edge of the hair on the head at every pixel: forehead, temples, and locks that fall beside the face."""
    person = subject.person
    falls = subject.attribute("hair_style", "long", "medium")
    curly = subject.attribute("hair_style", "curly")
    recede = 0.06 * person.age * subject.attribute("sex", "man")
    middle = -0.70 + person.hairline - recede + 0.17 * person.fringe + 0.055 * person.parting * canvas.x / 0.4
    side = smoothstep(canvas.across, 0.34, 0.68) ** 2
    drop = 0.75 + 1.7 * falls + 0.45 * curly
    wave = 0.014 * torch.sin(canvas.x * 21.0 + person.hair_phase) * (1.0 + 1.6 * curly)
    return middle + drop * side + wave


def front_hair(subject: Subject, canvas: Canvas, head: torch.Tensor, behind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coverage of the hair over the head and of the shadow it casts, 0..1.

    `head` is the head's signed distance, `behind` the back hair's coverage.
    """
    bald = subject.attribute("hair_style", "bald")
    falls = subject.attribute("hair_style", "long", "medium")
    frame = torch.maximum(canvas.cover(head - 0.03, soft=1.5), falls * behind)
    below = canvas.y - hairline(subject, canvas)
    hairy = 1.0 - bald
    return canvas.cover(0.7 * below, soft=2.6) * frame * hairy, smoothstep(below, 0.13, 0.0) * hairy


def hair_albedo(subject: Subject, canvas: Canvas, locks: torch.Tensor) -> torch.Tensor:
    """Colour of the hair, (B, 3, H, W), with a soft shine band around the head."""
    radius = torch.sqrt(canvas.x**2 + (canvas.y + 0.1) ** 2)
    band = bell(radius - 0.80, 0.10) * (0.7 + 0.3 * locks) * smoothstep(canvas.y, 0.2, -0.3)
    base = subject.person.hair_rgb * (0.88 + 0.15 * locks + 0.20 * band).unsqueeze(1)
    return base + 0.045 * band.unsqueeze(1)
