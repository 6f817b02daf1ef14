"""``eparch variable``: named values on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Conflict, NotFound

if TYPE_CHECKING:
    from eparch.core.variables import Variable


@click.group("variable", cls=Group)
def variable() -> None:
    """Named values that flows and deployments share."""


@variable.command("set", example="eparch variable set region eu-west-1 --tag cloud")
@click.argument("name")
@click.argument("value")
@click.option("--overwrite", is_flag=True, help="Change the variable if it is there.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Give it this tag; repeatable.")
@click.pass_obj
def set_(session: Session, name: str, value: str, overwrite: bool, tags: tuple[str, ...]) -> None:
    """Keep a value under a name; a VALUE that is JSON is kept as such."""
    from eparch.cli.values import read_pairs
    from eparch.core.variables import VariableCreate, VariableUpdate

    read: Any = read_pairs([f"value={value}"], "VALUE")["value"]
    body = VariableCreate(name=name, value=read, tags=list(tags))
    try:
        session.send(calls.create_variable(body=body))
    except Conflict as error:
        if not overwrite:
            raise Conflict(f"There is a variable {name!r} already.", fix="Add --overwrite.") from error
        patch = VariableUpdate(value=read, tags=list(tags))
        session.send(calls.update_variable_by_name(name=name, body=patch))
    session.note(f"Set variable {name!r}.")
    if not session.output.is_table:
        session.output.made(_find(session, name))


@variable.command("get", example="eparch variable get region")
@click.argument("name")
@click.pass_obj
def get(session: Session, name: str) -> None:
    """Print the value of a variable; a text as it is, else JSON."""
    found = _find(session, name)
    if session.output.is_table:
        from eparch.cli.output import write
        from eparch.core.model import encode

        write(found.value if isinstance(found.value, str) else encode(found.value).decode())
    else:
        session.output.one(found)


@variable.command("inspect", example="eparch variable inspect region -o json")
@click.argument("name")
@click.pass_obj
def inspect(session: Session, name: str) -> None:
    """Show everything about a variable."""
    session.output.one(_find(session, name))


@variable.command("ls", example="eparch variable ls --limit 20")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.pass_obj
def ls(session: Session, limit: int) -> None:
    """List variables in the order of their names."""
    from eparch.core.model import encode

    columns = [
        Column("NAME", lambda one: one.name),
        Column("VALUE", lambda one: encode(one.value).decode()),
        Column("UPDATED", lambda one: one.updated),
        Column("TAGS", lambda one: ", ".join(one.tags)),
    ]
    found = session.pages(calls.read_variables, {"sort": "NAME_ASC"}, limit)
    session.output.rows(found, columns, empty="There are no variables.")


@variable.command("unset", example="eparch variable unset region -y")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def unset(session: Session, name: str, yes: bool) -> None:
    """Delete a variable."""
    found = _find(session, name)
    session.confirm(f"Delete variable {name!r}?", yes=yes)
    session.send(calls.delete_variable_by_name(name=name))
    session.note(f"Deleted variable {name!r}.")
    session.output.made(found)


def _find(session: Session, name: str) -> Variable:
    try:
        return session.send(calls.read_variable_by_name(name=name))
    except NotFound as error:
        known = [one.name for one in session.pages(calls.read_variables, {}, 1000)]
        raise lookup.absent("variable", name, known, "variable ls") from error
