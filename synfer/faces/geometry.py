"""Geometry: from the pixels of a posed head back to its frontal face, and where the action units move brows, lids and mouth."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from synfer.faces.actions import Actions
from synfer.faces.canvas import Canvas, Stack, bell

EYE_X, EYE_Y, EYE_HALF_WIDTH = 0.285, -0.08, 0.150
BROW_X, BROW_Y, BROW_HALF_WIDTH = 0.292, -0.292, 0.200
NOSE_TIP_Y, NOSE_BASE_Y = 0.25, 0.315
MOUTH_Y, MOUTH_HALF_WIDTH = 0.525, 0.235
CHIN_Y, CROWN_Y, CHEEKBONE_Y, HEAD_HALF_WIDTH = 0.87, -1.12, -0.06, 0.66


@dataclass(frozen=True)
class Subject:
    """A batch of faces as the painters see it: person, action and scene."""

    person: Stack
    action: Actions
    scene: Stack

    def attribute(self, name: str, *values: str) -> torch.Tensor:
        """1 where a person's attribute is one of `values`, else 0; (B, 1, 1)."""
        hits = [float(attributes[name] in values) for attributes in self.person.column("attributes")]
        return torch.tensor(hits)[:, None, None]


def face_canvas(subject: Subject, pixels: int) -> Canvas:
    """Frontal face coordinates of each of `pixels` x `pixels` pixels: undo shift, scale and roll, then the parallax of yaw and pitch."""
    scene = subject.scene
    line = (torch.arange(pixels, dtype=torch.float32) + 0.5) * (2.0 / pixels) - 1.0
    x = (line[None, None, :] - scene.shift_x) / scene.scale
    y = (line[None, :, None] - scene.shift_y) / scene.scale
    cos, sin = torch.cos(scene.roll), torch.sin(scene.roll)
    x, y = x * cos + y * sin, y * cos - x * sin
    face_x, face_y = x, y
    for step in range(3):  # fixed point: what shows at (x, y) lies deeper or nearer by its own relief
        depth = 0.45 - 0.62 * face_x**2 - 0.30 * face_y**2
        if step == 2:
            depth = depth + 0.13 * torch.exp(-((face_x / 0.11) ** 2) - ((face_y - 0.2) / 0.2) ** 2)
        depth.clamp_(min=-0.05)
        face_x = (x - torch.sin(scene.yaw) * depth) / torch.cos(scene.yaw) ** 0.5
        face_y = y - torch.sin(scene.pitch) * depth
    face_x = face_x / subject.person.head_width**0.5
    return Canvas(face_x, face_y, face_x.abs(), torch.sigmoid(face_x * 30.0), softness=3.0 / pixels)


def jaw_drop(action: Actions) -> torch.Tensor:
    """How far the chin sinks, (B, 1, 1)."""
    return 0.075 * action.both("26") + 0.115 * action.both("27") - 0.022 * action.both("17")


def head_distance(subject: Subject, canvas: Canvas) -> torch.Tensor:
    """Signed distance to the outline of the skull and jaw, negative inside; first order, exact near the outline."""
    person = subject.person
    half_width = HEAD_HALF_WIDTH * person.head_width**0.5
    chin = CHIN_Y * person.head_height + jaw_drop(subject.action)
    down = canvas.y - CHEEKBONE_Y
    up_span = CHEEKBONE_Y - CROWN_Y
    power = 2.1 + 1.0 * person.jaw_square
    below = (down / (chin - CHEEKBONE_Y)).clamp(min=0.0)
    above = (-down / up_span).clamp(min=0.0)
    below_power, above_power = below**power, above**2 * torch.sqrt(above)
    across = canvas.across / half_width
    level = across**2 + below_power + above_power - 1.0
    slope_x = 2.0 * across / half_width
    slope_y = power * below_power / (below + 1e-3) / (chin - CHEEKBONE_Y) + 2.5 * above_power / (above + 1e-3) / up_span
    return level / torch.sqrt(slope_x**2 + slope_y**2 + 0.05)


