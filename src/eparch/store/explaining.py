"""What an explanation reads: how a run stands to each condition of the claim, its line, and who holds slots.

The conditions are those of ``claims``, where the claim has them from; nothing here decides who may run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.blockers import Holding, LimitHolding
from eparch.core.claim_order import Candidate, LimitOf
from eparch.core.states import StateType
from eparch.store import claims
from eparch.store import tables as t
from eparch.store.statement import Statement, Steps, param

_run, _claim, _deployment, _slot = t.flow_run, t.claim, t.deployment, t.concurrency_slot

_STANDS = Statement(
    sa.select(*(condition.label(name) for name, condition in claims.CONDITIONS.items()))
    .select_from(claims.RUNS)
    .where(_run.c.id == param("id", _run.c.id))
)
_LINE = Statement(
    claims.due_runs().add_columns(
        _run.c.name, _deployment.c.concurrency_limit, claims.SLOTS_TAKEN.label("taken")
    )
).unlocked

_HOLDERS = (
    sa.select(
        _run.c.id,
        _run.c.name,
        _run.c.state_type,
        _run.c.state_name,
        t.work_queue.c.name.label("work_queue_name"),
        _claim.c.worker_name,
        _claim.c.claimed_at,
        _claim.c.lease_until,
    )
    .select_from(
        _claim.join(_run, _run.c.id == _claim.c.flow_run_id).outerjoin(
            t.work_queue, t.work_queue.c.id == _claim.c.work_queue_id
        )
    )
    .order_by(_claim.c.claimed_at, _run.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .offset(sa.bindparam("offset", type_=sa.BigInteger))
)
_HOLDERS_OF: dict[LimitOf, Statement] = {
    "work_pool": Statement(_HOLDERS.where(_claim.c.work_pool_id == param("key", _claim.c.work_pool_id))),
    "work_queue": Statement(_HOLDERS.where(_claim.c.work_queue_id == param("key", _claim.c.work_queue_id))),
    "deployment": Statement(_HOLDERS.where(_claim.c.slot_of == param("key", _claim.c.slot_of))),
}

_LIMIT_HOLDERS = Statement(
    sa.select(
        _slot.c.lease_id,
        _slot.c.holder_type,
        _slot.c.holder_id,
        sa.func.coalesce(_run.c.name, t.task_run.c.name).label("name"),
        _slot.c.slots,
        _slot.c.created,
        _slot.c.expires,
    )
    .select_from(
        _slot.outerjoin(_run, _run.c.id == _slot.c.holder_id).outerjoin(
            t.task_run, t.task_run.c.id == _slot.c.holder_id
        )
    )
    .where(
        _slot.c.limit_id == param("limit_id", _slot.c.limit_id),
        _slot.c.expires > param("now", _slot.c.expires),
    )
    .order_by(_slot.c.created, _slot.c.lease_id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .offset(sa.bindparam("offset", type_=sa.BigInteger))
)


def stands(run_id: UUID, before: datetime) -> Steps[dict[str, bool]]:
    """Which conditions of a claim the run meets that takes what is due at ``before``, by name."""
    found = yield _STANDS(id=run_id, before=before)
    return dict(zip(claims.CONDITIONS, map(bool, found[0]), strict=True)) if found else {}


def line(queue_id: UUID, before: datetime, limit: int) -> Steps[list[Candidate]]:
    """The due runs of the queue in the order in which a claim finds them."""
    found = yield _LINE(work_queue_id=queue_id, before=before, limit=limit)
    return [
        Candidate(id_, queue_id, name, due, deployment_id, None if bound is None else max(bound - taken, 0))
        for id_, deployment_id, due, name, bound, taken in found
    ]


def holders(of: LimitOf, key: UUID, limit: int, offset: int = 0) -> Steps[list[Holding]]:
    """Who holds slots of the pool, the queue or the deployment with this id, the longest first."""
    found = yield _HOLDERS_OF[of](key=key, limit=limit, offset=offset)
    return [_holding(row) for row in found]


def _holding(row: Sequence[Any]) -> Holding:
    id_, name, state_type, state_name, queue, worker, since, lease_until = row
    return Holding(
        flow_run_id=id_,
        name=name,
        state_type=StateType(state_type) if state_type else None,
        state_name=state_name,
        work_queue_name=queue,
        worker_name=worker,
        since=since,
        lease_until=lease_until,
    )


def limit_holders(limit_id: UUID, limit: int, offset: int, now: datetime) -> Steps[list[LimitHolding]]:
    """The leases that hold slots of a named limit at ``now``, the oldest first."""
    found = yield _LIMIT_HOLDERS(limit_id=limit_id, now=now, limit=limit, offset=offset)
    names = ("lease_id", "holder_type", "holder_id", "name", "slots", "since", "lease_until")
    return [LimitHolding(**dict(zip(names, row, strict=True))) for row in found]
