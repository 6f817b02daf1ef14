"""Agent commands in a repository become worker commands, each in its place (row M9).

Owns finding them in the files of a folder and rewriting them in text. ``find_in`` and ``rewrite`` are
functions of text; only ``find_commands`` reads files, and nothing here writes any. Units of systemd,
Dockerfiles, compose files, charts, manifests, Terraform, scripts, CI and Python are all read the same way:
by how the command is written, in a shell's words, in a list, or in YAML's lines.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eparch.core.agents import DEFAULT_POOL
from eparch.core.errors import Usage
from eparch.migrate import operations_words as reading
from eparch.migrate.operations_edits import edits_of
from eparch.migrate.operations_forms import Command, commands_in
from eparch.migrate.operations_options import gather, read_parts

MOST_BYTES = 1_000_000
"""Larger files are data, not configuration."""

_SKIPPED = {
    ".direnv", ".eggs", ".git", ".hg", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".svn",
    ".terraform", ".tox", ".venv", "__pycache__", "node_modules", "site-packages", "venv",
}  # fmt: skip
_PROSE = {".adoc", ".html", ".ipynb", ".md", ".rst", ".txt"}
_YAML = {".yaml", ".yml"}
_COMMENT = re.compile(r"\s*(?:#|//|;|::|<!--|\*\s|--\s|(?:@?rem)\s)|.*(?:\s#\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One command that starts an agent."""

    path: str
    """Of the file, below the folder that was searched, with ``/``."""
    line: int
    """From 1."""
    start: int
    end: int
    """Where it is in the text, in characters."""
    command: str
    """As it is written."""
    read: Command
    problem: str = ""
    """Why it is left as it is; empty when it can be rewritten."""

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}"

    @property
    def pool(self) -> str:
        """The pool that the agent serves, as the command says it."""
        try:
            return gather(read_parts(self.read.arguments)).pool or DEFAULT_POOL
        except Usage:
            return DEFAULT_POOL


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text after its commands were rewritten, and what a person has to know or to do."""

    text: str
    notes: tuple[str, ...] = ()


def find_commands(root: Path) -> list[Finding]:
    """Every agent command in the text files below ``root``, by path and place.

    Environments, version control, binaries, links and files over a megabyte are left out.
    """
    found: list[Finding] = []
    for path, text in read_texts(root):
        found += find_in(text, path)
    return found


def read_texts(root: Path) -> Iterator[tuple[str, str]]:
    """The text files below ``root`` that a command may be in, sorted: path below it, and text as it is."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            file = Path(folder) / name
            text = _read(file)
            if text is not None and "agent" in text:
                yield file.relative_to(root).as_posix(), text


def _read(file: Path) -> str | None:
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > MOST_BYTES:
            return None
        raw = file.read_bytes()
    except OSError:
        return None  # a file that this person cannot read is not theirs to change
    return None if b"\0" in raw else raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a text that ``read_texts`` gave, so that what is not UTF-8 in it stays as it was."""
    return text.encode("utf-8", "surrogateescape")


def find_in(text: str, path: str) -> list[Finding]:
    """The agent commands in ``text``; the name of the file says how it is written."""
    kind = PurePosixPath(path).suffix.lower()
    found: list[Finding] = []
    line, counted = 1, 0
    for command in commands_in(text, yaml=kind in _YAML):
        start, end = command.words[0].start, command.end
        line += text.count("\n", counted, start)
        counted = start
        problem = _problem(text, command, prose=kind in _PROSE)
        found.append(Finding(path, line, start, end, text[start:end], command, problem))
    return found


def _problem(text: str, command: Command, *, prose: bool) -> str:
    """Why the command cannot be rewritten whatever the pool is; empty if it can."""
    before = text[reading.line_start(text, command.words[0].start) : command.words[0].start]
    if command.problem:
        return command.problem
    if prose:
        return "this is a document; change what it says when the agents are gone"
    if _COMMENT.match(before):
        return "this is a comment"
    try:
        gather(read_parts(command.arguments))
    except Usage as error:
        return _told(error)
    return ""


def _told(error: Usage) -> str:
    return f"{error.message}; {error.fix}" if error.fix else error.message


def explain(finding: Finding, pool: str, queues: Sequence[str] | None = None) -> str:
    """Why ``rewrite`` leaves the command as it is; empty when it does not."""
    if finding.problem:
        return finding.problem
    try:
        edits_of(finding.read, finding.command, finding.start, pool, queues)
    except Usage as error:
        return _told(error)
    return ""


def rewrite(text: str, finding: Finding, pool: str, queues: Sequence[str] | None = None) -> str:
    """``text`` with the command of ``finding`` as the worker of ``pool``; all else stays, byte by byte.

    ``queues`` are the names of the pool's queues, which ``--match`` needs. A command that a worker has no
    words for stays as it is (``explain`` says why), and so does a text that has changed since.
    """
    if text[finding.start : finding.end] != finding.command or explain(finding, pool, queues):
        return text
    written = finding.command
    edits = edits_of(finding.read, written, finding.start, pool, queues)
    for start, end, new in sorted(edits, key=lambda one: one[:2], reverse=True):
        written = written[: start - finding.start] + new + written[end - finding.start :]
    return text[: finding.start] + written + text[finding.end :]


def rewrite_all(
    text: str,
    path: str,
    pool_of: Callable[[str], str],
    queues_of: Callable[[str], Sequence[str] | None] = lambda pool: None,
) -> Rewritten:
    """Every command in ``text`` rewritten, and a note with ``file:line`` for what a person has to look at.

    ``pool_of`` gives the new pool for the agent's (``default-agent-pool`` where it named none);
    ``queues_of`` the queues of a new pool, None where they are not known.
    """
    notes: list[str] = []
    for finding in reversed(find_in(text, path)):
        pool = pool_of(finding.pool)
        known = queues_of(pool)
        problem = explain(finding, pool, known)
        notes += [f"{finding.place}: left as it is: {problem}"] if problem else advice(finding, pool)
        text = rewrite(text, finding, pool, known)
    return Rewritten(text, tuple(reversed(notes)))


def advice(finding: Finding, pool: str) -> list[str]:
    """What a person has to see to after the command was rewritten."""
    words = finding.read.arguments
    parts = read_parts(words)
    notes = [
        f"{finding.place}: {part.text} has to name the pool '{pool}' where it is set"
        for part in parts
        if part.kind == "pool" and part.value is not None and not words[part.value].known
    ]
    if any(part.kind == "prefix" for part in parts):
        notes.append(
            f"{finding.place}: a queue that is made later has to be added with -q; --match took it up"
        )
    return notes


def diff(path: str, before: str, after: str) -> str:
    """The change as a unified diff; empty if there is none."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines
    )
