"""Deleting what much hangs on, a bounded part at a time, so that nobody else waits for long.

Each part is a transaction of its own, and what is asked for is deleted in the last one: a deletion that was
broken off has deleted what was to be deleted anyway, and can be asked for again.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from eparch.core.errors import NotFound
from eparch.orchestration import announcing
from eparch.orchestration.runs import delete_flow_run
from eparch.store import concurrency, deployments, runs
from eparch.store.database import Database
from eparch.store.statement import Note, Steps

PART = 200
"""Runs of one transaction."""

TASKS = 500
"""Task runs of one transaction, and as many as a run has that is deleted at once."""


def delete_tasks(run_id: UUID) -> Steps[bool]:
    """Delete some task runs of a flow run that has many; whether it may still have many."""
    ids = yield from runs.some_tasks(run_id, TASKS + 1)
    if len(ids) <= TASKS:
        return False
    # What subflows hold is found by the task runs that stand for them, so it is freed first.
    yield from concurrency.release_run(run_id)
    yield from runs.delete_task_runs(ids[:TASKS])
    return True


def delete_part(flow_id: UUID) -> Steps[bool]:
    """Delete some runs of the flow, with what they hold; whether there may be more."""
    ids = yield from runs.some_of_flow(flow_id, PART)
    for id_ in ids:
        try:
            yield from delete_flow_run(id_)
        except NotFound:  # somebody else was quicker
            continue
    return len(ids) == PART


def delete_flow(flow_id: UUID, now: datetime) -> Steps[None]:
    """Delete the flow with its deployments and the runs that it still has; who waits for slots looks again.

    Raises:
        NotFound: there is no such flow.
    """
    while (yield from delete_part(flow_id)):
        pass
    for deployment_id in (yield from deployments.ids_of_flow(flow_id)):
        row = yield from deployments.read_deployment(deployment_id, now)
        if row is not None:
            yield from announcing.deployment_changed("deleted", row, now)
    if not (yield from deployments.delete_flow(flow_id)):
        raise NotFound("Flow not found")
    yield Note("anything", None)


def detach_part(deployment_id: UUID) -> Steps[bool]:
    """Let some runs of the deployment go on without it; whether there may be more."""
    return (yield from runs.detach(deployment_id, PART)) == PART


async def empty_run(database: Database, run_id: UUID) -> None:
    """Delete the task runs of a flow run that is to be deleted, if it has so many that others would wait.

    Those of any other run are deleted with it.
    """
    if len(await database.read(runs.some_tasks, run_id, TASKS + 1)) > TASKS:
        while await database.write(delete_tasks, run_id):
            pass


async def empty_flow(database: Database, flow_id: UUID) -> None:
    """Delete the runs of a flow that is about to be deleted."""
    more = True
    while more:
        for run_id in await database.read(runs.some_of_flow, flow_id, PART):
            await empty_run(database, run_id)
        more = await database.write(delete_part, flow_id)


async def empty_deployment(database: Database, deployment_id: UUID, now: datetime) -> None:
    """Part a deployment that is about to be deleted from its runs, and delete those only planned."""
    await database.write(runs.forget_scheduled, deployment_id, now)
    while await database.write(detach_part, deployment_id):
        pass
