"""A classifier that knows the faces finds classes in each other's place; one that does not know them says nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.imports.dataset import CARD, Imported, import_dataset
from components.imports.probe import Probe, open_probe
from synfer.classifiers.models import ClassifierError, create, save
from synfer.datasets.label_order import LabelReading, read_labels
from synfer.faces.face import draw_face
from synfer.faces.renderer import render
from synfer.images import encode_png
from synfer.seeding import derive_seed
from synfer.vocabulary import DEFAULT_EXPRESSIONS, EXPRESSIONS

CLASSES = DEFAULT_EXPRESSIONS
SHIFTED = (*CLASSES[1:], CLASSES[0])
"""What a table of labels says that begins at one instead of at zero."""


def reading(claimed_as: tuple[str, ...], *, sees: float, each: int = 40, confused: dict[int, int] | None = None) -> LabelReading:
    """`each` images of a class, claimed to be `claimed_as`; a share `sees` is seen right, the rest anyhow or as `confused`."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(len(CLASSES)), each)
    wrong = rng.integers(0, len(CLASSES), len(true))
    for one, other in (confused or {}).items():
        wrong[true == one] = other
    seen = np.where(rng.random(len(true)) < sees, true, wrong)
    return read_labels([claimed_as[label] for label in true], np.eye(len(CLASSES))[seen], CLASSES)


@pytest.mark.parametrize("sees", [0.95, 0.6, 0.4])
def test_the_right_order_passes(sees: float) -> None:
    found = reading(CLASSES, sees=sees)
    assert found.reads and not found.moved and found.as_claimed == found.best > sees - 0.02


@pytest.mark.parametrize("sees", [0.95, 0.6, 0.4])
def test_a_shifted_order_is_named(sees: float) -> None:
    found = reading(SHIFTED, sees=sees)
    assert found.moved == dict(zip(SHIFTED, CLASSES)) and found.best > sees - 0.02 and found.as_claimed < 0.2


def test_two_classes_in_each_others_place_are_named_alone() -> None:
    swapped = tuple({"fear": "disgust", "disgust": "fear"}.get(name, name) for name in CLASSES)
    assert reading(swapped, sees=0.8).moved == {"fear": "disgust", "disgust": "fear"}


def test_a_classifier_that_confuses_two_classes_is_no_reason_to_warn() -> None:
    """It sees more fear as surprise than as fear, and the other way round, but not by far."""
    fear, surprise = CLASSES.index("fear"), CLASSES.index("surprise")
    found = reading(CLASSES, sees=0.42, confused={fear: surprise, surprise: fear})
    assert found.best > found.as_claimed and found.reads and not found.moved


def test_a_classifier_at_chance_says_nothing() -> None:
    for claimed in (CLASSES, SHIFTED):
        found = reading(claimed, sees=0.0)
        assert not found.reads and not found.moved
    always_anger = read_labels(list(CLASSES) * 20, np.tile(np.eye(7)[6], (140, 1)), CLASSES)
    assert not always_anger.reads and always_anger.as_claimed == pytest.approx(1 / 7)


def test_too_few_images_say_nothing() -> None:
    assert not reading(SHIFTED, sees=1.0, each=1).reads
    assert read_labels([], np.zeros((0, 7)), CLASSES) == LabelReading(0, 0.0, 0.0, 0.0, reads=False)
    assert not read_labels(["fear"] * 50, np.tile(np.eye(7)[0], (50, 1)), CLASSES).reads  # one class has no order


# --- rendered faces, the embedded guide -------------------------------------------------------------------------------------------

EACH = 12


@pytest.fixture(scope="module")
def faces() -> list[tuple[str, bytes]]:
    """Expression and PNG of rendered faces of people whom no embedded network has met."""
    plan = [
        draw_face(derive_seed("label probe", number), identity=8_000 + number // 7, expression=CLASSES[number % 7])
        for number in range(EACH * 7)
    ]
    return [(face.expression, encode_png(pixels)) for face, pixels in zip(plan, render(plan, size=64), strict=True)]


@pytest.fixture(scope="module")
def guide(root: Path) -> Probe:
    return open_probe(root / "assets" / "fer" / "guide")


def imported(
    faces: list[tuple[str, bytes]], claimed_as: tuple[str, ...], probe: Probe, tmp_path: Path, write: Callable[..., Path]
) -> Imported:
    for number, (expression, data) in enumerate(faces):
        write(tmp_path, f"faces/{claimed_as[CLASSES.index(expression)]}/{number}.png", data)
    return import_dataset("folder", tmp_path / "faces", tmp_path / "out", probe=probe)


def test_the_guide_confirms_the_right_order(
    faces: list[tuple[str, bytes]], guide: Probe, tmp_path: Path, write: Callable[..., Path]
) -> None:
    done = imported(faces, CLASSES, guide, tmp_path, write)
    (note,) = [note for note in done.notes if note.startswith("labels: ")]
    assert "guide sees the order that the labels have (0." in note
    kept = json.loads((tmp_path / "out" / CARD).read_text())["label_probe"]
    assert kept["reading"]["images"] == 7 * EACH and kept["reading"]["as_claimed"] > 0.7 and kept["reading"]["moved"] == {}


def test_the_guide_catches_a_shifted_order_and_the_card_records_it(
    faces: list[tuple[str, bytes]], guide: Probe, tmp_path: Path, write: Callable[..., Path]
) -> None:
    done = imported(faces, SHIFTED, guide, tmp_path, write)
    (note,) = [note for note in done.notes if note.startswith("labels: ")]
    assert note.startswith("labels: ANOTHER ORDER? ") and "what is read as happiness looks like neutral" in note
    assert json.loads((tmp_path / "out" / CARD).read_text())["label_probe"]["reading"]["moved"] == dict(zip(SHIFTED, CLASSES))


def test_an_untrained_probe_says_that_it_knows_nothing(faces: list[tuple[str, bytes]], tmp_path: Path, write: Callable[..., Path]) -> None:
    save(create("resnet10t", EXPRESSIONS, image_size=32), tmp_path / "untrained", {})
    done = imported(faces, SHIFTED, open_probe(tmp_path / "untrained"), tmp_path, write)
    assert any("reads these faces no better than chance" in note and "says nothing about their order" in note for note in done.notes)


def test_a_regressor_of_action_units_is_no_probe(tmp_path: Path) -> None:
    save(create("resnet10t", ("1", "2", "4"), image_size=32), tmp_path / "au_judge", {})
    with pytest.raises(ClassifierError, match=r"au_judge names 1, 2, 4, \.\.\., which are no expressions"):
        open_probe(tmp_path / "au_judge")
