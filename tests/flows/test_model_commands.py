"""Commands that speak of a registered model: the configuration says which one, and where it is missing the others are named."""

from __future__ import annotations

import numpy as np
import pytest
from mlflow import MlflowClient

from components import tracking
from components.workspace import Workspace
from flows.cli import main
from synfer.images import encode_png


def test_the_configuration_says_which_model_is_meant(
    tracked_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tracked_workspace.root)
    (tracked_workspace.root / "face.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    tracking.connect(tracked_workspace)
    MlflowClient().create_registered_model("other-model")
    for command in (["predict", "face.png"], ["serve"], ["promote"], ["rollback"]):
        for more, name in (["-c", "smoke"], "synfer-smoke"), (["--set", "registration.model_name=mine"], "mine"):
            with pytest.raises(SystemExit, match="1"):
                main([*command, *more])
            told = capsys.readouterr().err
            assert name in told and "other-model" in told, command
