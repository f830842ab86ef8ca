"""Prefect inside the project: settings that must stand before `prefect` is imported."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from synfer.environment import prepare

FLOW = "SYNFER_FLOW_PID"
"""Environment variable with the number of the process that started a server for one flow: who the server's parent is says nothing, for
orphans go to process 1 or to a supervisor, and in a container the flow itself may be process 1."""
_SERVER = "prefect.server.api.server:create_app"  # what Prefect's own server for one flow is started with
PREFECT_SETTINGS = {
    # The terminal shows our own lines; Prefect's go to its server, where the browser finds them.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Twelve seconds with a new home on an idle machine; a busy one needs longer than the default of twenty.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_CLI_PROMPT": "false",
    # A killed run is found by its missing heartbeats, see `flows.zombies`; every 180 s would be late.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # Kept in memory, the places that running deployments hold would be lost with a killed server, and stay taken for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


def use_project_home(root: Path) -> None:
    """Keep Prefect's database in `<root>/.prefect` and its log off the terminal, unless the environment says otherwise.

    A server that `synfer up` has started in the project is used; without one a flow starts its own for as long as it runs.
    """
    prepare(root)
    for name, value in PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_API_URL" in os.environ:
        return
    if address := _server(root):
        os.environ["PREFECT_API_URL"] = f"{address}/api"
    else:
        os.environ[FLOW] = str(os.getpid())
        end_orphans()


def _server(root: Path) -> str:
    from flows.services import Services

    return next((service.address for service in Services(root).running() if service.name == "prefect"), "")


def end_orphans() -> list[int]:
    """End the servers that killed flows of this project have left: a flow without a server starts one, and cannot end it when it is killed.

    Returns their process numbers. One whose flow still runs is left alone: the environment of the server names the flow's process.
    """
    import psutil

    ended = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # of other users, or gone meanwhile
            if _SERVER not in process.cmdline():
                continue
            told = process.environ()
            if told.get("PREFECT_HOME") == os.environ["PREFECT_HOME"] and FLOW in told and not _runs(int(told[FLOW])):
                process.terminate()
                ended.append(process.pid)
    return ended


def _runs(number: int) -> bool:
    import psutil

    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
