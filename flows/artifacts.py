"""How a stage shows itself on Prefect's page: a table of metrics, and a page with its tables and pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from PIL import Image
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact

from components.record import Table, read_metrics, read_pictures, read_tables

_PICTURE_SIDE = 900  # pixels; an artifact lives in Prefect's database, the full picture beside the stage
_SHOWN_ROWS = 40


class ProgressBar:
    """Share of the pipeline that is done, as an artifact of the flow run."""

    def __init__(self) -> None:
        self._id = create_progress_artifact(progress=0.0, key="pipeline-progress", description="share of the stages that are done")

    def advance(self, share: float) -> None:
        """Set the share done, 0..1."""
        assert isinstance(self._id, UUID)
        update_progress_artifact(self._id, progress=round(100.0 * share, 1))


def show_stage(name: str, folder: Path) -> None:
    """Publish what a stage left for people as artifacts of the current task run."""
    key = name.replace("_", "-")
    rows = [{"metric": metric, **asdict(measured)} for metric, measured in read_metrics(folder).items()]
    create_table_artifact(table=rows, key=f"{key}-metrics", description=f"Metrics of {name}")
    create_markdown_artifact(markdown=stage_page(name, folder), key=key, description=f"Tables and pictures of {name}")


def stage_page(name: str, folder: Path) -> str:
    """Markdown page of a stage, its pictures embedded as data URIs."""
    parts = [f"# {name}"]
    parts += [f"## {table.title}\n\n{markdown_table(table)}" for table in read_tables(folder)]
    for picture in read_pictures(folder):
        parts.append(f"## {picture.title}\n\n![{picture.title}]({data_uri(folder / 'figures' / picture.file)})\n\n{picture.caption}")
    return "\n\n".join(parts)


def markdown_table(table: Table) -> str:
    """A table in Markdown, cut after 40 rows."""
    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in table.rows[:_SHOWN_ROWS]]
    if len(table.rows) > _SHOWN_ROWS:
        lines.append(f"... {len(table.rows) - _SHOWN_ROWS} more")
    return "\n".join(f"| {line} |" for line in lines)


def data_uri(path: Path) -> str:
    """A picture as a JPEG data URI of at most 900 pixels a side."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
