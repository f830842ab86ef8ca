"""Relief: the head as a height field, with the creases that age and action units make in it."""

from __future__ import annotations

import torch

from synfer.faces.canvas import Canvas, bell, smoothstep, spot
from synfer.faces.geometry import EYE_X, EYE_Y, Brows, Eyes, Mouth, Subject, jaw_drop


def dome(canvas: Canvas) -> torch.Tensor:
    """The bare head: an ellipsoid that goes on beyond its outline, so that hair and ears are shaded with it."""
    return 0.66 * torch.sqrt((1.0 - (canvas.x / 0.80) ** 2 - ((canvas.y + 0.06) / 1.16) ** 2).clamp(min=0.03))


def upper_relief(subject: Subject, canvas: Canvas, eye: Eyes, brow: Brows) -> torch.Tensor:
    """Brow ridge, sockets, eyeballs."""
    man = subject.attribute("sex", "man")
    over_brow = canvas.y - brow.y - 0.02
    ridge = (0.020 + 0.016 * man) * bell(over_brow, 0.065) * bell(canvas.across - 0.24, 0.26)
    socket = 0.060 * spot(canvas, EYE_X - 0.03, EYE_Y - 0.02, 0.17, 0.105)
    ball = 0.038 * spot(canvas, EYE_X, EYE_Y, 0.115, 0.085)
    swelling = 0.010 * subject.person.age + 0.016 * subject.action.on("6", canvas)
    pouch = bell(eye.y - eye.lower - 0.055, 0.035) * bell(eye.u, 0.9) * swelling
    return ridge - socket + ball + pouch


