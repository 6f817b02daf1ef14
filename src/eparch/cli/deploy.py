"""``eparch deploy``: reads its flags into a ``DeployRequest`` and has ``eparch.deploy.apply`` do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eparch.cli.commands import Command
from eparch.cli.output import Column
from eparch.cli.session import Session

CHANGES = 2
"""Exit code of ``--plan`` when something would change."""


def _flags(command: Any) -> Any:
    """The options that describe a deployment, as Prefect's command has them (features 1.6)."""
    options = [
        click.option("-n", "--name", "names", metavar="NAME", multiple=True, help="This one, or a glob."),
        click.option("--all/--no-all", "everything", help="Every deployment of the file."),
        click.option("--prefect-file", "--file", "file", type=click.Path(path_type=Path), help="The file."),
        click.option("-d", "--description", help="What it is for."),
        click.option("--version", metavar="TEXT", help="Version of the deployment."),
        click.option("--version-type", metavar="TYPE", help="Where the version is from: vcs:git ..."),
        click.option("-t", "--tag", "tags", metavar="TAG", multiple=True, help="A tag; repeatable."),
        click.option("-p", "--pool", metavar="NAME", help="Work pool."),
        click.option("-q", "--work-queue", "queue", metavar="NAME", help="Queue of the work pool."),
        click.option("--concurrency-limit", "-cl", type=click.IntRange(min=1), help="Runs at the same time."),
        click.option(
            "--collision-strategy",
            type=click.Choice(["ENQUEUE", "CANCEL_NEW", "CANCEL_RUNNING"], case_sensitive=False),
            help="What happens to a run that meets a full limit.",
        ),
        click.option(
            "-jv", "--job-variable", "--jv", "-v", "--variable", "variables", metavar="KEY=VALUE|JSON",
            multiple=True, help="A job variable; repeatable.",
        ),
        click.option("--cron", metavar="TEXT", multiple=True, help="A cron schedule; repeatable."),
        click.option("--interval", metavar="SECONDS", multiple=True, help="One by interval; repeatable."),
        click.option("--anchor-date", metavar="MOMENT", help="Where intervals begin."),
        click.option("--rrule", metavar="TEXT", multiple=True, help="An RFC 5545 schedule; repeatable."),
        click.option("--timezone", metavar="ZONE", help="Time zone of the schedules."),
        click.option("--trigger", "triggers", metavar="JSON|FILE", multiple=True,
                     help="An event that makes it run, instead of those of the file; repeatable."),
        click.option("--sla", metavar="JSON|FILE", multiple=True,
                     help="A service level, instead of those of the file; repeatable."),
        click.option("--param", "pairs", metavar="KEY=VALUE", multiple=True, help="A parameter; repeatable."),
        click.option("--params", metavar="JSON", help="Parameters: a JSON object, @FILE, or - for stdin."),
        click.option("--enforce-parameter-schema/--no-enforce-parameter-schema", "enforce", default=None,
                     help="Whether parameters are checked."),
        click.option("--plan", "plan_only", is_flag=True, help="Show what would change; exits 2 if any."),
        click.option("--prune", is_flag=True, help="Delete what the file had and has no more; with --all."),
        click.option("--import", "imports", is_flag=True, help="Import flows; else their source is read."),
        click.option("--lenient", is_flag=True, help="Tell unknown keys of the file and ignore them."),
        click.option("--fix", is_flag=True, help="Move misplaced keys of the file; deploy nothing."),
        click.option("--answers", type=click.Path(path_type=Path), metavar="FILE",
                     help="Answer the wizard's questions from this file."),
        click.option("--save-answers", type=click.Path(path_type=Path), metavar="FILE",
                     help="Write the answers to this file."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    "deploy",
    cls=Command,
    example="""eparch deploy --all
    eparch deploy flows/report.py:report --name nightly --pool local --cron '0 3 * * *'""",
)
@click.argument("entrypoint", required=False)
@_flags
@click.pass_context
def deploy(context: click.Context, /, entrypoint: str | None, **given: Any) -> None:
    """Deploy flows: those of prefect.yaml, or the one at ENTRYPOINT.

    On a terminal, where it is not said which, it asks.
    """
    from eparch.cli.deploy_fix import fix_file
    from eparch.cli.deploy_import import import_flow
    from eparch.cli.plan_view import agree, show_plan
    from eparch.cli.step_line import StepLine
    from eparch.deploy.apply import deploy as apply
    from eparch.deploy.request import DeployResult
    from eparch.deploy.scan import read_flow

    session: Session = context.obj
    if given["fix"]:
        fix_file(session, given["file"], yes=given["yes"])
        return
    request = _request(entrypoint, given)
    read = import_flow if given["imports"] else read_flow
    result = _by_questions(session, request, read, given)
    if not isinstance(result, DeployResult):
        review = agree(session, given["yes"])
        with StepLine(session.note) as line:
            client, told = session.client, line.note
            result = apply(result, client, session.settings, told, review=review, read=read, watch=line.watch)
    if request.plan_only:
        show_plan(session, result)
        context.exit(CHANGES if result.differs else 0)
    columns = [
        Column("DEPLOYMENT", lambda one: one.name),
        Column("ACTION", lambda one: one.action),
        Column("CHANGES", lambda one: ", ".join(one.changes)),
        Column("WORK POOL", lambda one: one.work_pool_name),
        Column("ID", lambda one: one.id),
    ]
    session.output.rows(result.deployments, columns)
    for hint in result.hints:
        session.note(hint)


def _by_questions(session: Session, request: Any, read: Any, given: dict[str, Any]) -> Any:
    """What the wizard deployed, or the request if there was nothing to ask (row D4)."""
    if not (session.interactive or given["answers"] or given["save_answers"]):
        return request
    from eparch.cli.wizard import guide

    return guide(
        session,
        request,
        read,
        answers=given["answers"],
        save=given["save_answers"],
        yes=given["yes"],
    )


def _request(entrypoint: str | None, given: dict[str, Any]) -> Any:
    """The flags as a ``DeployRequest``."""
    from eparch.cli.values import read_job_variables, read_object, read_pairs, read_specs
    from eparch.deploy.request import DeployRequest

    params = read_object(given["params"], "--params") if given["params"] else {}
    strategy = given["collision_strategy"]
    return DeployRequest(
        entrypoint=entrypoint,
        names=given["names"],
        all=given["everything"],
        file=given["file"],
        description=given["description"],
        version=given["version"],
        version_type=given["version_type"],
        tags=given["tags"],
        concurrency_limit=given["concurrency_limit"],
        collision_strategy=strategy.upper() if strategy else None,
        pool=given["pool"],
        queue=given["queue"],
        job_variables=read_job_variables(given["variables"]),
        schedules=_schedules(given),
        triggers=read_specs(given["triggers"], "--trigger", "triggers"),
        sla=read_specs(given["sla"], "--sla", "sla"),
        parameters={**params, **read_pairs(given["pairs"], "--param")},
        enforce_parameter_schema=given["enforce"],
        plan_only=given["plan_only"],
        prune=given["prune"],
        lenient=given["lenient"],
    )


def _schedules(given: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """One schedule for each ``--cron``, ``--interval`` and ``--rrule``.

    Raises:
        Usage: ``--anchor-date`` or ``--timezone`` has none to belong to.
        ScheduleInvalid: one cannot be used.
    """
    from eparch.cli.schedule import schedule_of

    kinds = ("cron", "interval", "rrule")
    empty = {**given, **dict.fromkeys(kinds)}
    wanted = [(kind, text) for kind in kinds for text in given[kind]] or [("cron", None)]
    found = []
    for kind, text in wanted:
        # With intervals among them the anchor is theirs; without any it is refused.
        anchor = None if given["interval"] and kind != "interval" else given["anchor_date"]
        schedule = schedule_of({**empty, kind: text, "anchor_date": anchor})
        if schedule is not None:
            found.append(schedule)
    return tuple(found)
