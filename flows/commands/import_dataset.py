"""`synfer import`: a published or an own face data set as a dataset folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.project import console, shown

if TYPE_CHECKING:
    from components.imports.dataset import Imported
    from synfer.classifiers.embedding import Embedding

KNOWN, CLUSTERS = "known", "clusters"
EMBEDDING = "assets/fer/annotator_1"  # the least bad of the embedded networks, see docs/datasets.md
OVERLAYS = {"fer2013": "fer2013", "affectnet": "sd15_affectnet"}  # configurations made for a format, read from data/FORMAT


def import_(
    format_: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="folder, parquet, affectnet, rafdb, fer2013, ferplus, sfew, ckplus, jaffe, kdef or disfa; see docs/datasets.md.",
        ),
    ],
    root: Annotated[Path, typer.Argument(help="Where the files lie as their authors laid them out: a folder, or one Parquet file.")],
    name: Annotated[str | None, typer.Option(help="Written to data/NAME, which must not exist yet; by default FORMAT.")] = None,
    out: Annotated[Path | None, typer.Option(help="Another folder than data/NAME.")] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Pass over up to so many images that cannot be taken, and record them.")] = 0,
    size: Annotated[
        int | None, typer.Option(min=16, help="Store the square in the middle at so many pixels; without it bytes stay.")
    ] = None,
    shares: Annotated[str, typer.Option(metavar="TRAIN,VAL,TEST", help="Parts of a set that has no splits.")] = "0.7,0.15,0.15",
    carve: Annotated[str, typer.Option(metavar="SPLITS", help="Splits to take from train where the set lacks them; '' for none.")] = "val",
    resplit: Annotated[bool, typer.Option("--resplit", help="Forget the set's own splits.")] = False,
    seed: Annotated[int, typer.Option(help="Which people go to which split.")] = 0,
    identities: Annotated[
        str, typer.Option(metavar="known|clusters", help="Where nobody says who is on an image: clusters keeps look-alikes in one split.")
    ] = KNOWN,
    embedding: Annotated[
        str | None, typer.Option(metavar="MODEL", help=f"What sees who looks alike: a folder, or a timm model; by default {EMBEDDING}.")
    ] = None,
    probe: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Folder of a classifier that checks the order of the labels on some of the faces.")
    ] = None,
    track: Annotated[bool, typer.Option("--track", help="Enter it into data.dvc.")] = False,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=EXPRESSION", help="folder, parquet: 1=surprise; uncertain=? no label, none=- left out."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="folder: regular expression whose match in the path is the person.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="parquet: images; by default image.")] = None,
    label_column: Annotated[str | None, typer.Option(help="parquet: labels; by default label.")] = None,
    split_column: Annotated[str | None, typer.Option(help="parquet: splits; by default split, else the file's name.")] = None,
    identity_column: Annotated[str | None, typer.Option(help="parquet: people; by default identity.")] = None,
    views: Annotated[str | None, typer.Option(metavar="S,HL,...", help="kdef: angles to take; by default all.")] = None,
    every: Annotated[int | None, typer.Option(min=1, help="disfa: take every so-many-th frame.")] = None,
) -> None:
    """Read a face data set, check every image, and write it as a dataset folder, whole or not at all.

    Labels are mapped by name. Splits are the set's own; where it has none, nobody and no near copy lies in two of them.

    [bold]Examples[/bold]

    synfer import rafdb downloads/RAF-DB/basic

    synfer import affectnet downloads/AffectNet --size 128 --skip-bad 100

    synfer import fer2013 downloads/fer2013 --name fer2013 --track

    synfer import parquet downloads/faces --label-column emotion --map 0=anger,1=happiness,2=- --name web

    synfer import folder photographs --identity 'subject(\\d+)' --name studio

    synfer import kdef downloads/KDEF --views S,HL,HR

    synfer import folder web --identities clusters --embedding models/face-recognition --probe artifacts/classifiers/real
    """
    from components.imports.dataset import import_dataset
    from components.imports.probe import open_probe
    from components.imports.splits import parse_shares, parse_splits
    from components.workspace import Workspace
    from synfer.datasets.entries import DatasetError
    from synfer.datasets.names import LabelNames, parse_map

    given = {
        "names": LabelNames(told=parse_map(map_)) if map_ else None, "identity": identity, "image_column": image_column,
        "label_column": label_column, "split_column": split_column, "identity_column": identity_column, "every": every,
        "views": tuple(view.strip() for view in views.split(",")) if views else None,
    }  # fmt: skip
    options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    place = out if out is not None else Workspace.find(Path.cwd()).data / (name or format_)
    if track and not place.resolve().is_relative_to(Workspace.find(Path.cwd()).data):
        raise DatasetError(f"--track needs a folder below data/, not {place}")
    done = import_dataset(
        format_, root, place, options=options, shares=parse_shares(shares), carve=parse_splits(carve), resplit=resplit, size=size,
        skip_bad=skip_bad, seed=seed, embedding=_embedding(identities, embedding), probe=None if probe is None else open_probe(probe),
    )  # fmt: skip
    _tell(done, format_)
    if track:
        from components.data_registry import track as enter

        workspace = Workspace.find(Path.cwd())
        console().print(f"data.dvc: {shown(done.folder, workspace.root)} {enter(workspace, done.folder.resolve())}")


def _embedding(identities: str, model: str | None) -> Embedding | None:
    """The network that sees who looks alike, where one is asked for."""
    from components.workspace import Workspace
    from synfer.datasets.entries import DatasetError
    from synfer.vocabulary import unknown

    if identities not in (KNOWN, CLUSTERS):
        raise DatasetError(unknown("identities", identities, (KNOWN, CLUSTERS)))
    if identities == KNOWN:
        if model is not None:
            raise DatasetError(f"--embedding says nothing without --identities {CLUSTERS}")
        return None
    from synfer.classifiers.embedding import open_embedding

    return open_embedding(model or str(Workspace.find(Path.cwd()).resolve(EMBEDDING)))


def _tell(done: Imported, format_: str) -> None:
    from rich.table import Table

    table = Table("expression", *done.counts.columns, "all")
    for row in done.counts.itertuples():
        table.add_row(row[0] or "no label", *(str(count) for count in row[1:]), str(sum(row[1:])))
    table.add_row("all", *(str(count) for count in done.counts.sum()), str(done.counts.to_numpy().sum()))
    console().print(table)
    for note in done.notes:
        console().print(f"note: {note}", markup=False)
    place = shown(done.folder, Path.cwd())
    use = f": train on it with: {_training(format_, place)}" if done.counts.sum().all() else ""
    console().print(f"{place}{use}", markup=False)


def _training(format_: str, place: str) -> str:
    """The call that trains on a data set, by its overlay or with what photographs need: the embedded models know rendered faces only."""
    source = f"--set corpus.source={shlex.quote(place)}"
    if overlay := OVERLAYS.get(format_, ""):
        return f"synfer flow pipeline --config {overlay}" + ("" if place == f"data/{format_}" else f" {source}")
    return f"synfer flow pipeline {source} --set fer_models.source=train --set generator.adapt=full --set generator.guide_steps=3000"
