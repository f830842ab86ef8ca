import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from components import release
from components.audits.finding import Finding
from components.record import Record
from components.releases.verify import verify
from components.validation import GateClosed
from components.workspace import Workspace
from synfer.config import Config
from synfer.files import sha256, write_json
from synfer.images import is_marked_generated, iter_images
from synfer.manifest import ManifestError, read_manifest

PASSED = {"expectation": "There are images", "success": True, "observed": "70", "wanted": "at least 1"}
GOOD = {"success": True, "critical": [], "warning": [], "expectations": [PASSED]}


STAGES = ("rectification", "synthesis", "validation", "evaluation", "audit")
COPIES = Finding("memorisation/renders/pixel", "No nearer to renders", "critical", False, "0.900 (0.850 to 0.950), n = 70", "at most 0.55")


@pytest.fixture(autouse=True)
def audit(workspace: Workspace, leave_audit: Callable[..., None]) -> None:
    """Every release reads what evaluation and audit left."""
    leave_audit(workspace.artifacts)


def publish(workspace: Workspace, settings: Config, *, result: dict[str, object] = GOOD, synthesis: Path | None = None) -> Path:
    folder = workspace.stage("validation")
    write_json(folder / "result.json", result)
    Record(folder).save()
    out = workspace.artifacts / ".release.partial"
    out.mkdir(exist_ok=True)
    stages = {name: workspace.stage(name) for name in STAGES} | ({"synthesis": synthesis} if synthesis else {})
    release.run(settings.release, settings.common, **stages, out=out)
    return workspace.data / "synthetic" / settings.release.name


def test_a_release_is_a_dataset_folder_with_marked_images_and_all_columns(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config
) -> None:
    folder = publish(workspace, settings)
    shards = pd.concat(map(pd.read_parquet, sorted(folder.glob("images-*.parquet"))))
    assert set(rectified.columns) | {"image"} == set(shards.columns)
    assert shards["label"].tolist() == rectified["label"].tolist()
    for row in shards.itertuples():
        assert hashlib.sha256(row.image["bytes"]).hexdigest() == row.sha256
        assert is_marked_generated(row.image["bytes"])
    assert len(list(iter_images(folder))) == len(read_manifest(folder)) == len(rectified)


def test_the_checksums_and_the_code_of_the_card_work(
    rectified: pd.DataFrame, in_workspace: Workspace, settings: Config
) -> None:
    folder = publish(in_workspace, settings)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    names: dict[str, pd.DataFrame] = {}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1], names)  # type: ignore[index]
    assert len(names["train"]) == (rectified["weight"] > 0).sum()
    assert settings.release.license in card
    assert "63 of the 70 images" in card
    left = json.loads((in_workspace.artifacts / ".release.partial" / "release.json").read_text(encoding="utf-8"))
    assert left["sha256"] == sha256(folder)
    assert left["path"] == "data/synthetic/smoke"


def test_the_card_shows_the_evaluation_and_the_audit_whose_sheet_is_part_of_the_release(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, leave_audit: Callable[..., None]
) -> None:
    leave_audit(workspace.artifacts, COPIES)
    folder = publish(workspace, settings)
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "| generation/kid | 0.012 [-0.0030, 0.031] | 70 |" in card
    assert "judge_accuracy/fear" not in card, "classes one by one are in the report"
    assert "Verdict: **failed: memorisation/renders/pixel**" in card
    assert "| failed | No nearer to renders | 0.900 (0.850 to 0.950), n = 70 | at most 0.55 | critical |" in card
    assert "| passed | Few images repeat another one |" in card
    assert "- 70 generated faces in use with 70 renders" in card
    assert "| skin: dark | -0.250 [-0.300, -0.200] | 0.875 [0.800, 0.950] | 40 |" in card
    assert "| fear | 12 | 3 to 5 | skin: dark | 4 | 0 |" in card
    assert "](audit/closest_pairs.png)" in card
    assert json.loads((folder / "audit" / "audit.json").read_text())["critical"] == ["memorisation/renders/pixel"]
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert {"audit/audit.json", "audit/closest_pairs.png"} <= listed
    found: list[str] = []
    assert verify(folder, lambda finding: found.append(str(finding))).findings == 0, found
    (folder / "audit" / "closest_pairs.png").unlink()
    verify(folder, lambda finding: found.append(str(finding)))
    assert found == ["audit/closest_pairs.png: is missing, SHA256SUMS lists it"]