@dataclass(frozen=True)
class Eyes:
    """Both eyes on a canvas: `u` runs from the inner (-1) to the outer corner (1); lids are y of their edges."""

    u: torch.Tensor
    y: torch.Tensor
    upper: torch.Tensor
    lower: torch.Tensor
    half_width: torch.Tensor
    aperture: torch.Tensor


def eyes(subject: Subject, canvas: Canvas) -> Eyes:
    """Lids after AUs 5, 6, 7, 43 and the brows' pull on them."""
    person, action = subject.person, subject.action
    half_width = EYE_HALF_WIDTH * person.eye_size
    u = (canvas.across - EYE_X * person.eye_spacing) / half_width
    y = canvas.y - EYE_Y + person.eye_tilt * half_width * u
    round_bow = torch.sqrt((1.0 - u**2).clamp(min=0.0))
    bow = round_bow * torch.sqrt(round_bow)
    cheek, tight, closed = action.on("6", canvas), action.on("7", canvas), action.on("43", canvas)
    squint = (1.0 - 0.52 * tight) * (1.0 - 0.20 * cheek) * (1.0 - 0.15 * action.both("9"))
    upper = (0.066 - 0.008 * person.age) * person.eye_open * person.eye_size * squint + 0.058 * action.on("5", canvas)
    upper = upper - 0.012 * action.on("4", canvas) * (1.0 - action.on("1", canvas))
    flat = (1.0 - 0.75 * tight) * (1.0 - 0.70 * cheek) * (1.0 - 0.25 * action.both("9"))
    lower = 0.050 * person.eye_size * flat + 0.008 * action.on("5", canvas)
    shut = 0.020 * torch.ones_like(lower)
    upper = torch.lerp(upper, -shut, closed)
    lower = torch.lerp(lower, shut, closed)
    skew = 1.0 - 0.12 * u  # the upper lid is highest on the nose's side
    return Eyes(u, y, -upper * skew * bow, lower * (1.0 + 0.12 * u) * bow, half_width, upper + lower)


@dataclass(frozen=True)
class Brows:
    """Both brows on a canvas: `v` runs from the inner (-1) to the outer end (1), `y` is the centre line."""

    v: torch.Tensor
    y: torch.Tensor
    inner: torch.Tensor
    outer: torch.Tensor


def brows(subject: Subject, canvas: Canvas) -> Brows:
    """Brow lines after AUs 1, 2, 4, 9; AU 1 damps the lowering of AU 4, so that both make the oblique brow of grief and fear."""
    person, action = subject.person, subject.action
    inner_up, outer_up, down = action.on("1", canvas), action.on("2", canvas), action.on("4", canvas)
    v = (canvas.across - BROW_X + 0.045 * down) / BROW_HALF_WIDTH
    bounded = v.clamp(-1.1, 1.1)
    inner = ((1.0 - bounded) / 2.0).clamp(min=0.0)
    outer = ((1.0 + bounded) / 2.0).clamp(min=0.0)
    rest = BROW_Y - person.brow_height - 0.040 * person.brow_arch * (1.0 - (bounded - 0.22) ** 2) + 0.018 * bounded
    lowering = down * (1.0 - 0.85 * inner_up.clamp(max=0.5) * 2.0) * (0.050 + 0.075 * inner)
    # The brows of 1 + 2 + 4 are raised and straight, those of 1 + 4 oblique.
    raising = (0.150 + 0.110 * down) * inner_up * inner**1.5 + 0.125 * outer_up * (1.0 - 0.5 * down) * (0.3 + 0.7 * outer)
    nose = 0.045 * action.both("9") * inner
    return Brows(v, rest + lowering - raising + nose + 0.012 * action.on("6", canvas) * outer, inner, outer)


