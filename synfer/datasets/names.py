"""Labels of other people's data as expressions: their names, the numbers of a hub's ClassLabel, and what the user says of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from synfer.vocabulary import EXPRESSIONS, VocabularyError, as_expression, check_expression, unknown

UNLABELLED, LEFT_OUT = "?", "-"
"""What a name may stand for instead of an expression: images whose label is not known, images that nobody is to look at."""


class LabelError(VocabularyError):
    """A label that is no expression, or none of the wanted classes; the message names it and the known ones."""


@dataclass(frozen=True)
class LabelNames:
    """What a data set's names mean: first what the user says (`told`), then the vocabulary; `classes` are those that are wanted."""

    classes: Sequence[str] = EXPRESSIONS
    told: Mapping[str, str] = field(default_factory=dict)

    def meaning(self, name: str) -> str | None:
        """The expression that `name` stands for, UNLABELLED or LEFT_OUT; None where it is not known."""
        if name in self.told:
            return self.told[name]
        try:
            return as_expression(name)
        except VocabularyError:
            return None

    def strange(self, name: str) -> str:
        """One line for a name without a meaning: the known ones, and how to say what it means."""
        return f"{unknown('class', name, (*self.classes, *self.told))}; say what it means with --map {name!r}={self.classes[0]}"


def parse_map(parts: Iterable[str]) -> dict[str, str]:
    """Read "1=surprise,2=fear", "uncertain=?", "contempt=-" into what names mean; raises LabelError on the part that is wrong."""
    told: dict[str, str] = {}
    for part in filter(None, (piece.strip() for text in parts for piece in text.split(","))):
        name, equals, meaning = (piece.strip() for piece in part.rpartition("="))
        if not equals or not name:
            raise LabelError(
                f"cannot read {part!r} as NAME=EXPRESSION, for example 1=surprise, uncertain={UNLABELLED} or contempt={LEFT_OUT}"
            )
        if meaning not in (UNLABELLED, LEFT_OUT):
            _check(meaning, part)
        told[name] = meaning
    return told


def _check(meaning: str, part: str) -> None:
    try:
        check_expression(meaning)
    except VocabularyError:
        raise LabelError(f"{part!r}: {unknown('expression', meaning, (*EXPRESSIONS, UNLABELLED, LEFT_OUT))}") from None
