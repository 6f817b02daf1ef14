"""The folder of this machine in which the workers of one user leave word for each other."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from eparch.core.errors import InfrastructureError


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
