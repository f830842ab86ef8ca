"""The gate's expectations as code: Great Expectations suites over the tables of `validation_facts`, and their run with Data Docs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe
from great_expectations.data_context import AbstractDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.metadata_types import FailureSeverity

from synfer.annotation.rectify import ACTIONS
from synfer.config import Validation
from synfer.files import replace_folder
from synfer.vocabulary import COMPOUNDS, EXPRESSIONS, MAX_INTENSITY

_K = len(EXPRESSIONS)
MIN_CONTRAST = 6.0
"""Standard deviation of grey levels 0..255 below which an image counts as blank; a face under the dimmest light has more than 15."""


@dataclass(frozen=True)
class Finding:
    """The result of one expectation in readable form."""

    suite: str
    expectation: str
    severity: str
    success: bool
    observed: str
    wanted: str
    rule: str


def suites(section: Validation, classes: Sequence[str]) -> dict[str, list[gxe.Expectation]]:
    """The expectations of each suite; `schema`, `classes` and `drift` read the table of their name, the others that of images."""
    return {
        "schema": [_critical(gxe.ExpectColumnValuesToBeInSet, "Every column is there, of its type", column="right", value_set=[1])],
        "manifest": _manifest(classes),
        "labels": _labels(section, classes),
        "images": _images(section),
        "classes": _classes(section),
        "drift": _drift(section),
    }


def _manifest(classes: Sequence[str]) -> list[gxe.Expectation]:
    return [
        _critical(gxe.ExpectTableRowCountToBeBetween, "There are images at all", min_value=1),
        _critical(gxe.ExpectColumnValuesToBeUnique, "No sample_id occurs twice", column="sample_id"),
        _critical(gxe.ExpectColumnValuesToBeUnique, "Every image has a seed of its own", column="seed"),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Generated faces only train", column="split", value_set=["train"]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "What was asked is known", column="asked", value_set=[*classes, *COMPOUNDS]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Attributes of people are known", column="person_known", value_set=[1]),
        _critical(gxe.ExpectColumnValuesToBeBetween, "Nobody is in two splits", column="identity_splits", max_value=1),
        _warning(gxe.ExpectColumnValueLengthsToBeBetween, "Every image has a caption", column="caption", min_value=1),
        _critical(gxe.ExpectColumnValuesToBeBetween, "No AU intensity is below 0", column="au_min", min_value=0),
        _critical(gxe.ExpectColumnValuesToBeBetween, "No AU intensity is above 5", column="au_max", max_value=MAX_INTENSITY),
        _critical(gxe.ExpectColumnValuesToBeBetween, "No face was asked for excluding AUs", column="au_conflicts", max_value=0),
    ]


def _labels(section: Validation, classes: Sequence[str]) -> list[gxe.Expectation]:
    return [
        _critical(gxe.ExpectColumnValuesToBeInSet, "Every label is a class", column="label", value_set=[*classes]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Every action is known", column="action", value_set=[*ACTIONS]),
        _warning(gxe.ExpectColumnValueLengthsToBeBetween, "Every action has its reason", column="reason", min_value=10),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Posteriors have all expressions", column="posterior_size", value_set=[_K]),
        _critical(gxe.ExpectColumnValuesToBeBetween, "Posteriors sum to one", column="posterior_sum", min_value=0.999, max_value=1.001),
        _critical(gxe.ExpectColumnValuesToBeBetween, "The members' agreement is a share", column="agreement", min_value=0, max_value=1),
        _critical(gxe.ExpectColumnMeanToBeBetween, "Enough images are not rejected", column="kept", min_value=section.min_kept),
        _critical(gxe.ExpectColumnMeanToBeBetween, "The label confirms the intent", column="confirmed", min_value=section.min_agreement),
    ]


def _images(section: Validation) -> list[gxe.Expectation]:
    return [
        _critical(gxe.ExpectColumnValuesToBeInSet, "Every row has an image", column="found", value_set=[1]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Every image can be decoded", column="decodable", value_set=[1]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Every image is the one of its hash", column="as_hashed", value_set=[1]),
        _critical(gxe.ExpectColumnValuesToBeInSet, "Every image says that it is AI-generated", column="marked", value_set=[1]),
        _critical(gxe.ExpectColumnValuesToBeBetween, "Hardly any image is blank", column="contrast", min_value=MIN_CONTRAST, mostly=0.999),
        _critical(gxe.ExpectColumnValuesToBeInSet, "No image has a near-duplicate in another split", column="leaked", value_set=[0]),
        _warning(gxe.ExpectColumnMeanToBeBetween, "Few images are near-duplicates", column="duplicate", max_value=section.max_duplicates),
    ]


def _classes(section: Validation) -> list[gxe.Expectation]:
    return [
        _critical(gxe.ExpectColumnMinToBeBetween, "The rarest class has enough images", column="images", min_value=section.min_per_class),
        _warning(gxe.ExpectColumnMaxToBeBetween, "No class is many times another", column="ratio", max_value=section.max_imbalance),
    ]


def _drift(section: Validation) -> list[gxe.Expectation]:
    limits = {
        "label_change": ("Labels are spread as in the previous release", section.max_label_drift),
        "kept_change": ("As many images are kept as in the previous release", section.max_kept_drift),
        "au_change": ("Asked AUs are as strong as in the previous release", section.max_au_drift),
        "entropy_change": ("Labels are as sure as in the previous release", section.max_drift),
        "agreement_change": ("Members agree as in the previous release", section.max_drift),
        "brightness_change": ("Images are as bright as in the previous release", section.max_drift),
        "contrast_change": ("Images have the contrast of the previous release", section.max_drift),
    }
    return [
        _warning(gxe.ExpectColumnMaxToBeBetween, words, column=column, max_value=limit) for column, (words, limit) in limits.items()
    ]


def _critical(kind: type[gxe.Expectation], description: str, **arguments: Any) -> gxe.Expectation:
    return kind(severity=FailureSeverity.CRITICAL, description=description, **arguments)


def _warning(kind: type[gxe.Expectation], description: str, **arguments: Any) -> gxe.Expectation:
    return kind(severity=FailureSeverity.WARNING, description=description, **arguments)


def table_of(suite: str) -> str:
    """The table that a suite reads."""
    return suite if suite in ("schema", "classes", "drift") else "images"


def run_suites(section: Validation, classes: Sequence[str], *, tables: Mapping[str, pd.DataFrame], docs: Path) -> list[Finding]:
    """Run the suites whose table (schema, images, classes, drift) is there, and write Data Docs to `docs`, in the place of older ones.

    Returns what each expectation found.
    """
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    docs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=docs.parent, prefix=".gx-") as scratch:
        pages = Path(scratch) / "pages"
        context = _context(pages)
        source = context.data_sources.add_pandas("synfer")
        findings = []
        for name, expectations in suites(section, classes).items():
            if table_of(name) in tables:
                findings += _run_suite(context, source, name, expectations, tables[table_of(name)])
        context.build_data_docs()
        _list_results(pages)
        replace_folder(pages, docs)
    return findings


def _list_results(pages: Path) -> None:
    """Plain links to the results on the front page: Data Docs fill its table by scripts from the web, which a laptop may be without."""
    found = sorted(pages.glob("validations/**/*.html"))
    links = "".join(f'<li><a href="{page.relative_to(pages).as_posix()}">{page.relative_to(pages).parts[1]}</a></li>' for page in found)
    index = pages / "index.html"
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace("</body>", f"<h4>Results by suite</h4><ul>{links}</ul></body>"), encoding="utf-8")


def _context(pages: Path) -> AbstractDataContext:
    """A context in memory whose Data Docs go to `pages`: a context on disk would rewrite its ids at every run."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages)}
    context.add_data_docs_site(
        "validation",
        {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}, "store_backend": store},
    )
    return context


