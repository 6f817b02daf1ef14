"""What a reason to wait is made of: its base, and the words that reasons share.

Does not own the reasons: those of flow runs are in ``blockers``, those of task runs in ``task_blockers``.
"""

from __future__ import annotations

import shlex
from datetime import datetime

from eparch.core.model import Value
from eparch.core.spans import ago


class Cause(Value, frozen=True, kw_only=True, tag_field="type"):
    """One reason why a run does not run; what it ``says`` is a sentence."""

    def todo(self) -> list[str]:
        """What can be done about it, a line each; nothing where time does it."""
        return []

    def ends_at(self) -> datetime | None:
        """When it ends by itself, where that is known."""
        return None


def command(*words: object) -> str:
    """A command of ours as people type it."""
    return shlex.join(["eparch", *map(str, words)])


def counted(count: int, one: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def since_when(moment: datetime, now: datetime) -> str:
    """How long ago, in words."""
    text = ago(moment, now)
    return "just now" if text == "now" else text


def when(moment: datetime, now: datetime) -> str:
    """A time, and how far away it is."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({ago(moment, now)})"
