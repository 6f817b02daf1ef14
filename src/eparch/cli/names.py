"""Names that the shell completes: asked of the server, which has 300 ms to tell them.

A shell waits while somebody types, so whatever goes wrong is no name at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eparch.cli.session import Session

PATIENCE = 0.3
"""Seconds."""

MOST = 200
"""Names that are asked for."""


def pools(context: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of work pools."""
    from eparch.core import calls

    return _told(
        context, incomplete, lambda session: (p.name for p in session.pages(calls.read_work_pools, {}, MOST))
    )


def deployments(context: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Full names of deployments."""
    from eparch.cli.lookup import named
    from eparch.core import calls

    def ask(session: Session) -> Iterable[str]:
        return (full for full, _ in named(session, session.pages(calls.read_deployments, {}, MOST)))

    return _told(context, incomplete, ask)


def _told(context: click.Context, incomplete: str, ask: Callable[[Session], Iterable[str]]) -> list[str]:
    from msgspec.structs import replace

    from eparch.cli.session import Session
    from eparch.client.http import connect
    from eparch.client.local import read_state
    from eparch.client.retries import Retries

    try:
        session = Session(context.meta)
        settings = session.settings
        state = read_state(settings.home)
        url = settings.api_url or (state.url if state else session.default_url())
        quick = replace(settings, api_url=url, request_timeout=PATIENCE)
        with connect(quick, retries=Retries(attempts=0)) as client:
            session.use(client)
            return [name for name in ask(session) if name.startswith(incomplete)]
    except Exception:
        return []
