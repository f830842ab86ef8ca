"""CK+: the coded frame with FACS in all its spellings, the neutral onset, and the people of CK+48."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]


def test_ckplus_peaks_carry_facs_and_onsets_are_not_said_to_be_coded(reader: Any, tree: Tree) -> None:
    peak, onset, unlabelled = reader.items("ckplus", tree("ckplus", "sequences"))
    assert {code: value for code, value in peak.aus.items() if value} == {"9": 4.0, "17": 3.0}  # 17 was coded as present, without intensity
    assert peak.aus["12"] == 0.0 and "L12" not in peak.aus and "64" not in peak.aus
    assert onset.aus == {}
    assert {code: value for code, value in unlabelled.aus.items() if value} == {"12": 2.0}


def test_ck48_has_its_people_in_the_file_names(reader: Any, tree: Tree) -> None:
    found = reader.items("ckplus", tree("ckplus", "CK+48"))
    assert {item.identity for item in found} == {"S010"}
    assert [item.expression for item in found] == ["anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"]


@pytest.mark.parametrize(
    ("line", "coded"),
    [
        ("   1.2000000e+01   2.0000000e+00", {"12": 2.0}),
        ("12 0", {"12": 3.0}),  # present, its intensity was not coded
        ("12", {"12": 3.0}),
        ("12 D", {"12": 4.0}),
        ("12e", {"12": 5.0}),
        ("L12 b", {"L12": 2.0}),
        ("r14", {"R14": 3.0}),
        ("45 1", {}),  # a blink is no unit of the vocabulary
    ],
)
def test_intensities_are_numbers_or_letters_or_not_there(reader: Any, tree: Tree, write: Write, line: str, coded: dict[str, float]) -> None:
    root = tree("ckplus", "sequences")
    write(root, "FACS/S010/002/S010_002_00000003_facs.txt", f"{line}\n\n")
    aus = reader.items("ckplus", root)[2].aus
    assert {code: value for code, value in aus.items() if value} == coded
    whole = {code.lstrip("LR") for code in coded}
    assert all(aus.get(code) == 0.0 for code in ("1", "25") if code not in whole)
    assert not [code for code in aus if code in whole and code not in coded], "a unit of one side says nothing of the unit as a whole"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("12 6.0e+00", "intensity 6 lies outside 0..5"),
        ("12 F", "'12 F' is not an AU and its intensity"),
        ("1.25e+01 1", "is not an AU and its intensity"),
        ("12 -1", "is not an AU and its intensity"),
        ("smile", "is not an AU and its intensity, such as '12 3', '12C' or 'L12 0'"),
    ],
)
def test_a_line_that_is_no_code_is_a_problem(reader: Any, tree: Tree, write: Write, line: str, message: str) -> None:
    root = tree("ckplus", "sequences")
    write(root, "FACS/S010/002/S010_002_00000003_facs.txt", line)
    assert message in reader.problem("ckplus", root).what


def test_the_peak_is_the_frame_that_was_coded(reader: Any, tree: Tree, write: Write) -> None:
    root = tree("ckplus", "sequences")
    write(root, "cohn-kanade-images/S005/001/S005_001_00000004.png")  # after the peak
    peak, onset, _ = reader.items("ckplus", root)
    assert (Path(peak.name).name, Path(onset.name).name) == ("S005_001_00000003.png", "S005_001_00000001.png")
    (root / peak.name).unlink()
    problem = reader.problem("ckplus", root)
    assert "codes the frame S005_001_00000003, which is not there" in problem.what


def test_a_sequence_without_an_emotion_has_no_neutral_onset(reader: Any, tree: Tree) -> None:
    assert [item.expression for item in reader.items("ckplus", tree("ckplus", "sequences")) if item.identity == "S010"] == [""]
