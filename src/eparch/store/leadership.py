"""Which server does a duty: a lease in one row, taken when free or lapsed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from eparch.store import tables as t
from eparch.store.statement import Statement, Steps, insert, param

_service = t.service

_READ = Statement(
    sa.select(_service.c.holder, _service.c.lease_until)
    .where(_service.c.name == param("name", _service.c.name))
    .with_for_update()
)
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
    if (yield _READ(name=name)):
        return False
    yield insert(_service)(name=name, holder=holder, lease_until=lease_until)
    return True


def release(holder: UUID) -> Steps[None]:
    """Let go of every duty that ``holder`` has."""
    yield _RELEASE(key_holder=holder)
