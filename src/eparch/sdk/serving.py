"""``flow.serve`` and ``serve``: a process that runs what is due of its own deployments (row D23).

Owns what their arguments mean, with the names that Prefect 3 has. Deployments are made as ``deploy`` makes
them; runs are claimed, started and watched by a worker without a pool.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from eparch.core.errors import Usage
from eparch.sdk.deploying import RunnerDeployment, register
from eparch.sdk.either import is_async

if TYPE_CHECKING:
    from eparch.settings import Settings
    from eparch.workers.serving import ServingWorker


def serve(
    *deployments: RunnerDeployment,
    pause_on_shutdown: bool = True,
    print_starting_message: bool = True,
    limit: int | None = None,
    webserver: bool = False,
) -> Any:
    """Make the deployments and run here what is due of them, until SIGTERM or Ctrl-C; a second one ends now.

    ``limit`` is how many runs there are at once: the setting ``serve_limit`` unless given.
    ``pause_on_shutdown`` lets nothing be scheduled once this ends; serving again goes on. ``webserver``
    answers probes at the address of the settings. Called or awaited.

    Raises:
        Usage: there is nothing to serve, or a flow run that loads the file got here.
        Conflict: a deployment does not fit its flow.
        EparchError: the server refuses.
    """
    serving = Serving(
        deployments, pause=pause_on_shutdown, say=print_starting_message, limit=limit, webserver=webserver
    )
    return serving.run_aside() if is_async() else serving.run()


async def aserve(*deployments: RunnerDeployment, **options: Any) -> None:
    """As ``serve``; cancelling it stops it.

    Raises:
        Usage: as ``serve``.
        EparchError: as ``serve``.
    """
    await serve(*deployments, **options)


class Serving:
    """What one call of ``serve`` does."""

    def __init__(
        self,
        deployments: Sequence[RunnerDeployment],
        *,
        pause: bool,
        say: bool,
        limit: int | None,
        webserver: bool,
    ) -> None:
        if not deployments:
            raise Usage("There is nothing to serve.", fix="Give deployments: flow.to_deployment('name').")
        if limit is not None and limit < 1:
            raise Usage(f"limit is {limit!r}.", fix="Give a whole number from 1 on.")
        if os.environ.get("EPARCH_FLOW_RUN_ID"):
            raise Usage(
                "serve() was called by a flow run.",
                why="The run loads the file of its flow, and that serves it again.",
                fix="Call it below: if __name__ == '__main__':",
            )
        self.deployments, self.pause, self.say = deployments, pause, say
        self.limit, self.webserver = limit, webserver
        self._worker: ServingWorker | None = None
        self._told = False

    def stop(self) -> None:
        """Begin to end."""
        self._told = True
        if self._worker is not None:
            self._worker.stop()

    def run(self) -> None:
        """Serve until a signal, or ``stop``."""
        from eparch.sdk.session import current
        from eparch.workers.serving import serving_options
        from eparch.workers.worker import run_worker

        session = current()
        ids = register([_placed(one) for one in self.deployments], _say)
        if self.say:
            _say(_greeting(self.deployments))
        # The server may be one that was started for this process.
        api_url = getattr(session.client, "api_url", session.settings.api_url)
        settings: Settings = msgspec.structs.replace(session.settings, api_url=api_url)
        options = serving_options(settings, limit=self.limit, webserver=self.webserver)
        run_worker(options, settings, lambda *args, **more: self._make(ids, *args, **more))

    def _make(self, ids: Sequence[UUID], *args: Any, **more: Any) -> ServingWorker:
        from eparch.workers.serving import ServingWorker

        made = ServingWorker(*args, deployment_ids=ids, pause_on_shutdown=self.pause, **more)
        self._worker = made
        if self._told:
            made.stop()
        return made

    async def run_aside(self) -> None:
        """As ``run``, while the event loop goes on; cancelling stops it."""
        import asyncio

        serving = asyncio.create_task(asyncio.to_thread(self.run))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.stop()
            await serving
            raise


def _placed(one: RunnerDeployment) -> RunnerDeployment:
    """The deployment as it is served: in no pool, and going on where an earlier shutdown has paused it."""
    if one.work_pool_name:
        _say(f"{one.full_name} is served here, so its work pool {one.work_pool_name!r} is ignored.")
    return replace(one, work_pool_name=None, work_queue_name=None, paused=bool(one.paused))


def _greeting(deployments: Sequence[RunnerDeployment]) -> str:
    names = ", ".join(f"'{one.full_name}'" for one in deployments)
    return f"Serving {names}. Ctrl-C ends it.\nRun it: eparch deployment run '{deployments[0].full_name}'"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
