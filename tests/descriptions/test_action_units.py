"""AU tables: however columns and images are named, intensities 0..5 with NaN where nothing is known; and py-feat's table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from synfer.descriptions.action_units import ActionUnitError, ActionUnitTable, au_code, check_scale, presence_intensity
from synfer.descriptions.pyfeat import PyFeat, face_aus
from synfer.vocabulary import AU_COUNT, AU_INDEX

ROWS = pd.DataFrame({"sample_id": ["a", "b", "c"]})


def aus_of(table: ActionUnitTable, sample: int) -> dict[str, float]:
    """The known AUs of a sample of ROWS."""
    vector = table([], ROWS)[sample]
    return {code: float(vector[index]) for code, index in AU_INDEX.items() if not np.isnan(vector[index])}


@pytest.mark.parametrize(
    ("column", "code"),
    [("AU12", "12"), ("12", "12"), ("au 12", "12"), ("L12", "L12"), ("AUR4", "R4"), ("AU01", "1"), (" AU06_r", "6"), ("AU28", "28"),
     ("AU12_c", None), ("confidence", None), ("x_12", None)],
)  # fmt: skip
def test_columns_are_recognised(column: str, code: str | None) -> None:
    assert au_code(column) == code


def test_intensities_are_taken_as_they_are_and_gaps_stay_unknown() -> None:
    frame = pd.DataFrame({"sample_id": ["b", "a"], "AU12": [2.5, np.nan], "L4": [0, 1], "AU28": [1, 1], "age": [30, 40]})
    table = ActionUnitTable(frame, ROWS["sample_id"])
    assert (table.scale, table.ignored) == ("intensity", ["AU28"])
    assert aus_of(table, 0) == {"L4": 1.0}
    assert aus_of(table, 1) == {"12": 2.5, "L4": 0.0}
    assert aus_of(table, 2) == {}, "a sample that the table lacks"
    assert table([], ROWS).dtype == np.float32


def test_nothing_but_zero_and_one_is_presence_unless_said() -> None:
    frame = pd.DataFrame({"sample_id": ["a", "b"], "12": [1, 0], "4": [None, 1]})
    assert aus_of(ActionUnitTable(frame, ROWS["sample_id"]), 0) == {"12": 3.0}
    assert aus_of(ActionUnitTable(frame, ROWS["sample_id"]), 1) == {"12": 0.0, "4": 3.0}
    assert aus_of(ActionUnitTable(frame, ROWS["sample_id"], scale="intensity"), 1) == {"12": 0.0, "4": 1.0}


def test_probabilities_are_presence_where_they_are_sure_and_must_be_said() -> None:
    frame = pd.DataFrame({"sample_id": ["a", "b"], "AU12": [0.93, 0.04], "4": [0.5, None], "6": [1.0, 0.0]})
    table = ActionUnitTable(frame, ROWS["sample_id"], scale="probability")
    assert (aus_of(table, 0), aus_of(table, 1)) == ({"12": 3.0, "6": 3.0}, {"12": 0.0, "6": 0.0})
    with pytest.raises(ActionUnitError, match=r"here holds values from 0 to 1 such as 0\.93, .* --au-scale probability, or"):
        ActionUnitTable(frame, ROWS["sample_id"], where="here")
    assert aus_of(ActionUnitTable(frame, ROWS["sample_id"], scale="intensity"), 1) == pytest.approx({"12": 0.04, "6": 0.0})
    graded = frame.assign(AU12=[2.5, 0.04])
    assert ActionUnitTable(graded, ROWS["sample_id"]).scale == "intensity", "a single value above 1 is no probability"
    with pytest.raises(ActionUnitError, match=r"2\.5 in column AU12 is no probability \(0\.\.1, empty if unknown\)"):
        ActionUnitTable(graded, ROWS["sample_id"], scale="probability")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_matched_by_name_and_keep_their_zeros(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"Path": ["train/007.png", "train/008.jpg"], "AU01": [4.5, 1.0]})
    path = tmp_path / f"aus.{suffix}"
    _ = frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    found = ActionUnitTable.read(path, ["007", "train/008.jpg"])([], pd.DataFrame({"sample_id": ["train/008.jpg", "007", "7"]}))
    assert found[:2, AU_INDEX["1"]].tolist() == [1.0, 4.5]
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sample_id": ["a"], "smile": [1]}, "here has no AU column such as AU12, 12 or L12; found: sample_id, smile"),
        ({"name": ["a"], "12": [1]}, "here has no column that names the image; known: sample_id, file"),
        ({"sample_id": ["a", "b"], "12": [1, 7]}, r"here, b: 7 in column 12 is no intensity \(0\.\.5, empty if unknown\)"),
        ({"sample_id": ["a"], "12": [-1]}, "-1 in column 12 is no intensity"),
        ({"sample_id": ["a"], "12": ["much"]}, "here, a, column 12: 'much' is no number"),
        ({"sample_id": ["a", "a"], "12": [1, 2]}, "a and a both name sample a"),
        ({"file": ["x/a.png", "y/a.png"], "12": [1, 2]}, r"x/a\.png and y/a\.png both name sample a"),
        ({"sample_id": ["a"], "12": [1], "AU12": [2]}, "here: the columns 12 and AU12 name one AU"),
        ({"sample_id": ["z"], "12": [1]}, "here knows none of the 3 samples; its first sample_id is 'z', the first sample is 'a'"),
        ({"sample_id": [], "12": []}, "it is empty"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_table_is_told(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ActionUnitError, match=message):
        ActionUnitTable(pd.DataFrame(columns), ROWS["sample_id"], where="here")


def test_a_grade_is_no_presence() -> None:
    with pytest.raises(ActionUnitError, match=r"0\.5 in column 12 is no presence \(0 or 1, empty if unknown\)"):
        ActionUnitTable(pd.DataFrame({"sample_id": ["a"], "12": [0.5]}), ROWS["sample_id"], scale="presence")
    with pytest.raises(ActionUnitError, match=r"unknown AU scale 'presense' \(did you mean 'presence'\?\); known: intensity, presence, pr"):
        check_scale("presense")


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ActionUnitError, match=r"missing\.csv is no file"):
        ActionUnitTable.read(tmp_path / "missing.csv", ["a"])
    (tmp_path / "aus.parquet").write_bytes(b"PAR1")
    with pytest.raises(ActionUnitError, match="is not readable"):
        ActionUnitTable.read(tmp_path / "aus.parquet", ["a"])


def test_an_unsure_detector_leaves_an_au_unknown() -> None:
    found = presence_intensity(np.array([0.0, 0.29, 0.3, 0.69, 0.7, 1.0, np.nan]))
    assert np.array_equal(found, [0, 0, np.nan, np.nan, 3, 3, np.nan], equal_nan=True)


# --- py-feat ----------------------------------------------------------------------------------------------------------------------

PYFEAT_AUS = ["AU01", "AU12", "AU28"]


class FexLike(pd.DataFrame):
    """The parts of py-feat 2.1's `Fex` that are read: columns, and the names of the AU columns."""

    @property
    def au_columns(self) -> list[str]:
        return PYFEAT_AUS


