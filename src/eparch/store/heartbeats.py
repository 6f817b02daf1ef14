"""When the processes of flow runs were heard of: their heartbeats are events like others."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from eparch.core.heartbeats import EVENT, LOOKED_AT
from eparch.store import tables as t
from eparch.store.statement import Statement, Steps, param

_run, _claim, _event, _log = t.flow_run, t.claim, t.event, t.log

_UNLEASED = Statement(
    sa.select(_run.c.id)
    .select_from(_run.outerjoin(_claim, _claim.c.flow_run_id == _run.c.id))
    .where(
        _run.c.state_type == sa.literal_column("'RUNNING'"),
        _run.c.state_timestamp <= param("before", _run.c.state_timestamp),
        _run.c.id > param("after_id", _run.c.id),
        # Whoever renews a claim needs no heartbeats.
        _claim.c.lease_until.is_(None),
    )
    .order_by(_run.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_HEARD = Statement(
    sa.select(_event.c.received)
    .where(
        _event.c.resource_id == param("resource_id", _event.c.resource_id),
        _event.c.event == sa.literal_column(f"'{EVENT}'"),
    )
    .order_by(_event.c.occurred.desc())
    .limit(sa.literal_column(str(LOOKED_AT)))
)
_LAST_LINE = Statement(
    sa.select(_log.c.created)
    .where(_log.c.flow_run_id == param("flow_run_id", _log.c.flow_run_id))
    .order_by(_log.c.timestamp.desc(), _log.c.id.desc())
    .limit(sa.literal_column("1"))
)


def heard(run_id: UUID) -> Steps[list[datetime]]:
    """When the last heartbeats of the run came, by the server's clock, the newest first."""
    found = yield _HEARD(resource_id=f"prefect.flow-run.{run_id}")
    return sorted((row[0] for row in found), reverse=True)


def last_line(run_id: UUID) -> Steps[datetime | None]:
    """When the run's last log line came."""
    found = yield _LAST_LINE(flow_run_id=run_id)
    return found[0][0] if found else None


def quiet_since(before: datetime, after_id: UUID, limit: int) -> Steps[tuple[list[UUID], UUID | None]]:
    """Of a page of running runs that nobody holds with a lease, those that sent heartbeats but none since.

    Also the last id of the page, None when it was the last page.
    """
    found = yield _UNLEASED(before=before, after_id=after_id, limit=limit)
    page = [row[0] for row in found]
    quiet = []
    for run_id in page:
        moments = yield from heard(run_id)
        if len(moments) == LOOKED_AT and moments[0] < before:
            quiet.append(run_id)
    return quiet, page[-1] if len(page) == limit else None
