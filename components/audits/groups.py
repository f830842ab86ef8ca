"""Who is on the images: the attributes that were asked, value by value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from synfer.vocabulary import ATTRIBUTES


def groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Attribute, value and which rows have it, bool (N,), for every value that occurs; attributes without a column are left out."""
    for name, values in ATTRIBUTES.items():
        if f"attr_{name}" in rows:
            for value in values:
                has = (rows[f"attr_{name}"] == value).to_numpy()
                if has.any():
                    yield name, value, has


def title(name: str, value: str) -> str:
    """A group for people: `hair style: long`, `no glasses`."""
    return f"{name.replace('_', ' ')}: {value}"


def key(name: str, value: str) -> str:
    """A group in the key of a metric."""
    return f"{name}/{value}"


def in_use(rectified: pd.DataFrame) -> np.ndarray:
    """Which images are meant for training, bool (N,): those that rectification did not reject."""
    return (rectified["action"] != "reject").to_numpy()
