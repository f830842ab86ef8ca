"""`synfer release`: publish the rectified faces, tag their state, push data and tag."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project


def release(
    name: Annotated[str | None, typer.Option(help="Folder under data/synthetic; by default release.name of the configuration.")] = None,
    tag: Annotated[
        bool,
        typer.Option(
            "--tag",
            help="Set the git tag release/NAME-DIGEST. It names a commit whose data.dvc has the release: where data.dvc has changed, it is "
            "committed on the current branch, alone; whatever else is staged or changed stays as it is.",
        ),
    ] = False,
    push: Annotated[
        bool,
        typer.Option(
            "--push",
            help="dvc push the release (no other entry of data.dvc) and, with --tag, git push the tag; your branch is yours to push.",
        ),
    ] = False,
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Make a release of the present artifacts, and show where it lies, how many images it has, and its digest.

    What is done already stays: without new artifacts or settings the same release is tagged and pushed. After an error, repeat the call.

    [bold]Examples[/bold]

    synfer release

    synfer release --name rare-1 --tag --push
    """
    import json

    named = [f"release.name={json.dumps(name)}"] if name is not None else []
    workspace, settings = load_project(config, [*(set_ or ()), *named])
    from components.releases.publish import Publication
    from components.stages import find_stage, stage_inputs

    stage_inputs(find_stage("release"), workspace)
    out = console()
    publication = Publication(workspace, settings, lambda line: out.print(line, markup=False), _call(name, tag, push, config, set_))
    with workspace.exclusive(on_wait=lambda: out.print("another run writes artifacts/; waiting for its end")):
        made = publication.run(tag=tag, push=push)
    if not tag:
        out.print(f"next: synfer verify {made.name}, and synfer release --name {made.name} --tag", markup=False)


def _call(name: str | None, tag: bool, push: bool, config: list[str] | None, set_: list[str] | None) -> str:
    """This call as somebody would type it again."""
    import shlex

    named = ["--name", name] if name is not None else []
    overlays = [part for overlay in config or () for part in ("--config", overlay)]
    values = [part for value in set_ or () for part in ("--set", value)]
    return shlex.join(["synfer", "release", *named, *["--tag"] * tag, *["--push"] * push, *overlays, *values])
