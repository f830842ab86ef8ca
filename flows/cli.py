"""The command line `synfer`. An expected error is one line on stderr and a status of 2 (what was asked is unknown) or 1 (all others).

Ctrl-C is told in one line too, with a status of 130.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.annotate import annotate
from flows.commands.assets import assets
from flows.commands.compare import compare
from flows.commands.corpus import corpus
from flows.commands.describe import describe
from flows.commands.evaluate import evaluate
from flows.commands.export import export
from flows.commands.flow import app as flow_app
from flows.commands.import_dataset import import_
from flows.commands.params import params
from flows.commands.plan import plan
from flows.commands.predict import predict
from flows.commands.promote import promote, rollback
from flows.commands.release import release
from flows.commands.render import render
from flows.commands.run import run
from flows.commands.sample import sample
from flows.commands.serve import serve
from flows.commands.study import study
from flows.commands.ui import ui
from flows.commands.up import down, up
from flows.commands.verify import verify
from synfer.errors import SynferError

app = typer.Typer(
    name="synfer",
    help="Synthetic facial-expression datasets that people can trust: generate, rectify, validate, train, evaluate, release.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(flow_app, name="flow", rich_help_panel="Pipeline")
_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Pipeline": {"run": run, "study": study, "params": params},
    "Faces": {"render": render, "sample": sample, "corpus": corpus, "assets": assets},
    "Data in": {"import": import_, "describe": describe, "annotate": annotate, "plan": plan},
    "Data out": {"release": release, "verify": verify, "export": export},
    "Models": {"evaluate": evaluate, "compare": compare, "promote": promote, "rollback": rollback, "predict": predict, "serve": serve},
    "This machine": {"ui": ui, "up": up, "down": down},
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)


_CONTINUED = {"run", "flow", "study", "describe", "annotate", "assets"}
"""Commands that go on with what an interrupted call has finished."""
_INTERRUPTED = 130  # the status that a shell expects after Ctrl-C, and what Typer makes of it


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from components.lineage import git_commit

        checkout = Path(__file__).resolve().parents[1]
        commit = git_commit(checkout) if (checkout / ".git").exists() else None
        print(f"synfer {version('synfer')}{f' ({commit})' if commit else ''}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and, in a checkout, its commit.")
    ] = False,
) -> None:
    """Synthetic facial-expression datasets that people can trust: generate, rectify, validate, train, evaluate, release."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; `arguments` are those of the process by default. Always ends in SystemExit."""
    try:
        app(args=None if arguments is None else list(arguments))
    except SynferError as error:
        print(f"synfer: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(_status(error))
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            command = next(iter(sys.argv[1:] if arguments is None else arguments), "")
            print(f"synfer: stopped{'; the same call goes on where it was' if command in _CONTINUED else ''}", file=sys.stderr)
        raise


def _status(error: SynferError) -> int:
    from components.stages import StageError
    from synfer.config import ConfigError
    from synfer.vocabulary import VocabularyError

    return 2 if isinstance(error, ConfigError | VocabularyError | StageError) else 1


if __name__ == "__main__":
    main()
