"""Published counts show whether the classes were read in another order."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from synfer.datasets.label_order import label_order_warnings
from synfer.datasets.rafdb import PUBLISHED

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]


def test_published_counts_and_subsets_of_them_pass() -> None:
    assert label_order_warnings(PUBLISHED, PUBLISHED) == []
    assert label_order_warnings({name: count // 10 for name, count in PUBLISHED.items()}, PUBLISHED) == []
    assert label_order_warnings({"fear": 5}, PUBLISHED) == []  # too few to say anything


def test_shifted_classes_are_told_with_the_order_that_fits() -> None:
    names = list(PUBLISHED)
    shifted = {name: PUBLISHED[names[(number + 1) % len(names)]] for number, name in enumerate(names)}
    (warning,) = label_order_warnings(shifted, PUBLISHED)
    assert "are the labels in another order?" in warning
    assert "what is read as disgust has the share of happiness" in warning


def test_a_class_that_is_wildly_off_is_told_with_both_shares() -> None:
    (warning,) = label_order_warnings(PUBLISHED | {"happiness": 0}, PUBLISHED)
    assert warning == "happiness has 0% of the images, 39% in the published set"
    assert math.isclose(PUBLISHED["happiness"] / sum(PUBLISHED.values()), 0.39, abs_tol=0.005)
