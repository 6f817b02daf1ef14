"""Folders in object stores: what a push sends and a pull brings, whoever keeps the objects (features 1.5).

Owns names of objects, ``.prefectignore`` and that nothing is written outside of a folder. Does not own how a
store is asked; that is in ``aws``, ``gcp`` and ``azure``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from eparch.core.errors import StepFailed
from eparch.core.ignoring import read_ignored
from eparch.steps.command import tell

T = TypeVar("T")

IGNORE_FILE = ".prefectignore"
"""Names what is not sent, as ``.gitignore`` does."""

TRANSFERS = 8
"""Objects that are sent or brought at the same time."""

MAX_OBJECTS = 100_000
"""More in one folder are no code, but a mistake in its name."""


class Bucket(Protocol):
    """A place that keeps objects by their names; called from several threads."""

    def names(self, prefix: str) -> Iterable[str]:
        """The names of all objects that begin with ``prefix``.

        Raises:
            StepFailed: it cannot be asked.
        """

    def bring(self, name: str, into: Path) -> None:
        """Write an object to a file.

        Raises:
            StepFailed: it cannot be brought.
        """

    def send(self, source: Path, name: str) -> None:
        """Keep a file as an object.

        Raises:
            StepFailed: it cannot be sent.
        """


def push_folder(bucket: Bucket, source: Path, folder: str, ignore_file: str | None = IGNORE_FILE) -> int:
    """Send every file below ``source`` that is not ignored; how many.

    Raises:
        StepFailed: one could not be sent.
    """
    start = _prefix(folder)
    found = list(files_of(source, ignore_file))
    _each(lambda path: bucket.send(source / path, start + path), found)
    tell(f"{len(found)} files sent to '{folder}'")
    return len(found)


def pull_folder(bucket: Bucket, folder: str, target: Path) -> int:
    """Write every object below ``folder`` to its place below ``target``; how many.

    Raises:
        StepFailed: there is none, one has no place there, or could not be brought.
    """
    start = _prefix(folder)
    found: list[tuple[str, Path]] = []
    for name in bucket.names(start):
        if not name.endswith("/"):
            found.append((name, _place(target, name.removeprefix(start), name)))
        if len(found) > MAX_OBJECTS:
            raise StepFailed(f"'{folder}' holds more than {MAX_OBJECTS} objects", fix="correct 'folder'")
    if not found:
        raise StepFailed(
            f"There is nothing in '{folder}'", fix="push the code there first, or correct 'folder'"
        )
    for parent in {place.parent for _, place in found}:
        parent.mkdir(parents=True, exist_ok=True)
    _each(lambda one: bucket.bring(*one), found)
    tell(f"{len(found)} files brought from '{folder}'")
    return len(found)


def files_of(source: Path, ignore_file: str | None) -> Iterator[str]:
    """The files below ``source`` by their paths from there, without what its ``ignore_file`` names.

    Raises:
        StepFailed: the file cannot be read.
    """
    ignored = read_ignored(_patterns(source, ignore_file))
    for folder, directories, names in os.walk(source):
        inside = Path(folder).relative_to(source)
        directories[:] = sorted(one for one in directories if not ignored((inside / one).as_posix(), True))
        for name in sorted(names):
            path = (inside / name).as_posix()
            if not ignored(path, False) and (source / path).is_file():
                yield path


def _patterns(source: Path, ignore_file: str | None) -> str:
    if not ignore_file:
        return ""
    place = source / ignore_file
    try:
        return place.read_text()
    except FileNotFoundError:
        if ignore_file != IGNORE_FILE:
            raise StepFailed(f"There is no '{ignore_file}'", why="'ignore_file' names it") from None
        return ""
    except (OSError, ValueError) as error:
        raise StepFailed(f"'{place}' cannot be read", why=str(error)) from error


def _prefix(folder: str) -> str:
    """What the names of objects in a folder begin with; ``a`` does not mean ``ab/c``."""
    inner = folder.strip("/")
    return f"{inner}/" if inner else ""


def _place(target: Path, path: str, name: str) -> Path:
    """Where an object is written. Its name is somebody else's: it may not lead out of the folder."""
    parts = path.split("/")
    if "" in parts or ".." in parts or "." in parts or "\\" in path or "\0" in path:
        raise StepFailed(f"The object '{name}' has no place in a folder", why="its name is no relative path")
    return target.joinpath(*parts)


def _each(do: Callable[[T], None], items: list[T]) -> None:
    """``do`` all of them, several at once; after the first that fails no other begins."""
    with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="transfer") as pool:
        begun = [pool.submit(do, item) for item in items]
        try:
            for one in begun:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
