"""``eparch api``: any request to the server, with the credentials of the settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from eparch.cli.commands import Command
from eparch.cli.output import Output, write
from eparch.cli.session import Session

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@click.command(
    "api",
    cls=Command,
    example="""eparch api GET /flow_runs/0198c1a2-0000-7000-8000-000000000001
    eparch api POST /flow_runs/filter --data '{"limit": 5}'""",
)
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
@click.option("-d", "--data", metavar="JSON", help="Body: JSON, @FILE, or - for stdin.")
@click.pass_obj
def api(session: Session, method: str, path: str, data: str | None) -> None:
    """Send a request to the API and print its answer.

    PATH follows the API's URL; a leading slash can be left out.
    """
    answer = session.client.request(
        method.upper(), "/" + quote(path.removeprefix("/api/").lstrip("/"), safe="/?&=%:,~"), _body(data)
    )
    if not answer.body:
        return
    if answer.is_json:
        from eparch.core.model import decode

        value: Any = decode(answer.body)
        if session.output.is_table or not isinstance(value, list):
            format_ = "json" if session.output.is_table else session.output.format
            Output(format_).one(value, name=_name)
        else:
            session.output.rows(value, [], name=_name)
    else:
        write(answer.body.decode(errors="replace"))


def _name(record: Any) -> Any:
    return record.get("name") or record.get("id") if isinstance(record, dict) else record


def _body(data: str | None) -> Any:
    if data is None:
        return None
    import msgspec

    from eparch.cli import values
    from eparch.core.errors import Usage
    from eparch.core.model import decode

    if data == "-" or data.startswith("@"):
        return values.read_object(data, "--data")
    try:
        return decode(data)
    except msgspec.MsgspecError as error:
        raise Usage("--data is not JSON.", why=str(error)) from error
