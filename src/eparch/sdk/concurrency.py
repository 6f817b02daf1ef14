"""Slots of named limits for the code of flows and tasks (wire 4.5, row B4).

``with concurrency("database"):`` and ``async with concurrency("database"):`` are one class. What is taken is
held by a lease, which one thread of the process renews for all; it is in the name of the run that the code
belongs to, so that the server frees it when that run ends, however it ends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.concurrency import (
    TAG_PREFIX,
    EndLease,
    Holder,
    Lease,
    LeaseSlots,
    RenewLease,
    TakeSlots,
)
from eparch.core.errors import EparchError, Gone, Invalid, Locked, NoSlots, NoSlotsInTime, Usage
from eparch.sdk import context
from eparch.sdk.session import Session, current

if TYPE_CHECKING:
    from eparch.core.calls import Call
    from eparch.sdk.task_run import TaskRunContext

T = TypeVar("T")

RENEWED_AT = 0.75
"""Part of a lease's duration after which it is renewed, as Prefect's client does (wire 4.5)."""

TAG_LEASE_SECONDS = 60.0
UNLIMITED_SECONDS = 5.0
"""For so long tags without limits are not asked about again, as by Prefect's client."""

logger = logging.getLogger("eparch.concurrency")


class Slots(AbstractContextManager["Slots"], AbstractAsyncContextManager["Slots"]):
    """Slots of limits, taken and given back; what a ``with`` block holds."""

    def __init__(
        self,
        session: Session | None,
        body: LeaseSlots,
        timeout: float | None,
        max_retries: int | None,
        strict: bool,
    ) -> None:
        self._session = session
        self._body = body
        self._timeout = timeout
        self._max_retries = max_retries
        self._strict = strict
        self._given_up = threading.Event()
        self._lock = threading.Lock()
        self._lease: UUID | None = None

    @property
    def lease_duration(self) -> float:
        """Seconds."""
        return self._body.lease_duration

    def acquire(self) -> Lease:
        """Take the slots, waiting for them.

        Raises:
            NoSlotsInTime: they did not get free in time.
            NoSlots: they cannot be had.
        """
        session = self._session = self._session or current()
        lease = _wait(
            session,
            calls.lease_slots(body=self._body),
            self._timeout,
            self._max_retries,
            self._given_up,
        )
        if not lease.limits:
            _missing(self._body.names, self._strict)
            return lease
        self._lease = lease.lease_id
        if self._given_up.is_set():  # whoever waited for it was cancelled meanwhile
            self.release()
        else:
            _keeper.add(self)
        return lease

    def release(self) -> None:
        """Give the slots back. Where the server cannot be told, they are free when the lease lapses."""
        _keeper.remove(self)
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is None or self._session is None:
            return
        try:
            self._session.client.send(calls.end_concurrency_lease(body=EndLease(lease_id=lease)))
        except EparchError as error:
            logger.warning(
                "Slots of %s could not be given back; they are free in %g seconds at the latest: %s",
                ", ".join(self._body.names),
                self.lease_duration,
                error,
            )

    def renew(self) -> None:
        """Keep the slots; when they were lost, take them again if they are free. The work goes on anyhow."""
        with self._lock:
            lease, session = self._lease, self._session
            if lease is None or session is None:
                _keeper.remove(self)
                return
            try:
                body = RenewLease(lease_duration=self.lease_duration)
                session.client.send(calls.renew_concurrency_lease(lease_id=lease, body=body))
            except Gone:
                self._take_again(session)
            except EparchError as error:
                logger.warning("The slots of %s could not be renewed: %s", ", ".join(self._body.names), error)

    def _take_again(self, session: Session) -> None:
        try:
            self._lease = session.client.send(calls.lease_slots(body=self._body)).lease_id
        except EparchError:
            logger.warning(
                "The slots of %s are lost: the limit may be exceeded while this goes on.",
                ", ".join(self._body.names),
            )

    def __enter__(self) -> Slots:
        if self._body.names:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Slots:
        if self._body.names:
            import asyncio

            try:
                await asyncio.to_thread(self.acquire)
            except asyncio.CancelledError:
                self._given_up.set()
                self.release_later()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.shield(asyncio.to_thread(self.release))

    def release_later(self) -> None:
        """Give the slots back without waiting for it."""
        threading.Thread(target=self.release, daemon=True).start()


def concurrency(
    names: str | Sequence[str],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    lease_duration: float = 300.0,
    strict: bool = False,
    holder: Any = None,
    raise_on_lease_renewal_failure: bool | None = None,
) -> Slots:
    """Hold ``occupy`` slots of each limit in ``names`` while a ``with`` or ``async with`` block runs.

    Waits for them, at most ``timeout_seconds``. Limits that do not exist hold nobody up, unless ``strict``.
    A lease that is lost does not end the block: it is taken again, or a warning is logged; so
    ``raise_on_lease_renewal_failure`` is accepted and does nothing.

    Raises:
        Usage: a number is one that cannot be.
    """
    body = LeaseSlots(
        names=_listed(names),
        slots=_positive(occupy),
        lease_duration=_duration(lease_duration),
        holder=_holder(holder),
    )
    run = context.current_run()
    return Slots(run.session if run is not None else None, body, timeout_seconds, max_retries, strict)


