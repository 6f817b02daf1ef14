"""What is sent to flow runs, and going on after a pause (row B6, wire 4.1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.decisions import Accept, answer_of, state_to_write
from eparch.core.errors import Conflict, NotFound
from eparch.core.inputs import FlowRunInputCreate, unfit
from eparch.core.model import encode, new_id
from eparch.core.runs import SetStateStatus, StateAnswer, StateAnswerDetails
from eparch.core.states import Running, Scheduled, State, StateType
from eparch.orchestration.transition import Answered, propose
from eparch.store import inputs, runs
from eparch.store.statement import Steps

NO_RUN = "Flow run not found"


def create_input(run_id: UUID, body: FlowRunInputCreate, now: datetime) -> Steps[None]:
    """Send something to the run.

    Raises:
        NotFound: there is no such run.
        Conflict: it has an input with this key.
    """
    if not (yield from inputs.flow_run_exists(run_id)):
        raise NotFound(NO_RUN)
    if (yield from inputs.read_input(run_id, body.key)) is not None:
        raise Conflict("A flow run input with this key already exists.")
    yield from inputs.insert_input(_columns(run_id, body.key, body.value, now, sender=body.sender))


def delete_input(run_id: UUID, key: str) -> Steps[None]:
    """Delete what was sent to the run under ``key``.

    Raises:
        NotFound: nothing was.
    """
    if not (yield from inputs.delete_input(run_id, key)):
        raise NotFound("Flow run input not found")


def resume(run_id: UUID, given: dict[str, Any] | None, now: datetime) -> Steps[Answered]:
    """Let a paused run go on: a suspended one is scheduled, another runs (wire 4.1).

    What the pause asked for is checked first, and kept for the run once it goes on. The answer to input that
    does not fit is REJECT with details of an ABORT, as on the wire.

    Raises:
        NotFound: there is no such run.
    """
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None:
        raise NotFound(NO_RUN)
    state = stored.run.state
    if state is None or state.type is not StateType.PAUSED:
        return _refused(None, SetStateStatus.ABORT, "Cannot resume a flow run that is not paused.")
    keyset = state.state_details.run_input_keyset or {}
    if keyset:
        schema = yield from inputs.read_input(run_id, keyset.get("schema", ""))
        why = unfit(schema, given or {})
        if why:
            return _refused(state, SetStateStatus.REJECT, why)
    suspended = state.state_details.pause_reschedule
    proposed = Scheduled(now, "Resuming", timestamp=now) if suspended else Running(timestamp=now)
    decision = yield from propose(stored, proposed, now)
    if isinstance(decision, Accept) and "response" in keyset:
        # An earlier attempt of the run may have been here, and have been told something else.
        yield from inputs.delete_input(run_id, keyset["response"])
        if given:
            text = encode(given).decode()
            yield from inputs.insert_input(_columns(run_id, keyset["response"], text, now))
    return Answered(answer_of(decision, state), state_to_write(decision) is not None)


def _refused(state: State | None, status: SetStateStatus, reason: str) -> Answered:
    details = StateAnswerDetails(type="abort_details", reason=reason)
    return Answered(StateAnswer(state=state, status=status, details=details), wrote=False)


def _columns(
    run_id: UUID, key: str, value: str, now: datetime, *, sender: str | None = None
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "created": now,
        "updated": now,
        "flow_run_id": run_id,
        "key": key,
        "value": value,
        "sender": sender,
    }
