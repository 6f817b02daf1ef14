"""``eparch run``: run a file of flows here and now."""

from __future__ import annotations

import click

from eparch.cli.commands import Command


@click.command(
    "run",
    cls=Command,
    example="eparch run weather.py --city Athens",
    prints=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(file: str, arguments: tuple[str, ...]) -> None:
    """Run FILE as python does, with ARGUMENTS.

    A file that says `from prefect import flow` runs too, where Prefect is not installed.
    """
    from eparch.sdk.compat import run_script

    run_script(file, arguments)