def rate_limit(
    names: str | Sequence[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """Wait until ``occupy`` slots of each rate limit in ``names`` are free, and take them; they decay.

    Raises:
        NoSlotsInTime: they did not get free in time.
        NoSlots: a limit has no decay or fewer slots; or there is none, and ``strict``.
    """
    wanted = _listed(names)
    if not wanted:
        return
    run = context.current_run()
    session = run.session if run is not None else current()
    body = TakeSlots(names=wanted, slots=_positive(occupy), mode="rate_limit")
    found = _wait(session, calls.take_slots(body=body), timeout_seconds, None, threading.Event())
    if not found:
        _missing(wanted, strict)


async def rate_limit_async(
    names: str | Sequence[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """As ``rate_limit``, without blocking the event loop."""
    import asyncio

    await asyncio.to_thread(rate_limit, names, occupy, timeout_seconds, strict)


_unlimited: dict[tuple[str, ...], float] = {}


def slots_of_tags(run: TaskRunContext) -> Slots | None:
    """A slot of each limit on the tags of a task run, waited for; None when there are no limits."""
    names = tuple(TAG_PREFIX + tag for tag in run.record.tags)
    if time.monotonic() < _unlimited.get(names, 0.0):
        return None
    holder = Holder(type="task_run", id=run.record.id)
    body = LeaseSlots(names=list(names), slots=1, lease_duration=TAG_LEASE_SECONDS, holder=holder)
    slots = Slots(run.session, body, None, None, False)
    if slots.acquire().limits:
        return slots
    _unlimited[names] = time.monotonic() + UNLIMITED_SECONDS
    return None


def _wait(
    session: Session,
    call: Call[T],
    timeout: float | None,
    max_retries: int | None,
    given_up: threading.Event,
) -> T:
    """The answer to ``call``, asked again as the server says while there is no slot."""
    begun = time.monotonic()
    tries = 0
    names = ", ".join(call.body.names)
    while True:
        try:
            return session.client.send(call)
        except Invalid as error:
            why = (error.why or error.message).removeprefix("body: ")
            raise NoSlots(f"No slot of {names} can be had: {why}") from error
        except Locked as error:
            pause = error.retry_after
            if pause is None or given_up.is_set() or (max_retries is not None and tries >= max_retries):
                raise NoSlots(f"There is no free slot of {names}.", why=error.message) from error
            if timeout is not None:
                left = timeout - (time.monotonic() - begun)
                if left <= 0:
                    raise NoSlotsInTime(f"No slot of {names} got free within {timeout:g} seconds.") from error
                pause = min(pause, left)
        tries += 1
        given_up.wait(pause)


def _missing(names: Sequence[str], strict: bool) -> None:
    listed = ", ".join(names)
    if strict:
        raise NoSlots(
            f"There is no concurrency limit {listed}.",
            fix="Make it: eparch global-concurrency-limit create NAME --limit N",
        )
    level = logging.DEBUG if names[0].startswith(TAG_PREFIX) else logging.WARNING
    logger.log(level, "There is no concurrency limit %s: going on without.", listed)


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) and names else sorted(set(names))


def _positive(occupy: int) -> int:
    if isinstance(occupy, bool) or not isinstance(occupy, int) or occupy < 1:
        raise Usage(f"occupy is {occupy!r}.", fix="Give a whole number from 1 on.")
    return occupy


def _duration(seconds: float) -> float:
    if not 60 <= seconds <= 86_400:
        raise Usage(f"lease_duration is {seconds!r}.", fix="Give 60 to 86400 seconds.")
    return float(seconds)


def _holder(given: Any) -> Holder | None:
    """Who holds: what is given (a mapping, or an object with ``type`` and ``id``), else the current run."""
    if given is not None:
        type_, id_ = (given["type"], given["id"]) if isinstance(given, dict) else (given.type, given.id)
        return Holder(type=type_, id=id_ if isinstance(id_, UUID) else UUID(str(id_)))
    if (task := context.task_run.get()) is not None:
        return Holder(type="task_run", id=task.record.id)
    if (flow := context.flow_run.get()) is not None:
        return Holder(type="flow_run", id=flow.record.id)
    return None


class _Keeper:
    """Renews the leases of this process, in one thread that begins with the first of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Slots, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, slots: Slots) -> None:
        with self._changed:
            self._due[slots] = time.monotonic() + slots.lease_duration * RENEWED_AT
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="eparch-leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, slots: Slots) -> None:
        with self._changed:
            self._due.pop(slots, None)

    def _run(self) -> None:
        while True:
            for slots in self._wait_due():
                try:
                    slots.renew()
                except Exception:
                    logger.exception("A lease could not be renewed.")

    def _wait_due(self) -> list[Slots]:
        with self._changed:
            while True:
                now = time.monotonic()
                due = [slots for slots, moment in self._due.items() if moment <= now]
                if due:
                    for slots in due:
                        self._due[slots] = now + slots.lease_duration * RENEWED_AT
                    return due
                first = min(self._due.values(), default=None)
                self._changed.wait(None if first is None else first - now)


_keeper = _Keeper()


def _forget() -> None:
    """A forked child holds nothing: its parent's leases are its parent's."""
    global _keeper
    _keeper = _Keeper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
