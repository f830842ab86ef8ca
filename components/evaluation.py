"""Stage evaluation: the classifiers on the real test split, and the generated faces before a judge that has no other role.

This is the only stage that reads the test split. It stops before any work if the judge is not independent, or if
a person of the test split is also in development.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from components.classifier_scores import read_test, score_classifiers
from components.corpus import check_identities
from components.fer_models import people, read_roles
from components.generation_scores import score_generation
from components.generator_role import read_generator_role
from components.latent_guide_role import read_latent_guide_role
from components.record import Record
from synfer.config import Common
from synfer.config import Evaluation as Section
from synfer.manifest import read_manifest
from synfer.metrics.roles import Role, check_roles


def run(
    section: Section,
    common: Common,
    *,
    test: Path,
    development: Path,
    classifiers: Path,
    fer_models: Path,
    generator: Path,
    synthesis: Path,
    rectification: Path,
    out: Path,
) -> None:
    """Write metrics, tables, figures and `predictions/*.parquet` to `out`; raises RoleConflict if the judge has another role."""
    rows = read_manifest(test)
    check_identities(pd.concat([read_manifest(development), rows]), where="development and test")
    others = {"the generator": read_generator_role(generator), "the test split": Role("", frozenset(people(rows)))}
    check_roles({**read_roles(fer_models), **read_latent_guide_role(generator / "backbone"), **others})
    faces = read_test(test, rows, common)
    record = Record(out)
    score_classifiers(classifiers, faces, section, common, record)
    score_generation(
        read_manifest(rectification), synthesis=synthesis, fer_models=fer_models, generator=generator, faces=faces, section=section,
        common=common, record=record,
    )  # fmt: skip
    record.save()
