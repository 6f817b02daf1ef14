"""A server in memory that a test scripts: it claims, fences, keeps states, and fails when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import Conflict, NotFound, Unreachable
from eparch.core.model import new_id
from eparch.core.pools import (
    Claim,
    ClaimedRun,
    DueRun,
    Renewed,
    Work,
    WorkPool,
    WorkQueue,
)
from eparch.core.runs import FlowRun, SetStateStatus, StateAnswer, StateAnswerDetails
from eparch.core.states import Scheduled, State, StateType, from_create
from eparch.core.worker_instances import WorkerOrder, WorkerOrders, WorkerReport
from eparch.testing.infrastructure import FakeInfrastructure

FLOW = new_id()
Fault = Callable[[Call[Any]], None]


class Scripted:
    """Answers calls; ``fault`` may raise for any of them."""

    def __init__(self, *, ours: bool = True, pool: str | None = "local", type_: str = "fake") -> None:
        self.ours = ours
        self.pools: dict[str, WorkPool] = {}
        self.queues: set[str] = {"default"}
        if pool:
            template = FakeInfrastructure.base_job_template
            self.pools[pool] = WorkPool(id=new_id(), name=pool, type=type_, base_job_template=template)
        self.runs: dict[UUID, FlowRun] = {}
        self.tokens: dict[UUID, int] = {}
        self.claimed: dict[UUID, list[UUID]] = {}
        self.cancelled: set[UUID] = set()
        self.logs: list[str] = []
        self.seen: list[Call[Any]] = []
        self.order = WorkerOrder.WORK
        self.reports: list[WorkerReport] = []
        self.said: list[str] = []
        self.views: dict[str, Any] = {}
        self.fault: Fault = lambda call: None
        self.changed = threading.Condition()

    # What a test does

    def add(self, command: str = "exit 0", **more: Any) -> FlowRun:
        """A run that is due."""
        run = FlowRun(
            id=new_id(), name=f"run-{len(self.runs)}", flow_id=FLOW, state=Scheduled(),
            job_variables={"command": command}, **more,
        )  # fmt: skip
        with self.changed:
            self.runs[run.id] = run
            self.changed.notify_all()
        return run

    def put(self, run: FlowRun, state: State) -> None:
        """Set a state from outside."""
        with self.changed:
            self.runs[run.id] = replace(self.runs[run.id], state=state)
            if state.type is StateType.CANCELLING:
                self.cancelled.add(run.id)
            self.changed.notify_all()

    def give_order(self, order: WorkerOrder) -> None:
        """Order the worker to do so."""
        with self.changed:
            self.order = order
            self.changed.notify_all()

    def lose(self, run: FlowRun) -> None:
        """Let somebody else hold the run."""
        with self.changed:
            self.tokens[run.id] = self.tokens.get(run.id, 0) + 1
            self.changed.notify_all()

    def wait(self, true: Callable[[], bool]) -> None:
        """Wait until something became true by a call."""
        with self.changed:
            assert self.changed.wait_for(true, 30), "it never came to that"

    def state(self, run: FlowRun) -> State:
        state = self.runs[run.id].state
        assert state is not None
        return state

    def wait_state(self, run: FlowRun, *types: StateType) -> State:
        self.wait(lambda: self.state(run).type in types)
        return self.state(run)

    def count(self, endpoint: calls.Endpoint[Any]) -> int:
        return sum(call.endpoint is endpoint for call in self.seen)

    # What a client does

    def send(self, call: Call[Any], *, timeout: float | None = None) -> Any:
        with self.changed:
            self.seen.append(call)
            try:
                self.fault(call)
                return self._answer(call)
            finally:
                self.changed.notify_all()

    def _answer(self, call: Call[Any]) -> Any:
        name = next(key for key, value in vars(calls).items() if value is call.endpoint)
        return getattr(self, f"_{name}")(call, call.path.split("/")[2:])

    def _read_server(self, call: Call[Any], path: list[str]) -> Any:
        if not self.ours:
            raise NotFound("Not Found")

    def _read_collection_view(self, call: Call[Any], path: list[str]) -> Any:
        return self.views

    def _read_work_pool(self, call: Call[Any], path: list[str]) -> WorkPool:
        if path[0] not in self.pools:
            raise NotFound(path[0])
        return self.pools[path[0]]

    def _read_work_pools(self, call: Call[Any], path: list[str]) -> list[WorkPool]:
        return list(self.pools.values())

    def _create_work_pool(self, call: Call[Any], path: list[str]) -> WorkPool:
        body = call.body
        if body.name in self.pools:
            raise Conflict("exists")
        pool = WorkPool(id=new_id(), name=body.name, type=body.type, base_job_template=body.base_job_template)
        self.pools[body.name] = pool
        return pool

    def _update_work_pool(self, call: Call[Any], path: list[str]) -> None:
        self.pools[path[0]] = replace(self.pools[path[0]], base_job_template=call.body.base_job_template)

    def _read_work_queue_by_name(self, call: Call[Any], path: list[str]) -> WorkQueue:
        if path[2] not in self.queues:
            raise NotFound(path[2])
        return WorkQueue(id=new_id(), name=path[2])

    def _create_work_queue(self, call: Call[Any], path: list[str]) -> WorkQueue:
        self.queues.add(call.body.name)
        return WorkQueue(id=new_id(), name=call.body.name)

    def _heartbeat_worker(self, call: Call[Any], path: list[str]) -> None:
        return None

    def _report_worker(self, call: Call[Any], path: list[str]) -> WorkerOrders:
        self.reports.append(call.body)
        return WorkerOrders(order=self.order)

    def _create_worker_logs(self, call: Call[Any], path: list[str]) -> None:
        self.said += [line.message for line in call.body.lines]

    def _create_logs(self, call: Call[Any], path: list[str]) -> None:
        self.logs += [line.message for line in call.body]

    def _read_flow_run(self, call: Call[Any], path: list[str]) -> FlowRun:
        return self.runs[UUID(path[0])]

    def _read_flow_runs(self, call: Call[Any], path: list[str]) -> list[FlowRun]:
        wanted = call.body["flow_runs"]["id"]["any_"]
        return [run for run in self.runs.values() if str(run.id) in wanted and run.id in self.cancelled]

    def _read_flow(self, call: Call[Any], path: list[str]) -> Any:
        raise NotFound("flow")

    def _update_flow_run(self, call: Call[Any], path: list[str]) -> None:
        run = UUID(path[0])
        self.runs[run] = replace(self.runs[run], infrastructure_pid=call.body.infrastructure_pid)

    def _set_flow_run_state(self, call: Call[Any], path: list[str]) -> StateAnswer:
        run = self.runs[UUID(path[0])]
        assert run.state is not None
        token = call.headers.get(calls.CLAIM_HEADER)
        if token is not None and int(token.rpartition(":")[2]) != self.tokens.get(run.id):
            return StateAnswer(
                state=run.state, status=SetStateStatus.ABORT, details=StateAnswerDetails(type="abort_details")
            )
        proposed = from_create(call.body.state, datetime.now(UTC))
        mark = proposed.state_details.transition_id
        again = mark is not None and mark == run.state.state_details.transition_id
        other = call.body.if_state_id not in (None, run.state.id)
        refused = other or run.state.is_final() or (proposed.is_pending() and not run.state.is_scheduled())
        if again or refused:
            return StateAnswer(
                state=run.state,
                status=SetStateStatus.REJECT,
                details=StateAnswerDetails(type="reject_details"),
            )
        self.runs[run.id] = replace(run, state=proposed)
        return StateAnswer(
            state=proposed, status=SetStateStatus.ACCEPT, details=StateAnswerDetails(type="accept_details")
        )

    def _due(self) -> list[FlowRun]:
        return [run for run in self.runs.values() if run.state is not None and run.state.is_scheduled()]

    def _read_due_runs(self, call: Call[Any], path: list[str]) -> list[DueRun]:
        ids = {"work_pool_id": new_id(), "work_queue_id": new_id()}
        return [DueRun(flow_run=run, **ids) for run in self._due()[: call.body.limit]]

    def _claim_runs(self, call: Call[Any], path: list[str]) -> Work:
        body = call.body
        if body.claim_id not in self.claimed:
            if body.wait_seconds:
                self.changed.wait_for(
                    lambda: (
                        self.order is not body.order
                        or self._due()[: body.limit]
                        or self.cancelled & set(body.holding)
                    ),
                    0.2,
                )
            taken = self._due()[: body.limit] if self._gives() else []
            self.claimed[body.claim_id] = [run.id for run in taken]
            for run in taken:
                self.tokens[run.id] = self.tokens.get(run.id, 0) + 1
                assert run.state is not None
                state = State(type=StateType.PENDING, name="Pending", state_details=run.state.state_details)
                self.runs[run.id] = replace(run, state=state)
        now = datetime.now(UTC)
        runs = [
            ClaimedRun(
                claim=Claim(
                    flow_run_id=run, claim_id=body.claim_id, token=self.tokens[run], claimed_at=now,
                    lease_until=now + timedelta(seconds=body.lease_seconds),
                ),
                flow_run=self.runs[run],
            )
            for run in self.claimed[body.claim_id]
        ]  # fmt: skip
        self.fault_after(call)
        cancel = [run for run in body.holding if run in self.cancelled]
        self.cancelled -= set(cancel)
        return Work(runs=runs, cancel=cancel, order=self.order)

    def _gives(self) -> bool:
        """Whether the worker of whom was heard last takes runs."""
        return self.order is WorkerOrder.WORK and not (self.reports and self.reports[-1].draining)

    def _renew_claims(self, call: Call[Any], path: list[str]) -> Renewed:
        refs = call.body.claims
        kept = [ref.flow_run_id for ref in refs if self.tokens.get(ref.flow_run_id) == ref.token]
        return Renewed(kept=kept, lost=[ref.flow_run_id for ref in refs if ref.flow_run_id not in kept])

    fault_after: Fault = staticmethod(lambda call: None)


def once(endpoint: calls.Endpoint[Any], error: Exception | None = None) -> Fault:
    """A fault of the next call of one endpoint."""
    left = [error or Unreachable("Cannot reach the server.")]

    def fault(call: Call[Any]) -> None:
        if call.endpoint is endpoint and left:
            raise left.pop()

    return fault
