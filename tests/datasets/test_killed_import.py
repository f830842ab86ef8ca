"""An import that is killed leaves nothing or all, and the next one removes what it left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.imports.dataset import CARD
from synfer.images import iter_images
from synfer.manifest import read_manifest

Write = Callable[..., Path]
Draw = Callable[..., bytes]


_KILLER = """
import os, signal, sys, time
from pathlib import Path
from components.imports.dataset import import_dataset

faces, out, moments = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
for number, moment in enumerate(moments):
    began = time.monotonic()
    child = os.fork()
    if not child:
        import_dataset("folder", faces, out, shard_images=4)
        os._exit(0)
    there = out.with_name(f".{out.name}.unfinished") / moment
    while not (time.monotonic() - began > float(moment) if moment[0].isdigit() else there.exists()):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.0002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(number, out.exists(), flush=True)
    if out.exists():
        out.rename(out.with_name(f"whole-{number}"))
"""
"""Kills an import when a file of its hidden folder appears, or after so many seconds."""


def test_a_killed_import_leaves_nothing_or_all(tmp_path: Path, write: Write, draw: Draw, root: Path) -> None:
    for number in range(60):
        write(tmp_path, f"faces/{'happy' if number % 2 else 'sad'}/{number}.png", draw(number, size=(64, 64)))
    data = tmp_path / "data"
    data.mkdir()
    steps = [".", "images-00000.parquet", "images-00005.parquet", "images-00014.parquet", "manifest.parquet", CARD]
    delays = [f"{delay:.4f}" for delay in np.random.default_rng(0).uniform(0, 0.6, 13)]
    command = [sys.executable, "-c", _KILLER, str(tmp_path / "faces"), str(data / "own"), *steps, *delays, "60"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    states = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(states) == 20 and "False" in states and states[-1] == "True"  # the last one was given the time it needs
    for whole in data.glob("whole-*"):
        assert len(read_manifest(whole)) == 60 and sum(1 for _ in iter_images(whole)) == 60 and (whole / CARD).is_file()
    assert not list(data.glob(".*")) and len(list(data.iterdir())) == states.count("True")
