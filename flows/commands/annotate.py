"""`synfer annotate`: labels of anybody's faces, checked by the members of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project

if TYPE_CHECKING:
    from components.annotate.run import Annotation


def annotate(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of class folders, folder of images without labels, Parquet file or folder of such, or dataset folder."),
    ],
    out: Annotated[Path, typer.Option(help="Table, one row an image; the page of the same name (.html) comes beside it.")] = Path(
        "labels.parquet"
    ),
    run: Annotated[Path | None, typer.Option(help="Finished stages of a run, whose members look; by default artifacts/ here.")] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=EXPRESSION", help="What a label means: 1=surprise; uncertain=? no label, none=- left out."),
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Look at no label, also where there is one.")] = False,
    image_column: Annotated[str, typer.Option(help="Parquet: images, as bytes or as a struct of bytes and path.")] = "image",
    label_column: Annotated[str, typer.Option(help="Parquet: labels, as names or as numbers of a ClassLabel.")] = "label",
    pred_probs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own model's out-of-sample probabilities, .npy (N, K) or Parquet.")
    ] = None,
    pred_probs_val: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same for the run's val faces: then your model is calibrated and weighted.")
    ] = None,
    pred_probs_classes: Annotated[str | None, typer.Option(metavar="NAMES", help="Classes of a .npy: angry,disgust,...")] = None,
    cleanlab: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write labels.npy, pred_probs.npy, ... for cleanlab.")] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Reject up to so many unreadable images instead of stopping.")] = 0,
    shown: Annotated[int, typer.Option(min=0, help="Suspicious faces on the page.")] = 120,
    shard: Annotated[int, typer.Option(min=1, help="Images whose scores are written at once; a kill costs so many at most.")] = 512,
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Check the labels of any faces: each is kept, relabelled, softened or rejected, with a reason; an interrupted call goes on.

    The members are FERAnno and the annotators of a run, calibrated on its val faces.

    [bold]Examples[/bold]

    synfer annotate data/fer2013/train

    synfer annotate data/affectnet --map contempt=-,uncertain=? --skip-bad 20 --out affectnet_labels.parquet

    synfer annotate data/rafdb --map 1=surprise,2=fear,3=disgust,4=happiness,5=sadness,6=anger,7=neutral

    synfer annotate train-00000-of-00002.parquet --image-column image --label-column emotion

    synfer annotate frames --out frames.parquet --set rectification.target_precision=0.98

    synfer annotate data/faces --pred-probs probabilities.npy --pred-probs-classes angry,disgust,fear,happy,neutral,sad,surprise

    synfer annotate data/faces --cleanlab cleanlab
    """
    workspace, settings = load_project(config, set_)
    from components.annotate.run import annotate as write
    from synfer.datasets.names import parse_map

    done = write(
        source, out, run=run or workspace.artifacts, config=settings, names=parse_map(map_ or ()), unlabelled=unlabelled,
        image_column=image_column, label_column=label_column, pred_probs=pred_probs, pred_probs_val=pred_probs_val,
        pred_probs_classes=[name.strip() for name in pred_probs_classes.split(",")] if pred_probs_classes else None,
        cleanlab=cleanlab, skip_bad=skip_bad, shown=shown, shard=shard,
    )  # fmt: skip
    _tell(done)


def _tell(done: Annotation) -> None:
    actions = ", ".join(f"{count} {name}" for name, count in done.actions.items())
    wrong = f"; about {done.given_wrong:.1%} of the labels are wrong, {done.disputed} are disputed" if done.given_wrong is not None else ""
    unreadable = f"; {done.unreadable} could not be read" if done.unreadable else ""
    ignored = f"; {done.ignored} other files were left alone" if done.ignored else ""
    console().print(f"{done.out}: {done.images} images, {actions}{wrong}{unreadable}{ignored}")
    console().print(f"{done.page}: the faces to look at first")
