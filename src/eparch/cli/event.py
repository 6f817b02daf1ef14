"""``eparch event``: see events as they happen, and tell of your own."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from eparch.cli.commands import Group
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Usage


@click.group("event", cls=Group)
def event() -> None:
    """See events as they happen, and emit your own."""


@event.command("stream", example="eparch event stream --event prefect.flow-run. -o json")
@click.option("--event", "names", metavar="PREFIX", multiple=True, help="Only events so called; repeatable.")
@click.option("--resource", "resources", metavar="ID", multiple=True, help="Only about this; repeatable.")
@click.option("--related", metavar="ID", multiple=True, help="Only related to this; repeatable.")
@click.option("--since", metavar="SPAN", help="Also what was so long ago, at most 15 minutes.")
@click.option("--format", "format_", type=click.Choice(["json", "text"]), help="JSON, or lines to read.")
@click.option("--output-file", type=click.Path(path_type=Path, dir_okay=False), help="Append to this file.")
@click.option("--run-once", is_flag=True, help="End after the first event.")
@click.pass_obj
def stream(
    session: Session,
    names: tuple[str, ...],
    resources: tuple[str, ...],
    related: tuple[str, ...],
    since: str | None,
    format_: str | None,
    output_file: Path | None,
    run_once: bool,
) -> None:
    """Print each event as it happens, one a line, until you stop it."""
    from eparch.client.following import EVENTS, follow

    wanted = _filter(names, resources, related, since)
    as_text = format_ == "text" or (format_ is None and session.output.is_table)
    with ExitStack() as stack:
        out = sys.stdout
        if output_file is not None:
            try:
                out = stack.enter_context(output_file.open("a", encoding="utf-8"))
            except OSError as error:
                raise Usage(f"The file {output_file} cannot be written.", why=str(error)) from error
        session.note("Listening for events.")
        for found in follow(session.located(), EVENTS, wanted, backfill=since is not None):
            if found is None:
                continue
            out.write((_line(found) if as_text else _json(found)) + "\n")
            out.flush()
            if run_once:
                return


def _filter(
    names: tuple[str, ...], resources: tuple[str, ...], related: tuple[str, ...], since: str | None
) -> dict[str, Any]:
    from eparch.cli.values import read_span

    wanted: dict[str, Any] = {}
    if names:
        wanted["event"] = {"prefix": list(names)}
    if resources:
        wanted["resource"] = {"id": list(resources)}
    if related:
        wanted["related"] = {"id": list(related)}
    if since is not None:
        wanted["occurred"] = {"since": (datetime.now(UTC) - read_span(since)).isoformat()}
    return wanted


def _json(found: dict[str, Any]) -> str:
    from eparch.core.model import encode

    return encode(found).decode()


def _line(found: dict[str, Any]) -> str:
    from eparch.cli.watch import plain

    resource = found.get("resource") or {}
    return plain(f"{found.get('occurred')} {found.get('event')} {resource.get('prefect.resource.id', '')}")


@event.command("emit", example="eparch event emit order.shipped --resource-id order-456")
@click.argument("name", metavar="EVENT")
@click.option("--resource-id", metavar="ID", help="What it happened to.")
@click.option(
    "-r", "--resource", "labels", metavar="LABEL", multiple=True, help="KEY=VALUE or JSON; repeats."
)
@click.option("--related", metavar="JSON", help="Who else: an object of labels, or a list of them.")
@click.option("-p", "--payload", metavar="JSON", help="What else there is to say.")
@click.pass_obj
def emit(
    session: Session,
    name: str,
    resource_id: str | None,
    labels: tuple[str, ...],
    related: str | None,
    payload: str | None,
) -> None:
    """Tell that something happened."""
    from eparch.cli.values import read_object
    from eparch.core.events import Event, flaw

    resource = _labels(labels)
    if resource_id is not None:
        resource["prefect.resource.id"] = resource_id
    made = Event(
        occurred=datetime.now(UTC),
        event=name,
        resource=resource,
        related=_related(related),
        payload={} if payload is None else read_object(payload, "--payload"),
    )
    if message := flaw(made):
        session.refuse(message, fix="Name it with --resource-id." if not resource else "")
    session.send(calls.create_events(body=[made]))
    session.note(f"Emitted event {name!r}.")
    session.output.made(made, name=lambda one: one.id)


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    from eparch.cli.values import read_object, read_pairs

    found: dict[str, Any] = {}
    for text in given:
        whole = text.lstrip().startswith("{")
        found |= read_object(text, "--resource") if whole else read_pairs([text], "--resource", json=False)
    return {key: str(value) for key, value in found.items()}


def _related(text: str | None) -> list[dict[str, str]]:
    import msgspec

    if text is None:
        return []
    try:
        found = msgspec.json.decode(text, type=list[dict[str, str]] | dict[str, str])
    except msgspec.DecodeError as error:
        raise Usage("--related is no JSON of labels.", why=str(error)) from error
    return found if isinstance(found, list) else [found]
