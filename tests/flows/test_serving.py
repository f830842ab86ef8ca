"""`synfer serve`: base64 pictures in; label, probabilities and version out; a clear 400 for what is no picture."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from components.promotion.logged_model import log_classifier
from components.promotion.registry import Registry
from components.workspace import Workspace
from synfer.classifiers.models import create, load, save
from synfer.images import encode_png
from synfer.vocabulary import DEFAULT_EXPRESSIONS

pytestmark = pytest.mark.slow


@pytest.fixture
def address(tracked_workspace: Workspace, tmp_path: Path, root: Path) -> Iterator[str]:
    """Address of a server of version 1 of a model with fresh weights."""
    folder = tmp_path / "weights"
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=1), folder, {})
    registry = Registry(tracked_workspace, "faces")
    registry.client.create_registered_model("faces")
    with mlflow.start_run() as run:
        info = log_classifier(load(folder), folder, {})
    registry.client.create_model_version("faces", source=info.model_uri, run_id=run.info.run_id, model_id=info.model_id)
    registry.crown("1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.cli", "serve", "--model", "models:/faces@champion", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(root), "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "300"}
    with subprocess.Popen(command, env=environment, cwd=tracked_workspace.root, start_new_session=True) as server:
        try:
            _wait(server, f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, 15)


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(address)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(address)


def ask(address: str, value: object, *, column: str = "image") -> tuple[int, Any]:
    body = json.dumps({"dataframe_split": {"columns": [column], "data": [[value]]}}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_picture_gets_label_probabilities_and_version_and_anything_else_a_reason(address: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    status, answer = ask(address, base64.b64encode(encode_png(image)).decode())
    assert status == 200
    (row,) = answer["predictions"]
    assert row["model_version"] == "1"
    assert row["label"] == max(DEFAULT_EXPRESSIONS, key=lambda name: row[name])
    assert sum(row[name] for name in DEFAULT_EXPRESSIONS) == pytest.approx(1.0, abs=1e-5)

    status, answer = ask(address, base64.b64encode(b"no picture").decode())
    assert status == 400
    assert "row 0 of the input: not a readable image" in answer["message"]
    status, answer = ask(address, "???")
    assert status == 400
    assert "row 0 of the input is text but not the base64 of an image" in answer["message"]
    status, answer = ask(address, "", column="picture")
    assert status == 400
    assert "image" in answer["message"]
