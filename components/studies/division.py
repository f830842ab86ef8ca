"""Which real training faces have labels in a study: some people's do, the others' are shown without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.corpus import read_corpus, take_balanced
from components.fer_models import people
from synfer.config import Config
from synfer.errors import SynferError
from synfer.manifest import FILE_NAME
from synfer.seeding import derive_seed


class StudyError(SynferError):
    """A study that cannot be run; the message says why."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of faces: real ones with labels, real ones without, and those of the test split; `source` says where they come from."""

    labelled: int
    unlabelled: int
    test: int
    source: str


def sizes(config: Config, folder: Path) -> Sizes:
    """The sizes of a corpus before any stage has run; for a corpus that is not here, those that the configuration expects.

    Raises StudyError where it is not here and nothing is expected, CorpusError where it is no corpus.
    """
    if not (folder / FILE_NAME).is_file():
        if not config.studies.expected_train:
            raise StudyError(f"{folder} holds no {FILE_NAME}; bring the corpus with: dvc pull data.dvc, or synfer import")
        count = round(config.studies.labelled * config.studies.expected_train)
        return Sizes(count, config.studies.expected_train - count, 0, f"studies.expected_train; {config.corpus.source} is not here")
    frame = read_corpus(folder, classes=config.common.expressions)
    train, test = (take_balanced(frame[frame["split"] == split], getattr(config.corpus, split)) for split in ("train", "test"))
    labelled, unlabelled = divide(train, config.studies.labelled, seed=config.common.seed)
    return Sizes(len(labelled), len(unlabelled), len(test), config.corpus.source)


def divide(train: pd.DataFrame, share: float, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows of the people whose labels are known, at least this share of the rows, and those of all others.

    Raises StudyError if a class has no labelled face.
    """
    person = people(train)
    names = np.random.default_rng(derive_seed(seed, "studies", "labelled")).permutation(np.unique(person))
    counts = person.value_counts().loc[names].cumsum()
    known = names[: int((counts < share * len(train)).sum()) + 1]
    labelled, unlabelled = train[person.isin(known)], train[~person.isin(known)]
    if missing := sorted(set(train["expression"]) - set(labelled["expression"])):
        raise StudyError(f"no labelled face shows {missing[0]}: {len(labelled)} of {len(train)} are labelled; raise studies.labelled")
    return labelled, unlabelled


def nested_order(rows: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The rows in a random order of which every beginning has about the class shares of the whole, one face of each class first."""
    mixed = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    turn = mixed.groupby("expression", sort=False).cumcount()
    share = turn / mixed["expression"].map(mixed["expression"].value_counts())
    return mixed.assign(_share=share).sort_values("_share", kind="stable").drop(columns="_share")
