"""``eparch flow``: see flows, and serve one."""

from __future__ import annotations

from typing import Any

import click

from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls


@click.group("flow", cls=Group)
def flow() -> None:
    """See flows, and serve one."""


@flow.command("ls", example="eparch flow ls --limit 10")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever the limit.")
@click.pass_obj
def ls(session: Session, limit: int, everything: bool) -> None:
    """List flows, the latest first."""
    body = {"sort": "CREATED_DESC"}
    found = list(session.pages(calls.read_flows, body, None if everything else limit + 1))
    more = not everything and len(found) > limit
    columns = [
        Column("ID", lambda one: one.id),
        Column("NAME", lambda one: one.name),
        Column("CREATED", lambda one: one.created),
        Column("TAGS", lambda one: ", ".join(one.tags)),
    ]
    session.output.rows(found if everything else found[:limit], columns, empty="There are no flows.")
    if more:
        session.note(f"Showing {limit}; there are more: --limit N or --all")


@flow.command(
    "serve", prints=False, example="eparch flow serve report.py:report --name nightly --cron '0 3 * * *'"
)
@click.argument("entrypoint")
@click.option("-n", "--name", metavar="NAME", required=True, help="Name of the deployment.")
@click.option("-d", "--description", metavar="TEXT", help="What it is for; the flow's unless given.")
@click.option("-v", "--version", metavar="TEXT", help="Version of the deployment.")
@click.option("-t", "--tag", "tags", metavar="TAG", multiple=True, help="A tag; repeatable.")
@click.option("--cron", metavar="TEXT", help="A cron schedule, such as '0 3 * * *'.")
@click.option("--interval", metavar="SECONDS", help="Seconds between scheduled runs.")
@click.option("--anchor-date", metavar="MOMENT", help="Where intervals begin.")
@click.option("--rrule", metavar="TEXT", help="An RFC 5545 schedule.")
@click.option("--timezone", metavar="ZONE", help="Time zone of the schedule.")
@click.option(
    "--pause-on-shutdown/--no-pause-on-shutdown",
    default=True,
    help="Whether nothing is scheduled any more once this is stopped.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Runs at the same time here; 5 unless set.")
@click.option(
    "--global-limit",
    type=click.IntRange(min=1),
    help="Runs at the same time of all who serve the deployment.",
)
@click.pass_obj
def serve(session: Session, /, entrypoint: str, **given: Any) -> None:
    """Deploy the flow at ENTRYPOINT, and run here what is due of it; Ctrl-C stops it.

    ENTRYPOINT is path/to/file.py:function or package.module.function. No work pool and no worker is needed.
    """
    from dataclasses import replace

    from eparch.cli.schedule import schedule_of
    from eparch.client.http import connect
    from eparch.sdk import session as sessions
    from eparch.sdk.compat import install
    from eparch.sdk.deploying import to_deployment
    from eparch.sdk.loading import load_flow
    from eparch.sdk.serving import Serving

    install()
    schedule = schedule_of(given)
    found = load_flow(entrypoint)
    one = to_deployment(
        found,
        given["name"],
        schedule=schedule,
        description=given["description"],
        version=given["version"],
        tags=list(given["tags"]),
        concurrency_limit=given["global_limit"],
    )
    settings = session.located()
    sessions.use(sessions.Session(settings, connect(settings)))
    serving = Serving(
        [replace(one, entrypoint=entrypoint)],
        pause=given["pause_on_shutdown"],
        say=True,
        limit=given["limit"],
        webserver=False,
    )
    serving.run()
