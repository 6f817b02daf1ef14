"""Makes the runs of active schedules ahead of their time (row B1, wire 4.4)."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import coolname

from eparch.core import schedules
from eparch.core.deployments import schedule_of
from eparch.core.errors import Unavailable
from eparch.core.model import new_id
from eparch.core.runs import Author, FlowRun
from eparch.core.states import Scheduled
from eparch.orchestration.creation import insert_run, place
from eparch.store import deployments, pools, rows, runs
from eparch.store.database import Database
from eparch.store.statement import Steps

logger = logging.getLogger("eparch.server")

BATCH = 50
"""Schedules of one transaction."""

AFTER_FAILURE = timedelta(minutes=5)
"""A schedule that could not be planned is tried again after this long."""

NEVER = timedelta(days=1)
"""A schedule without a next run is looked at again after this long."""


class Scheduler:
    """Keeps at least three runs, and an hour of them, ahead of every active schedule."""

    name = "scheduler"

    def __init__(self, interval: float = 5.0) -> None:
        """``interval`` in seconds."""
        self.interval = interval

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Make the runs that are missing at ``now``."""
        due = await database.scan(deployments.to_schedule, now, BATCH)
        for schedule_id in due:
            try:
                await database.write(plan, schedule_id, now)
            except Unavailable:
                raise
            except Exception:
                # One schedule that cannot be used does not keep the others from running.
                logger.exception("The schedule %s cannot be planned; it is tried again.", schedule_id)
                await database.write(deployments.scheduled_until, schedule_id, now + AFTER_FAILURE)
        return len(due) == BATCH


def plan(schedule_id: UUID, now: datetime) -> Steps[int]:
    """Make the missing runs of one schedule as it stands now; how many it were.

    A run's idempotency key holds its schedule and time, so that planning twice makes it once.

    Raises:
        ScheduleInvalid: the stored schedule cannot be used.
    """
    schedule = yield from deployments.schedule_to_plan(schedule_id, now)
    if schedule is None:
        return 0
    most = schedule["max_scheduled_runs"] or 100
    times = schedules.upcoming(schedule_of(schedule["schedule"]), now, max_runs=most)
    queue = template = flow = None
    if times:
        flow = yield from deployments.read_flow(schedule["flow_id"])
        if schedule["work_queue_id"] is not None:
            queue = yield from pools.read_queue(schedule["work_queue_id"], now)
    if queue is not None:
        template = yield from pools.read_template(queue["work_pool_id"])
    made = 0
    for when in times:
        key = f"scheduled {schedule['deployment_id']} {schedule['id']} {when.isoformat()}"
        existing = yield from runs.read_flow_run_by_key(schedule["flow_id"], key, now)
        if existing is None and flow is not None:
            run = _run(schedule, queue, key, now)
            yield from insert_run(
                run,
                Scheduled(when, timestamp=now),
                now,
                flow_name=flow["name"],
                flow_tags=rows.value_of(flow["tags"]),
                deployment_name=schedule["deployment_name"],
                pool_type=template[1] if template else None,
                schedule_id=schedule["id"],
            )
            made += 1
    # When the first of them is past, one more is needed.
    yield from deployments.scheduled_until(schedule["id"], times[0] if times else now + NEVER)
    return made


def _run(schedule: dict[str, Any], queue: dict[str, Any] | None, key: str, now: datetime) -> FlowRun:
    deployment_id: UUID = schedule["deployment_id"]
    return FlowRun(
        id=new_id(),
        created=now,
        updated=now,
        name=coolname.generate_slug(2),
        flow_id=schedule["flow_id"],
        deployment_id=deployment_id,
        deployment_version=schedule["deployment_version"],
        parameters={**schedule["deployment_parameters"], **schedule["parameters"]},
        idempotency_key=key,
        tags=[*schedule["tags"], "auto-scheduled"],
        labels={
            **schedule["labels"],
            "prefect.flow.id": str(schedule["flow_id"]),
            "prefect.deployment.id": str(deployment_id),
        },
        auto_scheduled=True,
        created_by=Author(id=schedule["id"], type="SCHEDULE", display_value=_shown(schedule["schedule"])),
        job_variables={},
        **place(queue),
    )


def _shown(schedule: dict[str, Any]) -> str:
    kind = next(name for name in ("cron", "interval", "rrule") if schedule.get(name) is not None)
    return f"{kind} {schedule[kind]}"
