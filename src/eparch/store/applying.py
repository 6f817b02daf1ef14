"""Many flows, deployments and schedules at once: what applying a plan reads and writes.

A statement for each kind of row, whatever their number, so that a plan of a thousand deployments is one
short transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from eparch.core.automations import Automation
from eparch.core.deploy_plans import Applied
from eparch.core.deployments import Deployment
from eparch.core.model import Labels
from eparch.store import automations, deployments, runs
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.rows import names
from eparch.store.statement import Statement, Steps, insert, param, update

_flow, _deployment, _schedule, _pool = t.flow, t.deployment, t.deployment_schedule, t.work_pool
_queue, _head, _plan, _resource = t.work_queue, t.deployment_head, t.applied_plan, t.automation_resource

REMEMBERED = timedelta(days=1)
"""For so long the answer to a request is kept."""

_FLOWS = Statement(sa.select(_flow.c.id, _flow.c.name, _flow.c.labels).where(AnyOf(_flow.c.name, "names")))
_BY_ID = Statement(deployments.DEPLOYMENTS.where(AnyOf(_deployment.c.id, "ids")))
_PLACES = Statement(
    sa.select(_deployment.c.id, _flow.c.name, _deployment.c.name.label("deployment_name"))
    .select_from(_deployment.join(_flow, _flow.c.id == _deployment.c.flow_id))
    .where(AnyOf(_flow.c.name, "flows"), AnyOf(_deployment.c.name, "names"))
)
_NAMES = Statement(
    sa.select(_deployment.c.id, _flow.c.name, _deployment.c.name.label("deployment_name"))
    .select_from(_deployment.join(_flow, _flow.c.id == _deployment.c.flow_id))
    .where(AnyOf(_deployment.c.id, "ids"))
)
_OWNED = Statement(
    sa.select(_head.c.deployment_id)
    .where(_head.c.project == param("project", _head.c.project))
    .order_by(_head.c.deployment_id)
)
_POOLS = Statement(
    sa.select(
        _pool.c.id, _pool.c.name, _pool.c.type, _pool.c.updated, _pool.c.base_job_template,
        _pool.c.default_queue_id,
    ).where(AnyOf(_pool.c.name, "names"))
)  # fmt: skip
_QUEUES = Statement(
    sa.select(_queue.c.work_pool_id, _queue.c.name, _queue.c.id).where(AnyOf(_queue.c.work_pool_id, "ids"))
)
_AUTOMATIONS = Statement(
    automations.AUTOMATIONS.add_columns(_resource.c.resource_id)
    .join(_resource, _resource.c.automation_id == t.automation.c.id)
    .where(AnyOf(_resource.c.resource_id, "ids"), _resource.c.owned.is_(sa.true()))
    .order_by(t.automation.c.created, t.automation.c.id),
    types=automations.TYPES,
)
_AUTOMATION_KEYS = names(automations.AUTOMATIONS)
_GONE_SCHEDULES = Statement(sa.delete(_schedule).where(AnyOf(_schedule.c.id, "ids")))
_RESCHEDULE = Statement(
    sa.update(_schedule).where(AnyOf(_schedule.c.deployment_id, "ids")).values(scheduled_until=sa.null())
)
_GONE = Statement(sa.delete(_deployment).where(AnyOf(_deployment.c.id, "ids")))
_ANSWER = Statement(
    sa.select(_plan.c.answer).where(_plan.c.id == param("id", _plan.c.id)), types={"answer": Applied}
)
_FORGET_ANSWERS = Statement(sa.delete(_plan).where(_plan.c.created < param("before", _plan.c.created)))


class FlowRow(NamedTuple):
    """What is needed of a flow."""

    id: UUID
    name: str
    labels: Labels | None


class PoolRow(NamedTuple):
    """What is needed of a work pool."""

    id: UUID
    name: str
    type: str
    updated: datetime
    base_job_template: dict[str, Any]
    default_queue_id: UUID | None


def flows(flow_names: Iterable[str]) -> Steps[dict[str, FlowRow]]:
    """The flows of these names that there are."""
    found = yield _FLOWS(names=sorted(set(flow_names)))
    return {row[1]: FlowRow(*row) for row in found}


def insert_flows(rows: Sequence[Mapping[str, Any]]) -> Steps[None]:
    """Write new flows."""
    if rows:
        yield insert(_flow).each(rows)


def places(wanted: Sequence[tuple[str, str]]) -> Steps[dict[tuple[str, str], UUID]]:
    """The ids of the deployments that there are, by the names of flow and deployment."""
    if not wanted:
        return {}
    flow_names, own = sorted({one[0] for one in wanted}), sorted({one[1] for one in wanted})
    found = yield _PLACES(flows=flow_names, names=own)
    asked = set(wanted)
    return {(row[1], row[2]): row[0] for row in found if (row[1], row[2]) in asked}


def names_of(deployment_ids: Sequence[UUID]) -> Steps[dict[UUID, tuple[str, str]]]:
    """The names of flow and deployment, of those that there are."""
    found = yield _NAMES(ids=list(deployment_ids))
    return {row[0]: (row[1], row[2]) for row in found}


def owned(project: str) -> Steps[list[UUID]]:
    """The deployments that the project owns."""
    found = yield _OWNED(project=project)
    return [row[0] for row in found]


def read_values(deployment_ids: Sequence[UUID], now: datetime) -> Steps[dict[UUID, Deployment]]:
    """The deployments as values, by id."""
    if not deployment_ids:
        return {}
    found = yield _BY_ID(ids=list(deployment_ids))
    complete = yield from deployments.values_of(found, now)
    return {one.id: one for one in complete}


def pools(pool_names: Iterable[str]) -> Steps[dict[str, PoolRow]]:
    """The work pools of these names that there are."""
    found = yield _POOLS(names=sorted(set(pool_names)))
    return {row[1]: PoolRow(*row) for row in found}


def queues(pool_ids: Iterable[UUID]) -> Steps[dict[tuple[UUID, str], UUID]]:
    """The ids of all queues of these pools."""
    found = yield _QUEUES(ids=list(pool_ids))
    return {(row[0], row[1]): row[2] for row in found}


def owned_automations(resource_ids: Sequence[str]) -> Steps[dict[str, list[Automation]]]:
    """The automations that go with these resources, by resource."""
    by_resource: dict[str, list[Automation]] = {}
    if resource_ids:
        for row in (yield _AUTOMATIONS(ids=list(resource_ids))):
            *fields, resource_id = row
            automation = Automation(**dict(zip(_AUTOMATION_KEYS, fields, strict=True)))
            by_resource.setdefault(resource_id, []).append(automation)
    return by_resource


def insert_deployments(rows: Sequence[Mapping[str, Any]]) -> Steps[None]:
    """Write new deployments; all of ``rows`` have the same columns."""
    if rows:
        yield insert(_deployment, frozenset(rows[0])).each(rows)


def write_deployments(rows: Sequence[tuple[UUID, Mapping[str, Any]]]) -> Steps[None]:
    """Change deployments; all of ``rows`` have the same columns."""
    if rows:
        columns = frozenset(rows[0][1])
        yield update(_deployment, columns).each([{"key_id": id_, **values} for id_, values in rows])


def delete_deployments(deployment_ids: Sequence[UUID]) -> Steps[None]:
    """Delete deployments; their runs stay."""
    if deployment_ids:
        yield _GONE(ids=list(deployment_ids))


def change_schedules(
    added: Sequence[Mapping[str, Any]],
    changed: Sequence[tuple[UUID, Mapping[str, Any]]],
    gone: Sequence[UUID],
) -> Steps[None]:
    """Write, change and delete schedules; all of ``changed`` have the same columns."""
    if gone:
        yield _GONE_SCHEDULES(ids=list(gone))
    if changed:
        columns = frozenset(changed[0][1])
        yield update(_schedule, columns).each([{"key_id": id_, **values} for id_, values in changed])
    if added:
        yield insert(_schedule, frozenset(added[0])).each(added)


_FORGET_MISSED = Statement(
    sa.update(_schedule).where(AnyOf(_schedule.c.id, "ids")).values(decided_until=sa.null())
)


def forget_missed(schedule_ids: Sequence[UUID]) -> Steps[None]:
    """Let these schedules have missed nothing up to now: they are other ones than they were."""
    if schedule_ids:
        yield _FORGET_MISSED(ids=list(schedule_ids))


def forget_runs(
    of_deployments: Sequence[UUID], of_schedules: Sequence[tuple[UUID, UUID]], after: datetime
) -> Steps[None]:
    """Delete the runs that all schedules, or these, have made for times later than ``after`` (row D15)."""
    yield from runs.forget_scheduled_of(of_deployments, of_schedules, after)


def reschedule(deployment_ids: Sequence[UUID]) -> Steps[None]:
    """Let the scheduler look at the schedules of these deployments again."""
    if deployment_ids:
        yield _RESCHEDULE(ids=list(deployment_ids))


def read_answer(request_id: UUID) -> Steps[Applied | None]:
    """What was answered when the request was applied; None when it was not."""
    found = yield _ANSWER(id=request_id)
    return found[0][0] if found else None


def put_answer(request_id: UUID, answer: Applied, now: datetime) -> Steps[None]:
    """Remember the answer, and forget old ones."""
    yield _FORGET_ANSWERS(before=now - REMEMBERED)
    yield insert(_plan)(id=request_id, created=now, answer=answer)
