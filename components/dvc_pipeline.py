"""`dvc.yaml` from the stage table: ``python -m components.dvc_pipeline > dvc.yaml``.

The code that a stage depends on is read from its imports, a library folder as a whole, so that a change in a helper rebuilds what uses it.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from components.stages import STAGES, Stage
from synfer.config import EXECUTION, Config, Sharded

HEADER = """\
# Made from the stage table: python -m components.dvc_pipeline > dvc.yaml (a test holds it to that).
# `release` and `registration` act on the world and belong to the flow: a cache hit would skip them.
"""
_COMMAND = "PATH=.venv/bin:$PATH python -m flows.cli run {name}"  # the project's environment, activated or not
_SILENT = {"synfer.config", "components.tracking"}  # values are tracked as params, logging changes no result
# What a module reads beside its imports.
_READS = {"components.templating": "components/templates", "components.plans.file": "configs/plans"}
_STUDIES = "studies"  # a section that no stage reads
_PLOTTED = ("synthesis", "rectification", "evaluation", "audit")


def pipeline() -> dict[str, Any]:
    """The content of `dvc.yaml`."""
    stages = {name: _entry(stage) for name, stage in STAGES.items() if stage.in_dvc}
    return {"stages": stages, "plots": [f"artifacts/{name}/figures" for name in _PLOTTED]}


def as_yaml() -> str:
    """`dvc.yaml` as text."""
    return HEADER + yaml.safe_dump(pipeline(), sort_keys=False, width=140)


def code_of(stage: Stage) -> list[str]:
    """Files and library folders that a stage imports, directly or not."""
    import grimp

    graph = grimp.build_graph("synfer", "components", cache_dir=None)
    for module in _SILENT:
        graph.remove_module(module)
    modules = {stage.module, *graph.find_upstream_modules(stage.module)}
    paths = {_path(module, is_package=bool(graph.find_children(module))) for module in modules} - {"synfer", "components"}
    return sorted(paths | {data for module, data in _READS.items() if module in modules})


def _path(module: str, *, is_package: bool) -> str:
    """`synfer.faces.renderer` is part of the folder `synfer/faces`, `synfer.images` a file."""
    parts = module.split(".")
    return "/".join(parts[:2]) if len(parts) > 2 or is_package else f"{'/'.join(parts)}.py"


def _entry(stage: Stage) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "cmd": _COMMAND.format(name=stage.name),
        "deps": [*code_of(stage), *_source(stage), *(f"artifacts/{read}" for read in stage.reads)],
        "params": _parameters(stage),
        "outs": [f"artifacts/{stage.name}"],
    }
    if stage.name == "report":
        entry["metrics"] = [{"reports/metrics.json": {"cache": False}}]
    return entry


def _parameters(stage: Stage) -> list[str]:
    """Sections as a whole, of a stage in shards every key but those that change no result, and of one without a section all sections."""
    if stage.name not in Config.model_fields:
        return _sections()
    if not issubclass(kind := type(getattr(Config(), stage.name)), Sharded):
        return ["common", stage.name]
    return ["common", *(f"{stage.name}.{key}" for key in kind.model_fields if key not in EXECUTION)]


def _source(stage: Stage) -> list[str]:
    """The folder outside `artifacts/` that a stage reads, as the parameters name it."""
    if stage.source is None:
        return []
    default = getattr(getattr(Config(), stage.name), stage.source)
    # `train` names no folder, so that the models' folder cannot be a template.
    return [default] if stage.name == "fer_models" else [f"${{{stage.name}.{stage.source}}}"]


def _sections() -> list[str]:
    kept = (name for name in Config.model_fields if name != _STUDIES)
    return [name for name in kept if name not in STAGES or STAGES[name].in_dvc]


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
