"""Who serves a work pool: agents those of the type ``prefect-agent``, workers all others (row W4)."""

from __future__ import annotations

import shlex
from typing import Literal

from eparch.core.errors import Usage

AGENT_TYPE = "prefect-agent"
"""Type of the pools that agents serve; workers have never served it."""


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
