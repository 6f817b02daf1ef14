"""``eparch migrate``: what a repository has of Prefect 2, and what it needs for workers (rows M1 to M9)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eparch.cli.commands import Command
from eparch.cli.output import Column, printable, write
from eparch.cli.session import Session

if TYPE_CHECKING:
    from eparch.core.errors import EparchError
    from eparch.migrate.migration import Migration


UNREADABLE = 2
"""Exit code when a file could not be read and the others were shown."""


@click.command("migrate", cls=Command, example="eparch migrate . --report migration.md")
@click.argument("path", type=click.Path(path_type=Path, exists=True), default=".")
@click.option("--write", "writes", is_flag=True, help="Write the files; else the changes are shown.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write Markdown to this file."
)
@click.option("-p", "--pool", metavar="NAME", help="Whose worker replaces agents, where it could be several.")
@click.pass_context
def migrate(context: click.Context, path: Path, writes: bool, report: Path | None, pool: str | None) -> None:
    """From Prefect 2's agents and infrastructure blocks to workers.

    Reads the deployment.yaml files and the agent commands at PATH, a folder or one file, and shows what
    they become: prefect.yaml, work pools, worker commands.
    """
    from eparch.core.errors import SourceError
    from eparch.migrate.migration import decide
    from eparch.migrate.report import commands_of, files_of, markdown
    from eparch.migrate.repository import exists_in, read_project, read_repository, write_files

    session: Session = context.obj
    root, only = (path, None) if path.is_dir() else (_root_of(path), path)
    found = read_repository(root, only)
    migration = decide(found.source, found.betas, exists=lambda name: exists_in(root, name))
    files = {name: text.encode() for name, text in files_of(migration, read_project(root)).items()}
    notes: list[str] = []
    if only is None:
        changed, notes = _rewrite_agents(root, migration, pool)
        rewritten, said = _rewrite_code(root, migration, pool, changed)
        files |= changed | rewritten
        notes += said
    files = {name: data for name, data in files.items() if _bytes(root / name) != data}
    for problem in found.problems:
        session.note(_told(problem))
    if writes and found.problems:
        raise SourceError("Nothing was written", why="a file cannot be read", fix="mend it, or move it away")
    if writes:
        write_files(root, files)
    _show(session, root, migration, files, notes, writes=writes)
    if report is not None:
        write_files(report.parent, {report.name: markdown(migration).encode()})
        session.note(f"{report} was written.")
    if not migration.items and not files:
        session.note(f"{path}: nothing of Prefect 2 was found.")
    elif not writes and files:
        session.note("Nothing was written; to write it: eparch migrate --write")
    elif writes:
        for line in ("Then:", *commands_of(migration)):
            session.note(line)
    context.exit(UNREADABLE if found.problems else 0)


def _root_of(file: Path) -> Path:
    """The folder that the project file of one file belongs into: this one if the file is below it."""
    here = Path.cwd()
    return here if file.resolve().is_relative_to(here.resolve()) else file.parent


def _rewrite_agents(root: Path, migration: Migration, pool: str | None) -> tuple[dict[str, bytes], list[str]]:
    """Every file in which an agent is started, with workers instead, and what a person has to know."""
    from eparch.migrate.operations import encode, find_commands, read_texts, rewrite_all

    names = [one.name for one in migration.pools]
    chosen = pool or (names[0] if len(names) == 1 else None)
    found = find_commands(root)
    if not found:
        return {}, []
    if chosen is None:
        what = f"could be for {', '.join(names)}" if names else "is for a work pool that is not known"
        return {}, [f"{one.place}: the agent {what}: name it with --pool" for one in found]
    changed: dict[str, bytes] = {}
    notes: list[str] = []
    paths = {one.path for one in found}
    for path, text in read_texts(root):
        if path in paths:
            rewritten = rewrite_all(text, path, lambda name: chosen)
            notes += rewritten.notes
            if rewritten.text != text:
                changed[path] = encode(rewritten.text)
    return changed, notes


def _rewrite_code(
    root: Path, migration: Migration, pool: str | None, changed_before: dict[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    """Every Python file that builds deployments, with ``flow.deploy`` instead, and what is left (row M8).

    ``changed_before`` has the files that were changed already.
    """
    from eparch.core.errors import Usage
    from eparch.migrate.code import Targets, rewrite_code
    from eparch.migrate.repository import read_code

    texts = read_code(root)
    texts |= {path: changed_before[path].decode() for path in texts.keys() & changed_before.keys()}
    plain = pool or next(
        (one.name for one in migration.pools if one.type == "process" and one.is_plain), None
    )
    pools = {one.block: one.name for one in migration.pools if one.block}
    targets = Targets(infrastructure=pools, default_pool=plain, files=frozenset(texts))
    changed: dict[str, bytes] = {}
    notes: list[str] = []
    for path, text in texts.items():
        if "build_from_flow" not in text:
            continue
        try:
            rewritten = rewrite_code(text, path, targets)
        except Usage as error:
            return {}, [f"{path}: {_told(error)}"]
        notes += rewritten.notes
        if rewritten.text != text:
            changed[path] = rewritten.text.encode()
    return changed, notes


def _show(
    session: Session,
    root: Path,
    migration: Migration,
    files: dict[str, bytes],
    notes: list[str],
    *,
    writes: bool,
) -> None:
    """The changes and the account, as a table for people and as one object for programs."""
    from eparch.migrate.report import commands_of, notable

    if not session.output.is_table:
        record: dict[str, Any] = {
            "pools": migration.pools,
            "deployments": migration.items,
            "queues": migration.queues,
            "account": migration.account,
            "files": {name: data.decode("utf-8", "replace") for name, data in files.items()},
            "commands": commands_of(migration),
            "notes": notes,
            "written": writes,
        }
        session.output.one(record)
        return
    from eparch.migrate.operations import diff

    if not writes:
        for name, data in files.items():
            before = (_bytes(root / name) or b"").decode("utf-8", "replace")
            text = diff(name, before, data.decode("utf-8", "replace"))
            write("\n".join(printable(line) for line in text.splitlines()))
    columns = [
        Column("OF", lambda entry: entry.owner),
        Column("FIELD", lambda entry: entry.field),
        Column("OUTCOME", lambda entry: entry.outcome),
        Column("WHY", lambda entry: entry.why),
    ]
    session.output.rows(notable(migration.account), columns)
    if migration.account:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in migration.counts().items())
        session.note(f"Fields: {counts}.")
    for note in notes:
        session.note(note)


def _bytes(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _told(error: EparchError) -> str:
    return "; ".join(filter(None, [str(error), error.why, error.fix]))
