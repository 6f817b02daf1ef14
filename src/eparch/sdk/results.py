"""What a run returned: outcomes, and the state that a returned value means.

In the process ``State.data`` is an ``Outcome``; on the wire it is null, or says where the value was kept
(``storage.Kept``). Rules and wording of aggregation are those that Prefect 3 users know (row B5).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import GeneratorType
from typing import Any

from eparch.core.errors import RunError, Usage
from eparch.core.states import Outcome, State, StateCreate, StateType, error_of, worst
from eparch.sdk.text import printable

COLLECTIONS = (list, tuple, set, frozenset)


class Returned:
    """A value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self, raise_on_failure: bool = True) -> Any:
        """The value; of a returned state its result."""
        return self.value.result(raise_on_failure) if isinstance(self.value, State) else self.value

    def __repr__(self) -> str:
        return f"Returned({self.value!r})"


class Raised:
    """An exception."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def get(self, raise_on_failure: bool = True) -> Any:
        """Raises the exception, or returns it."""
        if raise_on_failure:
            raise self.error
        return self.error

    def __repr__(self) -> str:
        return f"Raised({self.error!r})"


class Gathered:
    """States that a run returned: the worst of them decides."""

    __slots__ = ("states", "value")

    def __init__(self, value: Any, states: Sequence[State]) -> None:
        self.value = value
        self.states = states

    def get(self, raise_on_failure: bool = True) -> Any:
        """What was returned; raises the first failure in it. A single state is its result."""
        if isinstance(self.value, State):
            return self.value.result(raise_on_failure)
        decisive = worst(self.states)
        if raise_on_failure and decisive is not None and not decisive.is_completed():
            decisive.result()
        return self.value


class Stated:
    """A failure that the run stated by itself, with whatever it attached."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: RunError) -> None:
        self.value = value
        self.error = error

    def get(self, raise_on_failure: bool = True) -> Any:
        """Raises what stands for the failure, or returns it."""
        error = self.value if isinstance(self.value, BaseException) else self.error
        if raise_on_failure:
            raise error
        return error


def is_made_by_hand(state: State) -> bool:
    """Whether a flow or task wrote this state itself: no run has it."""
    return not state.state_details.flow_run_id and not state.state_details.task_run_id


def states_in(value: Any) -> list[State] | None:
    """The states of a value that is one state or a collection of nothing else, else None."""
    if isinstance(value, State):
        return [value]
    if type(value) in COLLECTIONS and value and all(isinstance(one, State) for one in value):
        return list(value)
    return None


def concluded(value: Any) -> StateCreate:
    """The state that ``value`` means when a run returns it; futures in it were replaced by states.

    Raises:
        Usage: it is a state that no run can end in.
    """
    if isinstance(value, State) and is_made_by_hand(value):
        if value.type in (StateType.RUNNING, StateType.PENDING):
            raise Usage(f"A run cannot return the state {value.name!r}.", fix="Return one that ends it.")
        return StateCreate(
            type=value.type,
            name=printable(value.name, 255),
            message=None if value.message is None else printable(value.message),
            data=_outcome_of(value),
            state_details=value.state_details,
        )
    states = states_in(value)
    if states is not None:
        type_, message = aggregated(states)
        return StateCreate(
            type=type_, name=type_.value.capitalize(), message=message, data=Gathered(value, states)
        )
    kept = list(value) if isinstance(value, GeneratorType) else value
    return StateCreate(type=StateType.COMPLETED, name="Completed", data=Returned(kept))


def _outcome_of(state: State) -> Outcome:
    if isinstance(state.data, Outcome):
        return state.data
    if state.type is StateType.COMPLETED:
        return Returned(state.data)
    return Stated(state.data, error_of(state))


def aggregated(states: Sequence[State]) -> tuple[StateType, str]:
    """Type and message of the state that all of ``states`` together mean."""
    total = len(states)
    completed = sum(s.is_completed() for s in states)
    if completed == total:
        return StateType.COMPLETED, "All states completed."
    for type_, word in ((StateType.CANCELLED, "cancelled"), (StateType.PAUSED, "paused")):
        if count := sum(s.type is type_ for s in states):
            return type_, f"{count}/{total} states {word}."
    if failed := sum(s.is_failed() or s.is_crashed() for s in states):
        return StateType.FAILED, f"{failed}/{total} states failed."
    unfinished = sum(not s.is_final() for s in states)
    return StateType.FAILED, f"{unfinished}/{total} states are not final."


def value_for_caller(state: State) -> Any:
    """What calling a flow or task gives its caller: the value, or the exception that ended the run.

    A collection of states is handed back as it is, whatever they are.
    """
    data = state.data
    if isinstance(data, Gathered) and not isinstance(data.value, State):
        return data.value
    return state.result()
