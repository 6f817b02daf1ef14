"""Makes the runs of active schedules ahead of their time (row B1, wire 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import coolname

from eparch.core import schedule_policies as policies
from eparch.core import schedules
from eparch.core.deployments import PlanRuns, Schedule, schedule_of
from eparch.core.errors import Unavailable
from eparch.core.model import new_id
from eparch.core.runs import Author, FlowRun
from eparch.core.schedule_policies import Decision, Overlap, Past, decide
from eparch.core.states import Cancelled, Scheduled, StateType
from eparch.orchestration.creation import insert_run, place
from eparch.orchestration.transition import propose
from eparch.store import deployments, pools, rows, runs
from eparch.store.database import Database
from eparch.store.statement import Steps

logger = logging.getLogger("eparch.server")

BATCH = 50
"""Schedules of one transaction."""

AFTER_FAILURE = timedelta(minutes=5)
"""A schedule that could not be planned is tried again after this long."""

MOST = 100
"""Runs of one schedule that are made at once."""

SKIPPED = "Skipped"
"""Name of the state of a run that came too late for its schedule's policy."""

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
        await _plan_each(database, due, now)
        return len(due) == BATCH


class Overlaps:
    """Looks often at schedules whose next run waits until the one before is over (row B1)."""

    name = "overlaps"

    def __init__(self, interval: float = 2.0) -> None:
        """``interval`` in seconds."""
        self.interval = interval

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Make the runs whose turn it is at ``now``."""
        due = await database.scan(deployments.to_schedule, now, BATCH, overlapping=True)
        await _plan_each(database, due, now)
        return False


async def _plan_each(database: Database, due: Sequence[UUID], now: datetime) -> None:
    for schedule_id in due:
        try:
            await database.write(plan, schedule_id, now)
        except Unavailable:
            raise
        except Exception:
            # One schedule that cannot be used does not keep the others from running.
            logger.exception("The schedule %s cannot be planned; it is tried again.", schedule_id)
            await database.write(deployments.scheduled_until, schedule_id, now + AFTER_FAILURE)


def plan(schedule_id: UUID, now: datetime) -> Steps[int]:
    """Make the missing runs of one schedule as it stands now; how many it were.

    A run's idempotency key holds its schedule and time, so that planning twice makes it once.

    Raises:
        ScheduleInvalid: the stored schedule cannot be used.
    """
    schedule = yield from deployments.schedule_to_plan(schedule_id, now)
    if schedule is None:
        return 0
    most = schedule["max_scheduled_runs"] or MOST
    rule = schedule_of(schedule["schedule"])
    times = schedules.upcoming(rule, now, max_runs=most)
    decision = yield from _decide(schedule, rule, times, now)
    made = yield from _make(schedule, decision.made, now)
    # When the first of them is past, one more is needed.
    until = times[0] if times else now + NEVER
    if decision.look_again is not None:
        until = min(until, decision.look_again)
    yield from deployments.scheduled_until(schedule["id"], until, decision.decided_until)
    return made


def _decide(
    schedule: dict[str, Any], rule: Schedule, coming: list[datetime], now: datetime
) -> Steps[Decision]:
    """Which runs are made, by the policies of the schedule; those that they skip are over now (row B1)."""
    missed_runs = policies.read_missed_runs(schedule["missed_runs"])
    overlap = Overlap(schedule["overlap"]) if schedule["overlap"] is not None else None
    if missed_runs is None and overlap in (None, Overlap.ALLOW):
        return decide(Past((), ()), coming, None, None, now)
    since = schedule["decided_until"] or now
    later = [when for when in coming if when > now]
    missed = policies.missed_times(
        lambda moment: schedules.occurrences(rule, moment), missed_runs, overlap, since, now
    )
    waiting = yield from deployments.waiting_runs(schedule["deployment_id"], schedule["id"], now, BATCH)
    is_busy = is_planned = False
    if overlap not in (None, Overlap.ALLOW):
        is_busy, is_planned = yield from deployments.unfinished_runs(schedule["id"], now)
    past = Past(missed, [when for _, when in waiting], is_busy, is_planned)
    decision = decide(past, later, missed_runs, overlap, now)
    for run_id, when in waiting:
        if when in decision.skipped:
            yield from _skip(run_id, when, now)
    return decision


def _skip(run_id: UUID, when: datetime, now: datetime) -> Steps[None]:
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None or stored.run.state_type is not StateType.SCHEDULED:
        return  # a worker has just taken it
    message = f"It was to begin at {when:%Y-%m-%d %H:%M:%S} UTC, which its schedule skips by now."
    yield from propose(stored, Cancelled(name=SKIPPED, message=message, timestamp=now), now, own=True)


EVER = datetime(9999, 1, 1, tzinfo=UTC)


def plan_runs(deployment_id: UUID, body: PlanRuns, now: datetime) -> Steps[int]:
    """Make the runs of the deployment's active schedules that ``body`` asks for; how many it were.

    Times in the past make runs that are late, which fills what was missed. No deployment, no runs.

    Raises:
        ScheduleInvalid: a stored schedule cannot be used.
    """
    made = 0
    for stored in (yield from deployments.read_schedules(deployment_id)):
        schedule = yield from deployments.schedule_to_plan(stored.id, EVER)
        if schedule is not None:
            made += yield from _make(schedule, _asked(schedule, body, now), now)
    return made


def _asked(schedule: dict[str, Any], body: PlanRuns, now: datetime) -> list[datetime]:
    most = min(body.max_runs if body.max_runs is not None else MOST, MOST)
    times = schedules.upcoming(
        schedule_of(schedule["schedule"]),
        body.start_time or now,
        max_runs=most,
        min_runs=most if body.end_time is not None else body.min_runs if body.min_runs is not None else 3,
        min_time=timedelta(seconds=body.min_time if body.min_time is not None else 3600.0),
    )
    return [when for when in times if body.end_time is None or when <= body.end_time]


def _make(schedule: dict[str, Any], times: Sequence[datetime], now: datetime) -> Steps[int]:
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
