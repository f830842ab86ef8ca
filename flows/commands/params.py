"""`synfer params`: the effective configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.project import Overlays, Overrides, console, load_project

if TYPE_CHECKING:
    from synfer.config import Config


def params(
    section: Annotated[str | None, typer.Argument(help="Only this section.")] = None,
    config: Overlays = None,
    set_: Overrides = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print YAML, as params.yaml has it.")] = False,
) -> None:
    """Show the effective configuration; values that differ from params.yaml are marked.

    [bold]Examples[/bold]

    synfer params

    synfer params synthesis --config smoke

    synfer params --config sd15_affectnet --set common.seed=3 --yaml > params.yaml
    """
    workspace, effective = load_project(config, set_)
    from synfer.config import ConfigError, load_config
    from synfer.vocabulary import unknown

    sections = list(type(effective).model_fields)
    if section is not None and section not in sections:
        raise ConfigError(unknown("section", section, sections))
    if yaml:
        typer.echo(as_yaml(effective), nl=False)
    else:
        _print_table(effective, load_config(workspace.params), [section] if section else sections)


def as_yaml(config: Config) -> str:
    """The configuration as YAML with the description of every key beside it."""
    lines = ["# The laptop run: one section a stage. `synfer params` shows it with overlays (configs/) and overrides (--set) applied."]
    for name in type(config).model_fields:
        section = getattr(config, name)
        lines += ["", f"{name}:"]
        for key, field in type(section).model_fields.items():
            entry = f"  {key}: {_inline(getattr(section, key))}"
            lines.append(f"{entry:<40}  # {field.description}" if field.description else entry)
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    import yaml

    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _print_table(effective: Config, base: Config, sections: list[str]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for name in sections:
        section, before = getattr(effective, name), getattr(base, name)
        for key, field in type(section).model_fields.items():
            value = _inline(getattr(section, key))
            changed = getattr(section, key) != getattr(before, key)
            table.add_row(f"{name}.{key}", f"[bold yellow]{value} *[/bold yellow]" if changed else value, field.description or "")
    out = console()
    out.soft_wrap = False
    out.print(table)
