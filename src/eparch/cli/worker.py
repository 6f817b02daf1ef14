"""``eparch worker``: start a worker, see who works, drain one, read what it said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls

if TYPE_CHECKING:
    from eparch.core.worker_instances import WorkerInstance, WorkerLine
    from eparch.settings.table import OnStop
    from eparch.workers.options import InstallPolicy


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
    "--with-healthcheck/--no-with-healthcheck",
    default=False,
    help="Answer GET /health, /live, /ready and /draining on port 8080.",
)
@click.option(
    "--install-policy",
    type=click.Choice(["always", "if-not-present", "never", "prompt"]),
    default="prompt",
    help="Whether pip installs the package of the worker type; 'prompt' asks, if somebody is there.",
)
@click.option(
    "--on-stop",
    type=click.Choice(["finish", "hand-back", "cancel"]),
    help="What becomes of the runs on SIGTERM or Ctrl-C: they finish, those not begun are handed back, or"
    " they end. The second signal ends them now.",
)
@click.option(
    "--grace-seconds", type=click.FloatRange(min=0), help="How long the runs have then; 20 unless set."
)
@click.option(
    "--label", "labels", metavar="KEY=VALUE", multiple=True, help="Shown with the worker; repeatable."
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
    install_policy: InstallPolicy,
    on_stop: OnStop | None,
    grace_seconds: float | None,
    labels: tuple[str, ...],
    base_job_template: Path | None,
    create_pool_if_not_found: bool,
) -> None:
    """Start a worker; Ctrl-C stops it (rows W1-W10, W18)."""
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
        labels=_labels(session, labels),
        install_policy="never" if install_policy == "prompt" and not session.interactive else install_policy,
        on_stop=on_stop or session.settings.worker_on_stop,
        grace_seconds=session.settings.worker_grace_seconds if grace_seconds is None else grace_seconds,
        base_job_template=base_job_template,
        create_pool_if_not_found=create_pool_if_not_found,
    )
    context.exit(run_worker(options, session.located()))


def _labels(session: Session, given: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not key or not separator or len(key) > 255 or len(value) > 255:
            session.refuse(f"--label cannot be {text!r}.", fix="Write KEY=VALUE.")
        labels[key] = value
    return labels


_COLUMNS = [
    Column("POOL", lambda one: one.work_pool_name),
    Column("NAME", lambda one: one.name),
    Column("STATUS", lambda one: one.status, lambda one: one.status),
    Column("STARTED", lambda one: one.started_at),
    Column("POLLED", lambda one: one.last_polled_at),
    Column("HEARTBEAT", lambda one: one.last_heartbeat_at),
    Column("RUNS", lambda one: _used(one)),
    Column("HOST", lambda one: one.about.host),
    Column("VERSION", lambda one: " ".join(filter(None, (one.about.software, one.about.version)))),
]


def _used(one: WorkerInstance) -> str | None:
    if one.poll_interval_seconds is None:
        return None
    capacity = one.about.capacity
    return str(len(one.about.runs)) if capacity is None else f"{len(one.about.runs)}/{capacity}"


@worker.command("ls", example="eparch worker ls --pool local")
@click.option("-p", "--pool", metavar="NAME", shell_complete=names.pools, help="Only workers of this pool.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also processes that a later one replaced.")
@click.pass_obj
def ls(session: Session, pool: str | None, everything: bool) -> None:
    """List workers, the process of each that was seen last."""
    if not _is_ours(session):
        _list_stock(session, pool)
        return
    found = list(_instances(session, pool))
    if not everything:
        # An older process of a name counts while it is there.
        latest: dict[tuple[Any, str], Any] = {}
        for one in found:
            latest.setdefault((one.work_pool_id, one.name), one)
        found = [one for one in found if one in latest.values() or one.status.value != "OFFLINE"]
    session.output.rows(found, _COLUMNS, empty="There are no workers.")


@worker.command("inspect", example="eparch worker inspect builder-1 --pool local")
@click.argument("name")
@click.option("-p", "--pool", metavar="NAME", shell_complete=names.pools, help="The pool of the worker.")
@click.pass_obj
def inspect(session: Session, name: str, pool: str | None) -> None:
    """Show the last process of a worker: how it is and why, what is installed, what it runs."""
    one = _find(session, name, pool)
    shown = {
        "name": one.name,
        "pool": one.work_pool_name,
        "status": one.status.value,
        "reason": one.reason,
        "order": one.order.value,
        "started": one.started_at,
        "first seen": one.created,
        "last polled": one.last_polled_at,
        "last heartbeat": one.last_heartbeat_at,
        "stopped": one.stopped_at,
        "instance": one.id,
        **{key: getattr(one.about, key) for key in one.about.__struct_fields__},
    }
    session.output.one(one, shown=shown)


@worker.command("drain", example="eparch worker drain builder-1 --pool local --exit")
@click.argument("name")
@click.option("-p", "--pool", metavar="NAME", shell_complete=names.pools, help="The pool of the worker.")
@click.option("--off", is_flag=True, help="Let it take runs again.")
@click.option("--exit", "leave", is_flag=True, help="It ends, with code 0, when its last run is over.")
@click.pass_obj
def drain(session: Session, name: str, pool: str | None, off: bool, leave: bool) -> None:
    """Let a worker finish its runs and take no more of them."""
    from eparch.core.worker_instances import DrainWorker, WorkerOrder

    if off and leave:
        session.refuse("--off and --exit cannot be used together.")
    order = WorkerOrder.WORK if off else WorkerOrder.EXIT if leave else WorkerOrder.DRAIN
    one = _find(session, name, pool)
    body = DrainWorker(order=order)
    done = session.send(calls.drain_worker(work_pool_name=one.work_pool_name, name=one.name, body=body))
    said = "takes runs again" if off else "finishes its runs" + (" and ends" if leave else "")
    session.note(f"Worker {one.name!r} {said}.")
    if not session.output.is_table:
        session.output.rows(done, _COLUMNS)


@worker.command("logs", example="eparch worker logs builder-1 --pool local -n 50 -f")
@click.argument("name")
@click.option("-p", "--pool", metavar="NAME", shell_complete=names.pools, help="The pool of the worker.")
@click.option(
    "-n", "--num-logs", type=click.IntRange(1, 200), default=100, show_default=True, help="The last lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--level", type=click.IntRange(min=0), default=0, help="Only lines of at least this level.")
@click.pass_obj
def logs(session: Session, name: str, pool: str | None, num_logs: int, follow: bool, level: int) -> None:
    """Print what a worker said last."""
    import sys
    import time

    from eparch.cli.output import Output
    from eparch.cli.watch import SLOWEST, show_lines
    from eparch.core.worker_instances import LineQuery

    one = _find(session, name, pool)
    if follow and session.output.format == "json":
        session.output = Output("jsonl")

    def ask(query: LineQuery) -> list[WorkerLine]:
        return session.send(
            calls.read_worker_logs(work_pool_name=one.work_pool_name, name=one.name, body=query)
        )

    lines = ask(LineQuery(least_level=level, limit=num_logs))
    show_lines(session, lines)
    after = lines[-1].id if lines else UUID(int=0)
    while follow:
        sys.stdout.flush()
        lines = ask(LineQuery(after=after, least_level=level))
        show_lines(session, lines)
        after = lines[-1].id if lines else after
        if not lines:
            time.sleep(SLOWEST)


def _is_ours(session: Session) -> bool:
    from eparch.client.http import serves_us

    return serves_us(session.client) is not None


def _instances(session: Session, pool: str | None, name: str | None = None) -> Iterator[WorkerInstance]:
    body: dict[str, Any] = {} if name is None else {"name": name}
    if pool is not None:
        body["work_pool_name"] = lookup.find_pool(session, pool).name
    return session.pages(calls.read_worker_instances, body, 1000)


def _find(session: Session, name: str, pool: str | None) -> WorkerInstance:
    """The process of the worker that was seen last."""
    if not _is_ours(session):
        session.refuse("Only a server of Eparch knows this of workers.", fix="See: eparch worker ls")
    found = list(_instances(session, pool, name))
    if not found:
        raise lookup.absent("worker", name, [one.name for one in _instances(session, pool)], "worker ls")
    pools = sorted({one.work_pool_name for one in found})
    if len(pools) > 1:
        session.refuse(
            f"Several workers are called {name!r}.",
            why=f"They serve {', '.join(pools)}.",
            fix="Add --pool NAME.",
        )
    return found[0]


def _list_stock(session: Session, pool: str | None) -> None:
    """What a server of Prefect knows of its workers."""
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
