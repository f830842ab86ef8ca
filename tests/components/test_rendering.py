"""Asked action units on top of an expression's own: they win, and what excludes them gives way."""

from __future__ import annotations

from components.rendering import with_aus
from synfer.vocabulary import au_intensities, au_vector, exclusion_conflicts


def test_asked_units_replace_and_join() -> None:
    happy = au_vector({"6": 3, "12": 2, "L12": 4})
    assert au_intensities(with_aus(happy, {"12": 4, "au 2": 1.5})) == {"2": 1.5, "6": 3.0, "12": 4.0}
    assert au_intensities(happy) == {"6": 3.0, "12": 2.0, "L12": 4.0}, "the argument stays"


def test_one_side_asked_keeps_the_common_part() -> None:
    assert au_intensities(with_aus(au_vector({"12": 2}), {"L12": 4})) == {"12": 2.0, "L12": 4.0}


def test_zero_takes_a_unit_away() -> None:
    assert au_intensities(with_aus(au_vector({"6": 3, "12": 2}), {"6": 0})) == {"12": 2.0}


def test_what_excludes_an_asked_unit_gives_way() -> None:
    surprised = au_vector({"1": 3, "2": 3, "5": 4, "26": 4})
    pressed = with_aus(surprised, {"24": 3, "43": 5})
    assert au_intensities(pressed) == {"1": 3.0, "2": 3.0, "24": 3.0, "43": 5.0}
    assert exclusion_conflicts(pressed) == []
