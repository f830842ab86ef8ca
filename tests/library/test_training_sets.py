"""Names of training sets say parts, ratio and order; what cannot be read is told with the syntax."""

import pytest

from synfer.config import ConfigError, validate
from synfer.training_sets import Phase, TrainingSetError, parse_training_set


def test_names_are_read() -> None:
    assert parse_training_set("real") == (Phase(("real",)),)
    assert parse_training_set("real+synthetic") == (Phase(("real", "synthetic")),)
    assert parse_training_set("real:1+synthetic:2.5") == (Phase(("real", "synthetic"), (1.0, 2.5)),)
    assert parse_training_set("synthetic>real") == (Phase(("synthetic",)), Phase(("real",)))
    assert parse_training_set("pseudo>real", parts=("real", "pseudo")) == (Phase(("pseudo",)), Phase(("real",)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("reel", "unknown part 'reel'.*did you mean 'real'"),
        ("real+2*synthetic", r"unknown part '2\*synthetic'.*write real, real\+synthetic, real:1\+synthetic:3"),
        ("real+real", "names a part twice"),
        ("real:1+synthetic", "a ratio needs a number for each"),
        ("real:2", "a ratio needs a number for each of two or more parts"),
        ("real:0+synthetic:1", "'0' is no positive number"),
        ("real:+synthetic:1", "'' is no positive number"),
        ("real>", "unknown part ''"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_syntax(name: str, why: str) -> None:
    with pytest.raises(TrainingSetError, match=why):
        parse_training_set(name)


def test_the_configuration_tells_it_before_any_work() -> None:
    with pytest.raises(ConfigError, match=r"classifiers\.training_sets.*unknown part 'fake'"):
        validate({"classifiers": {"training_sets": ["real", "fake"]}})
