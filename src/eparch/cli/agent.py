"""``eparch agent start``: what started an agent of Prefect 2 starts the worker that does its work (W28)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import GIVEN, Group
from eparch.cli.session import Session
from eparch.core import calls

if TYPE_CHECKING:
    from eparch.core.pools import WorkPool
    from eparch.migrate.operations_options import AgentOptions


@click.group("agent", cls=Group)
def agent() -> None:
    """Agents have become workers: their commands start the worker of the converted pool."""


@agent.command("start", prints=False, example="eparch agent start --pool local -q default")
@click.argument("queue", required=False)
@click.option("-q", "--work-queue", "queues", metavar="NAME", multiple=True, help="A queue; repeatable.")
@click.option(
    "-m",
    "--match",
    "prefixes",
    metavar="PREFIX",
    multiple=True,
    help="The queues that begin so now; repeatable.",
)
@click.option("-p", "--pool", metavar="NAME", shell_complete=names.pools, help="Work pool to serve.")
@click.option("--hide-welcome", is_flag=True, help="Has no effect: workers do not greet.")
@click.option("--api", metavar="URL", help="As --api-url.")
@click.option("--run-once/--no-run-once", default=False, help="Run what is due now, then end.")
@click.option("--prefetch-seconds", type=click.FloatRange(0, 86400), help="Take runs so long before.")
@click.option("-t", "--tag", "tags", metavar="TAG", multiple=True, help="The queue made for these tags.")
@click.option("-l", "--limit", type=click.IntRange(min=1), help="Runs at the same time.")
@click.pass_context
def start(
    context: click.Context,
    queue: str | None,
    queues: tuple[str, ...],
    prefixes: tuple[str, ...],
    pool: str | None,
    hide_welcome: bool,
    api: str | None,
    run_once: bool,
    prefetch_seconds: float | None,
    tags: tuple[str, ...],
    limit: int | None,
) -> None:
    """Start the worker that does what this agent did, and say how to start it from now on (rows W4, W28)."""
    from eparch.cli.worker import start as start_worker
    from eparch.core.agents import check_served_by, is_converted
    from eparch.migrate.operations_options import AgentOptions, choose_queues

    session: Session = context.obj
    if api is not None:
        context.meta.setdefault(GIVEN, {})["api_url"] = api
    asked = (*queues, queue) if queue else queues
    options = AgentOptions(pool=pool, queues=asked, prefixes=prefixes, tags=tags)
    if not (pool or asked or prefixes or tags):
        session.refuse("An agent serves work queues.", fix="Add -q NAME, or --pool NAME.")
    if bool(asked) + bool(prefixes) + bool(tags) > 1:
        session.refuse("An agent takes queues, --match or --tag, not two of them.")
    served = _find_pool(session, options)
    _check_type(served)
    if not is_converted(served.name, served.type, served.base_job_template) and pool is not None:
        check_served_by("agent", served.name, served.type)
    known = [one.name for one in session.pages(calls.read_pool_queues, {}, work_pool_name=served.name)]
    chosen = choose_queues(options, known)
    given: dict[str, Any] = {"pool": served.name, "queues": chosen, "run_once": run_once}
    given |= {"prefetch_seconds": prefetch_seconds, "limit": limit}
    session.note(f"Agents have become workers. From now on: {_written(given)}")
    context.invoke(start_worker, **given)


def _find_pool(session: Session, options: AgentOptions) -> WorkPool:
    """The pool that was named, or else the one that has the queues which the agent served.

    Raises:
        NotFound: there is no such pool.
        Usage: no pool has them, or several have.
    """
    from eparch.core.agents import DEFAULT_POOL, is_converted

    if options.pool is not None:
        return lookup.find_pool(session, options.pool)
    pools = {one.name: one for one in session.pages(calls.read_work_pools, {})}
    default = pools.get(DEFAULT_POOL)
    if default is not None and is_converted(default.name, default.type, default.base_job_template):
        return default
    found = [
        one
        for one in pools.values()
        if is_converted(one.name, one.type, one.base_job_template) and _has_queues(session, one, options)
    ]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        session.refuse(
            "Several work pools have these queues.",
            why=f"They are {', '.join(sorted(one.name for one in found))}.",
            fix="Add --pool NAME.",
        )
    if default is None:
        session.refuse(
            "There is no work pool that was converted from an agent's with these queues.",
            fix="See: eparch work-pool ls; then: eparch worker start --pool NAME",
        )
    return default


def _has_queues(session: Session, pool: WorkPool, options: AgentOptions) -> bool:
    from eparch.core.errors import Usage
    from eparch.migrate.operations_options import choose_queues

    known = [one.name for one in session.pages(calls.read_pool_queues, {}, work_pool_name=pool.name)]
    try:
        return set(choose_queues(options, known)) <= set(known)
    except Usage:
        return False


def _check_type(pool: WorkPool) -> None:
    """Nothing of Eparch serves a pool that is still an agent's.

    Raises:
        Usage: this one is.
    """
    from eparch.core.agents import AGENT_TYPE
    from eparch.core.errors import Usage

    if pool.type == AGENT_TYPE:
        raise Usage(
            f"The work pool '{pool.name}' is still served by agents",
            why=f"its type is '{pool.type}', and Eparch has workers only",
            fix="eparch migrate --help; or create a pool with: eparch work-pool create NAME --type process",
        )


def _written(given: dict[str, Any]) -> str:
    words = ["eparch", "worker", "start", "--pool", given["pool"]]
    words += [word for queue in given["queues"] for word in ("-q", queue)]
    if given["run_once"]:
        words.append("--run-once")
    if given["prefetch_seconds"] is not None:
        words += ["--prefetch-seconds", f"{given['prefetch_seconds']:g}"]
    if given["limit"] is not None:
        words += ["--limit", str(given["limit"])]
    return shlex.join(words)
