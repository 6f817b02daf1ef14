"""Making the runs of backfills, no more at once than they allow (row B16).

A time has one run per deployment and parameters, whoever asks for it and however often.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core import backfills as rules
from eparch.core.backfills import Backfill, BackfillSpec, BackfillStatus, DateStatus
from eparch.core.change_events import change_event, labels_of
from eparch.core.deployments import schedule_of
from eparch.core.errors import Conflict, EparchError, Invalid, NotFound, Unavailable
from eparch.core.model import new_id
from eparch.core.runs import Author, DeploymentFlowRunCreate
from eparch.core.states import Cancelled, StateCreate, StateDetails, StateType
from eparch.orchestration import announcing
from eparch.orchestration.creation import create_deployment_run
from eparch.orchestration.transition import propose
from eparch.store import backfills, deployments, runs
from eparch.store.database import Database
from eparch.store.statement import Note, Steps

logger = logging.getLogger("eparch.server")

LABEL = "eparch.backfill.id"
"""Label of the runs of a backfill."""

BATCH = 100
"""Times that one transaction looks at."""

FIRST = UUID(int=0)
_FAILED = (StateType.FAILED.value, StateType.CRASHED.value, StateType.CANCELLED.value)


class Backfills:
    """Makes the next runs of each backfill when those before are over."""

    name = "backfills"

    def __init__(self, interval: float = 5.0) -> None:
        """``interval`` in seconds."""
        self.interval = interval

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Go on with every backfill."""
        last, again = FIRST, False
        while page := await database.scan(backfills.running, last, BATCH):
            for backfill_id in page:
                again = await self._go_on(database, backfill_id, now) or again
            last = page[-1]
        return again

    async def _go_on(self, database: Database, backfill_id: UUID, now: datetime) -> bool:
        try:
            return await database.write(go_on, backfill_id, now)
        except Unavailable:
            raise
        except EparchError as error:
            logger.warning("The backfill %s is paused: %s", backfill_id, error)
        except Exception:
            logger.exception("The backfill %s is paused: a run of it cannot be made.", backfill_id)
        await database.write(pause, backfill_id, now)
        return False


def create(deployment_id: UUID, spec: BackfillSpec, now: datetime) -> Steps[Backfill]:
    """Begin a backfill.

    Raises:
        NotFound: there is no such deployment.
        Invalid: it has no times, too many, or some that are to come; no schedule is named.
    """
    deployment = yield from deployments.deployment_value(deployment_id, now)
    if deployment is None:
        raise NotFound("Deployment not found")
    if spec.end > now:
        raise Invalid("A backfill is for times that are past.", fix="Let it end now at the latest.")
    fields, given = spec.schedule, spec.parameters
    if fields is None:
        one = rules.chosen(deployment.schedules, spec.slug)
        fields, given = one.schedule, {**one.parameters, **spec.parameters}
    try:
        schedule = schedule_of(fields)
    except msgspec.ValidationError as error:
        raise Invalid(f"Invalid schedule: {error}.") from error
    dates = rules.logical_dates(schedule, spec.start, spec.end, spec.order)
    if not dates:
        raise Invalid("The schedule does not run in this time.")
    spec = msgspec.structs.replace(spec, schedule=fields, parameters=given)
    made = Backfill(
        id=new_id(),
        created=now,
        updated=now,
        deployment_id=deployment_id,
        status=BackfillStatus.RUNNING,
        spec=spec,
        total=len(dates),
        counts={DateStatus.WAITING.value: len(dates)},
    )
    yield from backfills.insert_backfill(made, rules.series_of(deployment_id, given), dates)
    yield Note("backfills", made.id)
    return made


def _found(backfill_id: UUID) -> Steps[Backfill]:
    found = yield from backfills.read_backfill(backfill_id, lock=True)
    if found is None:
        raise NotFound("Backfill not found")
    return found


def _change(backfill_id: UUID, wanted: BackfillStatus, now: datetime) -> Steps[Backfill]:
    found = yield from _found(backfill_id)
    if found.status is wanted:
        return found
    if found.status in (BackfillStatus.COMPLETED, BackfillStatus.CANCELLED):
        raise Conflict(f"The backfill is over: {found.status.value}.", fix="Begin another one.")
    yield from backfills.write_status(backfill_id, wanted, now)
    return msgspec.structs.replace(found, status=wanted, updated=now)


