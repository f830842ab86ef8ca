"""Configuration files: params.yaml spells out every default, every overlay loads and says only what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.commands.params import as_yaml
from synfer.config import Config, ConfigError, load_config, overlay_names

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = overlay_names(ROOT / "configs")


def test_params_spell_out_every_default_with_its_meaning() -> None:
    assert (ROOT / "params.yaml").read_text() == as_yaml(Config()), "renew it with: synfer params --yaml"


def test_effective_yaml_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    config = load_config(ROOT / "params.yaml", overlays=["smoke", "ablations/no_guidance"], overrides=["common.seed=7"])
    (tmp_path / "params.yaml").write_text(as_yaml(config))
    assert load_config(tmp_path / "params.yaml") == config
    assert config.synthesis.semantic_guidance == 0.0
    assert config.common.seed == 7


def test_the_overlays_are_there() -> None:
    ablations = {"ablations/no_aus", "ablations/no_guidance", "ablations/no_rectification"}
    assert {"smoke", "sd15_affectnet", "fer2013"} | ablations <= set(OVERLAYS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_loads_and_holds_only_what_differs(name: str) -> None:
    defaults = Config().model_dump(mode="json")
    overlay = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    load_config(ROOT / "params.yaml", overlays=[name])
    same = [f"{section}.{key}" for section, values in overlay.items() for key, value in values.items() if defaults[section][key] == value]
    assert same == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["synthesis.image=3"], r"unknown key 'synthesis.image' \(did you mean 'synthesis.images'\?\)"),
        (["synthesis.images=-3"], r"synthesis.images = -3: .*greater than or equal to 1"),
        (["common.expressions=[joy]"], "unknown expression 'joy'"),
        (["synthesis.images"], "is not SECTION.KEY=VALUE"),
        (["syntesis.images=3"], r"unknown key 'syntesis' \(did you mean 'synthesis'\?\)"),
    ],
)
def test_bad_override_is_named_with_what_is_known(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(ROOT / "params.yaml", overrides=overrides)
