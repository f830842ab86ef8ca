"""Prompts: what may be asked of a generator, and one clear line for what may not."""

from __future__ import annotations

import pytest

from synfer.prompt import Sweep, make_prompt, parse_attributes, parse_sweep
from synfer.vocabulary import COMPOUNDS, VocabularyError


def test_codes_become_canonical_and_nothing_need_be_asked() -> None:
    prompt = make_prompt("happily surprised", aus={"au 12": 3, "AUL2": 1.5}, attributes={"age": "elderly"}, sweeps=["au4=0..5"])
    assert prompt.aus == {"12": 3.0, "L2": 1.5}
    assert prompt.sweeps == (Sweep("4", (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)),)
    assert make_prompt().expression == ""


@pytest.mark.parametrize("compound", COMPOUNDS)
def test_every_compound_may_be_asked(compound: str) -> None:
    assert make_prompt(compound).expression == compound


def test_a_sweep_has_a_column_each_whole_step_or_as_many_as_said() -> None:
    assert parse_sweep("12=1..4").intensities == (1.0, 2.0, 3.0, 4.0)
    assert parse_sweep(" L12 = 0..5 : 11 ") == Sweep("L12", tuple(step / 2 for step in range(11)))
    assert parse_sweep("12=5..0:2").intensities == (5.0, 0.0)
    assert parse_sweep("12=0..0.5").intensities == (0.0, 0.5)


def test_attributes_are_read_from_repeated_and_joined_options() -> None:
    assert parse_attributes(["age=elderly, sex=man", "glasses=glasses"]) == {"age": "elderly", "sex": "man", "glasses": "glasses"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12=0-5", r"cannot read sweep '12=0-5' as AU=FROM\.\.TO or AU=FROM\.\.TO:COLUMNS, for example 12=0\.\.5"),
        ("12=0..7", r"sweep of AU 12 over .* must stay in 0\.\.5"),
        ("12=0..5:1", "in 2 to 21 columns"),
        ("12=0..5:99", "in 2 to 21 columns"),
        ("12=3..3", "from one intensity to another"),
        ("99=0..5", "unknown action unit '99'"),
    ],
)
def test_a_wrong_sweep_is_named_with_an_example(text: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        parse_sweep(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expression": "happily surprise"}, r"unknown expression 'happily surprise' \(did you mean 'happily surprised'\?\); known: n"),
        ({"attributes": {"ages": "elderly"}}, r"unknown attribute 'ages' \(did you mean 'age'\?\); known: sex, age"),
        ({"attributes": {"age": "old"}}, "unknown value of attribute age 'old'.*; known: young, middle-aged, elderly"),
        ({"aus": {"18": 2, "20": 2}}, r"AU 18 \(lip pucker\) and AU 20 \(lip stretcher\) exclude each other"),
        ({"aus": {"43": 2}, "sweeps": ["5=0..5"]}, r"AU 5 \(upper lid raiser\) and AU 43 \(eyes closed\) exclude each other"),
        ({"aus": {"12": 6}}, r"intensity of AU 12 is 6\.0; it must lie in 0\.\.5"),
        ({"aus": {"12": 2}, "sweeps": ["12=0..5"]}, r"AU 12 is both asked \(2\) and swept"),
        ({"sweeps": ["12=0..5", "4=0..5:3"]}, "same number of columns; 12 has 6 and 4 has 3"),
        ({"sweeps": [Sweep("12", ())]}, "must stay in"),
        ({"caption": "a face", "attributes": {"age": "young"}}, "a caption replaces the one that names age"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_prompt_is_told_with_what_is_known(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        make_prompt(**arguments)


def test_an_attribute_without_a_value_is_told_with_an_example() -> None:
    with pytest.raises(VocabularyError, match=r"cannot read 'elderly' as ATTRIBUTE=VALUE, for example age=elderly; known: sex, age"):
        parse_attributes(["elderly"])
