"""Reasons in words: why an image was kept, relabelled, softened or rejected, written so that a person can check it against the face."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from synfer.annotation.rectify import ACTIONS, Decisions, Thresholds

NO_LABEL = "no label came with it"
_COUNTS = {2: "both", 3: "all three", 4: "all four"}


def group_names(members: Sequence[str], everyone: Sequence[str]) -> str:
    """Members as a phrase: "both annotators and feranno"; a numbered series is named as one when all of it is there."""
    left, phrases = sorted(members), []
    series = {stem: [name for name in everyone if _stem(name) == stem] for stem in map(_stem, left)}
    for stem, names in sorted(series.items()):
        if len(names) > 1 and set(names) <= set(left):
            phrases.append(f"{_COUNTS.get(len(names), f'all {len(names)}')} {stem}s")
            left = [name for name in left if name not in names]
    phrases += [name.replace("_", " ") for name in left]
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def what_members_see(choices: Mapping[str, str]) -> str:
    """Members' first choices as a clause: "both annotators see anger, feranno sees disgust"."""
    seen: dict[str, list[str]] = {}
    for member, expression in sorted(choices.items()):
        seen.setdefault(expression, []).append(member)
    clauses = []
    for expression, members in sorted(seen.items(), key=lambda item: -len(item[1])):
        clauses.append(f"{group_names(members, list(choices))} {'sees' if len(members) == 1 else 'see'} {expression}")
    return ", ".join(clauses)


def reasons(
    posterior: np.ndarray,
    intents: np.ndarray | None,
    choices: Mapping[str, np.ndarray],
    decisions: Decisions,
    thresholds: Thresholds,
    *,
    classes: Sequence[str],
    origin: str = "asked",
) -> list[str]:
    """One sentence an image: `posterior` (N, K), `intents` (N,), each member's first `choices` (N,), and what was decided.

    An intent of -1 is none. `origin` is the word for an intent: "asked" of a generator, or "given" with a data set.
    """
    sentences = []
    for row in range(len(posterior)):
        seen = what_members_see({member: classes[choice[row]] for member, choice in choices.items()})
        label = f"{classes[decisions.label[row]]} ({decisions.confidence[row]:.2f})"
        came = NO_LABEL if intents is None or intents[row] < 0 else f"{origin} was {classes[intents[row]]}"
        sentences.append(
            {
                "keep": f"{seen}; {label} as {origin}",
                "relabel": f"{seen}; {label}, {came}",
                "soften": f"{seen}; soft label {_ranking(posterior[row], classes)}, not sure enough for one alone; {came}",
                "reject": f"{seen}; no label reaches {thresholds.reject_below:.2f}: {_ranking(posterior[row], classes)}; {came}",
            }[ACTIONS[decisions.action[row]]]
        )
    return sentences


def _stem(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _ranking(probabilities: np.ndarray, classes: Sequence[str], *, shown: int = 2) -> str:
    return ", ".join(f"{classes[index]} {probabilities[index]:.2f}" for index in np.argsort(-probabilities, kind="stable")[:shown])