def test_a_sheet_with_photographs_stays_out_of_the_release(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, leave_audit: Callable[..., None]
) -> None:
    leave_audit(workspace.artifacts, publish_sheet=False)
    folder = publish(workspace, settings)
    assert [path.name for path in (folder / "audit").iterdir()] == ["audit.json"]
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "closest_pairs.png" not in card
    assert "The sheet of the closest pairs stays with the run" in card


def test_data_that_did_not_pass_is_not_released(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    with pytest.raises(GateClosed, match="did not pass: Enough images"):
        publish(workspace, settings, result=GOOD | {"success": False, "critical": ["Enough images"]})
    assert not workspace.data.exists()


def test_a_release_that_fails_leaves_the_old_one_whole_and_nothing_else(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, generated: Path, tmp_path: Path
) -> None:
    folder = publish(workspace, settings)
    before = sha256(folder)
    half = tmp_path / "half"
    half.mkdir()
    pq.write_table(pq.read_table(generated / "images-00000.parquet"), half / "images-00000.parquet")
    with pytest.raises(ManifestError, match="holds 40 of the 70 images"):
        publish(workspace, settings, synthesis=half)
    assert sha256(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_same_data_gives_the_same_release(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    first = sha256(publish(workspace, settings))
    assert sha256(publish(workspace, settings)) == first


_KILLED = """
import os, random, shutil, signal, sys
from pathlib import Path
from components import release
from synfer.config import load_config
from synfer.files import sha256

root = Path(sys.argv[1])
config = load_config(root / "params.yaml", overlays=["smoke"])
folder = root / "data" / "synthetic" / "smoke"

def run(kill_at):
    # In a child, which kills itself at the kill_at-th file or folder that Python opens, makes, renames or removes, else before DVC.
    child = os.fork()
    if child == 0:
        events = 0
        def count(event, arguments):
            nonlocal events
            if event == "subprocess.Popen" and "dvc" in arguments[1]:
                (root / "events").write_text(str(events))
                os.kill(os.getpid(), signal.SIGKILL)
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym"):
                events += 1
                if events == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        stages = {name: root / "artifacts" / name for name in ("rectification", "synthesis", "validation", "evaluation", "audit")}
        release.run(config.release, config.common, **stages, out=root / "artifacts" / ".release.partial")
        os._exit(0)
    return os.waitpid(child, 0)[1]

assert run(0) == signal.SIGKILL
last, old = int((root / "events").read_text()), root / "old"
new = sha256(folder)
(folder / "CARD.md").write_text("an older card")
shutil.copytree(folder, old)
for before in (None, old):
    for point in sorted({*random.Random(2).sample(range(1, last), 7), *range(last - 12, last + 1)}):
        shutil.rmtree(folder, ignore_errors=True)
        if before:
            shutil.copytree(before, folder)
        assert run(point) == signal.SIGKILL
        state = sha256(folder) if folder.exists() else None
        assert state in (new, sha256(before) if before else None), point
        print(before and "old", "new" if state == new else "as before")
shutil.rmtree(folder)
run(0)
assert sha256(folder) == new
assert [path.name for path in folder.parent.iterdir()] == ["smoke"]
"""


def test_a_killed_release_leaves_the_old_one_or_the_new(rectified: pd.DataFrame, workspace: Workspace, root: Path) -> None:
    write_json(workspace.stage("validation") / "result.json", GOOD)
    Record(workspace.stage("validation")).save()
    (workspace.artifacts / ".release.partial").mkdir()
    done = subprocess.run([sys.executable, "-c", _KILLED, str(workspace.root)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"None as before", "None new", "old as before", "old new"} == set(done.stdout.splitlines())
