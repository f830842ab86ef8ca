"""The flow that watches who is champion, and the event that tells it.

MLflow sends nothing when somebody moves an alias in its browser. Every few minutes this flow looks, completes the hand-over (record, alias
`previous`, tags) and emits `synfer.model.promoted`, to which Prefect's automations can react: a notice, a deployment of the server.
"""

from __future__ import annotations

from prefect import flow
from prefect.settings import get_current_settings

from components.promotion.registry import Registry
from flows.events import tell_promotion
from flows.project import load_project
from flows.services import answers
from flows.starts import check_starts


def has_server() -> bool:
    """Whether events have somewhere to go: they are only queued, and what no server takes is lost."""
    address = get_current_settings().api.url
    return address is not None and answers(f"{address}/health")


def announce(registry: Registry) -> str:
    """Emit the event of a promotion that none has told yet; returns the version, or an empty string if there is nothing to tell."""
    payload = registry.unannounced()
    if not payload:
        return ""
    tell_promotion(payload)
    registry.mark_announced(payload["history"])
    return payload["version"]


@flow(name="watch-promotion", log_prints=True)
def watch_promotion(model: str = "") -> str:
    """Complete a promotion that was made in MLflow's browser, and tell every promotion as an event; returns the champion told, if any.

    Args:
        model: Name of the registered model; empty for that of the configuration.
    """
    check_starts()
    workspace, config = load_project()
    registry = Registry(workspace, model or config.registration.model_name)
    if not registry.exists:
        print(f"there is no model {registry.name} yet")
        return ""
    done = registry.hand_over()
    if done is not None:
        print(f"{registry.name}: version {done.champion} is champion over {done.over or 'none'}, moved in {done.by}")
    told = announce(registry)
    print(f"{registry.name}: told that version {told} is champion" if told else f"{registry.name}: nothing new")
    return told
