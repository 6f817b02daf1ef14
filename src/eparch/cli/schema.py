"""``eparch schema``: the JSON Schema of prefect.yaml, for editors (row D10)."""

from __future__ import annotations

from pathlib import Path

import click

from eparch.cli.commands import Command
from eparch.cli.output import write
from eparch.cli.session import Session


@click.command("schema", cls=Command, prints=False, example="eparch schema --file prefect.schema.json")
@click.option("-f", "--file", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
@click.pass_obj
def schema(session: Session, file: Path | None) -> None:
    """Print the JSON Schema of prefect.yaml.

    Editors complete and check the file with it.
    """
    import json

    from eparch.core.errors import SourceError
    from eparch.deploy.json_schema import project_schema

    text = json.dumps(project_schema(), indent=2) + "\n"
    if file is None:
        write(text.rstrip())
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise SourceError("The file cannot be written", file=str(file), why=why) from error
    session.note(f"To use it, begin prefect.yaml with: # yaml-language-server: $schema={file}")
