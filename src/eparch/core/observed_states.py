"""Names and types of states that runs have had: the values of their endpoint (wire: ``ObservedState``)."""

from __future__ import annotations

from enum import StrEnum

from eparch.core.model import Timestamp, Value
from eparch.core.states import StateType


class ObservedStateSort(StrEnum):
    """Orders of the list."""

    NAME_ASC = "NAME_ASC"
    LAST_SEEN_DESC = "LAST_SEEN_DESC"


class ObservedState(Value, frozen=True, kw_only=True):
    """A state's type and name, and when runs were first and last in it."""

    state_type: StateType
    state_name: str
    first_seen: Timestamp
    last_seen: Timestamp


def choose(
    seen: list[ObservedState], query: str, order_by: ObservedStateSort, limit: int
) -> list[ObservedState]:
    """Those whose name or type begins with ``query``, whatever the case; one entry for each name and type."""
    merged: dict[tuple[str, str], ObservedState] = {}
    for state in seen:
        key = state.state_type, state.state_name
        known = merged.get(key, state)
        merged[key] = ObservedState(
            state_type=state.state_type,
            state_name=state.state_name,
            first_seen=min(known.first_seen, state.first_seen),
            last_seen=max(known.last_seen, state.last_seen),
        )
    start = query.casefold()
    found = [
        state
        for (type_, name), state in merged.items()
        if name.casefold().startswith(start) or type_.casefold().startswith(start)
    ]
    found.sort(key=lambda state: (state.state_name, state.state_type))
    if order_by is ObservedStateSort.LAST_SEEN_DESC:
        found.sort(key=lambda state: state.last_seen, reverse=True)
    return found[:limit]