class LargestSide:
    """A detector with py-feat 2.1's interface: in each frame a small face and one as large as the frame; none in a black frame."""

    def detect(self, inputs: torch.Tensor, *, data_type: str, batch_size: int, progress_bar: bool) -> FexLike:
        assert (data_type, inputs.dtype, inputs.shape[1]) == ("tensor", torch.uint8, 3)
        rows = []
        for frame, image in enumerate(inputs):
            if not image.any():
                rows.append({"FaceRectWidth": np.nan, "FaceRectHeight": np.nan, "frame": frame})
                continue
            side = float(image.shape[-1])
            rows.append({"FaceRectWidth": side, "FaceRectHeight": side, "AU01": 0.9, "AU12": 0.1, "AU28": 0.9, "frame": frame})
            rows.append({"FaceRectWidth": 4.0, "FaceRectHeight": 4.0, "AU01": 0.1, "AU12": 0.9, "AU28": 0.1, "frame": frame})
        return FexLike(rows)


def test_pyfeats_largest_face_counts_and_a_missing_one_is_unknown() -> None:
    image = np.full((8, 8, 3), 200, dtype=np.uint8)
    images = [image, np.zeros((8, 8, 3), dtype=np.uint8), np.full((16, 16, 3), 9, dtype=np.uint8), image]
    found = PyFeat(LargestSide())(images, pd.DataFrame())
    assert found.shape == (4, AU_COUNT)
    assert np.isnan(found[1]).all()
    for row in (0, 2, 3):
        assert (found[row, AU_INDEX["1"]], found[row, AU_INDEX["12"]]) == (3.0, 0.0)
        assert np.isnan(found[row]).sum() == AU_COUNT - 2, "AU 28 is not in the vocabulary"


def test_a_table_of_no_face_has_no_frame() -> None:
    nothing = pd.DataFrame({"FaceRectWidth": [np.nan], "FaceRectHeight": [np.nan], "frame": [0], **{au: [np.nan] for au in PYFEAT_AUS}})
    frames, aus = face_aus(nothing, PYFEAT_AUS)
    assert len(frames) == 0
    assert aus.shape == (0, AU_COUNT)


@pytest.mark.skipif(importlib.util.find_spec("feat") is not None, reason="py-feat is here")
def test_a_missing_pyfeat_names_the_extra() -> None:
    with pytest.raises(ActionUnitError, match=r"pip install 'synfer\[pyfeat\]'"):
        PyFeat.load()
