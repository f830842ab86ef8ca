"""Faces a second by executor: ``python -m benchmarks.executors`` prints a table and, as its last line, the same as JSON.

Draws the same faces in this process and by 1 and 2 actors of Ray on this machine, each with `--threads` torch threads, and refuses to
report if any byte differs. `faces a second` counts from the moment when as many shards are finished as there are workers; what comes
before, the loading of networks and Ray's start, stands in a column of its own. With `--address` the actors are those of a cluster, which
must see the folder `--work`.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.program import run_study
from components import synthesis
from components.workspace import Workspace
from synfer.config import Config, Synthesis, load_config
from synfer.errors import SynferError
from synfer.files import sha256, write_json
from synfer.images import shard_paths
from synfer.manifest import FILE_NAME

HERE = "in process"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class ExecutorsDifferError(SynferError):
    """Two executors that do not leave the same files."""


@dataclass(frozen=True)
class Run:
    """Seconds in all, seconds until every worker had its first shard, faces a second from then on; bytes a face, manifest bytes a row."""

    seconds: float
    start: float
    rate: float
    face_bytes: float
    row_bytes: float


@app.command()
def main(
    actors: Annotated[list[int] | None, typer.Option(help="Numbers of actors; 0 for none at all.")] = None,
    shards: Annotated[int, typer.Option(help="Shards to draw.")] = 8,
    shard_images: Annotated[int, typer.Option(help="Faces a shard.")] = 70,
    threads: Annotated[int, typer.Option(help="torch threads of a worker.")] = 1,
    gpus: Annotated[str, typer.Option(help="synthesis.gpus_per_actor.")] = "auto",
    address: Annotated[str | None, typer.Option(help="synthesis.ray_address.")] = None,
    overlay: Annotated[list[str] | None, typer.Option("--config", help="Overlays, as the pipeline takes them.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for the faces, which are removed.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("reports/benchmarks/executors"),
) -> None:
    """Draw the same faces by every executor."""
    workspace = Workspace.find(Path.cwd())
    overrides = [f"common.threads={threads}", f"synthesis.gpus_per_actor={gpus}", f"synthesis.images={shards * shard_images}"]
    config = load_config(workspace.params, overlays=overlay or [], overrides=[*overrides, f"synthesis.shard_images={shard_images}"])
    torch.set_num_threads(threads)
    found: dict[str, Run] = {}
    with tempfile.TemporaryDirectory(dir=work, prefix="executors-") as folder:
        place = Path(folder)
        (place / "generator").mkdir()
        (place / "generator" / "backbone").symlink_to(workspace.resolve(config.generator.backbone))
        for count in (0, *[count for count in actors or (1, 2) if count]):
            name = f"{count} {'actor' if count == 1 else 'actors'}" if count else HERE
            changes = {"executor": "ray" if count else "local", "actors": max(count, 1), "ray_address": address}
            found[name] = draw(config.synthesis.model_copy(update=changes), config, workspace, place, count)
    report(found, out)


def draw(section: Synthesis, config: Config, workspace: Workspace, place: Path, actors: int) -> Run:
    """Draw the faces by one executor; raises ExecutorsDifferError where they are not those of this process."""
    folder = place / f"by-{actors}"
    folder.mkdir()
    models = workspace.resolve(config.fer_models.source)
    began, started = time.time(), time.perf_counter()
    synthesis.run(section, config.common, development=place, generator=place / "generator", fer_models=models, out=folder)
    seconds = time.perf_counter() - started
    if (found := _digest(folder)) != (wanted := _digest(place / "by-0")):
        raise ExecutorsDifferError(f"{actors} actors leave files of sha256 {found[:12]}, this process {wanted[:12]}")
    paths = shard_paths(folder)
    finished = sorted(path.stat().st_mtime for path in paths)
    first = min(max(actors, 1), len(finished) - 1)
    rate = (len(finished) - first) * section.shard_images / (finished[-1] - finished[first - 1])
    face_bytes = sum(path.stat().st_size for path in paths) / section.images
    return Run(seconds, finished[first - 1] - began, rate, face_bytes, (folder / FILE_NAME).stat().st_size / section.images)


def _digest(folder: Path) -> str:
    return "".join(sha256(path) for path in [*shard_paths(folder), folder / FILE_NAME])


def report(found: dict[str, Run], out: Path) -> None:
    """Write `executors.json` to `out`; print the table and the JSON line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    table = Table(title=f"{platform.machine()}, {device}", title_justify="left", box=None)
    for column in ("executor", "seconds", "until the first shards", "faces a second", "to this process"):
        table.add_column(column, justify="left" if column == "executor" else "right")
    values: dict[str, object] = {}
    for name, run in found.items():
        ratio = run.rate / found[HERE].rate
        table.add_row(name, f"{run.seconds:.1f}", f"{run.start:.1f}", f"{run.rate:.2f}", f"{ratio:.2f}")
        figures = {"seconds": run.seconds, "start": run.start, "rate": run.rate, "ratio": ratio}
        values[name] = {key: round(value, 3) for key, value in figures.items()}
    here = found[HERE]
    values |= {"face_bytes": round(here.face_bytes), "row_bytes": round(here.row_bytes)}
    write_json(out / "executors.json", values)
    console = Console(width=100)
    console.print(table)
    console.print(f"{here.face_bytes:,.0f} bytes a face in its shard, {here.row_bytes:,.0f} bytes a row of the manifest")
    print(json.dumps(values))


if __name__ == "__main__":
    run_study(app, "benchmarks.executors")
