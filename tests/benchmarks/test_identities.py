"""The study of look-alikes: an embedding that knows the people keeps them whole, one that does not keeps nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import identities
from benchmarks.identities import app, look_and_part, parted
from components.embedded_corpus import write_corpus
from synfer.classifiers.models import create, save
from synfer.vocabulary import DEFAULT_EXPRESSIONS

PEOPLE, EACH = 40, 7


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    person = np.repeat(np.arange(PEOPLE), EACH)
    return pd.DataFrame({"identity": [f"p{number:02d}" for number in person], "expression": list(DEFAULT_EXPRESSIONS) * PEOPLE})


def test_an_embedding_of_people_keeps_them_whole_and_noise_does_not(frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(size=(PEOPLE, 16)).repeat(EACH, axis=0)
    images, near = np.arange(len(frame)), np.arange(len(frame))
    known = look_and_part(frame, near, images, lambda rows: unit(people[rows] + 0.05 * rng.normal(size=(len(rows), 16))), seed=0)
    assert (known.split, known.leaked, known.nearest) == (0, 0.0, 1.0)
    nothing = look_and_part(frame, near, images, lambda rows: unit(rng.normal(size=(len(rows), 16))), seed=0)
    assert nothing.split > PEOPLE // 2 and nothing.leaked > 0.5 > (nothing.nearest or 0)
    assert parted(frame, near, None, seed=0).nearest is None


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_the_program_ends_with_the_people_in_several_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "_PEOPLE", 12)
    write_corpus(tmp_path / "faces", identities=12, images_per_identity=EACH, size=64)
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=32), tmp_path / "network", {})
    arguments = ["--corpus", str(tmp_path / "faces"), "--network", str(tmp_path / "network"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    line = json.loads(done.stdout.splitlines()[-1])
    assert line == json.loads((tmp_path / "out" / "identities.json").read_text())
    assert [(row["people"], row["nearest"] is None) for row in line.values()] == [(12, True), (12, False), (12, False)]
    assert line["look-alikes by an embedding of people"]["nearest"] > line[f"look-alikes by {tmp_path / 'network'}"]["nearest"]
