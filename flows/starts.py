"""How often a flow run may be started again after a kill: `flows.zombies` continues a crashed run, and this ends what comes no further."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run

from components.journal import StuckError

MOST_KILLS = 5
_ENDS = {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED}


def check_starts(most: int = MOST_KILLS, *, progress: float = 0.0) -> None:
    """The first line of every flow: raise StuckError where its run was killed `most` times in a row.

    Kills before `progress` (seconds since 1970), when the run last finished something, are not counted, nor those before somebody started
    a failed run again. A flow without a deployment is started by nobody but its caller.
    """
    if (flow_run.get_run_count() or 0) < most:
        return
    with get_client(sync_client=True) as client:
        kills = kills_in_a_row(client.read_flow_run_states(UUID(str(flow_run.get_id()))), progress)
    if kills >= most:
        raise StuckError(
            f"the run was killed {kills} times in a row without getting further (is there enough memory?); "
            f"when that is mended, run the same again"
        )


def kills_in_a_row(states: Sequence[State], progress: float = 0.0) -> int:
    """How often a run has crashed since it last ended otherwise, and since `progress` (seconds since 1970)."""
    after = datetime.fromtimestamp(progress, UTC)
    kills = 0
    for state in sorted(states, key=lambda state: state.timestamp, reverse=True):
        if state.type in _ENDS or state.timestamp <= after:
            break
        kills += state.type == StateType.CRASHED
    return kills
