import dataclasses

import numpy as np
import pytest

from synfer.faces.face import Face, draw_face
from synfer.faces.identity import draw_identity
from synfer.faces.renderer import SUPPORTED_AUS, render
from synfer.faces.scene import Scene, draw_scene
from synfer.faces.sheet import labelled_sheet
from synfer.vocabulary import AU_COUNT, DEFAULT_EXPRESSIONS, au_vector


def frontal_scene() -> Scene:
    """A face straight ahead in even light, without camera noise, blur or shift."""
    scene = draw_scene(np.random.default_rng(0))
    still = dict.fromkeys(("yaw", "pitch", "roll", "shift_x", "shift_y", "gaze_x", "gaze_y", "light_azimuth", "noise", "blur"), 0.0)
    return dataclasses.replace(scene, **still, scale=1.0)


def bare_identity() -> int:
    """The first number whose face neither hair, glasses nor beard hide."""
    wanted = {"hair_style": "short", "glasses": "none", "facial_hair": "none", "skin": "light"}
    return next(n for n in range(10_000) if draw_identity(n).attributes.items() >= wanted.items() and draw_identity(n).fringe == 0)


def posed(intensities: dict[str, float], *, expression: str = "") -> Face:
    return Face(seed=0, identity=bare_identity(), expression=expression, aus=au_vector(intensities), scene=frontal_scene())


def test_the_same_faces_give_the_same_pixels():
    faces = [draw_face(seed, identity=seed, expression="fear") for seed in range(3)]
    assert np.array_equal(render(faces), render(faces))
    assert render(faces).shape == (3, 64, 64, 3)
    assert render(faces).dtype == np.uint8


def test_an_image_does_not_depend_on_its_batch():
    faces = [draw_face(seed, identity=seed, expression=DEFAULT_EXPRESSIONS[seed % 7]) for seed in range(20)]
    together = render(faces, batch_size=64)
    assert np.array_equal(together[17], render(faces[17:18])[0])
    assert np.array_equal(together, render(faces, batch_size=3))


@pytest.mark.parametrize("size", [32, 64, 65, 256])
def test_sizes(size):
    image = render([draw_face(1, identity=1, expression="happiness")], size=size)
    assert image.shape == (1, size, size, 3)
    assert image.std() > 10


@pytest.mark.parametrize("size", [0, 31, 257])
def test_a_bad_size_is_named(size):
    with pytest.raises(ValueError, match=str(size)):
        render([draw_face(1, identity=1, expression="happiness")], size=size)


def test_no_faces_give_no_images():
    assert render([]).shape == (0, 64, 64, 3)


def test_sizes_show_the_same_face():
    face = [posed({"12": 3.0})]
    large = render(face, size=128)[0].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(large - render(face, size=64)[0]).mean() < 3.0


@pytest.mark.parametrize("code", SUPPORTED_AUS)
def test_each_au_alone_changes_the_face_more_the_stronger_it_is(code):
    images = render([posed({code: float(intensity)}) for intensity in range(6)]).astype(np.float64)
    distance = np.abs(images - images[0]).mean(axis=(1, 2, 3))
    assert np.all(np.diff(distance) > 0), distance
    assert distance[5] > 0.2


@pytest.mark.parametrize("code", [code for code in SUPPORTED_AUS if code[0] in "LR"])
def test_one_sided_aus_act_on_their_side(code):
    still, moved = render([posed({}), posed({code: 4.0})]).astype(np.float64)
    change = np.abs(moved - still).sum(axis=(0, 2))
    image_left, image_right = change[:32].sum(), change[32:].sum()
    own, other = (image_right, image_left) if code[0] == "L" else (image_left, image_right)
    assert own > 4 * other


@pytest.mark.parametrize(
    ("code", "top", "bottom"), [("1", 0, 38), ("4", 0, 40), ("5", 18, 40), ("12", 20, 64), ("15", 30, 64), ("26", 30, 64)]
)
def test_aus_act_in_their_part_of_the_face(code, top, bottom):
    still, moved = render([posed({}), posed({code: 4.0})]).astype(np.float64)
    change = np.abs(moved - still).sum(axis=(1, 2))
    assert change[top:bottom].sum() > 0.9 * change.sum()


def test_closed_eyes_hide_the_iris():
    people = (draw_identity(number) for number in range(10_000))
    identity = next(p.number for p in people if p.attributes["glasses"] == "none" and p.eye_rgb[2] > p.eye_rgb[0] + 0.2)
    scene = frontal_scene()
    faces = [Face(0, identity, "", au_vector({"43": intensity}), scene) for intensity in (0.0, 5.0)]
    eyes = render(faces)[:, 24:36, 14:50].astype(int)
    blue = (eyes[..., 2] > eyes[..., 0] + 15).sum(axis=(1, 2))
    assert blue[0] > 4
    assert blue[1] == 0


def test_raised_lids_show_more_white():
    still, raised = render([posed({}), posed({"5": 5.0})])[:, 22:38, 14:50].astype(int)
    white = [((eye.min(axis=-1) > 150) & (np.ptp(eye, axis=-1) < 40)).sum() for eye in (still, raised)]
    assert white[1] > white[0]


def test_identities_are_reproducible_and_known():
    assert draw_identity(7) == draw_identity(7)
    assert draw_identity(7) != draw_identity(8)


def test_sheet_has_a_place_for_each_image():
    images = np.zeros((6, 64, 64, 3), dtype=np.uint8)
    sheet = labelled_sheet(images, columns=3, row_titles=("a", "b"), titles=tuple("123456"), scale=1)
    assert sheet.width > 3 * 64
    assert sheet.height > 2 * 64


@pytest.mark.parametrize("bad", [{"row_titles": ("a",)}, {"titles": ("a",)}])
def test_sheet_refuses_titles_that_do_not_match(bad):
    with pytest.raises(ValueError, match="1 "):
        labelled_sheet(np.zeros((6, 64, 64, 3), dtype=np.uint8), columns=3, **bad)


def test_aus_that_are_not_drawn_change_nothing():
    plain, same = render([posed({}), posed({"39": 4.0})])
    assert np.array_equal(plain, same)
    assert au_vector({}).shape == (AU_COUNT,)
