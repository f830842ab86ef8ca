"""Memory and time of data that comes in and goes out: ``python -m benchmarks.releases`` prints a table, then the same as a line of JSON.

`synfer import`, the release, `synfer verify` and `synfer export` stream: what they need must not grow with the number of images. Each runs
in a process of its own on 1,000 and on 10,000 images, and its peak of resident memory is read. The images are rendered faces, each with
noise of its own, so that no two have the same bytes; labels, posteriors and reasons are made up. Every export is read back and compared
with the release row by row, bytes included.

What the manifest holds of an image is in memory, some kilobytes at most; so a set a thousand times as large does need more.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.program import run_study
from benchmarks.releases.commands import COMMANDS, Used, in_own_process
from synfer.files import write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    few: Annotated[int, typer.Option(min=20, help="Images of the small set.")] = 1_000,
    many: Annotated[int, typer.Option(min=20, help="Images of the large set.")] = 10_000,
    size: Annotated[int, typer.Option(min=16, help="Side of the images in pixels.")] = 64,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("reports/benchmarks/releases"),
    scratch: Annotated[Path | None, typer.Option(help="Where the sets are written meanwhile; by default a temporary folder.")] = None,
) -> None:
    """Measure every command on both numbers of images."""
    from benchmarks.releases.stages import write_stages  # needs torch; the processes that are measured import this file too

    found: dict[int, dict[str, Used]] = {}
    for count in (few, many):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            root = Path(folder)
            write_stages(root, count, size=size)
            found[count] = {name: in_own_process(work, root) for name, work in tqdm(COMMANDS.items(), desc=f"{count} images")}
    report(found, few, many, out)


def report(found: dict[int, dict[str, Used]], few: int, many: int, out: Path) -> None:
    """Write `releases.json` to `out`; print the table and the JSON line."""
    table = Table(title=f"Peak memory in MiB and seconds, {few:,} and {many:,} images", title_justify="left", box=None)
    for column in ("command", f"MiB, {few:,}", f"MiB, {many:,}", "ratio", f"s, {few:,}", f"s, {many:,}"):
        table.add_column(column, justify="left" if column == "command" else "right")
    values: dict[str, dict[str, float]] = {}
    for name in COMMANDS:
        one, other = found[few][name], found[many][name]
        values[name] = {
            f"peak_{few}_mb": round(one.peak_mb, 1), f"peak_{many}_mb": round(other.peak_mb, 1),
            "ratio": round(other.peak_mb / one.peak_mb, 3),
            f"seconds_{few}": round(one.seconds, 2), f"seconds_{many}": round(other.seconds, 2),
        }  # fmt: skip
        row = (one.peak_mb, other.peak_mb, other.peak_mb / one.peak_mb, one.seconds, other.seconds)
        table.add_row(name, *(f"{value:.{digits}f}" for value, digits in zip(row, (0, 0, 2, 1, 1), strict=True)))
    write_json(out / "releases.json", values)
    Console(width=100).print(table)
    print(json.dumps(values))


if __name__ == "__main__":
    run_study(app, "benchmarks.releases")
