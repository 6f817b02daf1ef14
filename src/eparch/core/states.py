"""States of runs and how to make one: ``Scheduled()``, ``Running()``, ``Completed()`` ...

Owns the shape of a state (wire, schemas ``State`` and ``StateDetails``) and what its type means.
Which state may follow which is decided in ``transitions``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from eparch.core.errors import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    MissingResult,
    PausedRun,
    RunError,
    UnfinishedRun,
)
from eparch.core.model import Body, Timestamp, Value, new_id

__all__ = [
    "CLAIMED",
    "FINAL",
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Late",
    "Outcome",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateCreate",
    "StateDetails",
    "StateType",
    "Suspended",
    "error_of",
    "from_create",
    "state",
    "worst",
]


class StateType(StrEnum):
    """What a run is doing, in nine words."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"


FINAL = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})
"""A run in one of these is over."""

CLAIMED = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})
"""A run in one of these may have infrastructure and holds its slots."""


class StateDetails(Value, frozen=True, kw_only=True):
    """What else a state carries (wire, schema ``StateDetails``)."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    child_flow_run_id: UUID | None = None
    scheduled_time: Timestamp | None = None
    cache_key: str | None = None
    cache_expiration: Timestamp | None = None
    deferred: bool | None = False
    untrackable_result: bool = False
    pause_timeout: Timestamp | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: dict[str, str] | None = None
    refresh_cache: bool | None = None
    retriable: bool | None = None
    transition_id: UUID | None = None
    task_parameters_id: UUID | None = None
    traceparent: str | None = None
    deployment_concurrency_lease_id: UUID | None = None


class StateCreate(Body, frozen=True, kw_only=True):
    """A proposed state, as clients send it."""

    type: StateType
    name: str | None = None
    message: str | None = None
    data: Any = None
    state_details: StateDetails = msgspec.field(default_factory=StateDetails)


class State(Value, frozen=True, kw_only=True):
    """One entry of a run's history."""

    id: UUID = msgspec.field(default_factory=new_id)
    type: StateType
    name: str
    timestamp: Timestamp = msgspec.field(default_factory=lambda: datetime.now(UTC))
    message: str | None = None
    data: Any = None
    state_details: StateDetails = msgspec.field(default_factory=StateDetails)

    def is_scheduled(self) -> bool:
        """Waits for its time."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Was claimed and has not begun."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Runs."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """Ended well."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Ended in an error of its own."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Ended by its infrastructure."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Was ended on request."""
        return self.type is StateType.CANCELLED

    def is_cancelling(self) -> bool:
        """Was asked to end."""
        return self.type is StateType.CANCELLING

    def is_paused(self) -> bool:
        """Waits for somebody to resume it."""
        return self.type is StateType.PAUSED

    def is_final(self) -> bool:
        """Is over."""
        return self.type in FINAL

    def result(self, raise_on_failure: bool = True) -> Any:
        """What the run returned.

        Raises:
            RunError: the run did not complete and ``raise_on_failure`` is true.
            MissingResult: the value was not kept, or not where this process can read it.
        """
        # A dict of the wire has a ``get`` too, and is no outcome.
        if not isinstance(self.data, dict) and isinstance(self.data, Outcome):
            return self.data.get(raise_on_failure)
        if self.type is StateType.COMPLETED:
            raise MissingResult(f"The result of the state {self.name!r} was not kept.")
        error = error_of(self)
        if raise_on_failure:
            raise error
        return error


@runtime_checkable
class Outcome(Protocol):
    """What ``State.data`` holds in the process that ran it, or that can read where it was kept."""

    def get(self, raise_on_failure: bool = True) -> Any:
        """The value, or the exception that ended the run: raised, or returned when that is not wanted."""


_ERROR_OF: dict[StateType, type[RunError]] = {
    StateType.FAILED: FailedRun,
    StateType.CRASHED: CrashedRun,
    StateType.CANCELLED: CancelledRun,
    StateType.CANCELLING: CancelledRun,
    StateType.PAUSED: PausedRun,
}


