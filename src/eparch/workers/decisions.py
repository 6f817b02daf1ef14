"""What a worker makes of what it sees: functions of values, no I/O.

Owns which state is reported when a job ended or could not be started, and when a job whose claim is gone has
to go too. Does not own asking, stopping or telling.
"""

from __future__ import annotations

from enum import StrEnum

from eparch.core.errors import EparchError
from eparch.core.runs import FlowRun
from eparch.core.states import Cancelled, Crashed, Scheduled, State, StateType
from eparch.workers.infrastructure import Exit

MAX_TAIL = 4000
"""Characters of a job's last output in the message of a state."""

_UNDERWAY = frozenset({StateType.PENDING, StateType.RUNNING})


class StopReason(StrEnum):
    """Why a worker ends a job."""

    CANCEL = "cancel"
    """Somebody cancelled the run."""
    LOST = "lost"
    """The claim is not this worker's any more."""
    SHUTDOWN = "shutdown"
    """The worker itself stops."""


def decide_after_exit(
    claimed: FlowRun, run: FlowRun, seen: Exit, reason: StopReason | None, worker_name: str
) -> State | None:
    """The state to propose for a run whose job is over; None: it is as it should be.

    ``claimed`` is the run when it was claimed, ``run`` as it is now. A run that is over, paused, or waits
    for its next attempt was told so by its own process; one that ran and is pending again was claimed anew.
    Whatever is still under way crashed, also with exit code 0 (row W17); one that is being cancelled is
    cancelled now (W20); one that a worker ended before it began is handed back (W18). Of a job that another
    worker took over that one tells.
    """
    state = run.state
    if state is None or seen.taken or reason is StopReason.LOST:
        return None
    if state.type is StateType.CANCELLING or (reason is StopReason.CANCEL and not state.is_final()):
        return Cancelled(message="The run was cancelled and its infrastructure is gone.")
    if state.type is StateType.PENDING and run.run_count > claimed.run_count:
        return None
    if state.type not in _UNDERWAY and not _waits_in_process(run):
        return None
    cause = seen.cause
    if reason is StopReason.SHUTDOWN and state.type is StateType.PENDING:
        # None of its user code ran, so nothing is lost when another worker begins it.
        return hand_back(claimed)
    if reason is StopReason.SHUTDOWN:
        return Crashed(message=f"The worker '{worker_name}' stopped and ended the run: {cause}.")
    message = f"The run's infrastructure ended while the run was {state.name}: {cause}."
    tail = seen.stderr[-MAX_TAIL:]
    return Crashed(message=f"{message}\n{tail}" if tail else message)


def decide_after_failed_start(
    run: FlowRun, error: Exception | None, reason: StopReason | None
) -> State | None:
    """The state to propose for a run whose job was never let go; ``error`` is what prevented it.

    One that was only stopped from starting goes back to wait for its time, so that another worker takes it.
    """
    if reason is StopReason.LOST:
        return None
    if reason is StopReason.CANCEL:
        return Cancelled(message="The run was cancelled before it began.")
    if error is None or reason is StopReason.SHUTDOWN:
        return hand_back(run)
    why = [error.message, error.why, error.fix] if isinstance(error, EparchError) else [repr(error)]
    text = "\n".join(part for part in why if part)
    return Crashed(message=f"The run could not be submitted to its infrastructure.\n{text}")


def hand_back(run: FlowRun) -> State:
    """The state of a run that was claimed and not begun: it waits again for the time that it had."""
    details = run.state.state_details if run.state is not None else None
    when = details.scheduled_time if details is not None else None
    return Scheduled(when or run.next_scheduled_start_time or run.expected_start_time)


def must_stop_when_lost(run: FlowRun) -> bool:
    """Whether the job of a run whose claim is gone has to be ended.

    A process that reported its end loses its claim by that and may still have hooks to run; so may one that
    is paused, or that waits for its next attempt, keep waiting. Otherwise somebody else has the run.
    """
    if run.state is None:
        return True
    return run.state.type not in (
        StateType.COMPLETED,
        StateType.FAILED,
        StateType.PAUSED,
    ) and not _waits_in_process(run)


def is_left_behind(run: FlowRun, handle: str) -> bool:
    """Whether the job ``handle`` of a run, which had a claim, is of one that lapsed: its worker is gone for
    good, and the run is over without it, waits to be begun anew, or has another job by now.
    """
    if run.state is None:
        return False
    if run.state.type in (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING):
        # The name of its machine or engine may be written in another way by now.
        stored = run.infrastructure_pid
        return stored is not None and stored.rpartition(":")[2] != handle.rpartition(":")[2]
    return must_stop_when_lost(run)


def _waits_in_process(run: FlowRun) -> bool:
    """Whether the run waits within its process for its next attempt (wire 4.1, ``AwaitingRetry``)."""
    state = run.state
    return (
        state is not None
        and state.type is StateType.SCHEDULED
        and run.empirical_policy.retry_type == "in_process"
    )
