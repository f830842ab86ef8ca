"""The command line `synfer`. An expected error is one line on stderr and a status of 2 (what was asked is unknown) or 1 (all others)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; `arguments` are those of the process by default. Always ends in SystemExit."""
    try:
        app(args=None if arguments is None else list(arguments))
    except SynferError as error:
        print(f"synfer: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(_status(error))


def _status(error: SynferError) -> int:
    from components.stages import StageError
    from synfer.config import ConfigError
    from synfer.vocabulary import VocabularyError

    return 2 if isinstance(error, ConfigError | VocabularyError | StageError) else 1


if __name__ == "__main__":
    main()
