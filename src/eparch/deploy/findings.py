"""What is found while a file is read: mistakes, notes, and typed fields.

Owns the collecting of all mistakes of a file and the messages about wrong keys and wrong types.
Does not own which keys there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eparch.core.errors import SourceError, did_you_mean
from eparch.core.model import Json
from eparch.core.templates import Path, placeholders
from eparch.deploy.grammar import WORDS
from eparch.deploy.source import Document, Note


class Findings:
    """The mistakes and notes of one document, or of one part of it."""

    def __init__(self, document: Document, *, lenient: bool = False) -> None:
        """``lenient`` turns unknown keys from mistakes into notes."""
        self.document, self.lenient = document, lenient
        self.errors: list[SourceError] = []
        self.notes: list[Note] = []

    def error(self, path: Path, message: str, *, why: str = "", fix: str = "", key: bool = False) -> None:
        """There is a mistake in the value (or ``key``) at ``path``."""
        self.errors.append(self.document.error(path, message, why=why, fix=fix, key=key))

    def note(self, path: Path, message: str) -> None:
        """Something at ``path`` was accepted and should be said."""
        self.notes.append(Note(message=message, position=self.document.key(path)))

    def check_keys(
        self,
        given: Mapping[str, Json],
        path: Path,
        known: Iterable[str],
        hints: Mapping[str, str],
        what: str,
        *,
        otherwise: str = "",
    ) -> None:
        """Refuse every key of ``given`` that is not ``known``.

        ``hints`` say where one belongs; ``otherwise`` is said of one that is near nothing.
        """
        unknown = given.keys() - set(known)
        if not unknown:
            return
        known = list(known)
        for key in given:
            if key not in unknown:
                continue
            fix = hints.get(key) or did_you_mean(key, known)
            message = f"{what} has no key '{key}'"
            if self.lenient:
                self.note((*path, key), f"{message}; it is ignored. {fix}".rstrip())
            else:
                fix = fix or otherwise or f"remove it; known are: {', '.join(known)}"
                self.error((*path, key), message, fix=fix, key=True)


class Fields:
    """The fields of one mapping, read by type; null is absent.

    Before rendering, text that holds a placeholder is accepted for any type: see ``is_open``.
    """

    def __init__(self, given: Mapping[str, Json], path: Path, findings: Findings, *, final: bool) -> None:
        self.given, self.path, self.findings, self.final = given, path, findings, final

    def is_open(self, value: Json) -> bool:
        """Whether ``value`` is only known after rendering."""
        return not self.final and isinstance(value, str) and bool(placeholders(value))

    def text(self, key: str) -> str | None:
        """A text; a number or a boolean is the text as it was written."""
        value = self.given.get(key)
        if isinstance(value, dict | list):
            self.wrong(key, "a text")
            return None
        return None if value is None else as_text(value, self.findings.document, (*self.path, key))

    def flag(self, key: str) -> bool | None:
        """True or false; the words of YAML 1.1 and their quoted forms are understood."""
        value = self.given.get(key)
        if value is None or isinstance(value, bool):
            return value
        if self.is_open(value):
            return None
        if isinstance(value, str) and value.lower() in WORDS:
            return WORDS[value.lower()]
        self.wrong(key, "true or false")
        return None

    def mapping(self, key: str) -> dict[str, Json] | None:
        """A mapping; None if it is absent."""
        value = self.given.get(key)
        if value is None or isinstance(value, dict):
            return value
        if not self.is_open(value):
            self.wrong(key, "a mapping (name: value)")
        return None

    def items(self, key: str) -> list[Any] | None:
        """A list; None if it is absent."""
        value = self.given.get(key)
        if value is None or isinstance(value, list):
            return value
        if not self.is_open(value):
            self.wrong(key, "a list")
        return None

    def wrong(self, key: str, expected: str, *, fix: str = "") -> None:
        """The value of ``key`` has the wrong type."""
        message = f"'{key}' must be {expected}, not {kind_of(self.given.get(key))}"
        self.findings.error((*self.path, key), message, fix=fix)


def as_text(value: Json, document: Document, path: Path) -> str:
    """``value`` as text: what was written at ``path`` if it is a number, so ``1.0`` stays ``1.0``."""
    if isinstance(value, str):
        return value
    return document.written(path) or str(value)


def kind_of(value: Json) -> str:
    """What a person calls the type of ``value``."""
    if isinstance(value, bool):
        return "true or false"
    names = {dict: "a mapping", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


def is_blank(value: Json) -> bool:
    """Whether nothing was filled in: null, or a mapping or list of nothing."""
    if isinstance(value, dict):
        return all(is_blank(item) for item in value.values())
    if isinstance(value, list):
        return all(is_blank(item) for item in value)
    return value is None
