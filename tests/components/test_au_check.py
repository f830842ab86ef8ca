"""AU consistency from rendered faces to the decision: a head is trained on renders, and reads what further renders show."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from components.au_check import FLOOR, AuCheck, au_reading, check_aus
from synfer.annotation.au_consistency import SIDE_CODES, Tolerance, contradictions, soften_contradicting
from synfer.annotation.feranno import Feranno
from synfer.annotation.feranno_fit import FeatureSet, fit_feranno, predict_aus
from synfer.annotation.rectify import ACTIONS, Decisions
from synfer.descriptions.action_units import ActionUnitTable
from synfer.faces.face import Face
from synfer.faces.renderer import render
from synfer.faces.scene import draw_scene
from synfer.vocabulary import AU_COUNT, AU_INDEX, au_vector

SHOWN = ("4", "12", "26")


def faces(aus: np.ndarray, rng: np.random.Generator) -> FeatureSet:
    """Renders of AU vectors (N, AU_COUNT) on four people in one light; the features are patches of pixels."""
    scene = draw_scene(np.random.default_rng(5))
    drawn = [Face(index, int(rng.integers(4)), "", vector, scene, independent_aus=True) for index, vector in enumerate(aus)]
    images = torch.from_numpy(render(drawn, size=32)).permute(0, 3, 1, 2).float() / 255
    maps = torch.nn.functional.pixel_unshuffle(images, 4).numpy()
    return FeatureSet([maps], images.mean(dim=1, keepdim=True).numpy(), (aus[:, AU_INDEX["12"]] > 0).astype(int), aus)


def random_aus(rng: np.random.Generator, n: int) -> np.ndarray:
    """Faces that show each of SHOWN in two of three cases, at 1 to 5."""
    aus = np.zeros((n, AU_COUNT), dtype=np.float32)
    for code in SHOWN:
        aus[:, AU_INDEX[code]] = np.where(rng.random(n) < 2 / 3, rng.uniform(1, 5, n), 0)
    return aus


@dataclass(frozen=True)
class Reader:
    """A trained head and what it saw in its val faces."""

    head: Feranno
    known: np.ndarray
    known_seen: np.ndarray

    def check(self, asked: np.ndarray, shown: np.ndarray) -> AuCheck:
        """Faces that were asked for some AUs and show others."""
        seen = predict_aus(self.head, faces(shown, np.random.default_rng(7)))
        return check_aus(asked, seen, known=self.known, known_seen=self.known_seen)


@pytest.fixture(scope="module")
def reader() -> Reader:
    rng = np.random.default_rng(0)
    train, val = (faces(random_aus(rng, n), rng) for n in (300, 150))
    head, _ = fit_feranno(train, val, classes=("relaxed", "smile"), width=32, epochs=16, batch_size=32, learning_rate=4e-3, seed=0)
    assert val.aus is not None
    return Reader(head, val.aus, predict_aus(head, val))


def test_a_drawn_smile_that_was_asked_at_0_is_flagged_softened_and_told(reader: Reader) -> None:
    shown = np.stack([au_vector({"12": 4.5}), au_vector({"12": 4.5}), au_vector({}), au_vector({})])
    asked = np.stack([au_vector({}), au_vector({"12": 4.5}), au_vector({"12": 4.5}), np.full(AU_COUNT, np.nan)]).astype(np.float32)
    check = reader.check(asked, shown)
    assert check.contradictions.found.tolist() == [True, False, True, False]
    kept = Decisions(np.zeros(4, int), np.zeros(4, int), np.ones(4), np.zeros(4), np.ones(4))
    decisions, words = soften_contradicting(kept, ["both annotators see it"] * 4, check.contradictions)
    assert [ACTIONS[action] for action in decisions.action] == ["soften", "keep", "soften", "keep"]
    assert words[0].startswith("both annotators see it; asked AU 12 at 0.0, ")
    assert words[2].startswith("both annotators see it; asked AU 12 at 4.5, ")
    assert words[1] == words[3] == "both annotators see it"


def test_faces_that_show_what_was_asked_hardly_contradict(reader: Reader) -> None:
    asked = random_aus(np.random.default_rng(1), 60)
    check = reader.check(asked, asked)
    assert check.contradictions.found.mean() <= 0.05
    table = check.table().set_index("AU")
    assert set(table.index) == {"26", "L4", "R4", "L12", "R12"}
    assert table["readable"].all()
    assert (table["ICC"] > FLOOR).all()
    assert table["contradictions"].sum() == np.isfinite(check.contradictions.excess).sum()


def test_what_the_reader_cannot_be_trusted_with_is_unknown() -> None:
    rng = np.random.default_rng(2)
    known = random_aus(rng, 200)
    seen = known + rng.normal(0, 0.2, known.shape).clip(-0.1, 0.4)
    seen[:, AU_INDEX["26"]] = rng.uniform(0, 5, 200)
    seen[:, [AU_INDEX["L12"], AU_INDEX["R12"]]] = 0.0
    seen[:, AU_INDEX["R4"]] = 5.0  # one bad side spoils the unit
    reading = au_reading(known, seen).set_index("AU")["readable"]
    assert reading[["L12", "R12"]].all()
    assert not reading[["26", "L4", "R4"]].any()
    check = check_aus(known, seen, known=known, known_seen=seen)
    for code, readable in (("12", True), ("L12", True), ("26", False), ("4", False), ("L4", False)):
        assert np.isfinite(check.seen[:, AU_INDEX[code]]).all() == readable
    judged = np.isfinite(check.tolerance.steps).any(axis=0)
    assert {code for code, found in zip(SIDE_CODES, judged, strict=True) if found} == {"L12", "R12"}


def test_a_detectors_table_may_take_the_place_of_the_head() -> None:
    rows = pd.DataFrame({"sample_id": ["a", "b", "c"]})
    openface = pd.DataFrame({"file": ["a.png", "b.png"], "AU12_r": [0.2, 3.9], "AU45_r": [0.0, 0.0]})
    seen = ActionUnitTable(openface, rows["sample_id"], scale="intensity")([], rows)
    asked = np.stack([au_vector({"12": 4.1, "26": 4.0})] * 3)
    found = contradictions(asked, seen, Tolerance.of(2.5))
    assert found.words() == ["asked AU 12 at 4.1, 0.2 is seen", "", ""]  # the table knows neither 26 nor the third face
    known = random_aus(np.random.default_rng(4), 300)
    table = np.where(np.isin(np.arange(AU_COUNT), [AU_INDEX["4"], AU_INDEX["12"]]), known, np.nan)  # a detector without sides
    check = check_aus(asked, seen, known=known, known_seen=table)
    assert check.contradictions.found.tolist() == [True, False, False]
    assert check.contradictions.words()[0] == "asked AU 12 at 4.1, 0.2 is seen"


def test_few_val_faces_or_none_that_are_known_trust_nothing() -> None:
    known = random_aus(np.random.default_rng(3), 40)
    assert not au_reading(known, known)["readable"].any()
    unknown = np.full((200, AU_COUNT), np.nan)
    check = check_aus(known, known, known=unknown, known_seen=np.zeros((200, AU_COUNT)))
    assert np.isnan(check.seen).all()
    assert not check.contradictions.found.any()
