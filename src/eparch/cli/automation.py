"""``eparch automation``: what happens when something happens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.output import Column, Output
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Usage

if TYPE_CHECKING:
    from eparch.core.automations import Automation, AutomationCreate

id_option = click.option("--id", "id_", metavar="ID", help="By its id instead of its name.")
file_option = click.option(
    "-f",
    "--from-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="YAML or JSON file; - is stdin.",
)
json_option = click.option("-j", "--from-json", metavar="JSON", help="The same as JSON text.")


@click.group("automation", cls=Group, aliases={"disable": "pause", "enable": "resume"})
def automation() -> None:
    """What happens when something happens: make, see, try out and change automations."""


@automation.command("ls", example="eparch automation ls")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="How many at most.")
@click.pass_obj
def ls(session: Session, limit: int) -> None:
    """List automations in the order of their names."""
    columns = [
        Column("NAME", lambda one: one.name),
        Column("ENABLED", lambda one: one.enabled),
        Column("TRIGGER", lambda one: one.trigger.__struct_config__.tag),
        Column("ACTIONS", lambda one: ", ".join(str(a.__struct_config__.tag) for a in one.actions)),
        Column("UPDATED", lambda one: one.updated),
        Column("ID", lambda one: one.id),
    ]
    found = session.pages(calls.read_automations, {"sort": "NAME_ASC"}, limit)
    session.output.rows(found, columns, empty="There are no automations.")


@automation.command("inspect", example="eparch automation inspect 'tell me' -o yaml")
@click.argument("name", required=False)
@id_option
@click.option("--yaml", "as_yaml", is_flag=True, help="As -o yaml does.")
@click.option("--json", "as_json", is_flag=True, help="As -o json does.")
@click.pass_obj
def inspect(session: Session, name: str | None, id_: str | None, as_yaml: bool, as_json: bool) -> None:
    """Show everything about an automation."""
    if as_yaml and as_json:
        session.refuse("It cannot be YAML and JSON at once.", fix="Leave one of them out.")
    output = session.output
    if as_yaml or as_json:
        output = Output("yaml" if as_yaml else "json", colored=False)
    output.one(_find(session, name, id_))


@automation.command("create", example="eparch automation create --from-file automation.yaml")
@file_option
@json_option
@click.pass_obj
def create(session: Session, from_file: Path | None, from_json: str | None) -> None:
    """Make the automations of a file."""
    bodies = _given(session, from_file, from_json)
    for body in bodies:
        made = session.send(calls.create_automation(body=body))
        session.output.made(made)
        session.note(f"Created automation {made.name!r} ({made.id}).")


@automation.command("update", example="eparch automation update 'tell me' --from-file automation.yaml")
@click.argument("name", required=False)
@id_option
@file_option
@json_option
@click.pass_obj
def update(
    session: Session, name: str | None, id_: str | None, from_file: Path | None, from_json: str | None
) -> None:
    """Replace an automation by the one of a file."""
    from eparch.core.automations import AutomationUpdate

    bodies = _given(session, from_file, from_json)
    if len(bodies) != 1:
        session.refuse(f"The file has {len(bodies)} automations.", fix="Give a file with one.")
    known = _find(session, name, id_)
    fields = {key: getattr(bodies[0], key) for key in AutomationUpdate.__struct_fields__}
    session.send(calls.update_automation(id=str(known.id), body=AutomationUpdate(**fields)))
    if not session.output.is_table:
        session.output.made(session.send(calls.read_automation(id=str(known.id))))
    session.note(f"Updated automation {bodies[0].name!r} ({known.id}).")


@automation.command("pause", example="eparch automation pause 'tell me'")
@click.argument("name", required=False)
@id_option
@click.pass_obj
def pause(session: Session, name: str | None, id_: str | None) -> None:
    """Let an automation do nothing until it is resumed."""
    _enable(session, name, id_, False)


@automation.command("resume", example="eparch automation resume 'tell me'")
@click.argument("name", required=False)
@id_option
@click.pass_obj
def resume(session: Session, name: str | None, id_: str | None) -> None:
    """Let a paused automation act on what happens from now on."""
    _enable(session, name, id_, True)


@automation.command("delete", example="eparch automation delete 'tell me' -y")
@click.argument("name", required=False)
@id_option
@click.option("--all", "all_", is_flag=True, help="Every automation.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, name: str | None, id_: str | None, all_: bool, yes: bool, dry_run: bool) -> None:
    """Delete an automation, or all of them."""
    if all_ and (name or id_):
        session.refuse("Name an automation, or give --all.", fix="Leave one of them out.")
    found = list(session.pages(calls.read_automations, {})) if all_ else [_find(session, name, id_)]
    what = f"{len(found)} automations" if all_ else f"automation {found[0].name!r}"
    if dry_run:
        session.note(f"Would delete {what}.")
        session.output.made(found if all_ else found[0])
        return
    session.confirm(f"Delete {what}?", yes=yes)
    for one in found:
        session.send(calls.delete_automation(id=str(one.id)))
    session.output.made(found if all_ else found[0])
    session.note(f"Deleted {what}.")


@automation.command("dry-run", example="eparch automation dry-run 'tell me' --since 2d")
@click.argument("name", required=False)
@id_option
@file_option
@json_option
@click.option("--since", metavar="SPAN", default="1d", show_default=True, help="How far back to look.")
@click.pass_obj
def dry_run(
    session: Session,
    name: str | None,
    id_: str | None,
    from_file: Path | None,
    from_json: str | None,
    since: str,
) -> None:
    """Say when an automation would have fired for past events; nothing is done."""
    from datetime import UTC, datetime

    from eparch.cli.values import read_span
    from eparch.core.automation_replay import DryRun

    start = datetime.now(UTC) - read_span(since)
    if from_file or from_json:
        if name or id_:
            session.refuse("Name an automation or give a file.", fix="Leave one of them out.")
        bodies = _given(session, from_file, from_json)
        if len(bodies) != 1:
            session.refuse(f"The file has {len(bodies)} automations.", fix="Give a file with one.")
        asked = DryRun(automation=bodies[0], since=start)
    else:
        asked = DryRun(id=_find(session, name, id_).id, since=start)
    answer = session.send(calls.dry_run_automation(body=asked))
    if not session.output.is_table:
        session.output.one(answer, name=lambda found: len(found.firings))
        return
    more = " or more" if answer.cut else ""
    times = len(answer.firings)
    session.note(
        f"Would have fired {times}{more} {'time' if times == 1 else 'times'} for {answer.events} events."
    )
    columns = [
        Column("TRIGGERED", lambda one: one.triggered.isoformat(timespec="seconds")),
        Column("STATE", lambda one: ", ".join(one.states)),
        Column("EVENT", lambda one: one.event),
        Column("ACTIONS", lambda one: ", ".join(one.actions)),
        Column("LABELS", lambda one: one.labels or None),
    ]
    session.output.rows(answer.firings, columns)


def _given(session: Session, file: Path | None, text: str | None) -> list[AutomationCreate]:
    from eparch.core.automation_documents import automations_in

    if (file is None) == (text is None):
        session.refuse("Give a file or JSON.", fix="Add --from-file FILE or --from-json JSON.")
    return automations_in(_document(file, text))


def _document(file: Path | None, text: str | None) -> Any:
    """What the file or the text says; JSON is YAML too.

    Raises:
        Usage: it is neither.
        SourceError: the file cannot be read.
    """
    import msgspec

    from eparch.cli.values import MAX_FILE, read_file

    if file is not None:
        text = sys.stdin.read(MAX_FILE) if str(file) == "-" else read_file(file)
    assert text is not None
    if file is None or file.suffix.lower() == ".json":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise Usage(f"{file or '--from-json'} is not JSON.", why=str(error)) from error
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        raise Usage(f"The file {file} is not YAML.", why=" ".join(str(error).split())[:500]) from error


def _find(session: Session, name: str | None, id_: str | None) -> Automation:
    """The automation of that name or id; of several with one name the id says which.

    Raises:
        NotFound: there is none; the nearest name is suggested.
    """
    if (name is None) == (id_ is None):
        session.refuse("Name an automation.", fix="Give its NAME or --id ID.")
    wanted = lookup.as_id(id_) if id_ is not None else None
    if id_ is not None:
        if wanted is None:
            session.refuse(f"{id_!r} is not an id.", fix="See: eparch automation ls")
        return session.send(calls.read_automation(id=str(wanted)))
    assert name is not None
    found = list(session.pages(calls.read_automations, {"automations": {"name": {"any_": [name]}}}))
    if len(found) > 1:
        ids = ", ".join(str(one.id) for one in found[:5])
        session.refuse(f"There are {len(found)} automations {name!r}.", why=ids, fix="Say which with --id.")
    if not found:
        by_id = lookup.as_id(name)
        if by_id is not None:
            return session.send(calls.read_automation(id=str(by_id)))
        known = [one.name for one in session.pages(calls.read_automations, {}, 1000)]
        raise lookup.absent("automation", name, known, "automation ls")
    return found[0]


def _enable(session: Session, name: str | None, id_: str | None, enabled: bool) -> None:
    from eparch.core.automations import AutomationPatch

    known = _find(session, name, id_)
    session.send(calls.patch_automation(id=str(known.id), body=AutomationPatch(enabled=enabled)))
    if not session.output.is_table:
        session.output.made(session.send(calls.read_automation(id=str(known.id))))
    session.note(f"{'Resumed' if enabled else 'Paused'} automation {known.name!r}.")
