"""``eparch task``: serve background tasks."""

from __future__ import annotations

import click

from eparch.cli.commands import Group
from eparch.cli.session import Session


@click.group("task", cls=Group)
def task() -> None:
    """Serve tasks that code elsewhere starts with `delay()`."""


@task.command("serve", prints=False, example="eparch task serve jobs.py:send_mail --limit 4")
@click.argument("entrypoints", nargs=-1, metavar="[FILE.py:TASK]...")
@click.option(
    "-m", "--module", "modules", metavar="MODULE", multiple=True, help="All tasks of this module; repeatable."
)
@click.option(
    "-l", "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Tasks at once; 0: any."
)
@click.option("--status-port", type=click.IntRange(0, 65535), help="Answer GET /status on this port.")
@click.pass_obj
def serve(
    session: Session,
    entrypoints: tuple[str, ...],
    modules: tuple[str, ...],
    limit: int,
    status_port: int | None,
) -> None:
    """Run background tasks until Ctrl-C: each FILE.py:TASK, or all tasks of FILE.py."""
    if not entrypoints and not modules:
        session.refuse("There is no task to serve.", fix="Name one: jobs.py:send_mail, or --module jobs.")
    from eparch.client.http import connect
    from eparch.sdk import session as sessions
    from eparch.sdk.compat import install
    from eparch.sdk.loading import load_tasks
    from eparch.sdk.logs import configure
    from eparch.sdk.task_worker import serve as serve_tasks

    install()
    settings = session.located()
    configure(sessions.use(sessions.Session(settings, connect(settings))))
    tasks = []
    for entrypoint in entrypoints:
        place, _, name = entrypoint.partition(".py:") if ".py:" in entrypoint else (entrypoint, "", "")
        tasks += load_tasks(f"{place}.py" if name else place, name)
    for module in modules:
        tasks += load_tasks(module)
    serve_tasks(*dict.fromkeys(tasks), limit=limit or None, status_server_port=status_port)
