"""Where a flow is, seen from the root of the repository (row M7).

Owns making a path of the project file out of ``path`` and ``entrypoint``. Whether a file is there is asked
of the caller, so nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from eparch.core.model import Value

Exists = Callable[[str], bool]


class Place(Value, frozen=True, kw_only=True):
    """An entrypoint, relative to the root; ``is_found`` is false if no such file is there."""

    entrypoint: str
    is_found: bool


def locate(entrypoint: str, path: str | None, *, folder: str, exists: Exists) -> Place:
    """The entrypoint from the root: ``path`` may be of another machine, ``folder`` is the file's own.

    A path of Windows is read as one; a module without ``.py`` is found with it.
    """
    file, colon, function = _posix(entrypoint).rpartition(":")
    if not colon:
        return Place(entrypoint=_posix(entrypoint), is_found=False)
    for candidate in _candidates(file, _posix(path or ""), folder):
        for name in (candidate, f"{candidate}.py"):
            if exists(name) and name.endswith(".py"):
                return Place(entrypoint=f"{name}:{function}", is_found=True)
    return Place(entrypoint=f"{file}:{function}", is_found=False)


def is_absolute(path: str) -> bool:
    """Whether the path is an absolute one, of Unix or of Windows."""
    return path.startswith(("/", "\\", "~")) or path[1:3] in (":\\", ":/")


def _posix(path: str) -> str:
    path = path.replace("\\", "/")
    return path[2:] if path.startswith("./") else path


def _candidates(file: str, path: str, folder: str) -> Iterator[str]:
    """Names that the file may have here: the end of an absolute path is often a folder of the repository."""
    if is_absolute(file):
        parts = [part for part in file.split("/") if part]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))
        return
    parts = [part for part in path.split("/") if part and part != "."]
    for start in range(len(parts)):
        yield _joined("/".join(parts[start:]), file)
    yield _joined(file)
    yield _joined(folder, file)


def _joined(*parts: str) -> str:
    kept: list[str] = []
    for part in PurePosixPath(*parts).parts:
        if part == ".." and kept:
            kept.pop()
        elif part not in (".", ".."):
            kept.append(part)
    return "/".join(kept)
