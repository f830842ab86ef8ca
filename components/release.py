"""Stage release: publish the rectified faces as `data/synthetic/<name>`: Parquet shards with all columns, card, audit, checksums.

It acts on the world: the release is built in a temporary folder and renamed, so that a partial one is never seen; an older release of the
same name gives way, and `data.dvc` gets its digest. `out` keeps `release.json`, the path and the hashes. The project is the folder that
holds `artifacts/` with `out`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.audits.publication import publish_audit
from components.data_registry import track
from components.record import Record
from components.releases.card import write_card
from components.releases.folder import CHECKSUMS
from components.releases.hub import hub_schema
from components.validation import RESULT, GateClosed
from components.workspace import Workspace
from synfer.config import Common, Release
from synfer.files import sha256, whole_folder, write_json
from synfer.images import iter_shard, shard_path, shard_paths
from synfer.manifest import FILE_NAME, ManifestError, read_manifest


def run(
    section: Release,
    common: Common,
    *,
    rectification: Path,
    synthesis: Path,
    validation: Path,
    evaluation: Path,
    audit: Path,
    out: Path,
) -> None:
    """Publish a release and write `release.json` to `out`; raises GateClosed if the validation did not pass."""
    checked = json.loads((validation / RESULT).read_text(encoding="utf-8"))
    if not checked["success"]:
        raise GateClosed(f"{validation / RESULT} says that the data did not pass: {', '.join(checked['critical'])}; nothing is released")
    workspace = Workspace(out.parent.parent)
    images = len(read_manifest(rectification))
    folder = workspace.data / "synthetic" / section.name
    with whole_folder(folder) as building:
        stages = {"rectification": rectification, "synthesis": synthesis, "validation": validation}
        write_release(section, **stages, evaluation=evaluation, audit=audit, root=workspace.root, folder=building)
    track(workspace, folder)
    _record(folder, workspace, images, out)


def write_release(
    section: Release,
    *,
    rectification: Path,
    synthesis: Path,
    validation: Path,
    evaluation: Path,
    audit: Path,
    root: Path,
    folder: Path,
) -> None:
    """Write shards, manifest, audit, card and checksums to an empty folder; `root` is the project, whose commit the card names."""
    checked = json.loads((validation / RESULT).read_text(encoding="utf-8"))
    write_shards(pq.read_table(rectification / FILE_NAME), synthesis, folder)
    shutil.copyfile(rectification / FILE_NAME, folder / FILE_NAME)
    verdict = publish_audit(audit, folder)
    write_card(
        section, checked, verdict, stages=[synthesis, rectification, validation], evaluation=evaluation, audit=audit, root=root,
        folder=folder,
    )  # fmt: skip
    write_checksums(folder)


def write_shards(manifest: pa.Table, images: Path, folder: Path) -> None:
    """Write one shard for each of the dataset folder `images`: the encoded images, untouched, beside all columns of the manifest.

    Their schema tells `datasets` that `image` is an image.
    Raises ManifestError if a sample of the manifest has no image.
    """
    position = {sample_id: row for row, sample_id in enumerate(manifest["sample_id"].to_pylist())}
    written = 0
    for number, path in enumerate(shard_paths(images)):
        shard = pa.Table.from_batches(iter_shard(path, columns=["sample_id", "image"]))
        pairs = [(row, position[sample_id]) for row, sample_id in enumerate(shard["sample_id"].to_pylist()) if sample_id in position]
        rows = manifest.take([there for _, there in pairs]).append_column("image", shard["image"].take([here for here, _ in pairs]))
        pq.write_table(rows.cast(hub_schema(rows.schema)), shard_path(folder, number), compression="zstd", write_page_checksum=True)
        written += len(pairs)
    if written != len(position):
        raise ManifestError(f"{images} holds {written} of the {len(position)} images of the manifest")


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` of every file of a folder, in the format that `sha256sum --check` reads."""
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(folder.rglob("*")) if path.is_file()]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


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
