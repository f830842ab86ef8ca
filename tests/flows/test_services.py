"""`synfer up` and `down`: what is started answers, what is stopped is gone with its children, and nothing else is touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.commands.up import _elsewhere as elsewhere_of
from flows.prefect_home import FLOW, end_orphans
from flows.services import Service, ServiceError, Services, answers
from synfer.files import write_json


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def services(tmp_path: Path) -> Services:
    (tmp_path / ".prefect").mkdir()
    return Services(tmp_path)


def test_a_service_answers_until_it_is_stopped_with_its_children(services: Services, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys, tempfile, time\ntempfile.mkstemp()\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\ntime.sleep(600)\n"
    )
    web = services.start("web", ["http.server", str(port), "--bind", "127.0.0.1"], environment={}, port=port)
    worker = services.start("worker", ["parent"], environment={})
    assert answers(web.address)
    assert [service.name for service in services.running()] == ["web", "worker"]
    process = psutil.Process(worker.pid)
    while not process.children():
        assert process.is_running()
    children = process.children()
    scratch = (tmp_path / ".prefect" / "tmp").resolve()
    assert len(list(scratch.iterdir())) == 1
    assert services.stop() == ["worker", "web"]
    assert not answers(web.address)
    assert not any(found.is_running() for found in (process, *children))
    assert services.running() == []
    assert [path.name for path in (tmp_path / ".prefect").iterdir()] == ["log"]
    assert not scratch.exists()


def test_servers_of_ui_end_together_and_by_a_signal(tmp_path: Path) -> None:
    wait, end = [sys.executable, "-c", "import time; time.sleep(600)"], [sys.executable, "-c", "raise SystemExit(3)"]
    code = "from pathlib import Path; from flows.commands.ui import _until_one_ends as run; "
    code += f"print(run(COMMANDS, Path({str(tmp_path)!r}), {{}}))"
    done = subprocess.run([sys.executable, "-c", code.replace("COMMANDS", repr([wait, end]))], capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n", done.stderr
    with subprocess.Popen([sys.executable, "-c", code.replace("COMMANDS", repr([wait, wait]))], stdout=subprocess.PIPE, text=True) as ui:
        while len(servers := psutil.Process(ui.pid).children()) < 2:
            assert ui.poll() is None
        ui.terminate()
        assert ui.communicate()[0] == "None\n"
    assert not any(server.is_running() for server in servers)


def test_a_taken_port_is_named_before_anything_starts(services: Services) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"port {port} is taken, and mlflow wants it"):
            services.start("mlflow", ["http.server", str(port)], environment={}, port=port)
    assert services.running() == []


def test_a_program_that_ends_at_once_is_told_with_its_log(services: Services, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"web ended with status 1; its log is .*web\.log") as caught:
        services.start("web", ["no_such_module"], environment={}, port=free_port())
    assert "no_such_module" in Path(str(caught.value).split("its log is ")[1]).read_text()


def test_a_program_that_ends_before_it_is_ready_is_told_with_its_log(services: Services) -> None:
    worker = services.start("worker", ["no_such_module"], environment={})
    with pytest.raises(ServiceError, match=r"worker has ended; its log is .*worker\.log"):
        services.wait(worker, lambda: False)
    services.wait(worker, lambda: True)


def test_servers_that_killed_flows_have_left_are_ended_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv(FLOW, raising=False)
    wait = "import time; time.sleep(600)"
    server = [sys.executable, "-c", wait, "prefect.server.api.server:create_app"]
    parent = f"import os, subprocess, sys; os.environ['{FLOW}'] = str(os.getpid()); "
    parent += f"print(subprocess.Popen({server!r}).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flow:
        assert flow.stdout is not None
        child = psutil.Process(int(flow.stdout.readline()))
        assert end_orphans() == [], "its flow still runs"
        flow.kill()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "another project"))
    assert end_orphans() == []
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert end_orphans() == [child.pid]
    assert psutil.wait_procs([child], timeout=10)[1] == []


def test_what_ended_by_itself_is_known_and_starts_again_with_its_log_kept(services: Services, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys, time; print(sys.argv[1], flush=True); time.sleep(600)\n")
    other = services.start("other", ["program", "other"], environment={})
    first = services.start("worker", ["program", "first"], environment={})
    before = tmp_path / ".prefect" / "log" / "worker.before.log"
    while "first" not in Path(first.log).read_text():
        pass
    psutil.Process(first.pid).kill()
    psutil.wait_procs([psutil.Process(first.pid)], timeout=10)
    assert [service.name for service in services.ended()] == ["worker"]
    assert services.start("other", ["program", "again"], environment={}) == other, "what runs is not started twice"
    second = services.start("worker", ["program", "second"], environment={})
    assert services.ended() == []
    assert before.read_text() == "first\n"
    assert (second.name, second.pid != first.pid) == ("worker", True)
    assert services.stop() == ["worker", "other"]


def test_the_address_that_up_tells_people_to_export_is_the_projects_own(services: Services, tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "health").write_text("true")
    ours, port = free_port(), free_port()
    exported = f"http://127.0.0.1:{ours}/api"
    assert elsewhere_of(services, "", ours) == ""
    assert elsewhere_of(services, exported, ours) == "", "after synfer down: it is started there again"
    with pytest.raises(ServiceError, match=f"nothing answers at 127.0.0.1:{port}, which PREFECT_API_URL names; unset it"):
        elsewhere_of(services, f"http://127.0.0.1:{port}/api", ours)
    services.start("prefect", ["http.server", str(ours), "--bind", "127.0.0.1"], environment={}, port=ours)
    assert elsewhere_of(services, exported, port) == "", "it runs, whatever port is asked for now"
    other = services.start("other", ["http.server", str(port), "--bind", "127.0.0.1"], environment={}, port=port)
    assert elsewhere_of(services, f"{other.address}/api", ours) == f"{other.address}/api"
    assert services.stop() == ["other", "prefect"]


def test_a_number_that_another_process_got_since_is_left_alone(services: Services, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = psutil.Process(other.pid).create_time() - 3600
        write_json(tmp_path / ".prefect" / "services.json", [Service("prefect", other.pid, started, "", "").__dict__])
        assert services.running() == []
        assert services.stop() == []
        assert other.poll() is None
        other.communicate(os.linesep.encode())
