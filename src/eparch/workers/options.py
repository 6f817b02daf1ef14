"""How a worker is to work: one value, made by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eparch.settings.table import OnStop

InstallPolicy = Literal["always", "if-not-present", "never", "prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What ``eparch worker start`` was told; rows W1-W10, W18."""

    pool: str
    name: str | None = None
    """Name of the worker; made of its type and its machine unless set."""
    queues: tuple[str, ...] = ()
    """Queues to serve, created if they are not there; all of the pool's if empty."""
    type: str | None = None
    """Type of the pool; read from the pool unless set."""
    limit: int | None = None
    """Most runs at once; None is no limit."""
    prefetch_seconds: float | None = None
    """How long before its time a run is taken; the setting of that name unless set."""
    run_once: bool = False
    """Take what is due, wait for it, and end."""
    with_healthcheck: bool = False
    """Answer probes at the address and port of the settings."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What people tell workers apart by."""
    base_job_template: Path | None = None
    """JSON file that a pool begins with that is created here."""
    create_pool_if_not_found: bool = True
    install_policy: InstallPolicy = "prompt"
    """Whether the package of a worker type is installed (row W10); ``prompt`` asks a person who is there."""
    on_stop: OnStop = "finish"
    """What becomes of the runs when the worker is told to stop (row W18)."""
    grace_seconds: float = 20.0
    """How long runs may go on after the worker was told to stop, and a job after it was asked to end."""
