import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from components import report
from components.made_with import write_settings
from components.record import Metric, Record
from components.stages import STAGES
from components.templating import metric, number
from components.workspace import Workspace
from synfer.config import Config


class Page(HTMLParser):
    """Collects tags with their attributes and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def finished(rectified: pd.DataFrame, workspace: Workspace, generated: Path) -> Workspace:
    """Every stage before the report, with a metric, a figure and a table; the real faces are those of `synthesis` once more."""
    (workspace.stage("corpus")).mkdir()
    workspace.stage("corpus/development").symlink_to(generated)
    for name in STAGES["report"].reads:
        if name != "synthesis":
            record = Record(workspace.stage(name))
            record.metric(f"{name}/one", 0.5, low=0.4, high=0.6, n=10)
            record.figure("empty", Figure(figsize=(2, 1)), title=f"Figure of {name}", caption="<b>nothing</b>")
            record.table("Table", pd.DataFrame({"state": ["passed"], "share": [0.25]}))
            record.save()
    for training_set in ("real", "synthetic"):
        record.metric(f"classifiers/{training_set}/uar", 0.9, low=0.88, high=0.92, n=900)
    record.save()
    judge = {"architecture": "convnext_atto", "sha256": "ab" * 32, "classes": [], "trained_on": {"images": 5, "identities": ["p-1..p-3"]}}
    (workspace.stage("fer_models") / "roles.json").write_text(json.dumps({"judge": judge}), encoding="utf-8")
    return workspace


def make(workspace: Workspace, settings: Config) -> str:
    out = workspace.artifacts / ".report.partial"
    out.mkdir(exist_ok=True)
    report.run(settings, settings.common, artifacts=workspace.artifacts, out=out)
    return (workspace.reports / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_fetches_nothing(finished: Workspace, settings: Config) -> None:
    text = make(finished, settings)
    page = Page()
    page.feed(text)
    assert page.open == []
    sources = [attributes["src"] or "" for _, attributes in page.tags if "src" in attributes]
    assert len(sources) > 7 * 2 + 9
    assert all(source.startswith("data:image/") for source in sources)
    assert not {tag for tag, _ in page.tags} & {"link", "script", "iframe"}
    assert not re.search(r"@import|url\(", text)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_every_link_of_the_contents_leads_somewhere(finished: Workspace, settings: Config) -> None:
    page = Page()
    page.feed(make(finished, settings))
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {(attributes["href"] or "")[1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= targets
    assert set(STAGES["report"].reads) <= links


def test_words_of_the_stages_are_escaped_and_the_gate_is_a_chip(finished: Workspace, settings: Config) -> None:
    text = make(finished, settings)
    assert "&lt;b&gt;nothing" in text
    assert '<span class="chip passed">passed</span>' in text


def test_the_metrics_of_all_stages_are_in_one_flat_file(finished: Workspace, settings: Config) -> None:
    make(finished, settings)
    merged = json.loads((finished.reports / "metrics.json").read_text(encoding="utf-8"))
    assert merged["corpus/one"] == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    assert {f"{name}/one" for name in STAGES["report"].reads if name != "synthesis"} <= set(merged)
    assert merged == json.loads((finished.artifacts / ".report.partial" / "metrics.json").read_text(encoding="utf-8"))


def test_the_settings_are_those_that_each_stage_was_made_with(finished: Workspace, settings: Config) -> None:
    for name in STAGES["report"].reads:
        if name not in ("synthesis", "corpus"):  # folders of other tests
            write_settings(name, settings, finished.stage(name))
    text = make(finished, Config())
    assert settings.feranno.train_images != Config().feranno.train_images
    assert f"train_images: {settings.feranno.train_images}\n" in text
    assert f"train_images: {Config().feranno.train_images}\n" not in text
    assert "\nsynthesis: unknown\n" in text
    beside = json.loads((finished.reports / "settings.json").read_text(encoding="utf-8"))
    assert beside["feranno"]["train_images"] == settings.feranno.train_images


def test_numbers_are_written_for_people() -> None:
    assert number(6000) == "6\u202f000"
    assert number(0.12345) == "0.123"
    assert number(0.00012) == "1.20e-04"
    assert number(float("nan")) == "-"
    assert metric(Metric(0.5, 0.4, 0.6, 10)) == "0.500 [0.400, 0.600]"