def nose_relief(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Ridge, ball and wings of the nose; AU 9 draws it up."""
    person, wrinkle = subject.person, subject.action.both("9")
    y = (canvas.y + 0.030 * wrinkle * smoothstep(canvas.y, 0.0, 0.2)) / person.nose_length
    wide = person.nose_width
    along = smoothstep(y, -0.26, 0.24)
    ridge = 0.085 * along * bell(canvas.x, 0.055 + 0.035 * along) * smoothstep(y, 0.335, 0.25)
    ball = 0.050 * torch.exp(-((canvas.x / (0.075 * wide)) ** 2) - ((y - 0.235) / 0.062) ** 2)
    wings = 0.045 * torch.exp(-(((canvas.across - 0.100 * wide) / 0.045) ** 2) - ((y - 0.272 + 0.015 * wrinkle) / 0.046) ** 2)
    return ridge + ball + wings


def cheek_relief(subject: Subject, canvas: Canvas, lips: Mouth) -> torch.Tensor:
    """Cheeks, lifted by AUs 6 and 12, and the nasolabial step between them and the mouth."""
    action, person = subject.action, subject.person
    lift, smile, raised = action.on("6", canvas), action.on("12", canvas), action.on("10", canvas)
    high = canvas.y - 0.15 + 0.05 * lift + 0.03 * smile
    apple = (0.030 * person.cheek_fullness + 0.065 * lift + 0.040 * smile) * bell(canvas.across - 0.37, 0.17) * bell(high, 0.15)
    fold = 0.10 + 0.30 * person.age + 0.65 * smile + 0.35 * lift + 0.85 * raised + 0.60 * action.both("9") + 0.25 * action.both("20")
    t = ((canvas.y - 0.235) / (lips.corner_y + 0.05 - 0.235)).clamp(0.0, 1.0)
    away = canvas.across - (0.120 + (lips.half_width - 0.075) * t**0.85)
    window = smoothstep(canvas.y, 0.17, 0.27) * smoothstep(canvas.y, 0.66, 0.50)
    return apple + 0.019 * fold * window * (torch.tanh(away / 0.022) * bell(away, 0.13) - 0.6 * bell(away, 0.020))


def mouth_relief(subject: Subject, canvas: Canvas, lips: Mouth) -> torch.Tensor:
    """Muzzle, lips, the groove below them, chin boss; dimples (AU 14), marionette folds (AU 15), the chin's pebbles (AU 17)."""
    action = subject.action
    drop = jaw_drop(action)
    inside = smoothstep(lips.q, 1.1, 0.5)
    upper = 0.022 * inside * bell(canvas.y - (lips.upper_top + lips.upper_edge) / 2.0, 0.038)
    lower = 0.030 * inside * bell(canvas.y - (lips.lower_edge + lips.lower_bottom) / 2.0, 0.042)
    boss_y = canvas.y - 0.745 - drop + 0.035 * action.both("17")
    boss = (0.045 + 0.030 * action.both("17")) * bell(canvas.x, 0.16) * bell(boss_y, 0.085)
    groove = (0.014 + 0.026 * action.both("17") + 0.010 * action.both("23")) * bell(canvas.x, 0.17)
    groove = groove * bell(canvas.y - lips.lower_bottom - 0.045, 0.028)
    pebbles = 0.007 * action.both("17") * bell(canvas.x, 0.15) * bell(boss_y, 0.09)
    pebbles = pebbles * torch.sin(canvas.x * 70.0) * torch.sin(canvas.y * 75.0)
    corner = canvas.across - lips.half_width
    pit = (0.006 + 0.060 * action.on("14", canvas) + 0.014 * action.on("12", canvas)) * bell(corner - 0.035, 0.030)
    pit = pit * bell(canvas.y - lips.corner_y, 0.055)
    sag = 0.030 * (action.both("15") + 0.25 * subject.person.age) * bell(corner - 0.03 - 0.25 * (canvas.y - lips.corner_y), 0.028)
    return upper + lower + boss - groove + pebbles - pit - sag * bell(canvas.y - lips.corner_y - 0.07, 0.075)


def forehead_creases(subject: Subject, canvas: Canvas, brow: Brows) -> torch.Tensor:
    """Depth 0..1 of the horizontal lines of AUs 1 and 2, of the frown lines of AU 4, and of age."""
    action, age = subject.action, subject.person.age
    lifted = action.on("1", canvas) * brow.inner + action.on("2", canvas) * brow.outer
    strength = 0.9 * lifted + 0.22 * age
    phase = (canvas.y - 0.16 * canvas.x**2 + 0.42 + 0.05 * lifted) / 0.105
    lines = torch.cos(phase * 6.2832).clamp(min=0.0) ** 3 * smoothstep(canvas.y, -0.76, -0.68) * smoothstep(canvas.y, -0.36, -0.42)
    frown = action.on("4", canvas)
    from_line = canvas.across - 0.052 - 0.06 * (canvas.y + 0.25).abs()
    upright = (frown + 0.15 * age) * bell(from_line, 0.021) * bell(canvas.y + 0.275, 0.105)
    return strength * lines * bell(canvas.across, 0.42) + upright


def eye_creases(subject: Subject, canvas: Canvas, eye: Eyes) -> torch.Tensor:
    """Depth 0..1 of the crow's feet (AU 6, age), of the line under the eye, and of the nose's bunny lines (AU 9)."""
    action, age = subject.action, subject.person.age
    out = canvas.across - EYE_X - 0.165
    fan = torch.cos((canvas.y - EYE_Y - 0.01) / (0.055 + 0.45 * out.clamp(min=0.0)) * 6.2832).clamp(min=0.0) ** 2
    feet = (0.8 * action.on("6", canvas) + 0.30 * age) * fan * bell(out - 0.055, 0.055) * bell(canvas.y - EYE_Y - 0.01, 0.10)
    under = 0.10 + 0.45 * action.on("6", canvas) + 0.35 * action.on("7", canvas) + 0.3 * age
    under = under * bell(eye.y - eye.lower - 0.035 - 0.02 * (1 - eye.u**2), 0.016)
    slant = canvas.y - 0.035 + 0.5 * (canvas.across - 0.09)
    bunny = 0.6 * action.both("9") * torch.cos(slant / 0.085 * 6.2832).clamp(min=0.0) ** 2
    bunny = bunny * bell(canvas.across - 0.085, 0.055) * bell(slant, 0.115)
    root = 0.7 * action.both("9") * bell(canvas.y + 0.135, 0.022) * bell(canvas.x, 0.085)
    return feet + under * bell(eye.u, 0.95) * 0.8 + bunny + root


