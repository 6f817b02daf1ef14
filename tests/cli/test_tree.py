"""What holds for every command: help, an example, shared options, nothing heavy imported."""

import subprocess
import sys

import click
import pytest

from eparch.cli.app import COMMANDS, cli
from eparch.cli.commands import Command, Group

HEAVY = {
    "sqlalchemy", "alembic", "starlette", "uvicorn", "rich", "ruamel", "yaml", "pydantic", "jsonschema_rs",
    "dateutil", "asyncpg", "websockets", "uvloop", "jinja2", "cloudpickle", "asyncio", "tomlkit",
}  # fmt: skip


def walk(group=cli, path=()):
    """Every command and group below ``group`` with its path."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from walk(command, (*path, name))


TREE = list(walk())
LEAVES = [(path, command) for path, command in TREE if not isinstance(command, click.Group)]


def name_of(path):
    return " ".join(path)


def label(value):
    return name_of(value) if isinstance(value, tuple) else ""


def test_the_tree_is_as_promised():
    names = {name_of(path) for path, _ in LEAVES}
    promised = {
        "config": "view set unset validate",
        "profile": "ls create use delete inspect rename",
        "server": "start status stop",
        "work-pool": "create ls inspect pause resume update delete set-concurrency-limit"
        " clear-concurrency-limit get-default-base-job-template preview slots",
        "work-queue": "create ls inspect pause resume set-concurrency-limit clear-concurrency-limit delete"
        " preview slots",
        "worker": "start ls inspect drain logs",
        "deployment": "ls inspect run delete pause resume",
        "deployment schedule": "create ls pause resume delete clear",
        "flow-run": "ls inspect logs cancel delete watch retry execute resume",
        "event": "stream emit",
        "variable": "set get inspect ls unset",
        "artifact": "ls inspect delete",
        "block": "ls inspect create delete",
        "block type": "ls inspect delete",
        "flow": "ls",
        "concurrency-limit": "create ls inspect reset delete",
        "global-concurrency-limit": "create ls inspect enable disable update delete",
    }
    wanted = {f"{group} {word}" for group, words in promised.items() for word in words.split()}
    assert wanted | {"version", "doctor", "api", "deploy", "completion"} <= names


@pytest.mark.parametrize(("path", "command"), TREE, ids=label)
def test_every_command_is_ours_and_says_what_it_does(path, command):
    assert isinstance(command, Command | Group)
    assert command.help
    assert command.help.splitlines()[0].endswith((".", ":")), command.help
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, (path, param.name)


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=label)
def test_every_command_has_an_example_that_names_it(path, command):
    assert f"eparch {name_of(path)}" in command.example


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=label)
def test_every_command_that_prints_data_takes_o_and_all_take_the_shared_options(path, command):
    options = {name for param in command.params for name in param.opts}
    assert ("--output" in options) == command.prints
    assert {"--profile", "--api-url", "--prompt", "--debug", "--color"} <= options
    names = [name for param in command.params for name in [*param.opts, *param.secondary_opts]]
    assert len(names) == len(set(names))


def test_only_commands_without_data_print_none():
    silent = {name_of(path) for path, command in LEAVES if not command.prints}
    assert silent == {
        "agent start",
        "completion",
        "config set",
        "config unset",
        "flow serve",
        "flow-run execute",
        "init",
        "profile create",
        "profile delete",
        "profile rename",
        "profile use",
        "schema",
        "task serve",
        "worker start",
        "run",
    }


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=label)
def test_what_deletes_or_cancels_can_be_tried_and_needs_a_yes(path, command):
    if path[-1] in ("delete", "clear", "cancel"):
        options = {name for param in command.params for name in param.opts}
        assert {"--dry-run", "--yes", "-y"} <= options


@pytest.mark.parametrize(("path", "command"), TREE, ids=label)
def test_help_is_printed(path, command, run):
    done = run(*path, "--help", code=0)
    assert done.out.startswith(f"Usage: eparch {name_of(path)}")
    assert "--output" in done.out or not getattr(command, "prints", True)
    if not isinstance(command, click.Group):
        assert "Example:" in done.out


def test_help_of_every_command_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from eparch.cli.app import run\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    assert run([*line.split(), '--help']) == 0, line\n"
        "sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(name_of(path) for path, _ in TREE),
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stderr.split()) & HEAVY == set()


def test_version_needs_neither_settings_nor_values():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "eparch", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "eparch.cli.app" in names
    assert {
        name for name in names if name.startswith(("msgspec", "http", "eparch.core", "eparch.settings"))
    } == set()


def test_short_help_of_the_table_is_that_of_a_command_that_is_there():
    assert set(COMMANDS) == {path[0] for path, _ in TREE if len(path) == 1}
