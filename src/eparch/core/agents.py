"""Who serves a work pool: agents those of the type ``prefect-agent``, workers all others (row W4)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Literal

from eparch.core.errors import Usage
from eparch.core.model import Json

AGENT_TYPE = "prefect-agent"
"""Type of the pools that agents serve; workers have never served it."""

DEFAULT_POOL = "default-agent-pool"
"""Where the queues of agents are that were started without a pool."""

ORIGIN = "x-origin"
"""Key of a job template that says what a converted pool was made from; servers keep it as it is."""


def is_converted(name: str, pool_type: str, template: Mapping[str, Json]) -> bool:
    """Whether agents served the pool before its workers did (row W28)."""
    return pool_type != AGENT_TYPE and (name == DEFAULT_POOL or ORIGIN in template)


def check_served_by(who: Literal["agent", "worker"], pool: str, pool_type: str) -> None:
    """Let only those serve the pool who can; both are told the same way.

    Raises:
        Usage: the others serve it; the command that starts them is named.
    """
    other = "agent" if pool_type == AGENT_TYPE else "worker"
    if who == other:
        return
    made = "; or create a pool with: eparch work-pool create NAME --type process" if who == "worker" else ""
    raise Usage(
        f"The work pool '{pool}' is served by {other}s, not by {who}s",
        why=f"its type is '{pool_type}'",
        fix=f"eparch {other} start --pool {shlex.quote(pool)}{made}",
    )
