"""The command line: which commands there are, and how any error leaves the process.

Nothing is imported here that ``--version`` and ``--help`` do not need. Exit codes are those of
``core.errors.EXIT``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from eparch.cli.commands import Group
from eparch.version import __version__

_CLI = "eparch.cli"

COMMANDS: dict[str, tuple[str, str]] = {
    "agent": (f"{_CLI}.agent:agent", "What agents were told, as workers."),
    "api": (f"{_CLI}.api:api", "Send any request to the server."),
    "artifact": (f"{_CLI}.artifact:artifact", "What runs have made for people to look at."),
    "automation": (f"{_CLI}.automation:automation", "What happens when something happens."),
    "block": (f"{_CLI}.block:block", "Configuration with secrets that flows share."),
    "completion": (f"{_CLI}.completion:completion", "Print the completion script of a shell."),
    "concurrency-limit": (
        f"{_CLI}.concurrency_limit:concurrency_limit",
        "How many task runs with a tag run at once.",
    ),
    "config": (f"{_CLI}.config:config", "View and change settings."),
    "deploy": (f"{_CLI}.deploy:deploy", "Deploy flows of this project."),
    "deployment": (f"{_CLI}.deployment:deployment", "View, run and change deployments."),
    "doctor": (f"{_CLI}.doctor:doctor", "Find out what is wrong here."),
    "event": (f"{_CLI}.event:event", "See events as they happen, and emit your own."),
    "flow": (f"{_CLI}.flow:flow", "See flows."),
    "flow-run": (f"{_CLI}.flow_run:flow_run", "View, watch, cancel and retry runs."),
    "global-concurrency-limit": (
        f"{_CLI}.global_concurrency_limit:global_concurrency_limit",
        "Named limits that code takes slots of (gcl).",
    ),
    "init": (f"{_CLI}.init:init", "Begin a project: write its prefect.yaml."),
    "migrate": (f"{_CLI}.migrate:migrate", "From Prefect 2's agents and blocks to workers."),
    "profile": (f"{_CLI}.profile:profile", "Named sets of settings."),
    "run": (f"{_CLI}.run:run", "Run a file of flows here and now."),
    "schema": (f"{_CLI}.schema:schema", "Print the JSON Schema of prefect.yaml."),
    "server": (f"{_CLI}.server:server", "Start and stop the server."),
    "task": (f"{_CLI}.task:task", "Serve tasks that code elsewhere starts with `delay()`."),
    "task-run": (f"{_CLI}.task_run:task_run", "View task runs, and why one waits."),
    "variable": (f"{_CLI}.variable:variable", "Named values on the server."),
    "version": (f"{_CLI}.versions:version", "Versions of everything that matters."),
    "work-pool": (f"{_CLI}.work_pool:work_pool", "Work pools: where runs wait for workers."),
    "work-queue": (f"{_CLI}.work_queue:work_queue", "Queues inside work pools."),
    "worker": (f"{_CLI}.worker:worker", "Start and view workers."),
}
"""Name -> where the command is, and its line in ``--help``."""

ALIASES = {
    "automations": "automation",
    "blocks": "block",
    "concurrency-limits": "concurrency-limit",
    "events": "event",
    "gcl": "global-concurrency-limit",
}
"""Other names of commands, which ``--help`` does not list."""


@click.group(cls=Group, lazy=COMMANDS, aliases=ALIASES, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="eparch", message="%(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Eparch runs your flows on your own infrastructure."""
    from eparch.cli.session import Session

    context.obj = Session(context.meta)
    context.call_on_close(context.obj.close)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with the exit code of what happened."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(given: list[str]) -> int:
    """The exit code of one command; errors are told on stderr."""
    try:
        if "_EPARCH_COMPLETE" in os.environ:
            cli.main(given, prog_name="eparch")
        with cli.make_context("eparch", list(given)) as context:
            cli.invoke(context)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        _silence()
        return 141
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except Exception as error:
        return _tell(error, given)


def _tell(error: Exception, given: list[str]) -> int:
    from eparch.cli import failures

    if "--debug" in given or os.environ.get("EPARCH_DEBUG", "").lower() in ("1", "true", "yes", "on"):
        import traceback

        traceback.print_exception(error)
    try:
        return failures.tell(error, as_json=_wants_json(given))
    except BrokenPipeError:
        _silence()
        return 141


def _wants_json(given: list[str]) -> bool:
    """Whether ``-o json`` is on the line, also where the line could not be parsed."""
    pairs = zip(given, [*given[1:], ""], strict=True)
    return any(
        word in ("-ojson", "-ojsonl", "--output=json", "--output=jsonl")
        or (word in ("-o", "--output") and after in ("json", "jsonl"))
        for word, after in pairs
    )


def _silence() -> None:
    """Nobody reads any more: what is still buffered goes nowhere, and Python says nothing about it."""
    nowhere: Any = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
