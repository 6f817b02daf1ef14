"""``eparch server``: start the server here or in the background, see it, stop it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eparch.cli.commands import Group
from eparch.cli.session import Session
from eparch.core.errors import Conflict, EparchError, NotFound, Unreachable
from eparch.version import __version__

if TYPE_CHECKING:
    from eparch.client.local import ServerState
    from eparch.settings import Settings


@click.group(
    "server",
    cls=Group,
    lazy={
        "database": ("eparch.cli.server_database:database", "Change the schema of the server's database."),
        "rotate-keys": ("eparch.cli.server_keys:rotate_keys", "Seal the secrets of blocks with a new key."),
    },
)
def server() -> None:
    """Start, see and stop the server."""


@server.command("start", example="eparch server start --port 4200")
@click.option("--host", metavar="ADDRESS", help="Listen on this address.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port; 0 takes a free one.")
@click.option("--no-services", is_flag=True, help="Serve the API only, without scheduler and watchdog.")
@click.option("-b", "--background", is_flag=True, help="Return as soon as it answers.")
@click.option("--idle-seconds", type=click.FloatRange(min=0), help="Stop when idle for so long; 0 is never.")
@click.option("--log-level", metavar="LEVEL", help="Least level that is logged.")
@click.option("--ready-fd", type=int, hidden=True)
@click.pass_obj
def start(
    session: Session,
    host: str | None,
    port: int | None,
    no_services: bool,
    background: bool,
    idle_seconds: float | None,
    log_level: str | None,
    ready_fd: int | None,
) -> None:
    """Start a server; Ctrl-C stops it."""
    from eparch import settings as settings_

    given = {"profile": session.given.get("profile"), "debug": session.given.get("debug")}
    overrides: dict[str, Any] = {"server_host": host, "server_port": port, "log_level": log_level}
    overrides |= {"debug": given["debug"], "services_enabled": False if no_services else None}
    settings = settings_.load(profile=given["profile"], overrides=overrides)
    if background:
        _start_background(session, settings, no_services, idle_seconds)
        return
    from eparch.api.app import serve

    with contextlib.ExitStack() as stack:
        ready = _announcer(session, settings, idle_seconds or 0.0, ready_fd, stack)
        serve(
            settings,
            settings.server_host,
            settings.server_port,
            ready,
            idle_seconds=idle_seconds or 0.0,
            worker_types=_describe_types,
        )


def _describe_types() -> list[dict[str, Any]]:
    """The installed worker types; looked up when a client first asks for them."""
    from eparch.workers.infrastructure import describe_types

    return describe_types()


def _announcer(
    session: Session,
    settings: Settings,
    idle_seconds: float,
    ready_fd: int | None,
    stack: contextlib.ExitStack,
) -> Callable[[str], None]:
    """What is done once the server listens: record it in the home, tell who waits for it."""
    from eparch.client import local
    from eparch.core.model import encode

    def ready(url: str) -> None:
        state = local.ServerState(
            pid=os.getpid(),
            url=url,
            started=datetime.now(UTC),
            version=__version__,
            shared=idle_seconds > 0,
        )
        try:
            local.write_state(settings.home, state)
        except OSError as error:
            session.note(f"warning: {settings.home} cannot be written ({error.strerror}).")
        stack.callback(local.clear_state, settings.home, state.pid)
        if ready_fd is not None:
            os.write(ready_fd, encode(state) + b"\n")
            os.close(ready_fd)
        session.output.made(state, name=lambda found: found.url)
        session.note(f"Eparch {__version__} serves {url}")
        session.note(f"To use it from elsewhere: export EPARCH_API_URL={url}")

    return ready


def _start_background(
    session: Session, settings: Settings, no_services: bool, idle_seconds: float | None
) -> None:
    from eparch.client import local

    running = local.find(settings)
    if running is not None:
        raise Conflict(
            f"A server runs already at {running.url}.",
            why=f"Its process is {running.pid}.",
            fix="Stop it: eparch server stop",
        )
    options = ["--host", settings.server_host, "--port", str(settings.server_port)]
    options += ["--no-services"] if no_services else []
    options += ["--idle-seconds", f"{idle_seconds:g}"] if idle_seconds is not None else []
    state = local.start_detached(settings, options)
    session.output.made(state, name=lambda found: found.url)
    session.note(f"The server is at {state.url} (process {state.pid}).")
    session.note(f"Its log is {local.log_path(settings.home)}. Stop it: eparch server stop")


@server.command("status", example="eparch server status --wait --timeout 30")
@click.option("--wait/--no-wait", default=False, help="Wait until it answers.")
@click.option("-t", "--timeout", type=click.FloatRange(min=0), default=0, help="Seconds; 0 is for ever.")
@click.pass_obj
def status(session: Session, wait: bool, timeout: float) -> None:
    """Show whether the server answers, and what it is."""
    from eparch.cli.versions import server_facts
    from eparch.client import local

    deadline = time.monotonic() + timeout if timeout else float("inf")
    while True:
        facts = server_facts(session)
        if "server_error" not in facts or not wait or time.monotonic() > deadline:
            break
        session.close()
        time.sleep(0.1)
    if "server_error" in facts:
        raise Unreachable(
            facts["server_error"], fix="Start one with `eparch server start` or set EPARCH_API_URL."
        )
    state = local.read_state(session.settings.home)
    if state is not None and state.url == facts["server"]:
        facts |= {"process": state.pid, "started": state.started}
    session.output.one({"status": "running", **facts}, name=lambda found: found["server"])


@server.command("stop", example="eparch server stop")
@click.option(
    "-t", "--timeout", type=click.FloatRange(min=0), default=15, help="Seconds before it is killed."
)
@click.pass_obj
def stop(session: Session, timeout: float) -> None:
    """Stop the server of this home."""
    from eparch.client import local

    home = session.settings.home
    state: ServerState | None = local.read_state(home)
    if state is None or not local.is_alive(state.pid):
        if state is not None:
            local.clear_state(home, state.pid)
        raise NotFound("No server of this home runs.", why=f"The home is {home}.")
    if not local.stop(state, home, timeout=timeout):
        raise EparchError(f"The server did not end within {timeout:g} s and was killed.")
    session.output.made(state, name=lambda found: found.url)
    session.note(f"Stopped the server at {state.url}.")
