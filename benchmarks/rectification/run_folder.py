"""A finished run as the study reads it: where its stages are, its members, and a judge that had no other role."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from benchmarks.control.judges import generator_role
from components.device import torch_device
from components.fer_models import people, read_roles
from components.feranno import training_rows
from components.member_scores import HEAD, AnnotationMembers, held_out_scores, load_members
from synfer.annotation.feranno import CARD
from synfer.annotation.rectifier import HeldOut
from synfer.classifiers.models import Classifier, load
from synfer.config import Config
from synfer.errors import SynferError
from synfer.manifest import read_manifest
from synfer.metrics.roles import JUDGE, Role, check_roles, expand_identities

TRUTH = "true_expression"


class StudyError(SynferError):
    """A run that the study cannot be made on; the message says what it lacks."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run's artefacts and the configuration of its stages."""

    artifacts: Path
    config: Config

    def stage(self, name: str) -> Path:
        """Folder of a stage; raises StudyError where the run has not got there."""
        folder = self.artifacts / name
        if not folder.is_dir():
            raise StudyError(f"{folder} does not exist; the study needs a run up to `synthesis` (make demo), or --artifacts of one")
        return folder

    @property
    def development(self) -> Path:
        """Real faces to train on and to choose on."""
        return self.stage("corpus") / "development"

    @property
    def test(self) -> Path:
        """Real faces that no stage before evaluation reads."""
        return self.stage("corpus") / "test"

    @cached_property
    def members(self) -> AnnotationMembers:
        """FERAnno and the annotators of the run."""
        folders = {name: self.stage(name) for name in ("generator", "feranno", "fer_models")}
        return load_members(**folders, common=self.config.common)

    @cached_property
    def held_out(self) -> HeldOut:
        """The members' scores on val, and the annotated labels there."""
        return held_out_scores(self.members, development=self.development, feranno=self.stage("feranno"))

    def rows(self, split: str) -> pd.DataFrame:
        """Manifest rows of a real split; raises StudyError where nobody knows their truth."""
        frame = read_manifest(self.test if split == "test" else self.development)
        frame = frame[(frame["split"] == split) & frame["expression"].isin(self.config.common.expressions)]
        if TRUTH not in frame.columns:
            raise StudyError(f"the {split} split has no column {TRUTH!r}; the study needs faces whose truth is known, as data/faces has")
        return frame[frame[TRUTH].isin(self.config.common.expressions)]

    def learned_by_head(self) -> pd.DataFrame:
        """The training rows that FERAnno learned from, whether or not their truth is a class of the run."""
        frame = read_manifest(self.development)
        return training_rows(self.config.feranno, self.config.common, frame[frame["expression"].isin(self.config.common.expressions)])

    def unseen_by_members(self) -> pd.DataFrame:
        """The training rows that FERAnno did not learn from, of people that no annotator learned from.

        Raises StudyError where there is none, or where FERAnno learned from other ones than the configuration says.
        """
        train, learned = self.rows("train"), self.learned_by_head()
        card = json.loads((self.stage("feranno") / CARD).read_text(encoding="utf-8"))
        if card["trained_on"] != len(learned):
            raise StudyError(f"FERAnno learned from {card['trained_on']} faces, the configuration says {len(learned)}")
        unseen = train[~train["sample_id"].isin(learned["sample_id"])]
        if unseen.empty:
            raise StudyError(f"FERAnno learned from all {len(train)} training faces; train it on fewer (--set feranno.train_images=2400)")
        roles = read_roles(self.stage("fer_models"))
        known = frozenset[str]().union(*(role.identities for name, role in roles.items() if name.startswith("annotator_")))
        strangers = unseen[~people(unseen).isin(known)]
        if strangers.empty:
            raise StudyError(f"the annotators learned from the people on all {len(unseen)} training faces that FERAnno did not learn from")
        return strangers

    def independent_judge(self, folder: Path) -> Classifier:
        """The judge of a classifier folder.

        Raises RoleConflict, naming the hash, if it is the guide, an annotator, FERAnno or the generator, or has learned from their people.
        """
        judge = load(folder, device=torch_device(self.config.common.device))
        check_roles({**self.roles(), JUDGE: Role(judge.sha256, expand_identities(judge.card["trained_on"]["identities"]))})
        return judge

    def roles(self) -> dict[str, Role]:
        """Hash and training identities of everything that had a part in generated faces or their labels."""
        roles = {name: role for name, role in read_roles(self.stage("fer_models")).items() if name != JUDGE}
        card = json.loads((self.stage("feranno") / CARD).read_text(encoding="utf-8"))
        train = read_manifest(self.development)
        learned = frozenset(people(train[train["split"] == "train"]))
        return {**roles, HEAD: Role(card["sha256"], learned), "generator": generator_role(self.stage("generator") / "backbone")}
