"""This process's connection to the server: settings, client, reporter. One for all its runs.

Opened when the first run needs it, so that importing a flow file costs nothing and needs no server.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.calls import CLAIM_HEADER, Call
from eparch.core.deployments import FlowCreate
from eparch.sdk.reporter import Reporter
from eparch.settings import Settings, load

T = TypeVar("T")

CLAIM_VARIABLE = "EPARCH_CLAIM_TOKEN"
"""Environment variable with the fencing token of this process (row W15)."""

PATIENCE = 300.0
"""Seconds for which the run of a worker tries to reach the server."""


class Sender(Protocol):
    """What a session needs of a client."""

    def send(self, call: Call[T]) -> T:
        """Send a call and return its answer."""


class Session:
    """Settings, client and reporter of this process."""

    def __init__(
        self,
        settings: Settings,
        client: Sender,
        *,
        claim: str | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        """``claim`` is the fencing token; it goes with every proposed state."""
        self.settings = settings
        self.client = client
        self.reporter = reporter or Reporter(client.send)
        self.headers: Mapping[str, str] = {CLAIM_HEADER: claim} if claim else {}
        self._flow_ids: dict[str, UUID] = {}

    def flow_id(self, name: str) -> UUID:
        """The id of the flow called ``name``; it is created when there is none."""
        known = self._flow_ids.get(name)
        if known is None:
            flow = self.client.send(calls.create_flow(body=FlowCreate(name=name)))
            known = self._flow_ids[name] = flow.id
        return known

    def close(self) -> None:
        """Send what is queued and close the connections."""
        self.reporter.close()
        close: Any = getattr(self.client, "close", None)
        if close is not None:
            close()


_lock = threading.Lock()
_current: Session | None = None


def current() -> Session:
    """The session of this process; opened from settings and environment when there is none.

    Raises:
        EparchError: there is no server, and none could be started.
    """
    session = _current
    if session is None:
        with _lock:
            session = _current or use(_open())
    return session


def use(session: Session) -> Session:
    """Make ``session`` that of this process."""
    global _current
    _current = session
    return session


def leave() -> None:
    """Close the session, so that the next run opens another."""
    global _current
    session, _current = _current, None
    if session is not None:
        session.close()


def _retries(settings: Settings, claim: str | None) -> Any:
    """How patient this process is. The run of a worker outlives a restart of the server: its claim is kept
    meanwhile by others, so giving up at once would only crash it (row W19).
    """
    from eparch.client.retries import Retries

    return Retries(attempts=max(settings.max_retries, 1000), total=PATIENCE) if claim else None


def _claim() -> str | None:
    """The fencing token and the run that it is of, as they are shown with every proposal."""
    token, run_id = os.environ.get(CLAIM_VARIABLE), os.environ.get("EPARCH_FLOW_RUN_ID")
    return f"{run_id}:{token}" if token and run_id else token


def _open() -> Session:
    from eparch.client.http import connect
    from eparch.sdk.logs import configure

    settings = load()
    api_url = settings.api_url
    if api_url is None:
        from eparch.client.local import find_or_start

        api_url = find_or_start(settings)
    claim = _claim()
    client = connect(settings, api_url=api_url, retries=_retries(settings, claim))
    session = Session(settings, client, claim=claim)
    configure(session)
    return session


def _forget() -> None:
    """A forked child starts over: its parent's threads are not in it."""
    global _current, _lock
    _current, _lock = None, threading.Lock()


atexit.register(leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
