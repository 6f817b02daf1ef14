"""``eparch task-run``: see task runs, their logs, and why one is waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.flow_run import LOGS
from eparch.cli.output import Column, span
from eparch.cli.session import Session
from eparch.core import calls

if TYPE_CHECKING:
    from eparch.core.runs import TaskRun

SHOWN = 15


@click.group("task-run", cls=Group)
def task_run() -> None:
    """See task runs, and why one is waiting."""


@task_run.command("ls", example="eparch task-run ls --state-type FAILED --limit 10")
@click.option("--task-run-name", "names", metavar="NAME", multiple=True, help="Only of this name; repeats.")
@click.option("--flow-run", metavar="RUN", help="Only of this flow run: its id or name.")
@click.option("--state", "states", metavar="NAME", multiple=True, help="Only in this state; repeatable.")
@click.option("--state-type", "types", metavar="TYPE", multiple=True, help="Only of this type; repeatable.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only with this tag; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), default=SHOWN, help="How many at most.")
@click.pass_obj
def ls(
    session: Session,
    names: tuple[str, ...],
    flow_run: str | None,
    states: tuple[str, ...],
    types: tuple[str, ...],
    tags: tuple[str, ...],
    limit: int,
) -> None:
    """List task runs, the latest first."""
    wanted: dict[str, Any] = {}
    if state := lookup.state_filter(states, types):
        wanted["state"] = state
    if names:
        wanted["name"] = {"any_": list(names)}
    if tags:
        wanted["tags"] = {"all_": list(tags)}
    body: dict[str, Any] = {"task_runs": wanted, "sort": "ID_DESC"}
    if flow_run is not None:
        body["flow_runs"] = {"id": {"any_": [str(lookup.find_run(session, flow_run).id)]}}
    columns = [
        Column("ID", lambda run: run.id),
        Column("NAME", lambda run: run.name),
        Column("STATE", lambda run: run.state_name, lambda run: run.state_type),
        Column("WHEN", lambda run: run.start_time or run.expected_start_time),
        Column("TOOK", _took),
    ]
    found = list(session.pages(calls.read_task_runs, body, limit))
    session.output.rows(found, columns, name=lambda run: run.id, empty="There are no task runs.")


def _took(run: TaskRun) -> str:
    return span(run.estimated_run_time or run.total_run_time) if run.start_time else ""


@task_run.command("inspect", example="eparch task-run inspect 01a204a3-ba85-7aab-acdd-ede867809319 -o json")
@click.argument("run")
@click.pass_obj
def inspect(session: Session, run: str) -> None:
    """Show everything about a task run; RUN is an id or a name."""
    session.output.one(lookup.find_task_run(session, run), name=lambda found: found.id)


@task_run.command("explain", example="eparch task-run explain 01a204a3-ba85-7aab-acdd-ede867809319")
@click.argument("run")
@click.pass_obj
def explain(session: Session, run: str) -> None:
    """Say why a task run is waiting, and what to do; RUN is an id or a name."""
    from eparch.cli.waiting import explain_task_run

    explain_task_run(session, lookup.find_task_run(session, run))


@task_run.command("logs", example="eparch task-run logs 01a204a3-ba85-7aab-acdd-ede867809319 --tail")
@click.argument("run")
@click.option("-h", "--head/--no-head", default=False, help="Only the first lines.")
@click.option("-t", "--tail/--no-tail", default=False, help="Only the last lines.")
@click.option("-n", "--num-logs", type=click.IntRange(min=1), help="Lines of --head or --tail.")
@click.option("-r", "--reverse/--no-reverse", default=False, help="The latest line first.")
@click.option("--level", type=click.IntRange(min=0), help="Only lines of at least this level, such as 30.")
@click.pass_obj
def logs(
    session: Session, run: str, head: bool, tail: bool, num_logs: int | None, reverse: bool, level: int | None
) -> None:
    """Print the log lines of a task run; RUN is an id or a name."""
    from eparch.cli.watch import read_lines, show_lines

    if head and tail:
        session.refuse("--head and --tail cannot be used together.")
    found = lookup.find_task_run(session, run)
    number = num_logs or LOGS if head or tail else num_logs
    where = {"task_run_id": {"any_": [str(found.id)]}}
    last = tail or (reverse and not head)
    show_lines(session, read_lines(session, where, number, last=last, reverse=reverse, level=level))
