"""``eparch deploy --fix``: shows what would be moved in the project's file, asks, and writes it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from eparch.cli.output import printable, write

if TYPE_CHECKING:
    from eparch.cli.session import Session

PROJECT_FILE = Path("prefect.yaml")


def fix_file(session: Session, file: Path | None, *, yes: bool) -> None:
    """Move the misplaced keys of ``file`` after a yes; say what is still wrong afterwards.

    Raises:
        SourceErrors: it cannot be read, or is no YAML.
        Usage: nobody can be asked and ``yes`` is not given.
    """
    from eparch.cli.project_file import write_project
    from eparch.deploy.fixing import fix
    from eparch.deploy.source import load

    path = file or PROJECT_FILE
    text = load(path).text
    fixed = fix(text, str(path))
    if fixed == text:
        session.note(f"{path}: nothing is to be moved.")
    else:
        before, after = text.splitlines(), fixed.splitlines()
        diff = difflib.unified_diff(before, after, str(path), f"{path} (fixed)", lineterm="")
        write("\n".join(printable(line) for line in diff))
        session.confirm(f"Write this to {path}?", yes=yes)
        write_project(path, text, fixed)
        session.note(f"{path} was written.")
    _tell_what_is_left(session, fixed, str(path))


def _tell_what_is_left(session: Session, text: str, file: str) -> None:
    from eparch.core.errors import SourceErrors
    from eparch.deploy.project import parse_project

    try:
        parse_project(text, file)
    except SourceErrors as error:
        count = len(error.errors)
        session.note(f"{count} {'mistake is' if count == 1 else 'mistakes are'} left:")
        for one in error.errors:
            session.note("; ".join(filter(None, [str(one), one.why, one.fix])))
