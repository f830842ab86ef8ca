"""automations.yaml and where notices go: what Prefect takes, which addresses are understood, and that none is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.events.schemas.automations import AutomationCore

from flows.automations import FILE, NOTIFY_URL, NoticeError, notify_url, read_automations
from flows.events import PROMOTED, PUBLISHED
from flows.gpus import VISIBLE, GpuError, shares

BLOCK = "00000000-0000-0000-0000-000000000000"


def test_prefect_takes_every_automation_and_ours_are_told_from_others(root: Path) -> None:
    entries = read_automations(root / FILE)
    assert len({entry["name"] for entry in entries}) == len(entries)
    for entry in entries:
        notice = {"block_document_id": BLOCK}
        actions = [action | (notice if action["type"] == "send-notification" else {}) for action in entry["actions"]]
        AutomationCore.model_validate({**entry, "actions": actions})
        expected = entry["trigger"]["expect"]
        assert expected in ([PROMOTED], [PUBLISHED]) or entry["trigger"]["match_related"]["prefect.resource.id"] == "prefect.tag.synfer"


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("", ""),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", None),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#faces", None),
        ("mailtos://user:secret@example.com", None),
        ("https://chat.example.com/hook/secret", "jsons://chat.example.com/hook/secret"),
        ("http://127.0.0.1:8080/hook", "json://127.0.0.1:8080/hook"),
    ],
)
def test_an_address_is_one_of_apprise_or_takes_json(given: str, understood: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTIFY_URL, given)
    assert notify_url() == (given if understood is None else understood)


@pytest.mark.parametrize("wrong", ["verysecret", "ftp://user:verysecret@example.com", "slack://verysecret"])
def test_a_wrong_address_is_refused_without_being_repeated(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(NOTIFY_URL, wrong)
    with pytest.raises(NoticeError, match="SYNFER_NOTIFY_URL is no address for notices; known are") as caught:
        notify_url()
    assert "verysecret" not in "".join([str(caught.value), *capfd.readouterr(), caplog.text])


def test_every_gpu_worker_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert shares(0, 1) == []
    assert shares(4, 1) == ["0", "1", "2", "3"]
    assert shares(4, 2) == ["0,1", "2,3"]
    monkeypatch.setenv(VISIBLE, "5,GPU-7")
    assert shares(2, 1) == ["5", "GPU-7"]
    with pytest.raises(GpuError, match="4 GPUs are asked for, and CUDA_VISIBLE_DEVICES names 2: 5,GPU-7"):
        shares(4, 2)
    with pytest.raises(GpuError, match="3 GPUs cannot be shared out by 2"):
        shares(3, 2)
