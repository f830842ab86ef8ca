"""Runs whose process is gone: found by their missing heartbeats, marked as crashed, and put in the queue again.

A worker that lives tells of a flow run that died. Where both are killed nobody does: the run stays `Running` for ever and holds its place
in its work pool and in its deployment's `concurrency_limit`. Automations of the server itself, so that no worker is needed, mend that.
What starts again is the same flow run with the same parameters; the pipeline then takes what is finished (`components.journal`). Runs that
come no further end as failed: those that start by themselves (`flows.starts`), those that cannot even start by an automation.

    python -m flows.zombies     # installs them on the server that PREFECT_API_URL names; a second call changes nothing
"""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

FIND, CONTINUE = "synfer: a run without a heartbeat has crashed", "synfer: a crashed run is continued"
GIVE_UP = "synfer: a run that cannot start has failed"
MOST_STARTS = 5
SILENCE = timedelta(seconds=120)
"""Four heartbeats of `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` (30 s, see `flows.prefect_home`)."""
_BEAT, _AGAIN = "prefect.flow-run.heartbeat", "prefect.flow-run.AwaitingRetry"
_ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Suspended", "Paused")}
_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.synfer"}  # the tag of every deployment of prefect.yaml


def automations(silence: timedelta = SILENCE) -> list[Automation]:
    """What is installed; `silence` is how long a run may be without a heartbeat."""
    runs = ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]})
    ours = ResourceSpecification(dict(_OURS))
    silent = EventTrigger(
        after={_BEAT}, expect={_BEAT, *_ENDS}, match=runs, match_related=ours, for_each={"prefect.resource.id"},
        posture=Posture.Proactive, threshold=1, within=silence,
    )  # fmt: skip
    crashed = EventTrigger(
        expect={"prefect.flow-run.Crashed"}, match=runs, match_related=ours, for_each={"prefect.resource.id"},
        posture=Posture.Reactive, threshold=1, within=timedelta(0),
    )  # fmt: skip
    # A crash before `Running` leaves the run count as it was. Counted is the event of `CONTINUE`, which comes after that of the crash.
    stuck = EventTrigger(
        after={"prefect.flow-run.Pending"}, expect={_AGAIN}, match=runs, match_related=ours,
        for_each={"prefect.resource.id", "prefect.run-count"}, posture=Posture.Reactive, threshold=MOST_STARTS, within=timedelta(hours=6),
    )  # fmt: skip
    gone = f"no heartbeat for {silence.total_seconds():.0f} s: its process is gone"
    again = "continued after a crash: what is finished is kept"
    never = f"it crashed {MOST_STARTS} times before its flow could start; the log of its worker says why"
    return [
        Automation(
            name=FIND,
            description="A flow run whose process and worker were killed would stay Running and hold its place for ever.",
            trigger=silent,
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=gone)],
        ),
        Automation(
            name=CONTINUE,
            description="The next free worker takes the run up again; one that comes no further ends as failed.",
            trigger=crashed,
            actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=again)],
        ),
        Automation(
            name=GIVE_UP,
            description="A flow that cannot be imported, or an image that cannot be loaded, would be tried for ever.",
            trigger=stuck,
            actions=[ChangeFlowRunState(state=StateType.FAILED, message=never)],
        ),
    ]


def install(wanted: list[Automation] | None = None) -> list[str]:
    """Make the automations on the server, or renew those of the same names; one that was switched off stays off. Returns the names."""
    wanted = wanted or automations()
    with get_client(sync_client=True) as client:
        for automation in wanted:
            known = client.read_automations_by_name(automation.name)
            made = AutomationCore(**automation.model_dump(exclude={"id", "owner_resource"}))  # which no update may name
            if known:
                client.update_automation(known[0].id, made.model_copy(update={"enabled": known[0].enabled}))
            else:
                client.create_automation(made)
    return [automation.name for automation in wanted]


if __name__ == "__main__":
    for name in install():
        print(name)
