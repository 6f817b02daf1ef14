"""Opens what the handlers use, and closes it: database, waiting workers, listeners, background services.

The order is the point: who waits is answered first, then the services stop, then the database closes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eparch.api.counting import SharedCounts
from eparch.api.past import tail_of_events, tail_of_logs
from eparch.api.places import Places
from eparch.api.request import Services
from eparch.core.errors import Conflict
from eparch.orchestration import blocks, system_blocks
from eparch.orchestration.actions.service import Actions
from eparch.orchestration.automations import Automations
from eparch.orchestration.backfills import Backfills
from eparch.orchestration.broadcast import Broadcast
from eparch.orchestration.claims import Waiters
from eparch.orchestration.heartbeats import Heartbeats
from eparch.orchestration.keys import open_keyring
from eparch.orchestration.readiness import Readiness
from eparch.orchestration.scheduler import Overlaps, Scheduler
from eparch.orchestration.service import Service
from eparch.orchestration.service import Services as Duties
from eparch.orchestration.service_levels import ServiceLevels
from eparch.orchestration.task_queues import TaskLeases, TaskWorkers
from eparch.orchestration.watchdog import Watchdog
from eparch.orchestration.worker_channels import Desk
from eparch.store.database import open_database
from eparch.store.statement import Note

if TYPE_CHECKING:
    from eparch.settings import Settings


def opening(
    settings: Settings, worker_types: Callable[[], list[dict[str, Any]]] | None
) -> Callable[[Services], contextlib.AbstractAsyncContextManager[None]]:
    """What ``App`` opens at its start, for these settings."""

    @contextlib.asynccontextmanager
    async def opened(services: Services) -> AsyncIterator[None]:
        from coolname import generate_slug

        services.new_name = lambda: str(generate_slug(2))
        if worker_types is not None:
            services.worker_types = worker_types
        services.waiters = Waiters()
        services.pools = Broadcast()
        services.cleanups = Desk()
        services.keys = open_keyring(settings.server_encryption_keys, settings.database_url, settings.home)
        services.database = await open_database(settings.database_url)
        services.counts = SharedCounts(services.database)
        services.places = Places()
        services.events = tail_of_events(services.database)
        services.logs = tail_of_logs(services.database)
        services.tasks = TaskWorkers(services.database)
        automations = Automations()
        actions = Actions(services.keys, services.new_name, ui_url=settings.ui_url or "")
        duties = Duties(
            services.database,
            [
                *_of_schedules(settings),
                Watchdog(
                    settings.watchdog_seconds,
                    late_seconds=settings.late_after_seconds,
                    absence_seconds=settings.lease_seconds,
                ),
                TaskLeases(settings.watchdog_seconds),
                Readiness(),
                Heartbeats(settings.heartbeat_silence_seconds),
                automations,
                actions,
            ],
        )
        # Another server that starts at the same time may register them first.
        with contextlib.suppress(Conflict):
            await services.database.write(system_blocks.install, datetime.now(UTC))
        await services.database.read(blocks.check_keys, services.keys)
        services.database.on_notes = lambda notes: tell(notes, services, duties, automations)
        services.on_stop.append(services.waiters.stop)
        services.on_stop.append(services.events.close)
        services.on_stop.append(services.logs.close)
        services.on_stop.append(services.tasks.stop)
        services.on_stop.append(services.pools.close)
        if settings.services_enabled:
            duties.start()
        try:
            yield
        finally:
            await duties.stop()
            await actions.stop()
            await services.database.close()

    return opened


def _of_schedules(settings: Settings) -> list[Service]:
    """The services that make runs of schedules, and those that look whether they keep to what is asked."""
    return [
        Scheduler(settings.scheduler_seconds),
        Overlaps(min(2.0, settings.scheduler_seconds)),
        Backfills(settings.watchdog_seconds),
        ServiceLevels(),
    ]


def tell(notes: Sequence[Note], services: Services, duties: Duties, automations: Automations) -> None:
    """Pass on what committed operations noted: to waiting workers, to listeners, to services."""
    services.waiters.tell(notes)
    services.tasks.tell(notes)
    for note in notes:
        if note.topic in ("events", "anything"):
            services.events.wake()
            if automations.waits:
                duties.call(automations.name)
        if note.topic in ("logs", "anything"):
            services.logs.wake()
        if note.topic in ("pool", "anything"):
            services.pools.publish(note.value)
        elif note.topic == "teardown":
            services.cleanups.put(note.value)
            services.pools.publish(note.value.work_pool_id)
        elif note.topic == "automations":
            duties.call(automations.name)
        elif note.topic == "actions":
            duties.call(Actions.name)
        elif note.topic == "schedules":
            duties.call(Scheduler.name)
        elif note.topic == "backfills":
            duties.call(Backfills.name)
