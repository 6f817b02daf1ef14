"""The profile file: named sets of settings, one of them active.

The file is TOML as Prefect writes it: ``active = "name"`` and ``[profiles.name]`` tables whose keys are
variables. Reading uses the standard library; writing keeps comments and order.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eparch.core.errors import Conflict, NotFound, SourceError, did_you_mean

DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Profiles:
    """What a profile file holds."""

    active: str | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def named(self, name: str) -> Mapping[str, Any]:
        """The variables of one profile.

        Raises:
            NotFound: there is none of that name; the message suggests the nearest.
        """
        if name not in self.tables:
            raise missing(name, self.tables)
        return self.tables[name]


def missing(name: str, known: Mapping[str, Any]) -> NotFound:
    """The error for a profile that is not there."""
    return NotFound(
        f"There is no profile {name!r}.",
        why=f"Known profiles: {', '.join(known)}." if known else "The profile file has none.",
        fix=did_you_mean(name, known) or f"Make it: eparch profile create {name}",
    )


def read(path: Path) -> Profiles:
    """The profiles in the file at ``path``; a missing file has none.

    Raises:
        SourceError: it is not TOML, or not of the shape of a profile file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError("The profile file cannot be read.", file=str(path), why=str(error)) from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SourceError(
            "The profile file is not TOML.",
            file=str(path),
            why=str(error),
            fix="Correct the file, or move it away to begin anew.",
        ) from error
    active, tables = document.get("active"), document.get("profiles", {})
    well = isinstance(tables, dict) and all(isinstance(table, dict) for table in tables.values())
    if not well or not isinstance(active, str | None):
        raise SourceError(
            "The profile file has another shape than expected.",
            file=str(path),
            why='Expected `active = "name"` and tables `[profiles.name]`.',
        )
    return Profiles(active, tables)


def edit(path: Path, change: Callable[[Any, Any], None]) -> None:
    """Change the file at ``path`` in place: all or nothing, comments kept, readable by its owner only.

    ``change`` gets the document and its table of profiles.
    """
    import tomlkit

    read(path)  # says what is wrong with a broken file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    document = tomlkit.parse(text)
    if "profiles" not in document:
        document["profiles"] = tomlkit.table(is_super_table=True)
    change(document, document["profiles"])
    write_whole(path, tomlkit.dumps(document))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text, never a part (mode 0600)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def create(path: Path, name: str, *, values: Mapping[str, Any] | None = None) -> None:
    """Add the profile ``name``.

    Raises:
        Conflict: it is there already.
    """

    def change(document: Any, tables: Any) -> None:
        if name in tables:
            raise Conflict(f"The profile {name!r} exists already.", fix=f"Use it: eparch profile use {name}")
        tables[name] = dict(values or {})

    edit(path, change)


def use(path: Path, name: str) -> None:
    """Make the profile ``name`` the active one.

    Raises:
        NotFound: there is none of that name.
    """

    def change(document: Any, tables: Any) -> None:
        if name not in tables:
            raise missing(name, tables)
        document["active"] = name

    edit(path, change)


def delete(path: Path, name: str) -> None:
    """Remove the profile ``name``.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is the active one.
    """

    def change(document: Any, tables: Any) -> None:
        if name not in tables:
            raise missing(name, tables)
        if document.get("active") == name:
            raise Conflict(
                f"The profile {name!r} is the active one.", fix="Use another first: eparch profile use NAME"
            )
        del tables[name]

    edit(path, change)


def rename(path: Path, old: str, new: str) -> None:
    """Give the profile ``old`` the name ``new``; it stays active if it was.

    Raises:
        NotFound: there is none named ``old``.
        Conflict: there is one named ``new``.
    """

    def change(document: Any, tables: Any) -> None:
        if old not in tables:
            raise missing(old, tables)
        if new in tables:
            raise Conflict(f"The profile {new!r} exists already.", fix="Choose another name.")
        tables[new] = tables[old]
        del tables[old]
        if document.get("active") == old:
            document["active"] = new

    edit(path, change)


def assign(path: Path, name: str, values: Mapping[str, Any], *, drop: tuple[str, ...] = ()) -> None:
    """Remove ``drop`` from the profile ``name``, then set ``values``; it is made when absent."""

    def change(document: Any, tables: Any) -> None:
        table = tables.setdefault(name, {})
        for key in drop:
            table.pop(key, None)
        for key, value in values.items():
            table[key] = value
        document.setdefault("active", name)

    edit(path, change)
