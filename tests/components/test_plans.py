"""Plans: what a file asks for is what is drawn, cell by cell; a second run draws the rest; bad files are told by line and cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.export.reader import read_export
from components.export.write import export
from components.plans.au_ranges import draw_within, in_ranges
from components.plans.file import PlanError, find_plan, read_plan
from components.plans.rows import plan_rows, planned_faces
from components.plans.stock import Stock, find_releases, take_stock
from components.record import Record
from components.release import write_release
from components.releases.verify import verify
from components.workspace import Workspace, WorkspaceError
from synfer.config import Common, Config, Synthesis
from synfer.files import write_json
from synfer.manifest import ManifestError, check_manifest, read_manifest, write_manifest
from synfer.vocabulary import AU_INDEX, DEFAULT_EXPRESSIONS, EXPRESSIONS, VocabularyError, exclusion_conflicts, left_right

SMALL = """\
cells:
  - {count: 4, expression: fear, age: elderly}
  - {name: smile, count: 6, expression: happiness, aus: {12: [4, 5], L4: [1, 3]}}
  - {count: 2, compound: happily surprised}
  - {count: 3, each: {expression: [disgust, anger], sex: [woman, man]}}
"""


def write(text: str, folder: Path) -> Path:
    (folder / "plan.yaml").write_text(text, encoding="utf-8")
    return folder / "plan.yaml"


def drawn(path: Path, *releases: Path, seed: int = 0) -> pd.DataFrame:
    plan = read_plan(path, expressions=DEFAULT_EXPRESSIONS)
    return plan_rows(take_stock(plan, releases, seed=seed), expressions=DEFAULT_EXPRESSIONS, seed=seed)


def release(rows: pd.DataFrame, folder: Path, *, rejected: int = 0) -> Path:
    """The manifest of a release of these rows, as asked, but for the first ones, which are rejected."""
    folder.mkdir(parents=True)
    label = rows["expression"].where(rows["compound"] == "", "surprise")
    action = np.where(np.arange(len(rows)) < rejected, "reject", "keep")
    write_manifest(rows.assign(label=label, action=action, reason="as asked", sha256="0" * 64), folder)
    return folder


# --- what is drawn ----------------------------------------------------------------------------------------------------------------


def test_every_cell_gets_its_count_of_faces_that_are_what_it_asks_for(tmp_path: Path) -> None:
    path = write(SMALL, tmp_path)
    rows, plan = drawn(path), read_plan(path, expressions=DEFAULT_EXPRESSIONS)
    assert Counter(rows["plan_cell"]) == {cell.name: cell.count for cell in plan.cells}
    assert [cell.name for cell in plan.cells][:4] == ["fear-elderly", "smile", "happily-surprised", "disgust-woman"]
    by_name = {cell.name: cell for cell in plan.cells}
    assert all(by_name[row["plan_cell"]].holds(row) for row in rows.to_dict("records"))
    assert set(rows.loc[rows["plan_cell"] == "fear-elderly", "attr_age"]) == {"elderly"}
    compound = rows[rows["compound"] == "happily surprised"]
    assert set(compound["expression"]) == {""} and compound["caption"].str.contains("happily surprised expression").all()
    assert not any(exclusion_conflicts(aus) for aus in rows["aus"])
    assert rows["seed"].is_unique
    check_manifest(rows.assign(sha256=""))


def test_a_prefix_of_a_plan_holds_every_cell_in_proportion(tmp_path: Path) -> None:
    path = write("cells:\n- {name: a, count: 40, expression: fear}\n- {name: b, count: 20, expression: anger}\n", tmp_path)
    rows = drawn(path)
    for length in (3, 30, 45):
        assert Counter(rows["plan_cell"][:length]) == {"a": 2 * length // 3, "b": length // 3}


def test_a_plan_grown_by_one_factor_begins_with_the_smaller_one_and_a_cell_does_in_any_case(tmp_path: Path) -> None:
    text = "cells:\n- {name: a, count: %d, expression: fear}\n- {name: b, count: %d}\n"
    short, long = (drawn(write(text % counts, tmp_path)) for counts in ((6, 14), (18, 42)))
    pd.testing.assert_frame_equal(short, long.head(20))
    other = drawn(write(text % (6, 3), tmp_path))
    for cell in ("a", "b"):
        ours, theirs = (rows[rows["plan_cell"] == cell].head(3).reset_index(drop=True) for rows in (short, other))
        pd.testing.assert_frame_equal(ours, theirs)


def test_what_a_cell_leaves_open_comes_from_the_prior(tmp_path: Path) -> None:
    rows = drawn(write("cells:\n- {name: old, count: 140, age: elderly}\n", tmp_path))
    assert Counter(rows["expression"]) == dict.fromkeys(DEFAULT_EXPRESSIONS, 20)
    assert 0.6 < (rows["attr_hair_color"] == "grey").mean() < 0.95, "grey hair hangs on the asked age"
    assert set(rows["attr_sex"]) == {"woman", "man"}
    assert not ((rows["attr_sex"] == "woman") & (rows["attr_facial_hair"] != "none")).any()


@pytest.mark.parametrize(
    ("expression", "ranges"),
    [
        ("happiness", {"12": (4, 5), "6": (3, 5)}),
        ("happiness", {"L12": (3, 5), "R12": (0, 1)}),
        ("neutral", {"12": (0.5, 0.5), "L4": (1, 3)}),
        ("surprise", {"26": (0, 0)}),  # leaves the variant with AU 27
        ("fear", {"24": (2, 4)}),  # presses the lips: 25 and 26 give way
        ("sadly angry", {"4": (4, 5), "23": (0, 0)}),
    ],
)
def test_ranges_and_exclusions_hold_and_the_expression_stays(expression: str, ranges: dict[str, tuple[float, float]]) -> None:
    for seed in range(60):
        vector = draw_within(expression, ranges, np.random.default_rng(seed))
        assert in_ranges(vector, ranges)
        assert not exclusion_conflicts(vector)
        if expression == "happiness":
            assert max(left_right(vector, "12")) > 0
        if expression == "surprise":
            assert vector[AU_INDEX["27"]] > 0


def test_a_half_of_the_face_is_asked_by_itself() -> None:
    vector = draw_within("happiness", {"L12": (4, 5), "R12": (0, 1)}, np.random.default_rng(0))
    left, right = left_right(vector, "12")
    assert left >= 4 and right <= 1
    assert not in_ranges(np.full_like(vector, np.nan), {"12": (0, 5)})


# --- what is there already --------------------------------------------------------------------------------------------------------


def test_a_second_run_draws_what_was_rejected_under_other_names_and_seeds(tmp_path: Path) -> None:
    path = write(SMALL, tmp_path)
    first = drawn(path)
    second = drawn(path, release(first, tmp_path / "first", rejected=7))
    assert Counter(second["plan_cell"]) == Counter(first["plan_cell"][:7])
    assert not set(second["sample_id"]) & set(first["sample_id"])
    assert not set(second["seed"]) & set(first["seed"])
    third = drawn(path, tmp_path / "first", release(second, tmp_path / "second", rejected=1))
    assert len(third) == 1
    assert not set(third["sample_id"]) & {*first["sample_id"], *second["sample_id"]}


def test_stock_counts_by_label_and_kind_and_every_sample_once(tmp_path: Path) -> None:
    path = write(SMALL, tmp_path)
    plan, rows = read_plan(path, expressions=DEFAULT_EXPRESSIONS), drawn(path)
    folder = release(rows, tmp_path / "first", rejected=2)
    frame = read_manifest(folder)
    smile = frame.index[frame["plan_cell"] == "smile"][-1]
    frame.loc[smile, "label"] = "neutral"
    write_manifest(frame, folder)
    stock = take_stock(plan, [folder, release(rows.iloc[5:6], tmp_path / "again")], seed=0)
    table = stock.table().set_index("cell")
    assert table["there"].sum() == len(rows) - 3
    assert table["rejected"].sum() == 3 and table.loc["smile", "rejected"] >= 1
    assert (table["missing"] == table["asked"] - table["there"]).all()
    assert table.loc["smile", "asks_for"] == "happiness, AU 12 4..5, AU L4 1..3"


def test_faces_of_a_release_without_a_plan_count_by_what_was_asked_of_them(tmp_path: Path) -> None:
    rows = drawn(write("cells:\n- {name: all, count: 70}\n", tmp_path)).drop(columns=["plan_cell", "compound"])
    folder = release(rows.assign(compound=""), tmp_path / "even")
    frame = read_manifest(folder).drop(columns="compound")
    write_manifest(frame, folder)
    text = "cells:\n- {count: 5, expression: fear}\n- {name: b, count: 50, expression: fear}\n"
    plan = read_plan(write(text, tmp_path), expressions=EXPRESSIONS)
    stock = take_stock(plan, [folder], seed=0)
    assert dict(stock.there) == {"fear": 5, "b": 5}, "the first cell of the kind is filled first"


def test_nothing_missing_is_told_before_work(workspace: Workspace) -> None:
    tmp_path = workspace.root
    path = write(SMALL, tmp_path)
    release(drawn(path), tmp_path / "data" / "synthetic" / "first")
    section = Synthesis(plan=str(path), have=("first",))
    with pytest.raises(PlanError, match=r"nothing is missing: .*plan.yaml asks for 24 faces"):
        planned_faces(section, Common(), inside=tmp_path)


def test_without_a_plan_nothing_has_a_cell(tmp_path: Path) -> None:
    rows = planned_faces(Synthesis(images=7), Common(), inside=tmp_path)
    assert set(rows["plan_cell"]) == set(rows["compound"]) == {""}
    with pytest.raises(PlanError, match=r"name one with synthesis\.plan"):
        planned_faces(Synthesis(have=("first",)), Common(), inside=tmp_path)


def test_a_release_that_is_none_is_told(tmp_path: Path) -> None:
    plan = read_plan(write(SMALL, tmp_path), expressions=DEFAULT_EXPRESSIONS)
    folder = tmp_path / "data" / "synthetic" / "raw"
    folder.mkdir(parents=True)
    rows = drawn(tmp_path / "plan.yaml").assign(sha256="")
    write_manifest(rows, folder)
    with pytest.raises(ManifestError, match=r"manifest.parquet has no column 'label'; only a release with rectified labels counts"):
        take_stock(plan, [folder], seed=0)
    (folder / "manifest.parquet").write_bytes((folder / "manifest.parquet").read_bytes()[:-9])
    with pytest.raises(ManifestError, match=r"manifest.parquet cannot be read"):
        take_stock(plan, [folder], seed=0)
    with pytest.raises(WorkspaceError, match=r"unknown release 'row' .*did you mean 'raw'"):
        find_releases(["row"], tmp_path)


def test_a_release_with_cells_and_compounds_is_whole_and_its_exports_keep_both(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, leave_audit: Callable[..., None], tmp_path: Path
) -> None:
    first = rectified.index[0]
    rectified = rectified.assign(plan_cell="fear-elderly", compound="")
    rectified.loc[first, ["compound", "expression", "label", "action"]] = ["happily surprised", "", "happiness", "soften"]
    rectified.at[first, "posterior"] = np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)
    write_manifest(rectified, workspace.stage("rectification"))
    write_json(workspace.stage("validation") / "result.json", {"success": True, "critical": [], "warning": [], "expectations": []})
    Record(workspace.stage("validation")).save()
    leave_audit(workspace.artifacts)
    stages = {name: workspace.stage(name) for name in ("rectification", "synthesis", "validation", "evaluation", "audit")}
    folder = tmp_path / "release"
    folder.mkdir()
    write_release(settings.release, **stages, root=workspace.root, folder=folder)
    found: list[object] = []
    verify(folder, found.append)
    assert found == []
    for kind in ("webdataset", "imagefolder", "parquet"):
        export(folder, tmp_path / kind, to=kind, with_rejected=True)
        rows = {row["sample_id"]: row for table in read_export(tmp_path / kind) for row in table.to_pylist()}
        assert rows[rectified.loc[first, "sample_id"]]["compound"] == "happily surprised"
        assert {row["plan_cell"] for row in rows.values()} == {"fear-elderly"}


# --- files ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cells: [", "is not readable YAML"),
        ("- 1", "must hold `cells:`"),
        ("cells: []", "has no `cells:`"),
        ("cell: []", "line 1: unknown key 'cell' .*did you mean 'cells'"),
        ("have: first\ncells: [{count: 1}]", "line 1: `have` is a list of releases, found 'first'"),
        ("cells:\n- fear", "entry 1 of `cells` is 'fear', not a mapping"),
        ("cells:\n- {expression: fear}", "line 2: `count` is None"),
        ("cells:\n- {count: 0, expression: fear}", "`count` is 0; it must be a whole number"),
        ("cells:\n- {count: 1}\n- {count: 1, expresion: fear}", r"line 3: unknown key 'expresion' \(did you mean 'expression'"),
        ("cells:\n- {count: 1, expression: joy}", "line 2, cell 'joy': unknown expression of this run .* 'joy'; known: neutral"),
        ("cells:\n- {count: 1, expression: contempt}", r"unknown expression of this run \(common.expressions\) 'contempt'"),
        ("cells:\n- {count: 1, expression: [fear]}", "expression is .*'fear'.*, not a word"),
        ("cells:\n- {count: 1, compound: sadly bored}", "unknown compound expression 'sadly bored'"),
        ("cells:\n- {count: 1, compound: sadly angry, expression: fear}", "a face has one of them"),
        ("cells:\n- {count: 1, age: old}", "unknown value of attribute age 'old'"),
        ("cells:\n- {count: 1, aus: {99: 1}}", "unknown action unit '99'"),
        ("cells:\n- {count: 1, aus: {12: [3, 2]}}", "a range goes upwards within 0..5"),
        ("cells:\n- {count: 1, aus: {12: [3, 6]}}", "a range goes upwards within 0..5"),
        ("cells:\n- {count: 1, aus: {12: strong}}", r"AU 12 is 'strong', not \[FROM, TO\]"),
        ("cells:\n- {count: 1, aus: {12: 1, AU12: 2}}", "AU 12 stands twice"),
        ("cells:\n- {count: 1, aus: {12: 1, 12: 2}}", "not readable YAML: .*12 stands twice"),
        ("cells:\n- {count: 1, aus: {18: [1, 2], 20: 3}}", r"AU 18 \(lip pucker\) and AU 20 .* exclude each other"),
        ("cells:\n- {count: 1, aus: {12: [4, 5], L12: [0, 1]}}", "AU 12 is asked twice for the same half of the face"),
        ("cells:\n- {name: x, count: 1, expression: fear, aus: {18: [2, 5]}}", "line 2, cell 'x': no face shows fear and keeps AU 18"),
        ("cells:\n- {count: 1, expression: happiness, aus: {12: 0}}", "no face shows happiness .* in 0..0: happiness needs AU 12"),
        ("cells:\n- {name: a b, count: 1}", "name 'a b' must be made of letters"),
        ("cells:\n- {name: a, count: 1}\n\n- {name: a, count: 2, age: young}", "line 4: a cell 'a' is asked in line 2 already"),
        ("cells:\n- {count: 1, each: [fear]}", "`each` is .*not a mapping of lists"),
        ("cells:\n- {count: 1, each: {expression: fear}}", "each: expression is 'fear', not a list"),
        ("cells:\n- {count: 1, each: {hat: [red]}}", "each: unknown key 'hat'"),
        ("cells:\n- {count: 1, age: young, each: {age: [elderly]}}", "age stands both in the cell and under `each`"),
    ],
)
def test_a_bad_plan_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=told) as error:
        read_plan(write(text, tmp_path), expressions=DEFAULT_EXPRESSIONS)
    assert "plan.yaml" in str(error.value)


def test_an_impossible_range_is_a_vocabulary_error_for_code_that_draws() -> None:
    with pytest.raises(VocabularyError, match="exclude each other"):
        draw_within("neutral", {"5": (1, 2), "43": (3, 4)}, np.random.default_rng(0))


def test_the_example_is_found_by_its_name_and_its_faces_can_be_asked_of_the_embedded_model(root: Path) -> None:
    path = find_plan("rare", root)
    assert path == root / "configs" / "plans" / "rare.yaml"
    plan = read_plan(path, expressions=DEFAULT_EXPRESSIONS)
    rows = plan_rows(Stock(plan.cells), expressions=DEFAULT_EXPRESSIONS, seed=0)
    assert {"strong-smile", "fear-elderly", "happily-surprised"} <= set(rows["plan_cell"])
    assert len(rows) == sum(cell.count for cell in plan.cells)
    with pytest.raises(PlanError, match=r"unknown plan 'rar' \(did you mean 'rare'\?\).*configs/plans"):
        find_plan("rar", root)


def test_a_plan_of_a_workspace_lies_anywhere(workspace: Workspace) -> None:
    write(SMALL, workspace.root)
    assert find_plan("plan.yaml", workspace.root) == workspace.root / "plan.yaml"
