"""Stage release: publish the rectified faces as `data/synthetic/<name>`: Parquet shards with pixels and all columns, card, checksums.

It acts on the world: the release is built in a temporary folder and renamed, so that a partial one is never seen; an older release of the
same name gives way, and `data.dvc` gets its digest. `out` keeps `release.json`, the path and the hashes. The project is the folder that
holds `artifacts/` with `out`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.data_registry import track
from components.lineage import lineage_tags
from components.record import Record, read_metrics
from components.templating import fill
from components.validation import RESULT, GateClosed
from components.workspace import Workspace
from synfer.annotation.rectify import ACTIONS
from synfer.config import Common, Release
from synfer.files import replace_folder, sha256, write_json
from synfer.images import shard_path, shard_paths
from synfer.manifest import FILE_NAME, ManifestError, read_manifest
from synfer.vocabulary import AU_COUNT

CARD, CHECKSUMS = "CARD.md", "SHA256SUMS"


def run(section: Release, common: Common, *, rectification: Path, synthesis: Path, validation: Path, out: Path) -> None:
    """Publish a release and write `release.json` to `out`; raises GateClosed if the validation did not pass."""
    checked = json.loads((validation / RESULT).read_text(encoding="utf-8"))
    if not checked["success"]:
        raise GateClosed(f"{validation / RESULT} says that the data did not pass: {', '.join(checked['critical'])}; nothing is released")
    workspace = Workspace(out.parent.parent)
    frame = read_manifest(rectification)
    folder = workspace.data / "synthetic" / section.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{section.name}-") as scratch:
        building = Path(scratch) / section.name
        building.mkdir()
        write_shards(pq.read_table(rectification / FILE_NAME), synthesis, building)
        shutil.copyfile(rectification / FILE_NAME, building / FILE_NAME)
        card = _card(section, common, frame, checked, [synthesis, rectification, validation], workspace.root)
        (building / CARD).write_text(card, encoding="utf-8")
        write_checksums(building)
        replace_folder(building, folder)
    track(workspace, folder)
    _record(folder, workspace, len(frame), out)


def write_shards(manifest: pa.Table, images: Path, folder: Path) -> None:
    """Write one shard for each of the dataset folder `images`: the encoded images, untouched, beside all columns of the manifest.

    Raises ManifestError if a sample of the manifest has no image.
    """
    position = {sample_id: row for row, sample_id in enumerate(manifest["sample_id"].to_pylist())}
    written = 0
    for number, path in enumerate(shard_paths(images)):
        shard = pq.read_table(path, columns=["sample_id", "image"])
        pairs = [(row, position[sample_id]) for row, sample_id in enumerate(shard["sample_id"].to_pylist()) if sample_id in position]
        rows = manifest.take([there for _, there in pairs]).append_column("image", shard["image"].take([here for here, _ in pairs]))
        pq.write_table(rows, shard_path(folder, number), compression="zstd")
        written += len(pairs)
    if written != len(position):
        raise ManifestError(f"{images} holds {written} of the {len(position)} images of the manifest")


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` of every file of a folder, in the format that `sha256sum --check` reads."""
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(folder.rglob("*")) if path.is_file()]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _card(section: Release, common: Common, frame: pd.DataFrame, checked: dict[str, Any], stages: list[Path], root: Path) -> str:
    by_class = pd.crosstab(frame["label"], frame["action"]).reindex(index=list(common.expressions), columns=list(ACTIONS), fill_value=0)
    return fill(
        "CARD.md.j2",
        name=section.name,
        license=section.license,
        images=len(frame),
        usable=int((frame["action"] != "reject").sum()),
        image_size=common.image_size,
        actions=list(ACTIONS),
        by_class=[(label, *counts) for label, counts in zip(by_class.index, by_class.to_numpy().tolist(), strict=True)],
        metrics={key: value for stage in stages for key, value in read_metrics(stage).items()},
        expectations=checked["expectations"],
        au_count=AU_COUNT,
        columns=list(frame.columns),
        members=[name.removeprefix("p_") for name in frame.columns if name.startswith("p_")],
        lineage=lineage_tags(root),
    )


def _record(folder: Path, workspace: Workspace, images: int, out: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    size = sum(path.stat().st_size for path in files)
    place = folder.relative_to(workspace.root).as_posix()
    write_json(out / "release.json", {"path": place, "sha256": sha256(folder), "files": hashes, "bytes": size, "images": images})
    record = Record(out)
    record.metric("release/images", images)
    record.metric("release/bytes", size)
    rows = [(name, files[number].stat().st_size, digest) for number, (name, digest) in enumerate(hashes.items())]
    record.table(f"Files of {place}", pd.DataFrame(rows, columns=["file", "bytes", "sha256"]))
    record.save()
