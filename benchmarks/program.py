"""How every study ends: an expected error is one line on stderr and a status of 1."""

from __future__ import annotations

import sys

import typer

from synfer.errors import SynferError


def run_study(app: typer.Typer, name: str) -> None:
    """Run a study's command line."""
    try:
        app()
    except SynferError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
