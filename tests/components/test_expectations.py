"""Every expectation of the gate holds for good tables and fails for a table that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest

from components.drift import Profile, drift_facts
from components.expectations import suites, table_of
from components.near_duplicates import perceptual_hash
from components.validation_facts import class_facts, image_facts, schema_facts
from synfer.config import Validation
from synfer.images import encode_png, load_images, write_shard
from synfer.manifest import read_manifest, write_manifest
from synfer.vocabulary import AU_INDEX, DEFAULT_EXPRESSIONS

from .conftest import with_decisions

SECTION = Validation(min_per_class=2)
Break = Callable[[pd.DataFrame], object]


def put(column: str, value: object, rows: slice = slice(None)) -> Break:
    """A manifest in which some rows of a column have another value."""

    def broken(frame: pd.DataFrame) -> None:
        values = frame[column].tolist() if column in frame.columns else [""] * len(frame)
        for row in range(*rows.indices(len(frame))):
            values[row] = value
        frame[column] = values

    return broken


def aus(**intensities: float) -> np.ndarray:
    vector = np.zeros(len(AU_INDEX), dtype=np.float32)
    for code, value in intensities.items():
        vector[AU_INDEX[code.removeprefix("AU")]] = value
    return vector


def one_person_in_two_splits(frame: pd.DataFrame) -> None:
    frame["identity"] = "somebody"
    frame.loc[1, "split"] = "val"


BROKEN: dict[str, Break] = {
    "There are images at all": lambda frame: frame.drop(frame.index, inplace=True),
    "No sample_id occurs twice": put("sample_id", "same"),
    "Every image has a seed of its own": put("seed", 1),
    "Generated faces only train": put("split", "test", slice(1)),
    "What was asked is known": put("expression", "", slice(1)),
    "Attributes of people are known": put("attr_age", "ancient", slice(1)),
    "Nobody is in two splits": one_person_in_two_splits,
    "Every image has a caption": put("caption", "", slice(1)),
    "No AU intensity is below 0": put("aus", aus(AU12=-1), slice(1)),
    "No AU intensity is above 5": put("aus", aus(AU12=5.5), slice(1)),
    "No face was asked for excluding AUs": put("aus", aus(AU18=2, AU20=3), slice(1)),
    "Every label is a class": put("label", "contempt", slice(1)),
    "Every action is known": put("action", "drop", slice(1)),
    "Every action has its reason": put("reason", "", slice(1)),
    "Posteriors have all expressions": put("posterior", np.full(7, 1 / 7), slice(1)),
    "Posteriors sum to one": put("posterior", np.full(8, 0.2), slice(1)),
    "The members' agreement is a share": put("agreement", 1.5, slice(1)),
    "Enough images are not rejected": put("action", "reject", slice(0, 40)),
    "The label confirms the intent": put("label", "fear", slice(0, 60)),
    "Every row has an image": put("sample_id", "without an image", slice(1)),
    "Every image is the one of its hash": put("sha256", "0" * 64, slice(1)),
    "The rarest class has enough images": put("label", "neutral"),
    "No class is many times another": put("label", "neutral", slice(0, 50)),
}
"""What breaks each expectation on manifest or classes, as a change of a good manifest."""
PIXELS = {
    "Every image can be decoded", "Every image says that it is AI-generated", "Hardly any image is blank",
    "No image has a near-duplicate in another split", "Few images are near-duplicates",
}  # fmt: skip
DRIFT: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "Labels are spread as in the previous release": lambda rows: rows.assign(label="fear"),
    "As many images are kept as in the previous release": lambda rows: rows.assign(action="reject"),
    "Asked AUs are as strong as in the previous release": lambda rows: rows.assign(aus=[aus(AU43=3)] * len(rows)),
    "Labels are as sure as in the previous release": lambda rows: rows.assign(entropy=rows["entropy"] + 0.2),
    "Members agree as in the previous release": lambda rows: rows.assign(agreement=0.5),
    "Images are as bright as in the previous release": lambda rows: rows.assign(brightness=rows["brightness"] + 20),
    "Images have the contrast of the previous release": lambda rows: rows.assign(contrast=rows["contrast"] * 0.7),
}


@pytest.fixture(scope="module")
def holds() -> Callable[[str, pd.DataFrame], bool]:
    """Whether the expectation of a description holds for a table."""
    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("tables")
    batches: dict[str, Any] = {}

    def check(description: str, table: pd.DataFrame) -> bool:
        for suite, expectations in suites(SECTION, DEFAULT_EXPRESSIONS).items():
            found = [one for one in expectations if one.description == description]
            if found:
                name = table_of(suite)
                if name not in batches:
                    batches[name] = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
                return bool(batches[name].get_batch({"dataframe": table}).validate(found[0]).success)
        raise KeyError(description)

    return check


@pytest.fixture
def frame(generated: Path) -> pd.DataFrame:
    return with_decisions(read_manifest(generated)).assign(attr_age="elderly")


def table(description: str, frame: pd.DataFrame, images: Path) -> pd.DataFrame:
    on_classes = description in {"The rarest class has enough images", "No class is many times another"}
    return class_facts(frame, DEFAULT_EXPRESSIONS) if on_classes else image_facts(frame, images)


@pytest.mark.parametrize("description", BROKEN)
def test_a_broken_manifest_fails_the_expectation_that_the_good_one_keeps(
    description: str, frame: pd.DataFrame, generated: Path, holds: Callable[[str, pd.DataFrame], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.validation_facts._pixel_facts", remembered(generated))
    assert holds(description, table(description, frame, generated))
    BROKEN[description](frame)
    assert not holds(description, table(description, frame, generated))


_PIXEL_FACTS: list[tuple[Any, ...]] = []


def remembered(images: Path) -> Callable[[pd.DataFrame, Path], list[tuple[Any, ...]]]:
    """The pixel facts of the good images, which take a second, computed once; hashes are those of the manifest that is asked."""
    from components.validation_facts import _pixel_facts

    good = read_manifest(images)
    if not _PIXEL_FACTS:
        _PIXEL_FACTS.extend(_pixel_facts(good, images))
    ours = dict(zip(good["sample_id"], good["sha256"], strict=True))

    def facts(frame: pd.DataFrame, _images: Path) -> list[tuple[Any, ...]]:
        asked = dict(zip(frame["sample_id"], frame["sha256"], strict=True))
        return [(row[0], row[1], int(asked[row[0]] == ours[row[0]]), *row[3:]) for row in _PIXEL_FACTS if row[0] in asked]

    return facts


def test_broken_pixels_fail_their_expectations(
    frame: pd.DataFrame, generated: Path, tmp_path: Path, holds: Callable[[str, pd.DataFrame], bool]
) -> None:
    few = frame.head(8).copy()
    faces = load_images(generated, few["sample_id"].tolist(), size=64)
    good = [encode_png(face, generator="test") for face in faces]
    bad = [b"no image", encode_png(faces[1]), encode_png(np.full_like(faces[2], 90), generator="test"), *good[3:7], good[3]]
    for name, data in (("good", good), ("bad", bad)):
        write_shard(tmp_path / name, 0, few["sample_id"].tolist(), data)
    assert all(holds(description, image_facts(few, tmp_path / "good")) for description in PIXELS)
    few.loc[7, "split"] = "val"
    facts = image_facts(few, tmp_path / "bad")
    assert [description for description in PIXELS if holds(description, facts)] == []
    assert facts["leaked"].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert facts["duplicate"].tolist() == [0] * 7 + [1]
    assert perceptual_hash(faces[3]) != perceptual_hash(faces[4])


def test_a_missing_column_and_one_of_another_type_break_the_schema(
    frame: pd.DataFrame, tmp_path: Path, holds: Callable[[str, pd.DataFrame], bool]
) -> None:
    write_manifest(frame, tmp_path)
    assert holds("Every column is there, of its type", schema_facts(tmp_path))
    assert "layout_from" not in set(schema_facts(tmp_path)["column"])
    write_manifest(frame.drop(columns="reason"), tmp_path)
    facts = schema_facts(tmp_path)
    assert facts.loc[facts["right"] == 0, "column"].tolist() == ["reason"]
    assert not holds("Every column is there, of its type", facts)
    frame.assign(seed=frame["seed"].astype(float), aus=[list(map(float, vector)) for vector in frame["aus"]]).to_parquet(
        tmp_path / "manifest.parquet"
    )
    facts = schema_facts(tmp_path)
    assert {"seed", "aus"} <= set(facts.loc[facts["right"] == 0, "column"])


@pytest.mark.parametrize("description", DRIFT)
def test_what_has_changed_since_the_previous_release_fails_its_expectation_alone(
    description: str, frame: pd.DataFrame, holds: Callable[[str, pd.DataFrame], bool]
) -> None:
    rng = np.random.default_rng(0)
    rows = frame.assign(entropy=rng.uniform(0, 1, 70), agreement=rng.choice([0.5, 1.0], 70), brightness=rng.normal(120, 20, 70))
    rows = rows.assign(contrast=rng.normal(50, 8, 70))
    before, same, other = Profile(), Profile(), Profile()
    before.add(rows)
    same.add(rows.iloc[:30])
    same.add(rows.iloc[30:])
    other.add(DRIFT[description](rows))
    assert all(holds(one, drift_facts(same, before)) for one in DRIFT)
    found = [one for one in DRIFT if not holds(one, drift_facts(other, before))]
    allowed = {description, "Labels are spread as in the previous release"} if "kept" in description else {description}
    assert description in found and set(found) <= allowed


def test_every_expectation_is_broken_somewhere_here() -> None:
    known = {one.description for expectations in suites(SECTION, DEFAULT_EXPRESSIONS).values() for one in expectations}
    assert known == {*BROKEN, *PIXELS, *DRIFT, "Every column is there, of its type"}
