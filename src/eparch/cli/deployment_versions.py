"""``eparch deployment versions``, ``diff``, ``rollback``: what a deployment was, and making it so again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Command
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import NotFound, Usage

if TYPE_CHECKING:
    from eparch.core.deployment_versions import Content, DeploymentVersion, VersionFacts
    from eparch.core.deployments import Deployment

_name = click.argument("name", shell_complete=names.deployments)
_NUMBER = click.IntRange(min=1)


@click.command("versions", cls=Command, example="eparch deployment versions report/nightly")
@_name
@click.pass_obj
def versions(session: Session, name: str) -> None:
    """List the versions of a deployment, the newest first: since when, who, how, and from which commit."""
    _, found = lookup.find_deployment(session, name)
    columns = [
        Column("VERSION", lambda one: one.number),
        Column("SINCE", lambda one: one.created),
        Column("BY", lambda one: one.origin.author or one.origin.client),
        Column("THROUGH", lambda one: one.origin.source.value),
        Column("COMMIT", lambda one: (one.origin.commit or "")[:12]),
    ]
    session.output.rows(_versions(session, found), columns, name=lambda one: one.number)


@click.command("diff", cls=Command, example="eparch deployment diff report/nightly 3 5")
@_name
@click.argument("first", metavar="[A]", type=_NUMBER, required=False)
@click.argument("second", metavar="[B]", type=_NUMBER, required=False)
@click.pass_obj
def diff(session: Session, name: str, first: int | None, second: int | None) -> None:
    """Show what differs between two versions; without B the newest, without A the one before it."""
    from eparch.cli.output import write
    from eparch.cli.plan_view import plan_lines
    from eparch.core.deployment_versions import differences
    from eparch.deploy.preview import mask_changes
    from eparch.deploy.request import Deployed

    full, found = lookup.find_deployment(session, name)
    known = [one.number for one in _versions(session, found)]
    if first is None and len(known) < 2:
        raise NotFound(f"{full!r} has one version only.", fix="Change it first.")
    first = known[1] if first is None else first
    second = known[0] if second is None else second
    before, after = (read_version(session, full, found, number) for number in (first, second))
    changes = mask_changes(differences(before.content, after.content))
    if not session.output.is_table:
        told = {"name": full, "from": first, "to": second, "changes": changes}
        session.output.one(told, name=lambda one: one["name"])
        return
    action = "change" if changes else "unchanged"
    shown = Deployed(name=f"{full} {first} -> {second}", action=action, changes=changes)
    for line in plan_lines([shown], colored=session.output.colored):
        write(line)


@click.command("rollback", cls=Command, example="eparch deployment rollback report/nightly 3")
@_name
@click.argument("number", metavar="VERSION", type=_NUMBER)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--plan", "plan_only", is_flag=True, help="Show what would change; exits 2 if any.")
@click.pass_context
def rollback(context: click.Context, name: str, number: int, yes: bool, plan_only: bool) -> None:
    """Make a deployment what it was in VERSION; whether it is paused stays. It is a new version itself."""
    from eparch.cli.deploy import CHANGES
    from eparch.cli.plan_view import plan_lines, summary
    from eparch.core.deploy_plans import DeployPlan, PlannedDeployment
    from eparch.core.deployment_versions import Origin, Source, content_of, differences
    from eparch.core.model import new_id
    from eparch.deploy.preview import mask_changes
    from eparch.deploy.proposal import author
    from eparch.deploy.request import Deployed

    session: Session = context.obj
    full, found = lookup.find_deployment(session, name)
    version = read_version(session, full, found, number)
    flow, _, own = full.partition("/")
    standing = _standing(session, flow, own)
    now = content_of(standing.deployment)
    content = _as_now(version.content, now)
    changes = mask_changes(differences(now, content))
    shown = Deployed(
        name=full, action="change" if changes else "unchanged", id=found.id, changes=changes,
        work_pool_name=content.work_pool_name,
    )  # fmt: skip
    for line in plan_lines([shown], colored=session.output.colored):
        session.note(line)
    session.note(summary([shown]))
    if changes and not plan_only:
        if session.interactive:
            session.confirm(f"Make {full!r} version {number} again?", yes=yes)
        plan = DeployPlan(
            request_id=new_id(),
            project=standing.project,
            origin=Origin(source=Source.ROLLBACK, author=author(), commit=version.origin.commit),
            deployments=[
                PlannedDeployment(
                    id=found.id, flow_name=flow, name=own, number=standing.number, content=content
                )
            ],
        )
        [made] = session.send(calls.apply_plan(body=plan)).deployments
        session.note(f"{full!r} is version {number} again, as version {made.number}.")
    session.output.made(shown, name=lambda one: one.name)
    context.exit(CHANGES if changes and plan_only else 0)


def _as_now(content: Content, now: Content) -> Content:
    """``content``, but what a person paused stays paused, also a schedule that is there still."""
    from msgspec.structs import replace

    active = {one.id: one.active for one in now.schedules}
    schedules = [replace(one, active=active.get(one.id, one.active)) for one in content.schedules]
    return replace(content, paused=now.paused, schedules=schedules)


def _standing(session: Session, flow: str, name: str) -> Any:
    from eparch.core.deploy_plans import StandingQuery

    query = StandingQuery(deployments=[(flow, name)])
    [found] = session.send(calls.read_standing(body=query)).deployments
    return found


def _versions(session: Session, found: Deployment) -> list[VersionFacts]:
    _check_ours(session)
    return session.send(calls.read_deployment_versions(id=found.id))


def _check_ours(session: Session) -> None:
    from eparch.client.http import serves_us

    if serves_us(session.client) is None:
        raise Usage(
            "This server keeps no versions of deployments.",
            why="It is none of Eparch's.",
            fix="Start one: eparch server start",
        )


def read_version(session: Session, full: str, found: Deployment, number: int) -> DeploymentVersion:
    """A version of the deployment that is called ``full``.

    Raises:
        NotFound: there is none of this number.
        Usage: the server keeps no versions.
    """
    _check_ours(session)
    try:
        return session.send(calls.read_deployment_version(id=found.id, number=number))
    except NotFound as error:
        kept = [one.number for one in _versions(session, found)]
        why = f"Those that are kept: {kept[-1]} to {kept[0]}." if kept else "It was never changed."
        raise NotFound(f"{full!r} has no version {number}.", why=why) from error