def _run_suite(
    context: AbstractDataContext, source: Any, name: str, expectations: list[gxe.Expectation], table: pd.DataFrame
) -> list[Finding]:
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(gx.Checkpoint(name=name, validation_definitions=[definition], result_format="BASIC"))
    outcome = checkpoint.run(batch_parameters={"dataframe": table})
    (result,) = outcome.run_results.values()
    return [_finding(name, one) for one in result.results]


def _finding(suite: str, result: Any) -> Finding:
    config = result.expectation_config
    return Finding(
        suite=suite,
        expectation=config.description,
        severity=str(getattr(config.severity, "value", config.severity)),
        success=bool(result.success),
        observed=_observed(result),
        wanted=_wanted(config.kwargs),
        rule=f"{config.type}({config.kwargs['column']})" if "column" in config.kwargs else config.type,
    )


def _observed(result: Any) -> str:
    """The observed value, or how many values break the rule and the first of them."""
    if result.exception_info and result.exception_info.get("raised_exception"):
        return str(result.exception_info.get("exception_message"))
    found = result.result
    if "observed_value" in found:
        value = found["observed_value"]
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    wrong, count = found["unexpected_count"], found["element_count"]
    return f"{wrong} of {count} do not, such as {found['partial_unexpected_list'][0]!r}" if wrong else f"all {count} do"


def _wanted(kwargs: dict[str, Any]) -> str:
    limits = {"at least": kwargs.get("min_value"), "at most": kwargs.get("max_value")}
    bounds = " and ".join(f"{words} {value:g}" for words, value in limits.items() if value is not None)
    if "value_set" in kwargs:
        bounds = " or ".join(map(str, kwargs["value_set"]))
    mostly = kwargs.get("mostly", 1)
    return (bounds or "unique") + (f" for {mostly:.1%} of the images" if mostly < 1 else "")
