"""How a worker is to work: one value, made by the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What ``eparch worker start`` was told; rows W1-W9."""

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
    """Answer ``GET /health`` on ``health_port``."""
    health_port: int = 8080
    base_job_template: Path | None = None
    """JSON file that a pool begins with that is created here."""
    create_pool_if_not_found: bool = True
    grace_seconds: float = 20.0
    """How long a job has to end after it was asked to."""
