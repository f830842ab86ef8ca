"""What a server must know before workers may ask it: work pools with their limits, and the schedules' switches.

Limits hold on the server, over all machines: pool `gpu` runs one job a GPU (its workers one job each), and queue `writers` of pool `cpu`
one run at a time that writes `artifacts/` and `data/`, while a place stays free for the look at promotions. A run that waits there is
scheduled and holds no place. Runs outside of Prefect, and those of the other pool, wait at the lock of the project folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

CPU, GPU, WRITERS = "cpu", "gpu", "writers"
_CPU_RUNS = 2  # a run of the pipeline, and beside it the short look at promotions

Switches = dict[tuple[UUID, str], bool]
"""Whether a schedule is active, by deployment and slug."""


def set_pools(client: SyncPrefectClient, *, gpu_jobs: int, sole: bool) -> list[str]:
    """Make the work pools and limits that are missing; returns the pools whose runs are processes of a worker's machine.

    Limits of pools that exist are set only where the project is the `sole` user of the server: a team's are the team's.
    """
    from prefect.client.schemas.actions import WorkPoolUpdate

    known = {pool.name: pool.type for pool in client.read_work_pools()}
    for pool, limit in ((CPU, _CPU_RUNS), (GPU, max(1, gpu_jobs))):
        if pool not in known:
            _create_pool(client, pool, limit)
        elif sole:
            client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=limit))
    return [pool for pool in (CPU, GPU) if known.get(pool, "process") == "process"]


def switches(client: SyncPrefectClient) -> Switches:
    """The schedules' switches as somebody has left them: `prefect deploy` would set them back to those of prefect.yaml."""
    deployments = client.read_deployments()
    return {(found.id, schedule.slug): schedule.active for found in deployments for schedule in found.schedules if schedule.slug}


def set_switches(client: SyncPrefectClient, wanted: Switches) -> None:
    """Switch schedules as they were; those that are new or gone are left alone."""
    for deployment in client.read_deployments():
        for schedule in deployment.schedules:
            active = wanted.get((deployment.id, schedule.slug or ""), schedule.active)
            if active != schedule.active:
                client.update_deployment_schedule(deployment.id, schedule.id, active=active)


def _create_pool(client: SyncPrefectClient, name: str, limit: int) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit))
    if name == CPU:
        client.create_work_queue(WRITERS, work_pool_name=CPU, concurrency_limit=1)
