"""``eparch work-pool template``: a pool's base job template and the newest one of its type (row P13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from eparch.core.deployments import Deployment
    from eparch.core.job_templates import Problem
    from eparch.core.pools import WorkPool
    from eparch.core.template_merge import Change, Merged

_SAID = {
    "default": "the type's, is taken",
    "pool": "the pool's, is kept",
    "conflict": "both, the pool's is kept",
}

pool_argument = click.argument("name", shell_complete=names.pools)


@click.group("template", cls=Group)
def template() -> None:
    """Compare a pool's base job template with the newest one of its type, and take over what is new."""


@template.command("diff", example="eparch work-pool template diff local")
@pool_argument
@click.pass_obj
def diff(session: Session, name: str) -> None:
    """Show where a pool's template and the newest default of its type differ, and who changed it."""
    merged = _merged(session, lookup.find_pool(session, name))
    _show(session, merged.changes)


@template.command("upgrade", example="eparch work-pool template upgrade local --dry-run")
@pool_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def upgrade(session: Session, name: str, yes: bool, dry_run: bool) -> None:
    """Take over what the type has changed since the pool was made; what was changed in the pool stays."""
    from eparch.core.pools import WorkPoolUpdate
    from eparch.core.template_merge import ChangeKind

    pool = lookup.find_pool(session, name)
    merged = _merged(session, pool)
    _show(session, merged.changes)
    if merged.problems:
        raise Invalid(
            f"The template of {name!r} cannot be upgraded: {'. '.join(one.text for one in merged.problems)}.",
            why="What was changed in the pool does not go with what the type has changed.",
            fix="Write the template yourself: eparch work-pool update NAME --base-job-template FILE",
        )
    taken = [one for one in merged.changes if one.kind is ChangeKind.DEFAULT]
    if not taken:
        session.note(f"The template of {name!r} has all that is new.")
        return
    warn_of_deployments(session, pool, merged.template)
    conflicts = sum(one.kind is ChangeKind.CONFLICT and not one.is_text for one in merged.changes)
    said = f"{len(taken)} changes" + (f"; {conflicts} conflicts stay as they are" if conflicts else "")
    if dry_run:
        session.note(f"Would take over {said}.")
        return
    session.confirm(f"Change the template of {name!r}: {said}?", yes=yes)
    if session.send(calls.read_work_pool(name=name)).base_job_template != pool.base_job_template:
        raise Conflict(
            f"The template of {name!r} was changed in the meantime.", fix="Look at it and upgrade it again."
        )
    body = WorkPoolUpdate(base_job_template=merged.template)
    session.send(calls.update_work_pool(name=name, body=body))
    session.note(f"Upgraded the template of {name!r}: {said}.")
    warn_of_template(session, merged.template)


def warn_of_template(session: Session, base_job_template: dict[str, Any]) -> None:
    """Say what is odd about a template that was saved (row P6)."""
    from eparch.core.job_templates import warnings_of

    for warning in warnings_of(base_job_template):
        session.note(f"Warning: {warning}.")


def warn_of_deployments(session: Session, pool: WorkPool, base_job_template: dict[str, Any]) -> None:
    """Say which deployments have job variables that fit the pool and will not fit the new template."""
    affected = _affected(session, pool, base_job_template)
    named = dict.fromkeys(full for full, _ in affected)
    if named:
        session.note(f"Job variables of {len(named)} deployments no longer fit:")
    for full, problem in affected:
        session.note(f"  {full}: {problem.text}")


def _affected(
    session: Session, pool: WorkPool, base_job_template: dict[str, Any]
) -> list[tuple[str, Problem]]:
    from eparch.core.template_merge import no_longer_fits

    body = {"work_pools": {"name": {"any_": [pool.name]}}}
    found: list[tuple[Deployment, Problem]] = [
        (one, problem)
        for one in session.pages(calls.read_deployments, body)
        for problem in no_longer_fits(pool.base_job_template, base_job_template, one.job_variables)
    ]
    full = {one.id: name for name, one in lookup.named(session, (one for one, _ in found))}
    return [(full[one.id], problem) for one, problem in found]


def _merged(session: Session, pool: WorkPool) -> Merged:
    from eparch.core.infrastructure_types import past_templates
    from eparch.core.template_merge import merge_templates, nearest_template

    newest = _newest(session, pool.type)
    began = nearest_template(pool.base_job_template, past_templates(pool.type))
    return merge_templates(began, pool.base_job_template, newest)


def _newest(session: Session, type_: str) -> dict[str, Any]:
    """The default template of a type, as it is installed here, else as the server knows it.

    Raises:
        NotFound: neither knows the type.
    """
    from eparch.workers.infrastructure import default_template

    try:
        return default_template(type_)
    except NotFound:
        view = session.send(calls.read_collection_view(view="aggregate-worker-metadata"))
        for package in view.values():
            if type_ in package:
                found: dict[str, Any] = package[type_]["default_base_job_configuration"]
                return found
        raise


def _show(session: Session, changes: list[Change]) -> None:
    """For people, without titles and descriptions; for programs, all."""
    shown = [one for one in changes if not (session.output.is_table and one.is_text)]
    columns = [
        Column("PLACE", lambda one: ".".join(map(str, one.path))),
        Column("CHANGED BY", lambda one: _SAID[one.kind]),
        Column("BEGAN AS", lambda one: _value(one.began)),
        Column("POOL", lambda one: _value(one.pool)),
        Column("DEFAULT", lambda one: _value(one.default)),
    ]
    session.output.rows(
        shown,
        columns,
        name=lambda one: ".".join(map(str, one.path)),
        empty="The template is the type's newest.",
    )


def _value(value: Any) -> str:
    from eparch.core.model import UNSET, encode

    return "-" if value is UNSET else encode(value).decode()