def error_of(state: State) -> RunError:
    """The error that stands for a state without a result."""
    kind = _ERROR_OF.get(state.type, UnfinishedRun)
    return kind(state.message or f"The run is {state.name}.")


def state(type_: StateType, name: str | None = None, **fields: Any) -> State:
    """A state of ``type_``; its name is the type's, capitalised, unless given."""
    return State(type=type_, name=name or type_.value.capitalize(), **fields)


def from_create(proposed: StateCreate, now: datetime) -> State:
    """The state that ``proposed`` asks for, with an id and the time ``now``.

    A SCHEDULED state without a time is due now (wire: schema ``StateCreate``).
    """
    details = proposed.state_details
    if proposed.type is StateType.SCHEDULED and details.scheduled_time is None:
        details = msgspec.structs.replace(details, scheduled_time=now)
    return state(
        proposed.type,
        proposed.name,
        timestamp=now,
        message=proposed.message,
        data=proposed.data,
        state_details=details,
    )


def _details(fields: dict[str, Any], **given: Any) -> dict[str, Any]:
    details = fields.pop("state_details", None) or StateDetails()
    return {**fields, "state_details": msgspec.structs.replace(details, **given)}


def Scheduled(scheduled_time: datetime | None = None, name: str | None = None, **fields: Any) -> State:
    """Waits for ``scheduled_time``; now when none is given."""
    when = scheduled_time or datetime.now(UTC)
    return state(StateType.SCHEDULED, name, **_details(fields, scheduled_time=when))


def AwaitingRetry(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Waits to be tried again."""
    return Scheduled(scheduled_time, "AwaitingRetry", **fields)


def Late(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Should have begun."""
    return Scheduled(scheduled_time, "Late", **fields)


def Pending(name: str | None = None, **fields: Any) -> State:
    """Was claimed and has not begun."""
    return state(StateType.PENDING, name, **fields)


def Running(name: str | None = None, **fields: Any) -> State:
    """Runs."""
    return state(StateType.RUNNING, name, **fields)


def Retrying(**fields: Any) -> State:
    """Runs again after a failure."""
    return state(StateType.RUNNING, "Retrying", **fields)


def Completed(name: str | None = None, **fields: Any) -> State:
    """Ended well."""
    return state(StateType.COMPLETED, name, **fields)


def Failed(name: str | None = None, **fields: Any) -> State:
    """Ended in an error of its own."""
    return state(StateType.FAILED, name, **fields)


def Crashed(name: str | None = None, **fields: Any) -> State:
    """Ended by its infrastructure."""
    return state(StateType.CRASHED, name, **fields)


def Cancelling(name: str | None = None, **fields: Any) -> State:
    """Was asked to end."""
    return state(StateType.CANCELLING, name, **fields)


def Cancelled(name: str | None = None, **fields: Any) -> State:
    """Was ended on request."""
    return state(StateType.CANCELLED, name, **fields)


def Paused(
    name: str | None = None, *, timeout: datetime | None = None, key: str | None = None, **fields: Any
) -> State:
    """Waits for somebody to resume it, until ``timeout``."""
    return state(StateType.PAUSED, name, **_details(fields, pause_timeout=timeout, pause_key=key))


def Suspended(*, timeout: datetime | None = None, key: str | None = None, **fields: Any) -> State:
    """Is paused without infrastructure: resuming schedules it again."""
    return state(
        StateType.PAUSED,
        "Suspended",
        **_details(fields, pause_timeout=timeout, pause_key=key, pause_reschedule=True),
    )


_SEVERITY = (StateType.CRASHED, StateType.FAILED, StateType.CANCELLED)


def worst(states: Iterable[State]) -> State | None:
    """The first state that decides what a flow which returned ``states`` ends in.

    One that is not completed decides over one that is; None when there is no state.
    """
    all_ = list(states)
    for type_ in _SEVERITY:
        for candidate in all_:
            if candidate.type is type_:
                return candidate
    return next((s for s in all_ if not s.is_completed()), all_[0] if all_ else None)
