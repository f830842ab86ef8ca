"""Stage generator on several GPUs: ``accelerate launch --num_processes 4 -m components.generator_processes --config sd15_affectnet``.

The first process runs the stage as `synfer run generator` does: it alone holds the project's lock, opens and closes the stage's folder,
writes, draws the looks and speaks to MLflow. The others only train with it. n processes train as one with n times the batch would; a
killed training goes on from its checkpoint.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState

from components.device import torch_device
from components.fine_tuning import fine_tune
from components.generator import GeneratorError, is_finished, training_rows
from components.partial import partial_folder, was_left
from components.stages import STAGES, Stage, fingerprint_of, resolved_section, run_stage, stage_inputs
from components.workspace import Workspace
from synfer.config import Config, Generator, load_config
from synfer.environment import prepare
from synfer.errors import SynferError


def run(config: Config, workspace: Workspace, *, rank: int) -> None:
    """The part of process `rank` in stage generator. Raises GeneratorError where nothing is trained; as the stage does otherwise."""
    if config.generator.adapt == "none":
        raise GeneratorError("generator.adapt is none: nothing is trained; choose adapter, lora or full")
    stage = STAGES["generator"]
    finished = _is_trained(stage, config, workspace)
    PartialState(cpu=torch_device(config.common.device).type == "cpu").wait_for_everyone()  # all have looked before the first one tidies
    if rank == 0:
        with workspace.exclusive(on_wait=lambda: print("another run writes artifacts/; waiting for its end", file=sys.stderr)):
            run_stage("generator", config, workspace)
        return
    if finished:
        return  # the first process has nothing left to train either
    section, out = resolved_section(stage, config, workspace), partial_folder(workspace.stage("generator"))
    assert isinstance(section, Generator)
    folders = stage_inputs(stage, workspace)
    rows = training_rows(folders["development"], folders["fer_models"])
    fine_tune(section, config.common, rows, **folders, work=out / "work", out=out)


def _is_trained(stage: Stage, config: Config, workspace: Workspace) -> bool:
    """Whether a killed call has left a training that only wants tidying."""
    finished = workspace.stage(stage.name)
    return was_left(finished, fingerprint_of(stage, config, workspace)) and is_finished(partial_folder(finished))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line that every process gets; an expected error is one line of the first process and a status of 1."""
    parser = argparse.ArgumentParser(prog="components.generator_processes", description="Stage generator on several GPUs.")
    parser.add_argument("--config", action="append", default=[], metavar="OVERLAY", help="overlay in configs/, or YAML file")
    parser.add_argument("--set", action="append", default=[], dest="values", metavar="KEY=VALUE", help="one value")
    asked = parser.parse_args(arguments)
    rank, local_rank = (int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK"))
    try:
        workspace = Workspace.find(Path.cwd())
        prepare(workspace.root)
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)  # the device `cuda` is this process's own from here on
        run(load_config(workspace.params, overlays=asked.config, overrides=asked.values), workspace, rank=rank)
    except SynferError as error:
        if rank == 0:
            print(f"components.generator_processes: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
