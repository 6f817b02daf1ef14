"""Commands on the pages of the documentation are there, with the options that the pages give them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from eparch.cli.app import cli

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """``(page, line)`` of every command of ours in a shell block."""
    return [
        (page.name, line)
        for page in (DOCS / "deploying.md", DOCS / "workers.md", DOCS / "schedules.md")
        for block in BLOCK.findall(page.read_text())
        for line in block.splitlines()
        if line.startswith("eparch ")
    ]


def test_the_page_about_workers_shows_every_command_for_them() -> None:
    shown = {line.split()[2] for page, line in commands() if line.startswith("eparch worker ")}
    group = cli.get_command(click.Context(cli), "worker")
    assert isinstance(group, click.Group)
    assert shown == set(group.list_commands(click.Context(group)))


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_written_as_they_can_be_used(page: str, line: str) -> None:
    found: click.Command = cli
    words, context = shlex.split(line)[1:], click.Context(cli)
    while isinstance(found, click.Group):
        deeper = found.get_command(context, words.pop(0))
        assert deeper is not None, f"{page}: {line}"
        found = deeper
    # Parses and checks the words; runs nothing.
    found.make_context(line, words, parent=context)
