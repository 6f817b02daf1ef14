"""What a migration makes, as files, as commands, and as Markdown for a pull request.

Owns the names of the files and the words of the report. Does not write anything.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable

from eparch.migrate.account import Entry, Outcome
from eparch.migrate.infrastructure import Pool
from eparch.migrate.migration import Migration
from eparch.migrate.project_file import FILE, write_items

POOLS = "work-pools"
"""The folder of the base job templates."""


def files_of(migration: Migration, project: str | None) -> dict[str, str]:
    """The text of every file that is to be written; ``project`` is what the project file has now.

    Raises:
        SourceErrors: the project file cannot be read.
    """
    texts = {}
    text, new = write_items(project, migration.items, migration.shared)
    if new:
        texts[FILE] = text
    for pool in migration.pools:
        if not pool.is_plain:
            texts[template_file(pool)] = json.dumps(pool.base_job_template, indent=2) + "\n"
    return texts


def template_file(pool: Pool) -> str:
    """Where the base job template of a pool is written."""
    return f"{POOLS}/{re.sub(r'[^A-Za-z0-9._-]+', '-', pool.name)}.json"


def commands_of(migration: Migration) -> list[str]:
    """The commands that make what the files describe, in their order."""
    lines = []
    for pool in migration.pools:
        words = ["eparch", "work-pool", "create", pool.name, "--type", pool.type]
        if not pool.is_plain:
            words += ["--base-job-template", template_file(pool)]
        lines.append(shlex.join(words))
    for queue in migration.queues:
        if queue.name == "default" or queue.pool is None:
            continue
        words = ["eparch", "work-queue", "create", queue.name, "--pool", queue.pool]
        if queue.concurrency_limit is not None:
            words += ["--limit", str(queue.concurrency_limit)]
        if queue.priority is not None:
            words += ["--priority", str(queue.priority)]
        lines.append(shlex.join(words))
    if migration.items:
        lines.append("eparch deploy --all")
    lines += [shlex.join(["eparch", "worker", "start", "--pool", pool.name]) for pool in migration.pools]
    return lines


def notable(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that somebody should read first: what needs a person, then what was dropped."""
    found = list(entries)
    wanted = (Outcome.NEEDS_YOU, Outcome.DROPPED)
    return [entry for outcome in wanted for entry in found if entry.outcome is outcome]


def markdown(migration: Migration) -> str:
    """The report: counts, pools, commands, what needs a person, and every field."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in migration.counts().items())
    lines = ["# From agents and infrastructure blocks to workers", "", f"Fields: {counts}.", ""]
    if migration.pools:
        lines += ["## Work pools", "", "| pool | type | made from |", "| --- | --- | --- |"]
        lines += [_row(pool.name, pool.type, pool.origin or "nothing of its own") for pool in migration.pools]
        lines.append("")
    commands = commands_of(migration)
    if commands:
        lines += ["## Commands", "", "```sh", *commands, "```", ""]
    needed = [entry for entry in migration.account if entry.outcome is Outcome.NEEDS_YOU]
    if needed:
        lines += ["## Needs you", ""]
        lines += [f"- [ ] {_cell(one.owner)}, `{_code(one.field)}`: {_cell(one.why)}" for one in needed]
        lines.append("")
    lines += ["## Every field", "", "| of | field | outcome | now | why |", "| --- | --- | --- | --- | --- |"]
    lines += [_row(one.owner, one.field, one.outcome, one.target, one.why) for one in migration.account]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return re.sub(r"([|\\<`*_])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
