"""``eparch version``: versions of client, server and what they stand on."""

from __future__ import annotations

import platform
import sqlite3
from typing import Any

import click

from eparch.cli.commands import Command
from eparch.cli.session import Session
from eparch.core.errors import EparchError
from eparch.version import __version__


@click.command("version", cls=Command, example="eparch version -o json")
@click.pass_obj
def version(session: Session) -> None:
    """Show the versions of client and server.

    A server that cannot be reached is no error here.
    """
    facts: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "profile": session.settings.profile,
        **server_facts(session),
    }
    session.output.one(facts, name=lambda _: __version__)


def server_facts(session: Session) -> dict[str, Any]:
    """What can be said of the server: its URL, versions and database, or why it cannot be reached."""
    from eparch.client.http import serves_us

    facts: dict[str, Any] = {"server": session.client.api_url}
    try:
        facts["api"] = session.client.check_version()
        ours = serves_us(session.client)
    except EparchError as error:
        return {**facts, "server_error": error.message}
    if ours is not None:
        facts |= {"server_version": ours.version, "database": ours.database}
    return facts
