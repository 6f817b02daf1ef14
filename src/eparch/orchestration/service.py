"""Background duties: each is a ``Service`` with ``run_once``; one server at a time does it.

Tests call ``run_once`` with a time of their choice; nobody waits for a clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from eparch.core.model import new_id
from eparch.store import leadership
from eparch.store.database import Database

logger = logging.getLogger("eparch.server")


class Service(Protocol):
    """A duty that is done again and again.

    ``run_once`` does what is due at ``now`` and says whether there may be more at once. It may be called
    at any time, by any server, any number of times: the outcome is the same as if it were called once.
    """

    name: str
    interval: float
    """Seconds between two runs, when nobody calls for one sooner."""

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Do what is due; True when there may be more."""


class Services:
    """Runs services until it is closed. Each has a lease in the database, so two servers do not both."""

    def __init__(self, database: Database, services: Sequence[Service]) -> None:
        """Nothing runs before ``start``."""
        self._database = database
        self._services = services
        self._holder: UUID = new_id()
        self._called = {service.name: asyncio.Event() for service in services}
        self._tasks: list[asyncio.Task[None]] = []
        self._stops = False
        self._held: dict[str, tuple[datetime, datetime]] = {}
        """From when until when this server has the lease of a service, by its name."""
        self.failures: dict[str, str] = {}
        """What went wrong in the last run of a service, by its name."""

    def start(self) -> None:
        """Begin to run every service."""
        self._tasks = [
            asyncio.create_task(self._run(service), name=f"eparch-{service.name}")
            for service in self._services
        ]

    def call(self, name: str) -> None:
        """Let the service called ``name`` run now."""
        if name in self._called:
            self._called[name].set()

    async def stop(self) -> None:
        """Stop every service; a transaction that runs is finished."""
        self._stops = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._database.write(leadership.release, self._holder)

    async def _run(self, service: Service) -> None:
        called = self._called[service.name]
        while True:
            called.clear()
            try:
                again = await self.attempt(service, datetime.now(UTC))
                self.failures.pop(service.name, None)
            except Exception as error:
                if self._stops:  # a driver can turn the cancellation into an error of its own
                    return
                again = False
                self.failures[service.name] = str(error)
                logger.exception("The service %s failed; it is tried again.", service.name)
            if again:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(service.interval):
                    await called.wait()

    async def attempt(self, service: Service, now: datetime) -> bool:
        """Run ``service`` once, if this server holds its lease or nobody does."""
        if not await self._hold(service, now):
            return False
        return await service.run_once(self._database, now)

    async def _hold(self, service: Service, now: datetime) -> bool:
        """Whether this server has the lease; it is renewed when half of it is over, not at each run."""
        since, until = self._held.get(service.name, (now, now))
        if since <= now < until - (until - since) / 2:
            return True
        until = now + timedelta(seconds=max(service.interval * 3, 15.0))
        if not await self._database.write(leadership.acquire, service.name, self._holder, now, until):
            self._held.pop(service.name, None)
            return False
        self._held[service.name] = now, until
        return True
