"""What the version of a Prefect client says about it, as its ``User-Agent`` has it (wire section 1).

Owns the versions from which on such a client does or knows something. Ours are told by what they send.
"""

from __future__ import annotations

import re

Version = tuple[int, int, int]

_AGENT = re.compile(r"prefect/(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?!\d)")

RENEWS_SLOTS: Version = (3, 4, 11)
"""Since then a flow's process renews the lease of its deployment's slot."""

TOOK_SLOTS: tuple[Version, Version] = ((3, 0, 0), (3, 0, 3))
"""From the first to the second of these the worker took the slot of a deployment itself."""


def stock_version(user_agent: str | None) -> Version | None:
    """The version in ``prefect/3.9.1 (API 0.8.4)``; None when somebody else asks."""
    found = _AGENT.match(user_agent or "")
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def renews_slots(version: Version | None) -> bool:
    """Whether the client renews the lease of its slot while its flow runs."""
    return version is not None and version >= RENEWS_SLOTS


def takes_slots(version: Version | None) -> bool:
    """Whether the client takes the slot of its deployment itself, so that nobody may take one for it."""
    return version is not None and TOOK_SLOTS[0] <= version <= TOOK_SLOTS[1]
