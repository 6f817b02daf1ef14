"""``eparch doctor``: looks for what is commonly wrong and says what to do.

Each check is a function that answers a ``Finding``; it never raises and never changes anything.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import click

from eparch.cli.commands import Command
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import EparchError
from eparch.core.model import Value
from eparch.core.pools import WorkerStatus
from eparch.version import __version__

SKEW_SECONDS = 5.0
"""Between the clocks of client and server before it matters to leases and schedules."""


class Finding(Value, frozen=True, kw_only=True):
    """What one check found."""

    name: str
    status: Literal["ok", "warning", "failed"] = "ok"
    detail: str = ""
    fix: str = ""


@click.command("doctor", cls=Command, example="eparch doctor -o json")
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check settings, home, server, clocks, pools and tools; exits 1 when something is wrong."""
    session: Session = context.obj
    found = list(examine(session))
    columns = [
        Column("CHECK", lambda one: one.name),
        Column("STATUS", lambda one: one.status, lambda one: one.status),
        Column("DETAIL", lambda one: one.detail),
        Column("DO", lambda one: one.fix),
    ]
    session.output.rows(found, columns)
    context.exit(1 if any(one.status == "failed" for one in found) else 0)


def examine(session: Session) -> Iterator[Finding]:
    """Every check in order; those of the server only when there is one."""
    yield Finding(name="client", detail=f"eparch {__version__}, Python {platform.python_version()}")
    settings = _settings(session)
    yield settings
    if settings.status == "failed":
        return
    yield _home(session)
    server = _server(session)
    yield server
    if server.status == "ok":
        yield _clock(session)
        yield from _pools(session)
    for tool in ("git", "docker"):
        place = shutil.which(tool)
        if place:
            yield Finding(name=tool, detail=place)
        else:
            yield Finding(
                name=tool, status="warning", detail="not found", fix=f"Needed only by what uses {tool}."
            )


def _settings(session: Session) -> Finding:
    try:
        warnings = session.resolved.warnings
    except EparchError as error:
        return Finding(name="settings", status="failed", detail=str(error), fix=error.fix)
    if warnings:
        return Finding(name="settings", status="warning", detail=" ".join(warnings))
    return Finding(name="settings", detail=f"profile {session.settings.profile}")


def _home(session: Session) -> Finding:
    home = session.settings.home
    place = next(path for path in (home, *home.parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return Finding(
            name="home", status="failed", detail=f"{place} cannot be written", fix="Set EPARCH_HOME."
        )
    return Finding(name="home", detail=str(home))


def _server(session: Session) -> Finding:
    from eparch.client.http import serves_us

    try:
        version = session.client.check_version()
        ours = serves_us(session.client)
    except EparchError as error:
        detail = f"{error.message} {error.why}".strip()
        return Finding(name="server", status="failed", detail=detail, fix=error.fix)
    what = f"eparch {ours.version} on {ours.database}" if ours else "a stock server"
    return Finding(name="server", detail=f"{session.client.api_url}: {what}, API {version}")


def _clock(session: Session) -> Finding:
    try:
        answer = session.client.request("GET", "/health")
        said = parsedate_to_datetime(answer.headers["date"])
    except (EparchError, KeyError, ValueError):
        return Finding(name="clock", status="warning", detail="the server does not tell the time")
    skew = abs((datetime.now(UTC) - said.astimezone(UTC)).total_seconds())
    if skew > SKEW_SECONDS:
        detail = f"{skew:.0f} s between this machine and the server"
        return Finding(name="clock", status="warning", detail=detail, fix="Synchronize the clocks with NTP.")
    return Finding(name="clock", detail="as the server's")


def _pools(session: Session) -> Iterator[Finding]:
    """Each pool has a worker that lives."""
    try:
        for pool in session.pages(calls.read_work_pools, {}, 100):
            workers = list(session.pages(calls.read_workers, {}, 1000, work_pool_name=pool.name))
            online = sum(worker.status is WorkerStatus.ONLINE for worker in workers)
            name = f"work pool {pool.name}"
            if online:
                yield Finding(name=name, detail=f"{pool.type}, {online} online")
            else:
                fix = f"eparch worker start --pool {pool.name}"
                yield Finding(name=name, status="warning", detail=f"{pool.type}, nobody works", fix=fix)
    except EparchError as error:
        yield Finding(name="work pools", status="failed", detail=str(error), fix=error.fix)
