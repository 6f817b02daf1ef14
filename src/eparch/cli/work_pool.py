"""``eparch work-pool``: make, see and change work pools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column, write
from eparch.cli.pool_template import template, warn_of_deployments, warn_of_template
from eparch.cli.session import Session
from eparch.cli.waiting import show_holders, show_upcoming
from eparch.core import calls
from eparch.core.errors import Conflict

if TYPE_CHECKING:
    from eparch.core.pools import WorkPool

pool_argument = click.argument("name", shell_complete=names.pools)
TemplateFile = click.Path(path_type=Path)


@click.group("work-pool", cls=Group)
def work_pool() -> None:
    """Make, see and change work pools: where runs wait for workers."""


work_pool.add_command(template)


@work_pool.command("create", example="eparch work-pool create local --type process")
@click.argument("name")
@click.option("-t", "--type", "type_", metavar="TYPE", help="Type of the workers, such as process or docker.")
@click.option(
    "--base-job-template", type=TemplateFile, help="JSON file to use instead of the type's template."
)
@click.option("--paused/--no-paused", default=False, help="Make it paused.")
@click.option("--description", help="What it is for.")
@click.option("--concurrency-limit", type=click.IntRange(min=0), help="Runs at the same time.")
@click.option(
    "--set-as-default/--no-set-as-default", default=False, help="Use it for deployments that name none."
)
@click.option("--overwrite/--no-overwrite", default=False, help="Change the pool if it is there.")
@click.pass_obj
def create(
    session: Session,
    name: str,
    type_: str | None,
    base_job_template: Path | None,
    paused: bool,
    description: str | None,
    concurrency_limit: int | None,
    set_as_default: bool,
    overwrite: bool,
) -> None:
    """Make a work pool."""
    from eparch.core.pools import WorkPoolCreate, WorkPoolUpdate

    if type_ is None and base_job_template is None:
        session.refuse(
            "A work pool needs a type.", why=f"Known types: {', '.join(_types())}.", fix="Add --type TYPE."
        )
    base = _template(base_job_template, type_)
    new = WorkPoolCreate(
        name=name,
        description=description,
        type=type_ or "process",
        base_job_template=base,
        is_paused=paused,
        concurrency_limit=concurrency_limit,
    )
    try:
        pool = session.send(calls.create_work_pool(body=new))
        verb = "Created"
    except Conflict as error:
        found = session.send(calls.read_work_pool(name=name))
        if not overwrite:
            raise Conflict(
                f"There is a work pool {name!r} already.",
                why=f"Its type is {found.type}.",
                fix="Change it with --overwrite, or choose another name.",
            ) from error
        if found.type != new.type:
            raise Conflict(
                f"The work pool {name!r} is of type {found.type}, not {new.type}.",
                why="The type of a pool cannot be changed.",
                fix=f"Delete it first: eparch work-pool delete {name}",
            ) from error
        change = WorkPoolUpdate(
            description=description,
            is_paused=paused,
            base_job_template=base,
            concurrency_limit=concurrency_limit,
        )
        warn_of_deployments(session, found, base)
        session.send(calls.update_work_pool(name=name, body=change))
        pool, verb = session.send(calls.read_work_pool(name=name)), "Changed"
    if set_as_default:
        _set_as_default(session, name)
    session.output.made(pool)
    warn_of_template(session, base)
    session.note(f"{verb} work pool {name!r}. Start a worker: eparch worker start --pool {name}")


def _set_as_default(session: Session, name: str) -> None:
    from eparch.settings import BY_NAME, profiles

    row, used = BY_NAME["default_work_pool"], session.settings
    profiles.assign(used.profiles_path, used.profile, {row.variable: name}, drop=row.about.aliases)
    session.note(f"It is the default of profile {used.profile!r}.")


def _template(file: Path | None, type_: str | None) -> dict[str, Any]:
    if file is not None:
        from eparch.cli.values import read_object_file

        return read_object_file(file)
    from eparch.workers.infrastructure import default_template

    return default_template(type_ or "process")


def _types() -> list[str]:
    from eparch.workers.infrastructure import types

    return sorted(types())


@work_pool.command("ls", example="eparch work-pool ls -o json")
@click.option("-v", "--verbose/--no-verbose", default=False, help="Show more columns.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most.")
@click.pass_obj
def ls(session: Session, verbose: bool, limit: int | None) -> None:
    """List work pools."""
    columns = [
        Column("NAME", lambda pool: pool.name),
        Column("TYPE", lambda pool: pool.type),
        Column("STATUS", _status, _status),
        Column("LIMIT", lambda pool: pool.concurrency_limit),
    ]
    if verbose:
        columns += [
            Column("ID", lambda pool: pool.id),
            Column("CREATED", lambda pool: pool.created),
            Column("DESCRIPTION", lambda pool: pool.description),
        ]
    session.output.rows(
        session.pages(calls.read_work_pools, {}, limit), columns, empty="There are no work pools."
    )


def _status(pool: WorkPool) -> str:
    return "PAUSED" if pool.is_paused else pool.status.value if pool.status else ""


@work_pool.command("inspect", example="eparch work-pool inspect local -o json")
@pool_argument
@click.pass_obj
def inspect(session: Session, name: str) -> None:
    """Show everything about a work pool."""
    session.output.one(lookup.find_pool(session, name))


def _update(session: Session, name: str, said: str, **fields: Any) -> None:
    from eparch.core.pools import WorkPoolUpdate

    lookup.find_pool(session, name)
    session.send(calls.update_work_pool(name=name, body=WorkPoolUpdate(**fields)))
    if not session.output.is_table:
        session.output.made(session.send(calls.read_work_pool(name=name)))
    session.note(said)


@work_pool.command("pause", example="eparch work-pool pause local")
@pool_argument
@click.pass_obj
def pause(session: Session, name: str) -> None:
    """Start no run of this pool until it is resumed."""
    _update(session, name, f"Paused work pool {name!r}.", is_paused=True)


@work_pool.command("resume", example="eparch work-pool resume local")
@pool_argument
@click.pass_obj
def resume(session: Session, name: str) -> None:
    """Start runs of this pool again."""
    _update(session, name, f"Resumed work pool {name!r}.", is_paused=False)


@work_pool.command("update", example="eparch work-pool update local --concurrency-limit 5")
@pool_argument
@click.option("--base-job-template", type=TemplateFile, help="JSON file with the new template.")
@click.option("--concurrency-limit", type=click.IntRange(min=0), help="Runs at the same time.")
@click.option("--description", help="What it is for.")
@click.pass_obj
def update(
    session: Session,
    name: str,
    base_job_template: Path | None,
    concurrency_limit: int | None,
    description: str | None,
) -> None:
    """Change a work pool; what is not given stays."""
    fields: dict[str, Any] = {"concurrency_limit": concurrency_limit, "description": description}
    if base_job_template is not None:
        fields["base_job_template"] = _template(base_job_template, None)
    given = {key: value for key, value in fields.items() if value is not None}
    if not given:
        session.refuse(
            "There is nothing to change.", fix="Give an option, see: eparch work-pool update --help"
        )
    base = given.get("base_job_template")
    before = lookup.find_pool(session, name) if base is not None else None
    _update(session, name, f"Changed work pool {name!r}: {', '.join(given)}.", **given)
    if base is not None and before is not None:
        warn_of_template(session, base)
        warn_of_deployments(session, before, base)


@work_pool.command("set-concurrency-limit", example="eparch work-pool set-concurrency-limit local 5")
@pool_argument
@click.argument("limit", type=click.IntRange(min=0))
@click.pass_obj
def set_concurrency_limit(session: Session, name: str, limit: int) -> None:
    """Bound how many runs of this pool run at the same time."""
    _update(session, name, f"The limit of work pool {name!r} is {limit}.", concurrency_limit=limit)


@work_pool.command("clear-concurrency-limit", example="eparch work-pool clear-concurrency-limit local")
@pool_argument
@click.pass_obj
def clear_concurrency_limit(session: Session, name: str) -> None:
    """Let any number of runs of this pool run at the same time."""
    _update(session, name, f"Work pool {name!r} has no limit.", concurrency_limit=None)


@work_pool.command("delete", example="eparch work-pool delete local -y")
@pool_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a work pool with its queues."""
    pool = lookup.find_pool(session, name)
    if dry_run:
        session.note(f"Would delete work pool {name!r}.")
    else:
        session.confirm(f"Delete work pool {name!r} and its queues?", yes=yes)
        session.send(calls.delete_work_pool(name=name))
        session.note(f"Deleted work pool {name!r}.")
    session.output.made(pool)


