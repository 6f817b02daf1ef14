"""Why a task run is waiting: every reason as a value, with its words and what to do (pain 4, B4, B10).

Owns the reasons of task runs and their sentences; those that flow runs have too are taken from ``blockers``.
Which of them hold is found in ``orchestration.task_explaining``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from eparch.core.blockers import SHOWN_HOLDERS, LimitHolding, RetryWaits, ScheduledLater
from eparch.core.causes import Cause, command, counted, since_when, when
from eparch.core.model import Timestamp, Value
from eparch.core.spans import span
from eparch.core.states import StateType

FREE = "Nothing that the server knows of keeps it waiting: the process of its flow run begins it."
"""Of a task run that nothing blocks."""


class TagLimitFull(Cause, frozen=True, kw_only=True, tag="tag_limit_full"):
    """All slots of the limit on one of its tags are taken."""

    tag: str
    limit: int
    taken: int
    holders: list[LimitHolding] = []
    """Those who have held a slot for the longest."""

    def says(self, now: datetime) -> str:
        """Which tag, and who holds it."""
        if self.limit == 0:
            return f"The concurrency limit on the tag '{self.tag}' is 0, so none of its task runs may begin."
        held = ""
        if self.holders:
            first = self.holders[0]
            name = f"'{first.name}'" if first.name else "a run that is not known"
            held = f", by {name} for {span((now - first.since).total_seconds())}"
            held += f" and {counted(self.taken - 1, 'other')}" if self.taken > 1 else ""
        if self.limit == 1:
            return f"The only slot of the tag '{self.tag}' is taken{held}."
        return f"All {counted(self.limit, 'slot')} of the tag '{self.tag}' are taken{held}."

    def todo(self) -> list[str]:
        """See who holds them, or raise the limit."""
        more = max(self.limit, self.taken) + 1
        return [
            command("concurrency-limit", "inspect", self.tag),
            command("concurrency-limit", "create", self.tag, more),
        ]


class UpstreamTask(Value, frozen=True, kw_only=True):
    """A task run whose result it waits for."""

    task_run_id: UUID
    name: str
    state_name: str | None = None


class UpstreamRuns(Cause, frozen=True, kw_only=True, tag="upstream_runs"):
    """Task runs that it builds on are not over."""

    runs: list[UpstreamTask]

    def says(self, now: datetime) -> str:
        """Which ones."""
        named = ", ".join(f"'{one.name}' ({one.state_name or 'no state'})" for one in self.runs[:3])
        more = ", ..." if len(self.runs) > 3 else ""
        return f"It builds on {counted(len(self.runs), 'task run')} not over yet: {named}{more}."

    def todo(self) -> list[str]:
        """Ask the first of them."""
        return [command("task-run", "explain", self.runs[0].task_run_id)]


class FlowRunWaits(Cause, frozen=True, kw_only=True, tag="flow_run_waits"):
    """Its flow run does not run."""

    flow_run_id: UUID
    name: str
    state_type: StateType | None = None
    state_name: str | None = None
    until: Timestamp | None = None
    """After this a paused flow run fails."""

    def says(self, now: datetime) -> str:
        """How its flow run is."""
        whose = f"Its flow run '{self.name}'"
        if self.state_type is StateType.PAUSED:
            fails = f"; it fails at {when(self.until, now)}" if self.until else ""
            return f"{whose} is {self.state_name} until somebody resumes it{fails}."
        if self.state_type is StateType.CANCELLING:
            return f"{whose} was asked to stop, so it begins no more tasks."
        return f"{whose} does not run: it is {self.state_name or 'without a state'}."

    def todo(self) -> list[str]:
        """Resume it, or ask why."""
        if self.state_type is StateType.PAUSED:
            return [command("flow-run", "resume", self.flow_run_id)]
        return [command("flow-run", "explain", self.flow_run_id)]


class FlowRunOver(Cause, frozen=True, kw_only=True, tag="flow_run_over"):
    """Its flow run ended without it."""

    flow_run_id: UUID
    name: str
    state_name: str
    at: Timestamp

    def says(self, now: datetime) -> str:
        """How and when."""
        ended = f"ended as {self.state_name} {since_when(self.at, now)}"
        return f"It does not wait: its flow run '{self.name}' {ended}, so nobody begins it any more."


class NoTaskWorker(Cause, frozen=True, kw_only=True, tag="no_task_worker"):
    """It is a background task, and no task worker serves its task."""

    task_key: str

    def says(self, now: datetime) -> str:
        """Who is missing."""
        return f"No task worker serves the task '{self.task_key}'."

    def todo(self) -> list[str]:
        """Start one."""
        return ["Start the process that calls `serve()` with it, or: eparch task serve FILE.py:TASK"]


class TaskWorkersBusy(Cause, frozen=True, kw_only=True, tag="task_workers_busy"):
    """Task workers serve its task, and none has taken it yet."""

    task_key: str
    workers: list[str]
    ahead: int
    """Task runs of the same task that are due before it, as far as they were counted."""

    def says(self, now: datetime) -> str:
        """Who serves it, and how many are before it."""
        names = ", ".join(f"'{name}'" for name in self.workers[:SHOWN_HOLDERS])
        text = f"It waits for a task worker that is free; its task is served by {names}"
        return f"{text}, {counted(self.ahead, 'task run')} before it." if self.ahead else f"{text}."

    def todo(self) -> list[str]:
        """One that takes more, or another."""
        return ["Start another task worker, or give one a larger --limit."]


class HandedOut(Cause, frozen=True, kw_only=True, tag="handed_out"):
    """A task worker has it and has not begun it."""

    lease_until: Timestamp | None = None

    def says(self, now: datetime) -> str:
        """Until when."""
        text = "A task worker has it and has not begun it yet"
        if self.lease_until is None:
            return f"{text}."
        if self.lease_until <= now:
            return f"{text}. Its lease is over: another one gets it."
        return f"{text}; unless it is heard of before, another one gets it at {when(self.lease_until, now)}."


class TaskRuns(Cause, frozen=True, kw_only=True, tag="running"):
    """It runs."""

    since: Timestamp

    def says(self, now: datetime) -> str:
        """Since when."""
        return f"It does not wait: it began {since_when(self.since, now)}."


class TaskEnded(Cause, frozen=True, kw_only=True, tag="ended"):
    """It is over."""

    state_name: str
    at: Timestamp
    reason: str = ""

    def says(self, now: datetime) -> str:
        """How it ended, and why."""
        why = f": {self.reason}" if self.reason else "."
        return f"It does not wait: it ended as {self.state_name} {since_when(self.at, now)}{why}"


TaskBlocker = (
    ScheduledLater
    | RetryWaits
    | TagLimitFull
    | UpstreamRuns
    | FlowRunWaits
    | FlowRunOver
    | NoTaskWorker
    | TaskWorkersBusy
    | HandedOut
    | TaskRuns
    | TaskEnded
)


class TaskReason(Value, frozen=True, kw_only=True):
    """A blocker with its words."""

    says: str
    todo: list[str] = []
    blocker: TaskBlocker


class TaskExplanation(Value, frozen=True, kw_only=True):
    """Why a task run is waiting: ``GET /task_runs/{id}/explain``, the most telling reason first."""

    task_run_id: UUID
    flow_run_id: UUID | None = None
    name: str
    state_type: StateType | None = None
    state_name: str | None = None
    waiting: bool
    """It may run and does not yet; else it runs, or is over."""
    summary: str
    """The answer in one sentence."""
    reasons: list[TaskReason] = []
    not_before: Timestamp | None = None
    as_of: Timestamp


def task_reasons(blockers: Sequence[TaskBlocker], now: datetime) -> list[TaskReason]:
    """The blockers with their words."""
    return [TaskReason(says=one.says(now), todo=one.todo(), blocker=one) for one in blockers]
