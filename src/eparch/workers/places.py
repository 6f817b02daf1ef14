"""The folder of this machine in which the workers of one user leave word for each other."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from eparch.core.errors import InfrastructureError
from eparch.workers.holder import UNBORN


def own_folder() -> Path:
    """A folder that only this user can write; created if it is not there.

    Raises:
        InfrastructureError: somebody else made it.
    """
    folder = Path(tempfile.gettempdir()) / f"eparch-jobs-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise InfrastructureError(
            f"The folder '{folder}' is not this user's own",
            why="others could take over the jobs that are known there",
            fix="remove it, or set TMPDIR to another folder",
        )
    return folder


_ABANDONED = 600.0
"""Seconds after which one that is still not listened at never will be."""


def sweep() -> list[str]:
    """Remove the sockets that killed holders left behind; their names."""
    try:
        places = [entry for entry in own_folder().iterdir() if entry.is_socket() and _is_left_over(entry)]
    except (OSError, InfrastructureError):
        return []
    for place in places:
        # A name has the process and its start in it, so nobody makes the same one again meanwhile.
        place.unlink(missing_ok=True)
    return [place.name for place in places]


def _is_left_over(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        # One who listens and has no time just now makes this wait, and is there.
        caller.setblocking(False)
        try:
            caller.connect(str(place))
        except ConnectionRefusedError:
            born = not place.name.endswith(UNBORN)
            return born or time.time() - place.lstat().st_mtime > _ABANDONED
        except OSError:
            return False
    return False
