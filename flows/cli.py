"""The command line `synfer`. An expected error is one line on stderr and a status of 2 (what was asked is unknown) or 1 (all others)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

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
app.command()(run)
app.add_typer(flow_app, name="flow")
app.command()(render)
app.command()(sample)
app.command()(params)
app.command()(plan)
app.command()(corpus)
app.command("import")(import_)
app.command()(describe)
app.command()(annotate)
app.command()(release)
app.command()(verify)
app.command()(evaluate)
app.command()(compare)
app.command()(export)
app.command()(promote)
app.command()(rollback)
app.command()(predict)
app.command()(serve)
app.command()(study)
app.command()(assets)
app.command()(ui)
app.command()(up)
app.command()(down)


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
