"""Which server does a duty: a lease in one row, taken when free or lapsed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from eparch.store import tables as t
from eparch.store.statement import Statement, Steps, param

_service = t.service

_TAKE = Statement(
    sa.update(_service)
    .where(
        _service.c.name == param("key_name", _service.c.name),
        sa.or_(
            _service.c.holder == param("holder", _service.c.holder),
            _service.c.holder.is_(None),
            _service.c.lease_until <= param("now", _service.c.lease_until),
        ),
    )
    .values(
        holder=param("holder", _service.c.holder),
        lease_until=param("lease_until", _service.c.lease_until),
    )
    .returning(_service.c.name)
)
_MAKE = Statement(
    postgresql.insert(_service)  # SQLite's compiler understands this form too
    .values({c.name: sa.bindparam(c.name, type_=c.type) for c in _service.columns})
    .on_conflict_do_nothing(index_elements=[_service.c.name])
    .returning(_service.c.name)
)
_RELEASE = Statement(
    sa.update(_service)
    .where(_service.c.holder == param("key_holder", _service.c.holder))
    .values(holder=sa.null(), lease_until=sa.null())
)


def acquire(name: str, holder: UUID, now: datetime, lease_until: datetime) -> Steps[bool]:
    """Take or keep the duty ``name`` until ``lease_until``; False while another holds it."""
    taken = yield _TAKE(key_name=name, holder=holder, now=now, lease_until=lease_until)
    if taken:
        return True
    made = yield _MAKE(name=name, holder=holder, lease_until=lease_until)
    return bool(made)


def release(holder: UUID) -> Steps[None]:
    """Let go of every duty that ``holder`` has."""
    yield _RELEASE(key_holder=holder)
