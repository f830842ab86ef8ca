"""Automations as code: what the server does by itself, in `automations.yaml`, and where its notices go.

The file has the format of `prefect automation create --from-file`; a notice needs no `block_document_id`, for all of them go to the
address in `SYNFER_NOTIFY_URL`. The server keeps that address encrypted, as a block.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from synfer.errors import SynferError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

NOTIFY_URL = "SYNFER_NOTIFY_URL"
FILE = "automations.yaml"
_BLOCK = "synfer-notices"
_NOTICE = "send-notification"


class NoticeError(SynferError):
    """An address for notices that nothing understands; the message does not repeat it."""


def notify_url() -> str:
    """The address for notices as Apprise writes it (`slack://`, `mailtos://`, ...), empty if there is none; raises NoticeError.

    An ordinary `https://` address gets a POST with a JSON body (`title`, `message`, `type`), unless Apprise knows its service.
    """
    url = os.environ.get(NOTIFY_URL, "").strip()
    if not url or _understood(url):
        return url
    as_json = url.replace("http", "json", 1)
    if url.startswith(("http://", "https://")) and _understood(as_json):
        return as_json
    raise NoticeError(f"{NOTIFY_URL} is no address for notices; known are https://..., slack://..., mailtos://... and all of Apprise")


def apply_automations(client: SyncPrefectClient, path: Path, url: str, *, sole: bool) -> tuple[str, ...]:
    """Make the server's automations those of a file, by name, and return their names; what was switched off stays off.

    Without a `url` notices are left out; where the project is the `sole` user of the server, those of an earlier call are removed.
    """
    wanted = read_automations(path)
    notices = {entry["name"] for entry in wanted if any(action["type"] == _NOTICE for action in entry["actions"])}
    block = _save_block(url) if url else ""
    for entry in wanted:
        if entry["name"] not in notices or block:
            _apply(client, {**entry, "actions": [_addressed(action, block) for action in entry["actions"]]})
        elif sole:
            for found in client.read_automations_by_name(entry["name"]):
                client.delete_automation(found.id)
    return tuple(entry["name"] for entry in wanted if block or entry["name"] not in notices)


def read_automations(path: Path) -> list[dict[str, Any]]:
    """The automations of a file, as Prefect's interface takes them."""
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["automations"]
    return entries


def _apply(client: SyncPrefectClient, entry: dict[str, Any]) -> None:
    from prefect.events.schemas.automations import AutomationCore

    known = client.read_automations_by_name(entry["name"])
    if known:
        client.update_automation(known[0].id, AutomationCore.model_validate({**entry, "enabled": known[0].enabled}))
    else:
        client.create_automation(AutomationCore.model_validate(entry))


def _addressed(action: dict[str, Any], block: str) -> dict[str, Any]:
    return {**action, "block_document_id": block} if action["type"] == _NOTICE else action


def _save_block(url: str) -> str:
    """Keep the address on the server; returns the block's id.

    Prefect has no block for any address of Apprise, but hands one that is not Slack's to Apprise as it is.
    """
    from prefect.blocks.notifications import SlackWebhook
    from pydantic import SecretStr

    return str(SlackWebhook(url=SecretStr(url)).save(_BLOCK, overwrite=True))


def _understood(url: str) -> bool:
    """Whether Apprise knows this kind of address; it would tell a wrong one, with its password, to whoever listens."""
    from apprise import Apprise

    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        return Apprise.instantiate(url) is not None
    finally:
        logger.disabled = before
