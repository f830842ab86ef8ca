"""The command line: help with examples at once, results where promised, one clear line for every expected error."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.embedded_corpus import write_corpus
from components.stages import STAGES
from components.workspace import Workspace
from flows.cli import main
from synfer.config import Config
from synfer.manifest import read_manifest, write_manifest
from synfer.vocabulary import AU_COUNT

COMMANDS = (
    ("run",), ("flow", "pipeline"), ("render",), ("sample",), ("params",), ("plan",), ("corpus",), ("import",), ("describe",),
    ("annotate",), ("release",), ("verify",), ("export",), ("compare",), ("evaluate",), ("promote",), ("rollback",), ("predict",),
    ("serve",), ("assets",), ("study",), ("ui",), ("up",), ("down",),
)  # fmt: skip


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_help_answers_in_under_a_second(root: Path) -> None:
    """Processor time, which a busy machine does not stretch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "flows.cli", "--help"], cwd=root, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    assert all(command[0] in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_examples(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    status, out, _ = call(capsys, *command, "--help")
    assert status == 0
    assert "Examples" in out
    assert f"synfer {' '.join(command)}" in out


def test_help_of_run_names_every_stage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = call(capsys, "run", "--help")
    assert [name for name in STAGES if name not in out] == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "syntesis"], 2, "unknown stage 'syntesis' (did you mean 'synthesis'?); known: corpus, "),
        (["run", "corpus", "-c", "smok"], 2, "unknown overlay 'smok' (did you mean 'smoke'?); known: "),
        (["run", "corpus", "--set", "synthesis.image=3"], 2, "unknown key 'synthesis.image' (did you mean 'synthesis.images'?)"),
        (["run", "corpus", "--set", "synthesis.images=0"], 2, "synthesis.images = 0: "),
        (["run", "corpus"], 2, "corpus.source: the folder data/faces does not exist; bring it with: dvc pull data.dvc"),
        (["run", "classifiers"], 2, "needs artifacts/corpus/development, which does not exist; make it with: synfer run corpus"),
        (["flow", "pipeline", "--from", "nowhere"], 2, "unknown stage 'nowhere'"),
        (["flow", "pipeline", "--from", "release"], 2, "release needs artifacts/rectification, which does not exist"),
        (["flow", "pipeline", "--set", "corpus.train=-1"], 2, "corpus.train = -1: "),
        (["flow", "pipeline", "--set", "synthesis.plan=rar"], 2, "unknown plan 'rar' (did you mean 'rare'?)"),
        (["flow", "pipeline", "--set", "validation.previous=laptop"], 1, "unknown release 'laptop'"),
        (["params", "corpsu"], 2, "unknown section 'corpsu' (did you mean 'corpus'?)"),
        (["render", "joy"], 2, "unknown expression 'joy'; known: neutral, happiness"),
        (["render", "--au", "99=1"], 2, "unknown action unit '99'"),
        (["render", "--au", "12=7"], 2, "intensity in '12=7' must lie in 0..5"),
        (["render", "--au", "12"], 2, "cannot read '12' as AU=INTENSITY"),
        (["render", "--au", "18=3", "--au", "20=3"], 2, "AU 18 (lip pucker) and AU 20 (lip stretcher) exclude each other"),
        (["sample", "joy"], 2, "unknown expression 'joy'"),
        (["sample", "happiness", "--au", "12=9"], 2, "intensity in '12=9' must lie in 0..5"),
        (["sample", "happily", "sad"], 2, "unknown expression 'happily sad'"),
        (["sample", "--attribute", "age=old"], 2, "unknown value of attribute age 'old'; known: young, middle-aged, elderly"),
        (["sample", "--attribute", "hat=red"], 2, "unknown attribute 'hat'; known: sex, age, "),
        (["sample", "--sweep", "12=0-5"], 2, "cannot read sweep '12=0-5' as AU=FROM..TO"),
        (["sample", "--sweep", "12=0..5", "--au", "12=1"], 2, "AU 12 is both asked (1) and swept"),
        (["sample", "--out", "."], 1, "holds .dvc, which is no earlier sample and would be lost"),
        (["sample", "happiness"], 1, "assets/tiny-sd"),
        (["describe", "data/mine"], 1, "nothing to describe: ask for captions (grammar or a model), for AUs"),
        (["describe", "data/mine", "--captions", "grammar"], 1, "data/mine/manifest.parquet does not exist"),
        (["annotate", "data/mine"], 1, "artifacts/corpus/development, which does not exist; make it with: synfer run corpus"),
        (["annotate", "data/mine", "--map", "1=joy"], 2, "'1=joy': unknown expression 'joy'; known: neutral, happiness"),
        (["annotate", "data/mine", "--out", "labels.csv"], 1, "give a name that ends in .parquet"),
        (["release"], 2, "release needs artifacts/rectification, which does not exist; make it with: synfer run rectification"),
        (["release", "--name", "My Release"], 2, "release.name = 'My Release'"),
        (["plan", "rar"], 2, "unknown plan 'rar' (did you mean 'rare'?)"),
        (["plan", "rare", "--have", "laptop"], 1, "unknown release 'laptop'"),
        (["study", "scalling"], 1, "unknown study 'scalling' (did you mean 'scaling'?); known: scaling, ablation, low_data"),
        (["study", "scaling", "--preset", "laptob"], 2, "unknown preset 'laptob' (did you mean 'laptop'?); known: smoke, laptop, paper"),
        (["study", "scaling"], 1, "data/faces holds no manifest.parquet; bring the corpus with: dvc pull data.dvc, or synfer import"),
        (["study", "scaling", "--set", "studies.labelled=0"], 2, "studies.labelled = 0: "),
        (["verify", "laptop"], 1, "unknown release 'laptop'"),
        (["export", "laptop", "--out", "exports/laptop"], 1, "unknown release 'laptop'"),
        (["describe", "data/mine", "--aus", "a.csv", "--au-scale", "grade"], 1, "unknown AU scale 'grade'; known: intensity, presence"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(
    in_workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, told: str
) -> None:
    before = sorted(in_workspace.root.rglob("*"))
    found, _, err = call(capsys, *arguments)
    (line,) = err.splitlines()
    assert line.startswith("synfer: ")
    assert told in line
    assert found == status
    assert sorted(in_workspace.root.rglob("*")) == before


def test_what_cannot_run_waits_for_no_other_run(in_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with in_workspace.exclusive():
        assert call(capsys, "run", "syntesis")[0] == 2
        status, out, err = call(capsys, "run", "classifiers")
    assert (status, out) == (2, "")
    assert "needs artifacts/corpus/development" in err


@pytest.mark.parametrize(("command", "told"), [("study scaling", "stopped; the same call goes on where it was"), ("params", "stopped")])
def test_ctrl_c_is_one_line(
    in_workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.workspace.Workspace.find", interrupt)
    status, _, err = call(capsys, *command.split())
    assert (status, err) == (130, f"synfer: {told}\n")


def test_version_names_the_commit(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    status, out, _ = call(capsys, "--version")
    assert status == 0
    assert out.startswith(f"synfer {version('synfer')} ({head}")


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = call(capsys, "params")
    assert status == 1
    assert "no params.yaml in" in err


def test_damaged_corpus_is_named_and_no_result_is_left(
    tracked_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tracked_workspace.data / "faces", identities=21, images_per_identity=7, size=32)
    manifest = tracked_workspace.data / "faces" / "manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-7])
    monkeypatch.chdir(tracked_workspace.root)
    capsys.readouterr()
    status, _, err = call(capsys, "run", "corpus")
    assert status == 1
    assert "manifest.parquet is damaged: " in err.splitlines()[-1]
    assert not tracked_workspace.stage("corpus").exists()


def test_params_marks_what_an_overlay_changes(
    in_workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = call(capsys, "params", "synthesis", "-c", "smoke", "--set", "synthesis.guidance_scale=2")
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines() if line.startswith("synthesis.")}
    assert rows["synthesis.images"] == ["56", "*"]
    assert rows["synthesis.guidance_scale"] == ["2.0", "*"]
    assert rows["synthesis.guidance_every"][0] == str(Config().synthesis.guidance_every)
    assert "*" not in rows["synthesis.guidance_every"]


def test_sample_leaves_a_sheet_of_sweeps_and_says_where(
    in_workspace: Workspace, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_workspace.root / "assets").symlink_to(root / "assets")
    wanted = ("sample", "--sweep", "12=0..5:3", "--sweep", "L2=0..5:3", "--attribute", "age=elderly,sex=man", "--steps", "2")
    status, out, _ = call(capsys, *wanted, "--out", "a/faces")
    assert (status, out.strip()) == (0, "a/faces/sheet.png")
    frame = read_manifest(in_workspace.root / "a" / "faces")
    assert frame["swept_intensity"].tolist() == [0.0, 2.5, 5.0] * 2
    assert set(frame["attr_age"]) == {"elderly"}
    assert len(list((in_workspace.root / "a" / "faces").glob("synthetic-*.png"))) == 6


def test_describe_fills_a_manifest_and_says_how_much(in_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    frame = write_corpus(Path("data/faces"), identities=21, images_per_identity=7, size=32)
    write_manifest(frame.assign(caption="", aus=[np.full(AU_COUNT, np.nan)] * len(frame)), Path("data/faces"))
    Path("aus.csv").write_text("".join(["sample_id,AU12,AU28\n", *(f"{name},1,0\n" for name in frame["sample_id"][:100])]))
    capsys.readouterr()
    status, out, _ = call(capsys, "describe", "data/faces", "--aus", "aus.csv", "--captions", "grammar")
    assert (status, out.strip()) == (0, "data/faces: 147 rows, 147 captions written, AUs of 100 known; no such AU here: AU28")
    assert read_manifest(Path("data/faces"))["caption"].str.startswith("a photo of").all()


def test_render_draws_a_row_an_expression(in_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("render", "happiness", "fear", "-n", "3", "--size", "32", "--au", "L2=3")
    status, out, _ = call(capsys, *arguments, "--out", "a/first.png")
    assert (status, out.strip()) == (0, "a/first.png")
    call(capsys, *arguments, "--out", "a/again.png")
    call(capsys, *arguments, "--seed", "1", "--out", "a/other.png")
    first, again, other = (np.asarray(Image.open(in_workspace.root / "a" / f"{name}.png")) for name in ("first", "again", "other"))
    assert (first == again).all()
    assert first.shape[0] == other.shape[0]
    assert (first != other).any()
