"""Where a worker gets its runs from: claims of our server, or polls of a stock one.

Owns the two ways and what they promise. With claims the server tells at once that there is work or somebody
to cancel, and a lost answer loses no run (rows W15, W16). A stock server is polled, and a run belongs to
whoever moves it to Pending first (wire 4.1, 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import BadRequest, EparchError, NotFound, VersionMismatch
from eparch.core.model import new_id
from eparch.core.pools import (
    Claim,
    ClaimedRun,
    ClaimRef,
    ClaimRuns,
    DueRuns,
    RenewClaims,
    Renewed,
    Work,
)
from eparch.core.runs import FlowRun, SetState, SetStateStatus
from eparch.core.states import StateCreate, StateDetails, StateType
from eparch.core.worker_instances import WorkerOrder
from eparch.settings import Settings

T = TypeVar("T")

WAIT = 25.0
"""Seconds for which a claim waits at the server: less than what proxies cut off at."""

WATCH = 10.0
"""Seconds for which it waits while there is no room: of a run that begins meanwhile it is not told."""

MOST = 100
"""Runs taken at once by a worker without a limit."""


ANSWER = 1 / 6
"""Part of a lease for which the answer to a renewal is waited: there is time for three before it lapses."""


class Sender(Protocol):
    """Sends calls; ``eparch.client.http.Client`` is one."""

    def send(self, call: Call[T], *, timeout: float | None = None) -> T:
        """The answer; ``timeout`` in seconds.

        Raises:
            EparchError: there is none, or it is a refusal.
        """


class Source(Protocol):
    """Gives runs that nobody else starts."""

    pause: float
    """Seconds between two calls of ``take``; 0 where the server is the one who waits."""

    def take(self, limit: int, holding: Sequence[UUID]) -> Work:
        """At most ``limit`` runs, and which of ``holding`` are to be cancelled.

        Raises:
            EparchError: the server did not answer; calling again loses nothing.
        """

    order: WorkerOrder
    """What the worker does now, as it was told."""

    def watch(self, holding: Sequence[UUID]) -> Work:
        """What else there is to do while there is no room for more runs."""

    def renew(self, claims: list[ClaimRef]) -> Renewed:
        """Hold these claims for another lease."""

    def recall(self) -> list[ClaimedRun]:
        """What the last ``take`` claimed and nobody has begun, also if its answer is still under way."""


class Claims:
    """The way of our server."""

    pause = 0.0

    def __init__(
        self, sender: Sender, pool: str, worker_name: str, queues: Sequence[str], settings: Settings,
        prefetch_seconds: float, wait_seconds: float = WAIT,
    ) -> None:  # fmt: skip
        self.sender, self.pool, self.worker_name = sender, pool, worker_name
        self.queues = list(queues)
        self.lease = settings.lease_seconds
        self.prefetch, self.wait = prefetch_seconds, wait_seconds
        self.patience = wait_seconds + min(settings.request_timeout, 30.0)
        self.order = WorkerOrder.WORK
        self.instance_id: UUID | None = None
        """As which process it asks (row W11)."""
        self._unanswered: UUID | None = None
        self._last: UUID | None = None

    def take(self, limit: int, holding: Sequence[UUID]) -> Work:
        """Claim; an attempt that got no answer is asked for again under its own id."""
        self._last = self._unanswered = self._unanswered or new_id()
        work = self._claim(self._unanswered, limit, holding)
        self._unanswered = None
        return work

    def recall(self) -> list[ClaimedRun]:
        """Ask for the same claim once more; it takes nothing that it has not taken already."""
        return self._claim(self._last, 0, [], wait=0.0).runs if self._last is not None else []

    def watch(self, holding: Sequence[UUID]) -> Work:
        """Wait at the server until there is something, or one of ``holding`` is over."""
        return self._claim(new_id(), 0, holding, wait=min(self.wait, WATCH))

    def renew(self, claims: list[ClaimRef]) -> Renewed:
        """All of them in one request."""
        body = RenewClaims(claims=claims, lease_seconds=self.lease)
        return self.sender.send(self._renewal(body), timeout=max(self.lease * ANSWER, 1.0))

    def _renewal(self, body: RenewClaims) -> Call[Renewed]:
        return calls.renew_claims(name=self.pool, body=body)

    def _claiming(self, body: ClaimRuns) -> Call[Work]:
        return calls.claim_runs(name=self.pool, body=body)

    def _claim(
        self, claim_id: UUID, limit: int, holding: Sequence[UUID], *, wait: float | None = None
    ) -> Work:
        body = ClaimRuns(
            claim_id=claim_id,
            worker_name=self.worker_name,
            work_queue_names=self.queues,
            limit=min(limit, MOST),
            lease_seconds=self.lease,
            prefetch_seconds=self.prefetch,
            wait_seconds=self.wait if wait is None else wait,
            holding=list(holding),
            instance_id=self.instance_id,
            order=self.order,
        )
        return self.sender.send(self._claiming(body), timeout=self.patience)


class Polls:
    """The way of a stock server."""

    def __init__(
        self, sender: Sender, pool: str, worker_name: str, queues: Sequence[str], settings: Settings,
        prefetch_seconds: float,
    ) -> None:  # fmt: skip
        self.sender, self.pool, self.worker_name = sender, pool, worker_name
        self.queues = list(queues)
        self.prefetch, self.pause = prefetch_seconds, settings.worker_poll_seconds
        self.order = WorkerOrder.WORK
        self._unanswered: dict[UUID, tuple[FlowRun, UUID]] = {}
        """Runs that were proposed and not answered, with the mark of the proposal."""

    def take(self, limit: int, holding: Sequence[UUID]) -> Work:
        """Poll, and move to Pending what came; the rest belongs to somebody else."""
        due = self._due(datetime.now(UTC) + timedelta(seconds=self.prefetch), min(limit, MOST))
        again = [one for one, _ in self._unanswered.values()]
        taken: list[ClaimedRun] = []
        try:
            for one in [*again, *due][:limit]:
                claimed = self._take_one(one)
                taken.extend([claimed] if claimed is not None else [])
            cancel = self.watch(holding).cancel
        except EparchError:
            if not taken:
                raise
            cancel = []
        return Work(runs=taken, cancel=cancel)

    def _due(self, before: datetime, limit: int) -> list[FlowRun]:
        body = DueRuns(work_queue_names=self.queues, scheduled_before=before, limit=limit)
        return [one.flow_run for one in self.sender.send(calls.read_due_runs(name=self.pool, body=body))]

    def watch(self, holding: Sequence[UUID]) -> Work:
        """Those that are Cancelling now."""
        if not holding:
            return Work()
        wanted = {
            "flow_runs": {
                "id": {"any_": [str(run) for run in holding]},
                "state": {"type": {"any_": [StateType.CANCELLING.value]}},
            },
            "limit": len(holding),
        }
        return Work(cancel=[run.id for run in self.sender.send(calls.read_flow_runs(body=wanted))])

    def renew(self, claims: list[ClaimRef]) -> Renewed:
        """Nothing lapses here."""
        return Renewed(kept=[claim.flow_run_id for claim in claims])

    def recall(self) -> list[ClaimedRun]:
        """Nothing: the server does not know who has a run. Who takes them waits for its own turn to end."""
        return []

    def _take_one(self, run: FlowRun) -> ClaimedRun | None:
        """The run if the move to Pending was ours; a plain Pending is refused to everybody after the
        first.
        """
        deployment = self._read(calls.read_deployment(id=run.deployment_id)) if run.deployment_id else None
        flow = self._read(calls.read_flow(id=run.flow_id))
        _, mark = self._unanswered.setdefault(run.id, (run, new_id()))
        pending = StateCreate(
            type=StateType.PENDING, name="Pending", state_details=StateDetails(transition_id=mark)
        )
        try:
            answer = self.sender.send(calls.set_flow_run_state(id=run.id, body=SetState(state=pending)))
        except NotFound:
            del self._unanswered[run.id]
            return None
        del self._unanswered[run.id]
        state = answer.state
        # A second answer to the same request is a refusal that shows our own transition.
        ours = state is not None and state.is_pending() and state.state_details.transition_id == mark
        if answer.status is not SetStateStatus.ACCEPT and not ours:
            return None
        claim = Claim(
            flow_run_id=run.id, claim_id=mark, token=0, worker_name=self.worker_name,
            work_pool_id=run.work_pool_id, work_queue_id=run.work_queue_id, claimed_at=datetime.now(UTC),
        )  # fmt: skip
        return ClaimedRun(claim=claim, flow_run=run, deployment=deployment, flow=flow)

    def _read(self, call: Call[T]) -> T | None:
        try:
            return self.sender.send(call)
        except NotFound:
            return None


def is_ours(sender: Sender) -> bool:
    """Whether the server can be claimed from.

    Raises:
        EparchError: it does not answer, or not now.
    """
    try:
        sender.send(calls.read_server())
    except (NotFound, BadRequest, VersionMismatch):
        return False
    return True
