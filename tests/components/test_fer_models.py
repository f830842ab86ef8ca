"""Guide, annotators and judge: trained on disjoint people or copied, and refused when the judge is not independent."""

import json
from pathlib import Path

import pandas as pd
import pytest

from components.corpus import run as run_corpus
from components.embedded_corpus import write_corpus
from components.fer_models import FerModelsError, read_roles, run, split_people
from components.record import read_metrics, read_pictures, read_tables
from synfer.classifiers.models import create, load, save
from synfer.config import Common, Corpus, FerModels
from synfer.manifest import read_manifest
from synfer.metrics.roles import RoleConflict, expand_identities
from synfer.vocabulary import DEFAULT_EXPRESSIONS

COMMON = Common(image_size=32)
SECTION = FerModels(source="train", guide="test_resnet", annotators=("test_efficientnet",), judge="test_byobnet", epochs=1)


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder / "faces", identities=20, images_per_identity=7, size=32)
    run_corpus(Corpus(source=str(folder / "faces")), COMMON, out=folder)
    return folder / "development"


@pytest.fixture(scope="module")
def trained(development: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fer_models")
    run(SECTION, COMMON, development=development, out=out)
    return out


def give(folder: Path, role: str, architecture: str, *, identities: list[str], seed: int = 0) -> None:
    """An untrained model in the layout of the stage."""
    model = create(architecture, DEFAULT_EXPRESSIONS, image_size=32, seed=seed)
    save(model, folder / role, {"trained_on": {"images": 60, "identities": identities}})


def test_roles_learn_from_disjoint_people_of_the_training_split(development: Path, trained: Path) -> None:
    roles = json.loads((trained / "roles.json").read_text())
    frame = read_manifest(development)
    people = {role: expand_identities(entry["trained_on"]["identities"]) for role, entry in roles.items()}
    assert list(people) == ["annotator_0", "guide", "judge"]
    assert sum(map(len, people.values())) == len(frozenset().union(*people.values()))
    assert frozenset().union(*people.values()) == set(frame.loc[frame["split"] == "train", "identity"])
    assert {role: entry["architecture"] for role, entry in roles.items()} == {
        "guide": "test_resnet",
        "annotator_0": "test_efficientnet",
        "judge": "test_byobnet",
    }
    assert all(entry["sha256"] == load(trained / role).sha256 for role, entry in roles.items())


def test_it_leaves_what_people_see(trained: Path) -> None:
    assert [picture.file for picture in read_pictures(trained)] == ["confusion.png", "training.png"]
    table = read_tables(trained)[0]
    assert [row[0] for row in table.rows] == ["guide", "annotator_0", "judge"]
    assert {len(row[2]) for row in table.rows} == {12}
    metric = read_metrics(trained)["fer_models/judge/val_uar"]
    assert metric.low is not None
    assert metric.high is not None
    assert metric.low <= metric.value <= metric.high


def test_trained_models_are_copied_whole(development: Path, trained: Path, tmp_path: Path) -> None:
    run(SECTION.model_copy(update={"source": str(trained)}), COMMON, development=development, out=tmp_path)
    assert read_roles(tmp_path) == read_roles(trained)
    assert (tmp_path / "roles.json").read_bytes() == (trained / "roles.json").read_bytes()


def test_a_judge_with_the_weights_of_the_guide_is_refused(development: Path, tmp_path: Path) -> None:
    source = tmp_path / "assets"
    give(source, "guide", "test_resnet", identities=["a1"])
    give(source, "annotator_0", "test_efficientnet", identities=["b1"])
    give(source, "judge", "test_resnet", identities=["c1"])
    (tmp_path / "out").mkdir()
    with pytest.raises(RoleConflict, match=f"sha256 {load(source / 'judge').sha256}"):
        run(SECTION.model_copy(update={"source": str(source)}), COMMON, development=development, out=tmp_path / "out")


def test_a_judge_that_knows_the_people_of_an_annotator_is_refused(development: Path, tmp_path: Path) -> None:
    source = tmp_path / "assets"
    give(source, "guide", "test_resnet", identities=["person-10000..person-10099"])
    give(source, "annotator_0", "test_efficientnet", identities=["person-20000..person-20099"])
    give(source, "judge", "test_byobnet", identities=["person-20099..person-20199"])
    (tmp_path / "out").mkdir()
    with pytest.raises(RoleConflict, match="annotator_0 share 1 training identities, for example person-20099"):
        run(SECTION.model_copy(update={"source": str(source)}), COMMON, development=development, out=tmp_path / "out")


def test_a_missing_role_and_a_silent_card_are_named(development: Path, tmp_path: Path) -> None:
    source = tmp_path / "assets"
    give(source, "guide", "test_resnet", identities=["a1"])
    (tmp_path / "out").mkdir()
    section = SECTION.model_copy(update={"source": str(source)})
    with pytest.raises(FerModelsError, match="no folder for the role 'annotator_0'; there are: guide"):
        run(section, COMMON, development=development, out=tmp_path / "out")
    for role in ("annotator_0", "judge"):
        save(create("test_resnet", DEFAULT_EXPRESSIONS, image_size=32), source / role, {})
    with pytest.raises(FerModelsError, match=r"annotator_0/card\.json lacks trained_on\.images"):
        run(section, COMMON, development=development, out=tmp_path / "out")


def test_unknown_people_are_somebody_of_their_own() -> None:
    rows = pd.DataFrame({"identity": ["", "", "", "p", "p"], "sample_id": list("abcde")})
    parts = split_people(rows, 4, seed=0)
    assert sorted(len(part) for part in parts) == [1, 1, 1, 2]
    with pytest.raises(FerModelsError, match="4 people cannot be split among 5"):
        split_people(rows, 5, seed=0)
