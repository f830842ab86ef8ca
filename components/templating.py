"""Pages and cards from the templates beside this file; HTML is escaped, a value that a template misses is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from components.record import Metric

_FOLDER = Path(__file__).parent / "templates"


def fill(template: str, **values: Any) -> str:
    """The text of a template of `components/templates` with its values; the last ending but `.j2` decides about escaping."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=number, metric=metric, share=share, bytes=size)
    return environment.get_template(template).render(**values)


def number(value: float) -> str:
    """A number for people: whole ones without decimals, others with three decimals, small ones with four, tiny ones as powers of ten."""
    if value != value:
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")  # a thin space
    if abs(value) >= 0.01:
        return f"{value:.3f}"
    return f"{value:.4f}" if abs(value) >= 0.0005 else f"{value:.2e}"


def metric(value: Metric) -> str:
    """A metric with its interval where it has one."""
    interval = f" [{number(value.low)}, {number(value.high)}]" if value.low is not None and value.high is not None else ""
    return number(value.value) + interval


def share(value: float) -> str:
    """A share 0..1 in per cent."""
    return f"{100 * value:.1f}\u202f%"


def size(count: int) -> str:
    """A number of bytes in the largest unit of which there is one."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"