def pause(backfill_id: UUID, now: datetime) -> Steps[Backfill]:
    """Make no more runs until it is resumed; those that are there go on.

    Raises:
        NotFound: there is no such backfill.
        Conflict: it is over.
    """
    return (yield from _change(backfill_id, BackfillStatus.PAUSED, now))


def resume(backfill_id: UUID, now: datetime) -> Steps[Backfill]:
    """Make runs again; raises as ``pause``."""
    found = yield from _change(backfill_id, BackfillStatus.RUNNING, now)
    yield Note("backfills", backfill_id)
    return found


def cancel(backfill_id: UUID, now: datetime) -> Steps[Backfill]:
    """End it; runs of it that have not begun are cancelled; raises as ``pause``."""
    found = yield from _change(backfill_id, BackfillStatus.CANCELLED, now)
    made = yield from backfills.dates_in(backfill_id, DateStatus.MADE, 1000)
    for _, _, run_id in made:
        stored = (yield from runs.flow_run_for_decision(run_id)) if run_id is not None else None
        if stored is not None and stored.run.state_type is StateType.SCHEDULED:
            message = "Its backfill was cancelled."
            yield from propose(stored, Cancelled(message=message, timestamp=now), now, own=True)
    return found


def go_on(backfill_id: UUID, now: datetime) -> Steps[bool]:
    """Make the runs for which there is room; whether there may be more at once."""
    backfill = yield from _found(backfill_id)
    if backfill.status is not BackfillStatus.RUNNING:
        return False
    made = yield from backfills.dates_in(backfill_id, DateStatus.MADE, backfill.spec.concurrency)
    active = yield from backfills.unfinished([run_id for _, _, run_id in made if run_id is not None])
    over = [(at, DateStatus.DONE, run_id) for at, _, run_id in made if run_id not in active]
    yield from backfills.settle(backfill_id, over)
    room = backfill.spec.concurrency - len(active)
    if room <= 0:
        return False
    waiting = yield from backfills.dates_in(backfill_id, DateStatus.WAITING, BATCH)
    if not waiting and not active:
        yield from _complete(backfill, now)
        return False
    settled: list[tuple[int, DateStatus, UUID | None]] = []
    for position, when, _ in waiting:
        if room == 0:
            break
        run_id, is_new = yield from _run(backfill, when, now)
        settled.append((position, DateStatus.MADE if is_new else DateStatus.THERE, run_id))
        room -= is_new
    yield from backfills.settle(backfill_id, settled)
    return room > 0 and len(waiting) == BATCH


def _complete(backfill: Backfill, now: datetime) -> Steps[None]:
    yield from backfills.write_status(backfill.id, BackfillStatus.COMPLETED, now)
    deployment = yield from deployments.read_deployment(backfill.deployment_id, now)
    name = deployment["name"] if deployment else None
    related = [labels_of("deployment", backfill.deployment_id, name, role="deployment")]
    event = change_event("completed", labels_of("backfill", backfill.id, None), now, related=related)
    yield from announcing.emit(event, now)


def _run(backfill: Backfill, when: datetime, now: datetime) -> Steps[tuple[UUID, bool]]:
    """The run for ``when``, and whether it was made now."""
    spec = backfill.spec
    series = rules.series_of(backfill.deployment_id, spec.parameters)
    last = yield from backfills.last_run(series, when)
    if last is not None and not (spec.retry_failed and last[1] in _FAILED):
        return last[0], False
    again = f" {backfill.id}" if last is not None else ""
    body = DeploymentFlowRunCreate(
        # What the schedule would have said to the run, so that flows need not know of backfills.
        state=StateCreate(type=StateType.SCHEDULED, state_details=StateDetails(scheduled_time=when)),
        parameters=rules.with_date(spec.parameters, when),
        idempotency_key=f"backfill {series} {when.isoformat()}{again}",
        tags=["backfill"],
        labels={LABEL: str(backfill.id)},
    )
    author = Author(id=backfill.id, type="BACKFILL", display_value=f"backfill {backfill.id}")
    from coolname import generate_slug

    made: Any = yield from create_deployment_run(
        backfill.deployment_id, body, now, new_name=str(generate_slug(2)), author=author
    )
    run_id = made.run["id"]
    return (run_id if isinstance(run_id, UUID) else UUID(run_id)), made.fresh
