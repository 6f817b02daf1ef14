"""Writing a project's file in one step: all of it or nothing, and not over what others wrote meanwhile.

Does not know what is in the file.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def read_text(path: Path) -> str | None:
    """What is in the file; None if there is none.

    Raises:
        SourceError: it cannot be read.
    """
    from eparch.core.errors import SourceError

    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SourceError("The file cannot be read", file=str(path), why=why) from error


def write_project(path: Path, before: str | None, after: str) -> None:
    """Replace the file, which has to hold ``before`` (None: must not be there), with its rights kept.

    Raises:
        SourceError: somebody changed it meanwhile, or it cannot be written.
    """
    from eparch.core.errors import SourceError

    real = path.resolve()
    if read_text(path) != before:
        raise SourceError("The file was changed meanwhile", file=str(path), fix="run the command again")
    try:
        handle, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.write(after)
            os.chmod(name, real.stat().st_mode & 0o7777 if before is not None else 0o666 & ~_umask())
            os.replace(name, real)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        why = error.strerror or str(error)
        raise SourceError("The file cannot be written", file=str(path), why=why) from error


def _umask() -> int:
    """The mask of new files, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
