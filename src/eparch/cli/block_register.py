"""``eparch block register``: the block types that a module or a file defines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from eparch.cli.commands import Command
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core.errors import EparchError, SourceError, Usage


@click.command("register", cls=Command, example="eparch block register -m my_package.blocks")
@click.option("-m", "--module", metavar="MODULE", help="An importable module, as my_package.blocks.")
@click.option("-f", "--file", "file", type=click.Path(path_type=Path), metavar="FILE", help="A Python file.")
@click.pass_obj
def register(session: Session, module: str | None, file: Path | None) -> None:
    """Let the server know every class of blocks that a module or a file defines."""
    if (module is None) == (file is None):
        raise Usage("Name one module or one file.", fix="Write -m MODULE or -f FILE.py.")
    from eparch.client.http import connect
    from eparch.sdk import session as sessions
    from eparch.sdk.blocks.documents import register as register_class
    from eparch.sdk.compat import install
    from eparch.sdk.loading import load_blocks

    install()
    sys.path.insert(0, str(Path.cwd()))
    place = module or str(file)
    try:
        found = load_blocks(place)
    except EparchError:
        raise
    except Exception as error:  # a module is user code, it may raise anything
        what = f"{type(error).__name__}: {error}"
        raise SourceError(f"'{place}' cannot be imported.", why=what) from error
    settings = session.located()
    with connect(settings) as client:
        sessions.use(sessions.Session(settings, client))
        for one in found:
            register_class(one)
    columns = [
        Column("SLUG", lambda one: one.get_block_type_slug()),
        Column("NAME", lambda one: one.get_block_type_name()),
    ]
    session.output.rows(found, columns, name=lambda one: one.get_block_type_slug(), empty="")
