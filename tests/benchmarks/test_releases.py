"""The study of memory runs every command on real folders, and finds an export that does not read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.releases.__main__ import report
from benchmarks.releases.commands import COMMANDS, FORMATS, StudyError, Used, in_own_process
from benchmarks.releases.stages import write_stages
from components.export.write import WRITERS
from synfer.images import iter_encoded
from synfer.manifest import read_manifest

COUNT = 30


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    write_stages(folder, COUNT, size=32)
    return folder


def test_no_two_images_have_the_same_bytes(stages: Path) -> None:
    images = dict(iter_encoded(stages / "synthesis"))
    assert len(images) == len(set(images.values())) == COUNT
    assert len(list((stages / "photographs").rglob("*.png"))) == COUNT


def test_every_command_works_and_every_export_reads_back(stages: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert set(FORMATS) == set(WRITERS)
    for work in COMMANDS.values():
        work(stages)
    assert len(read_manifest(stages / "imported")) == len(read_manifest(stages / "release")) == COUNT
    picture = next((stages / "imagefolder").rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(StudyError, match="the export to imagefolder does not read back as the release"):
        COMMANDS["read back imagefolder"](stages)


def test_the_peak_is_that_of_the_process_itself(tmp_path: Path) -> None:
    peaks = []
    for mib in (1, 200):
        np.save(tmp_path / f"{mib}.npy", np.ones(mib << 17))
        peaks.append(in_own_process(np.load, tmp_path / f"{mib}.npy").peak_mb)
    assert 180 < peaks[1] - peaks[0] < 230


def test_the_report_is_a_table_and_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {10: dict.fromkeys(COMMANDS, Used(100.0, 1.0)), 100: dict.fromkeys(COMMANDS, Used(110.0, 9.0))}
    report(found, 10, 100, tmp_path)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line == json.loads((tmp_path / "releases.json").read_text())
    assert line["verify"] == {"peak_10_mb": 100.0, "peak_100_mb": 110.0, "ratio": 1.1, "seconds_10": 1.0, "seconds_100": 9.0}
