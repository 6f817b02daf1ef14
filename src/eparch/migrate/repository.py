"""A repository as a source, and the files that a migration changes in it.

Owns walking, reading and the writing of all files or none. Does not own what is made of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from eparch.core.errors import SourceError, SourceErrors
from eparch.core.model import Value
from eparch.deploy.source import MAX_BYTES, load
from eparch.migrate.deployment_files import Beta, may_be_one, read_file
from eparch.migrate.inventory import OldDeployment, Source
from eparch.migrate.project_file import FILE

_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "env"})
_YAML = (".yaml", ".yml")


class Repository(Value, frozen=True, kw_only=True):
    """What a repository holds of Prefect 2; ``problems`` are of files that cannot be read."""

    source: Source
    betas: list[Beta] = []
    problems: list[SourceError] = []


def read_repository(root: Path, only: Path | None = None) -> Repository:
    """The deployments in the YAML files below ``root``, or in the one file ``only``.

    Hidden folders and environments are left out; a file that is broken does not keep others from being read.
    """
    deployments: list[OldDeployment] = []
    betas: list[Beta] = []
    problems: list[SourceError] = []
    for file in [only] if only else _walk(root, _YAML):
        name = Path(os.path.relpath(file, root)).as_posix()
        try:
            text = read_text(file)
            if text is None or not (only or may_be_one(text)):
                continue
            found = read_file(text, name)
        except SourceErrors as error:
            problems += error.errors
        except OSError as error:
            why = error.strerror or str(error)
            problems.append(SourceError("The file cannot be read", file=name, why=why))
        else:
            if isinstance(found, OldDeployment):
                deployments.append(found)
            elif found is not None:
                betas.append(found)
    return Repository(source=Source(deployments=deployments), betas=betas, problems=problems)


def exists_in(root: Path, path: str) -> bool:
    """Whether ``path`` is a file below ``root``, or an absolute path of a folder that is there."""
    try:
        if os.path.isabs(path):
            return Path(path).is_dir()
        return (root / path).is_file()
    except (OSError, ValueError):
        return False


def read_code(root: Path) -> dict[str, str]:
    """The Python files below ``root`` by their paths, as text; what is no text is left out."""
    found = {}
    for file in _walk(root, (".py",)):
        with suppress(OSError):
            text = read_text(file)
            if text is not None:
                found[file.relative_to(root).as_posix()] = text
    return found


def read_project(root: Path) -> str | None:
    """The text of the project file below ``root``; None if there is none.

    Raises:
        SourceErrors: there is one that cannot be used; it is not to be replaced.
    """
    file = root / FILE
    return load(file).text if os.path.lexists(file) else None


def read_text(file: Path) -> str | None:
    """The text of a file; None if it is not there, is none, or is larger than a project file may be.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        return None if len(data) > MAX_BYTES else data.decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        return None


def write_files(root: Path, texts: Mapping[str, bytes]) -> None:
    """Write every file, each in one step and with its rights, after all could be prepared.

    Raises:
        SourceError: one cannot be written; then none was.
    """
    prepared: list[tuple[str, Path]] = []
    file = ""
    try:
        for file, data in texts.items():
            target = (root / file).resolve()
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            prepared.append((name, target))
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.chmod(name, target.stat().st_mode & 0o7777 if target.exists() else 0o644)
        while prepared:
            name, target = prepared[-1]
            os.replace(name, target)
            prepared.pop()
    except OSError as error:
        why = error.strerror or str(error)
        raise SourceError("The file cannot be written", file=file, why=why) from error
    finally:
        for name, _ in prepared:
            Path(name).unlink(missing_ok=True)


def _walk(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _SKIPPED and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(names) if name.endswith(suffixes))
