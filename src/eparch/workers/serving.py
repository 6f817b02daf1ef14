"""A worker without a pool: it runs what is due of deployments that one process serves (row D23).

Owns where such runs come from, and that schedules are paused when nobody serves them any more. Everything
else is what a worker of the type process does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from msgspec.structs import asdict

from eparch.core import calls
from eparch.core.calls import Call, DueDeploymentRuns
from eparch.core.errors import NotFound
from eparch.core.pools import ClaimRuns, ClaimServed, RenewClaims, Renewed, Work, WorkPool
from eparch.core.runs import FlowRun
from eparch.settings import Settings
from eparch.workers.options import WorkerOptions
from eparch.workers.process import ProcessInfrastructure
from eparch.workers.sources import Claims, Polls, Sender, Source
from eparch.workers.worker import LAST_SECONDS, Worker

_SERVED = UUID("9d3a5f0e-7c51-4e0e-9a55-2f0a5c6c9b11")
"""Below it a set of deployments has an id of its own: jobs that were left are found by it."""


class ServedClaims(Claims):
    """Claims of a server of ours, by deployment."""

    def __init__(
        self, sender: Sender, deployment_ids: Sequence[UUID], name: str, settings: Settings, prefetch: float
    ) -> None:
        super().__init__(sender, "", name, (), settings, prefetch)
        self._ids = list(deployment_ids)

    def _claiming(self, body: ClaimRuns) -> Call[Work]:
        return calls.claim_served_runs(body=ClaimServed(**asdict(body), deployment_ids=self._ids))

    def _renewal(self, body: RenewClaims) -> Call[Renewed]:
        return calls.renew_served_claims(body=body)


class ServedPolls(Polls):
    """Polls of a stock server, by deployment."""

    def __init__(
        self, sender: Sender, deployment_ids: Sequence[UUID], name: str, settings: Settings, prefetch: float
    ) -> None:
        super().__init__(sender, "", name, (), settings, prefetch)
        self._ids = list(deployment_ids)

    def _due(self, before: datetime, limit: int) -> list[FlowRun]:
        body = DueDeploymentRuns(deployment_ids=self._ids, scheduled_before=before, limit=limit)
        return self.sender.send(calls.read_due_deployment_runs(body=body))


class ServingWorker(Worker):
    """Serves deployments until it is told to stop."""

    def __init__(
        self, sender: Sender, options: WorkerOptions, settings: Settings, *,
        deployment_ids: Sequence[UUID], pause_on_shutdown: bool, **more: Any,
    ) -> None:  # fmt: skip
        """With ``pause_on_shutdown`` nothing is scheduled any more once it was told to stop."""
        super().__init__(sender, options, settings, **more)
        self._ids = list(dict.fromkeys(deployment_ids))
        self._pauses = pause_on_shutdown
        place = uuid5(_SERVED, " ".join(sorted(map(str, self._ids))))
        template = ProcessInfrastructure.base_job_template
        self._stand_in = WorkPool(id=place, name="served", type="process", base_job_template=template)

    def run(self) -> int:
        """Work until ``stop`` is called; the exit code."""
        try:
            return super().run()
        finally:
            self._pause()

    def _prepare(self) -> WorkPool:
        return self._stand_in

    def _current_pool(self) -> WorkPool:
        return self._stand_in

    def _open_source(self, prefetch: float) -> Source:
        kind = ServedClaims if self.fenced else ServedPolls
        return kind(self.impatient, self._ids, self.name, self.settings, prefetch)

    def _what(self) -> str:
        return "one deployment" if len(self._ids) == 1 else f"{len(self._ids)} deployments"

    def _introduce(self) -> None:
        """Workers are listed by their pool: this one has none."""

    def _beat(self) -> None:
        """That somebody serves a deployment is seen by the claims."""

    def _compare_clocks(self) -> None:
        """What was answered last may be a claim that waited, which says nothing of clocks."""

    def _shut_down(self) -> None:
        # First, as runs may need their time to end.
        self._pause()
        super()._shut_down()

    def _pause(self) -> None:
        """Let nothing be scheduled any more, once."""
        if self._pauses:
            self._pauses = False
            for id_ in self._ids:
                self._try(partial(self._pause_one, id_))

    def _pause_one(self, deployment_id: UUID) -> None:
        with suppress(NotFound):  # it was deleted meanwhile
            self.impatient.send(calls.pause_deployment(id=deployment_id), timeout=LAST_SECONDS)


def serving_options(settings: Settings, *, limit: int | None, webserver: bool) -> WorkerOptions:
    """How a process serves deployments, at most ``limit`` runs at once."""
    return WorkerOptions(
        pool="",
        name=f"serve {socket.gethostname()} {os.getpid()}",
        type="process",
        limit=limit or settings.serve_limit,
        with_healthcheck=webserver,
        on_stop=settings.worker_on_stop,
        grace_seconds=settings.worker_grace_seconds,
    )
