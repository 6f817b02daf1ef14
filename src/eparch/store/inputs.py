"""Inputs of flow runs, and the histories of runs as the wire answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.rows import names
from eparch.store.statement import Statement, Steps, insert, param

_input, _run = t.flow_run_input, t.flow_run

INPUTS: sa.Select[Any] = sa.select(*_input.columns)
_KEYS = names(INPUTS)
_STATE_KEYS = ("id", "type", "name", "timestamp", "message", "state_details", "data")

_OF_RUN = _input.c.flow_run_id == param("flow_run_id", _input.c.flow_run_id)
_THE = sa.and_(_OF_RUN, _input.c.key == param("key", _input.c.key))
_prefix = param("prefix", _input.c.key)

_KNOWN = Statement(sa.select(_run.c.id).where(_run.c.id == param("id", _run.c.id)))
_VALUE = Statement(sa.select(_input.c.value).where(_THE))
_DELETE = Statement(_input.delete().where(_THE).returning(_input.c.id))
_PAGE = Statement(
    INPUTS.where(
        _OF_RUN,
        sa.func.substr(_input.c.key, 1, sa.func.length(_prefix)) == _prefix,
        sa.not_(AnyOf(_input.c.key, "exclude_keys")),
    )
    .order_by(_input.c.created, _input.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer)),
    wire=True,
)


def flow_run_exists(run_id: UUID) -> Steps[bool]:
    """Whether there is such a flow run."""
    found = yield _KNOWN(id=run_id)
    return bool(found)


def insert_input(columns: dict[str, Any]) -> Steps[None]:
    """Add an input, which has a key that its run does not have."""
    yield insert(_input)(**columns)


def read_input(run_id: UUID, key: str) -> Steps[str | None]:
    """The value of the input; None: there is none."""
    found = yield _VALUE(flow_run_id=run_id, key=key)
    return str(found[0][0]) if found else None


def read_inputs(
    run_id: UUID, prefix: str, limit: int, exclude_keys: Sequence[str]
) -> Steps[list[dict[str, Any]]]:
    """Inputs of the run whose key begins with ``prefix``, the oldest first."""
    found = yield _PAGE(flow_run_id=run_id, prefix=prefix, limit=limit, exclude_keys=list(exclude_keys))
    return [dict(zip(_KEYS, row, strict=True)) for row in found]


def delete_input(run_id: UUID, key: str) -> Steps[bool]:
    """Delete the input; False: there is none."""
    found = yield _DELETE(flow_run_id=run_id, key=key)
    return bool(found)


def _statements(table: sa.Table, parent: str) -> tuple[Statement, Statement]:
    states = sa.select(*(table.c[name] for name in _STATE_KEYS))
    run_id = table.c[f"{parent}_id"]
    one = states.where(table.c.id == param("id", table.c.id))
    all_ = states.where(run_id == param("run_id", run_id)).order_by(table.c.timestamp, table.c.id)
    return Statement(one, wire=True), Statement(all_, wire=True)


_HISTORIES = {
    "flow_run": _statements(t.flow_run_state, "flow_run"),
    "task_run": _statements(t.task_run_state, "task_run"),
}


def read_state(parent: str, state_id: UUID) -> Steps[dict[str, Any] | None]:
    """One state of a ``flow_run`` or a ``task_run``; None: there is none."""
    found = yield _HISTORIES[parent][0](id=state_id)
    return dict(zip(_STATE_KEYS, found[0], strict=True)) if found else None


def read_states(parent: str, run_id: UUID) -> Steps[list[dict[str, Any]]]:
    """The history of a ``flow_run`` or a ``task_run``, the oldest state first."""
    found = yield _HISTORIES[parent][1](run_id=run_id)
    return [dict(zip(_STATE_KEYS, row, strict=True)) for row in found]
