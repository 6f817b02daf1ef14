"""Which states runs have had lately: bounded looks at the two histories."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from eparch.core.observed_states import ObservedState
from eparch.core.states import StateType
from eparch.store import tables as t
from eparch.store.statement import Statement, Steps

LOOKED_AT = 100_000
"""Transitions of flow runs, and as many of task runs: the newest, so that the look stays quick."""


def _seen(table: sa.Table) -> Statement:
    recent = (
        sa.select(table.c.type, table.c.name, table.c.timestamp)
        .order_by(table.c.id.desc())
        .limit(sa.literal_column(str(LOOKED_AT)))
        .subquery()
    )
    first, last = (of(recent.c.timestamp, type_=recent.c.timestamp.type) for of in (sa.func.min, sa.func.max))
    return Statement(
        sa.select(recent.c.type, recent.c.name, first, last).group_by(recent.c.type, recent.c.name)
    )


_SEEN = (_seen(t.flow_run_state), _seen(t.task_run_state))


def read_observed() -> Steps[list[ObservedState]]:
    """Types and names of the newest states, with the times of the first and the last."""
    found: list[Any] = []
    for statement in _SEEN:
        found += yield statement()
    return [
        ObservedState(state_type=StateType(type_), state_name=name, first_seen=first, last_seen=last)
        for type_, name, first, last in found
    ]
