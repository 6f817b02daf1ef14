"""``eparch profile``: named sets of settings."""

from __future__ import annotations

from pathlib import Path

import click

from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.settings import BY_VARIABLE, load, profiles
from eparch.settings.table import MASK


@click.group("profile", cls=Group)
def profile() -> None:
    """Make, choose and change profiles: named sets of settings."""


@profile.command("ls", example="eparch profile ls")
@click.pass_obj
def ls(session: Session) -> None:
    """List the profiles; the active one is marked."""
    found = session.settings
    names = sorted({*profiles.read(found.profiles_path).tables, found.profile})
    rows = [{"name": name, "active": name == found.profile} for name in names]
    columns = [Column("", lambda r: "*" if r["active"] else ""), Column("NAME", lambda r: r["name"])]
    session.output.rows(rows, columns, name=lambda r: r["name"])


@profile.command("create", example="eparch profile create staging --from default", prints=False)
@click.argument("name")
@click.option("--from", "source", metavar="NAME", help="Copy this profile.")
@click.pass_obj
def create(session: Session, name: str, source: str | None) -> None:
    """Make a profile."""
    path = _path()
    values = profiles.read(path).named(source) if source else {}
    profiles.create(path, name, values=values)
    session.note(f"Created profile {name!r}. Use it: eparch profile use {name}")


@profile.command("use", example="eparch profile use staging", prints=False)
@click.argument("name")
@click.pass_obj
def use(session: Session, name: str) -> None:
    """Make a profile the active one."""
    profiles.use(_path(), name)
    session.note(f"Profile {name!r} is active.")


@profile.command("delete", example="eparch profile delete staging -y", prints=False)
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a profile."""
    path = _path()
    profiles.read(path).named(name)
    if dry_run:
        session.note(f"Would delete profile {name!r}.")
        return
    session.confirm(f"Delete profile {name!r}?", yes=yes)
    profiles.delete(path, name)
    session.note(f"Deleted profile {name!r}.")


@profile.command("rename", example="eparch profile rename staging test", prints=False)
@click.argument("name")
@click.argument("new_name")
@click.pass_obj
def rename(session: Session, name: str, new_name: str) -> None:
    """Give a profile another name."""
    profiles.rename(_path(), name, new_name)
    session.note(f"Renamed profile {name!r} to {new_name!r}.")


@profile.command("inspect", example="eparch profile inspect staging")
@click.argument("name", required=False)
@click.option("--show-secrets/--hide-secrets", default=False, help="Do not mask secrets.")
@click.pass_obj
def inspect(session: Session, name: str | None, show_secrets: bool) -> None:
    """Show what a profile sets; the active one unless named."""
    found = profiles.read(_path())
    chosen = name or session.settings.profile
    table = found.tables.get(chosen, {}) if name is None else found.named(chosen)
    shown = {}
    for variable, value in table.items():
        row = BY_VARIABLE.get(variable)
        unknown_secret = row is None and any(word in variable for word in ("KEY", "PASSWORD", "AUTH"))
        masked = MASK if unknown_secret and not show_secrets else str(value)
        shown[variable] = row.show(value, secrets=show_secrets) if row else masked
    session.output.one(shown, name=lambda _: chosen)


def _path() -> Path:
    """The profile file, found even where its active profile cannot be used."""
    return load(profile=profiles.DEFAULT_PROFILE).profiles_path
