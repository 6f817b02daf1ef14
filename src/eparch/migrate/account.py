"""What became of every field of what somebody had (rows M2, M5): nothing is lost without being named.

Owns the four outcomes and the collecting of them. Does not decide any.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import structs

from eparch.core.model import Value


class Outcome(StrEnum):
    """What became of a field."""

    CARRIED = "carried"
    RENAMED = "renamed"
    """Carried under another name or in another form."""
    NEEDS_YOU = "needs you"
    """It cannot be carried by a tool; ``why`` says what to do."""
    DROPPED = "dropped"
    """It has no effect any more; ``why`` says why."""


class Entry(Value, frozen=True, kw_only=True):
    """One field of one thing and its outcome; ``target`` is where it is now."""

    owner: str
    field: str
    outcome: Outcome
    target: str = ""
    why: str = ""


class Account:
    """The fields of one thing, each with its outcome."""

    def __init__(self, owner: str) -> None:
        """``owner`` is what people call the thing: ``docker-container block 'reports'``."""
        self.owner = owner
        self.entries: list[Entry] = []

    def carried(self, field: str, target: str = "", why: str = "") -> None:
        """It is at ``target`` as it was."""
        self._add(field, Outcome.CARRIED, target or field, why)

    def renamed(self, field: str, target: str, why: str = "") -> None:
        """It is at ``target`` in another form."""
        self._add(field, Outcome.RENAMED, target, why)

    def placed(self, field: str, target: str, *, same: bool = True, why: str = "") -> None:
        """It is at ``target``; renamed if the name or the value (``same`` is false) is another."""
        (self.carried if same and field == target else self.renamed)(field, target, why)

    def needs_you(self, field: str, why: str) -> None:
        """Somebody has to act; ``why`` says what to do."""
        self._add(field, Outcome.NEEDS_YOU, "", why)

    def dropped(self, field: str, why: str) -> None:
        """It is gone, for that reason."""
        self._add(field, Outcome.DROPPED, "", why)

    def refuse(self, target: str, why: str) -> None:
        """What is at ``target``, or within it, needs somebody after all."""
        for index, entry in enumerate(self.entries):
            if entry.target.split(".")[0] == target:
                self.entries[index] = structs.replace(entry, outcome=Outcome.NEEDS_YOU, target="", why=why)

    def fields(self) -> set[str]:
        """The fields that are accounted for."""
        return {entry.field for entry in self.entries}

    def _add(self, field: str, outcome: Outcome, target: str, why: str) -> None:
        self.entries.append(Entry(owner=self.owner, field=field, outcome=outcome, target=target, why=why))
