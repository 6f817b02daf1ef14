"""``eparch config``: view and change settings; changes go to the profile in use."""

from __future__ import annotations

from typing import Any

import click

from eparch import settings as settings_
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core.errors import NotFound, did_you_mean
from eparch.settings import BY_NAME, BY_VARIABLE, TABLE, Setting, profiles


@click.group("config", cls=Group)
def config() -> None:
    """View and change settings."""


@config.command("view", example="eparch config view --show-sources")
@click.option("--show-defaults/--hide-defaults", default=False, help="Also what nobody has set.")
@click.option("--show-sources/--hide-sources", default=True, help="Where each value comes from.")
@click.option("--show-secrets/--hide-secrets", default=False, help="Do not mask secrets.")
@click.pass_obj
def view(session: Session, show_defaults: bool, show_sources: bool, show_secrets: bool) -> None:
    """Show the settings in use."""
    found = session.resolved
    rows: list[dict[str, Any]] = []
    for row in TABLE:
        source = found.sources[row.name]
        if source != "default" or show_defaults or row.name in ("profile", "home"):
            value = row.show(getattr(found.settings, row.name), secrets=show_secrets)
            rows.append({"name": row.variable, "value": value, "source": source})
    columns = [Column("SETTING", lambda r: r["name"]), Column("VALUE", lambda r: r["value"])]
    if show_sources:
        columns.append(Column("SOURCE", lambda r: r["source"]))
    else:
        rows = [{key: row[key] for key in ("name", "value")} for row in rows]
    session.output.rows(rows, columns, name=lambda r: r["name"])
    for warning in found.warnings:
        session.note(f"warning: {warning}")


def find(name: str) -> Setting:
    """The setting called ``name``: the variable, one of its aliases, or the bare name.

    Raises:
        NotFound: there is none; the nearest is suggested.
    """
    row = BY_VARIABLE.get(name.upper()) or BY_NAME.get(name.lower())
    if row is None:
        known = [*BY_VARIABLE, *BY_NAME]
        raise NotFound(
            f"There is no setting {name!r}.",
            fix=did_you_mean(name.upper(), known)
            or did_you_mean(name, known)
            or "See: eparch config view --show-defaults",
        )
    return row


@config.command("set", example="eparch config set EPARCH_API_URL=http://127.0.0.1:4200/api", prints=False)
@click.argument("pairs", metavar="NAME=VALUE...", nargs=-1, required=True)
@click.pass_obj
def set_(session: Session, pairs: tuple[str, ...]) -> None:
    """Set settings in the profile in use."""
    from eparch.cli.values import read_pairs

    values: dict[str, Any] = {}
    drop: list[str] = []
    for name, text in read_pairs(pairs, "config set", json=False).items():
        row = find(name)
        if row.name in ("home", "profiles_path", "profile"):
            session.refuse(
                f"{row.variable} cannot be set in a profile.", why="It says where the profile is found."
            )
        settings_.parse(row, text)
        values[row.variable] = text
        drop += row.about.aliases
    found = session.settings
    profiles.assign(found.profiles_path, found.profile, values, drop=tuple(drop))
    _tell(session, f"Set {', '.join(values)} in profile {found.profile!r}.", values)


@config.command("unset", example="eparch config unset EPARCH_API_URL", prints=False)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Accepted for Prefect's sake; nothing is asked.")
@click.pass_obj
def unset(session: Session, names: tuple[str, ...], yes: bool) -> None:
    """Remove settings from the profile in use."""
    found = session.settings
    rows = [find(name) for name in names]
    table = profiles.read(found.profiles_path).tables.get(found.profile, {})
    for row in rows:
        if not set(row.names) & set(table):
            raise NotFound(
                f"{row.variable} is not set in profile {found.profile!r}.", fix="See: eparch config view"
            )
    drop = tuple(name for row in rows for name in row.names)
    profiles.assign(found.profiles_path, found.profile, {}, drop=drop)
    _tell(session, f"Unset {', '.join(row.variable for row in rows)} in profile {found.profile!r}.", drop)


def _tell(session: Session, text: str, changed: Any) -> None:
    """What was done, and what of it the environment overrides."""
    session.note(text)
    now = session.resolved.sources
    for variable in changed:
        row = BY_VARIABLE[variable]
        if variable == row.variable and now[row.name].startswith("environment"):
            session.note(f"warning: the {now[row.name]} goes before it.")


@config.command("validate", example="eparch config validate")
@click.pass_obj
def validate(session: Session) -> None:
    """Check every setting of the environment and of every profile."""
    problems = list(session.resolved.warnings)
    found = session.settings
    for name, table in profiles.read(found.profiles_path).tables.items():
        for variable, value in table.items():
            row = BY_VARIABLE.get(variable)
            if row is not None:
                settings_.parse(row, value, named=f"{variable} in profile {name!r}")
    for problem in problems:
        session.note(f"warning: {problem}")
    session.output.made({"valid": True, "warnings": problems})
    session.note("Every setting can be used.")