@work_pool.command(
    "get-default-base-job-template",
    example="eparch work-pool get-default-base-job-template --type process --file template.json",
)
@click.option("-t", "--type", "type_", metavar="TYPE", required=True, help="Type of the pool.")
@click.option("-f", "--file", type=TemplateFile, help="Write it to this file.")
@click.pass_obj
def get_default_base_job_template(session: Session, type_: str, file: Path | None) -> None:
    """Print the base job template that a new pool of a type begins with (row P12)."""
    import msgspec

    from eparch.core.model import encode

    base = _template(None, type_)
    text = msgspec.json.format(encode(base), indent=2).decode()
    if file is not None:
        file.write_text(text + "\n", encoding="utf-8")
        session.note(f"Wrote {file}.")
    elif session.output.format == "table":
        write(text)
    else:
        session.output.one(base, name=lambda _: type_)


@work_pool.command("preview", example="eparch work-pool preview local --hours 24")
@click.argument("name", required=False, shell_complete=names.pools)
@click.option("-h", "--hours", type=click.FloatRange(min=0, max=87600), default=1, help="How far ahead.")
@click.option("--limit", type=click.IntRange(min=1), default=200, help="How many at most.")
@click.pass_obj
def preview(session: Session, name: str | None, hours: float, limit: int) -> None:
    """Show the runs that this pool will start (row P17)."""
    name = name or session.settings.default_work_pool
    if name is None:
        session.refuse("There is no default work pool.", fix="Name one: eparch work-pool preview NAME")
    lookup.find_pool(session, name)
    show_upcoming(session, {"work_pools": {"name": {"any_": [name]}}}, hours, limit)


@work_pool.command("slots", example="eparch work-pool slots local")
@pool_argument
@click.pass_obj
def slots(session: Session, name: str) -> None:
    """Show which runs hold a slot of this pool, since when and until when (row P16)."""
    pool = lookup.find_pool(session, name)
    show_holders(session, calls.read_work_pool_holders, pool.concurrency_limit, name=name)
