"""The Python of docs/classifiers.md runs as it stands, with one epoch on small images."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from synfer.vocabulary import COMPOUNDS, DEFAULT_EXPRESSIONS

ROWS = 24
SECTIONS = ("Without labels", "From a few examples", "From captions alone")


def test_the_page_runs(root: Path) -> None:
    page = (root / "docs" / "classifiers.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    generator = np.random.default_rng(0)
    rows = np.arange(ROWS)
    names: dict[str, Any] = {
        "images": generator.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8),
        "targets": np.eye(7)[rows % 7],
        "labels": np.array(sorted(COMPOUNDS))[rows % 6],
        "captions": [f"a {DEFAULT_EXPRESSIONS[row % 7]} face" for row in rows],
        "classes": DEFAULT_EXPRESSIONS,
        "train": slice(0, 14),
        "val": slice(14, 20),
        "test": slice(20, ROWS),
    }
    for title in SECTIONS:
        for block in re.findall(r"```python\n(.*?)```", parts[title], flags=re.S):
            exec(re.sub(r"epochs=\d+", "epochs=1", block), names)
    assert names["features"].shape == (ROWS, names["encoder"].width)
    assert names["neighbours"].shape == (4, 7)
    assert names["accuracies"].shape == (100,)
    assert names["probabilities"].shape == (4, 2)