@dataclass(frozen=True)
class Mouth:
    """The mouth on a canvas: `q` is 0 at the middle and 1 at the corner; the rest are y of its edges from top to bottom, and the gap."""

    q: torch.Tensor
    half_width: torch.Tensor
    corner_y: torch.Tensor
    upper_top: torch.Tensor
    upper_edge: torch.Tensor
    lower_edge: torch.Tensor
    lower_bottom: torch.Tensor
    gap: torch.Tensor
    pressed: torch.Tensor


def _half_width(subject: Subject, canvas: Canvas, stretch: torch.Tensor) -> torch.Tensor:
    """Half the mouth's width: smile and stretch widen it, pucker, funnel and tightening narrow it, a dropped jaw makes it an O."""
    action = subject.action
    width = 0.075 * action.on("12", canvas) + 0.100 * action.both("20") + 0.055 * action.on("14", canvas)
    width = width - 0.100 * action.both("18") - 0.070 * action.both("22") - 0.055 * action.both("23") - 0.020 * action.both("24")
    jaw = 0.075 * action.both("26") + 0.070 * action.both("27")
    return MOUTH_HALF_WIDTH * subject.person.mouth_width + width - jaw * (1.0 - stretch)


def _gaps(subject: Subject, canvas: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the upper lip rises and the lower lip sinks from the mouth line at its middle."""
    action = subject.action
    seal = (1.0 - 0.8 * action.both("17")) * (1.0 - action.both("24")).clamp(min=0.0) * (1.0 - 0.6 * action.both("23"))
    upper = (0.042 * action.on("10", canvas) + 0.018 * action.both("9")) * seal
    upper = upper + 0.016 * action.both("25") + 0.022 * action.both("26") + 0.03 * action.both("27") + 0.02 * action.both("22")
    upper = upper + 0.016 * action.on("12", canvas) * (action.both("25") + action.both("26")).clamp(max=1.0)
    lower = 0.030 * action.both("25") + 0.105 * action.both("26") + 0.185 * action.both("27") + 0.030 * action.both("22")
    return upper, lower + 0.035 * action.both("16") * seal


def mouth(subject: Subject, canvas: Canvas) -> Mouth:
    """Lips after the AUs of the lower face."""
    person, action = subject.person, subject.action
    smile, dimple, raised = action.on("12", canvas), action.on("14", canvas), action.on("10", canvas)
    stretch = torch.maximum(smile, action.both("20")).clamp(max=0.6) / 0.6
    half_width = _half_width(subject, canvas, stretch)
    q = canvas.across / half_width
    round_bow = torch.sqrt((1.0 - q**2).clamp(min=0.0))
    bow = round_bow * torch.sqrt(round_bow)
    middle = MOUTH_Y + person.mouth_height - 0.052 * action.both("17") - 0.018 * raised - 0.012 * action.both("9")
    middle = middle + 0.008 * (smile + action.both("20"))
    corner = -0.105 * smile - 0.030 * dimple + 0.100 * action.both("15") + 0.030 * action.both("17") + 0.004 * action.both("20")
    line = middle + corner * q.clamp(max=1.15) ** 2
    up, down = _gaps(subject, canvas)
    tight = (1.0 - 0.62 * action.both("23")) * (1.0 - 0.85 * action.both("24")) * (1.0 - 0.25 * smile) * (1.0 - 0.25 * action.both("20"))
    full = person.lip_thickness * (1.0 - 0.2 * person.age) * tight * (1.0 + 0.35 * action.both("18") + 0.35 * action.both("22"))
    cupid = 1.0 - 0.24 * bell(q, 0.20)
    upper_edge, lower_edge = line - up * bow, line + down * round_bow
    upper_top = upper_edge - 0.052 * full * (1.0 - 0.25 * raised) * cupid * bow
    thick = 0.066 * full * (1.0 + 0.15 * action.both("17")) * (1.0 - 0.3 * action.both("26") - 0.3 * action.both("27"))
    bottom = lower_edge + thick * bow
    return Mouth(q, half_width, middle + corner, upper_top, upper_edge, lower_edge, bottom, up + down, action.both("24"))
