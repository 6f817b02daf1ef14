"""``eparch worker``: start a worker, see who works."""

from __future__ import annotations

from pathlib import Path

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls


@click.group("worker", cls=Group)
def worker() -> None:
    """Start and see workers: they run what waits in a work pool."""


@worker.command("start", prints=False, example="eparch worker start --pool local")
@click.option(
    "-p",
    "--pool",
    metavar="NAME",
    shell_complete=names.pools,
    help="Work pool to serve; the default one unless given.",
)
@click.option("-n", "--name", metavar="NAME", help="Name of the worker.")
@click.option(
    "-q", "--work-queue", "queues", metavar="NAME", multiple=True, help="Only this queue; repeatable."
)
@click.option("-t", "--type", "type_", metavar="TYPE", help="Type of the pool; read from it unless given.")
@click.option("--prefetch-seconds", type=click.FloatRange(0, 86400), help="Take runs so long before.")
@click.option("--run-once/--no-run-once", default=False, help="Run what is due now, then end.")
@click.option("-l", "--limit", type=click.IntRange(min=1), help="Runs at the same time.")
@click.option(
    "--with-healthcheck/--no-with-healthcheck", default=False, help="Answer GET /health on port 8080."
)
@click.option(
    "--install-policy",
    type=click.Choice(["always", "if-not-present", "never", "prompt"]),
    help="Accepted for Prefect's sake: nothing is ever installed.",
)
@click.option(
    "--base-job-template", type=click.Path(path_type=Path), help="JSON file for a pool that is made here."
)
@click.option(
    "--create-pool-if-not-found/--no-create-pool-if-not-found",
    default=True,
    help="Make the pool when --type is given.",
)
@click.pass_context
def start(
    context: click.Context,
    pool: str | None,
    name: str | None,
    queues: tuple[str, ...],
    type_: str | None,
    prefetch_seconds: float | None,
    run_once: bool,
    limit: int | None,
    with_healthcheck: bool,
    install_policy: str | None,
    base_job_template: Path | None,
    create_pool_if_not_found: bool,
) -> None:
    """Start a worker; Ctrl-C stops it and its runs (rows W1-W9)."""
    from eparch.workers.options import WorkerOptions
    from eparch.workers.worker import run_worker

    session: Session = context.obj
    chosen = pool or session.settings.default_work_pool
    if chosen is None:
        session.refuse("A worker serves a work pool.", fix="Add --pool NAME.")
    options = WorkerOptions(
        pool=chosen,
        name=name,
        queues=queues,
        type=type_,
        limit=limit,
        prefetch_seconds=prefetch_seconds,
        run_once=run_once,
        with_healthcheck=with_healthcheck,
        base_job_template=base_job_template,
        create_pool_if_not_found=create_pool_if_not_found,
    )
    context.exit(run_worker(options, session.located()))


@worker.command("ls", example="eparch worker ls --pool local")
@click.option("-p", "--pool", metavar="NAME", shell_complete=names.pools, help="Only workers of this pool.")
@click.pass_obj
def ls(session: Session, pool: str | None) -> None:
    """List workers with what is known of them."""
    if pool is not None:
        pools = [lookup.find_pool(session, pool)]
    else:
        pools = list(session.pages(calls.read_work_pools, {}))
    names = {found.id: found.name for found in pools}
    found = [
        one for each in pools for one in session.pages(calls.read_workers, {}, 1000, work_pool_name=each.name)
    ]
    columns = [
        Column("POOL", lambda one: names.get(one.work_pool_id)),
        Column("NAME", lambda one: one.name),
        Column("STATUS", lambda one: one.status, lambda one: one.status),
        Column("HEARTBEAT", lambda one: one.last_heartbeat_time),
    ]
    session.output.rows(found, columns, empty="There are no workers.")
