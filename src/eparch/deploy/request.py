"""What a person asks ``eparch deploy`` for, and what came of it: the contract of the command and ``apply``.

Owns no rule: what a request means for a project is decided in ``selection`` and ``overrides``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from eparch.core.model import Json, Value
from eparch.deploy.preview import JobChange, Use


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRequest:
    """The command line of ``deploy`` (features 1.6), parsed. None and empty: not given, the file decides."""

    entrypoint: str | None = None
    """``path/to/file.py:function`` or ``module:function``."""
    names: tuple[str, ...] = ()
    """Deployments of the file by name, ``flow/name`` or glob; with an entrypoint, the new one's name."""
    all: bool = False
    """Every deployment of the file."""
    file: Path | None = None
    """The project's file; ``prefect.yaml`` in the current folder unless given."""
    description: str | None = None
    version: str | None = None
    version_type: str | None = None
    tags: tuple[str, ...] = ()
    concurrency_limit: int | None = None
    collision_strategy: str | None = None
    pool: str | None = None
    queue: str | None = None
    job_variables: dict[str, Json] = field(default_factory=dict)
    schedules: tuple[dict[str, Json], ...] = ()
    """The schedules of the flags, as the wire has them; they are checked."""
    triggers: tuple[dict[str, Json], ...] = ()
    """Instead of those in the file, written as there."""
    sla: tuple[dict[str, Json], ...] = ()
    """Instead of those in the file, written as there."""
    parameters: dict[str, Json] = field(default_factory=dict)
    enforce_parameter_schema: bool | None = None
    plan_only: bool = False
    """Say what would change and change nothing; build and push steps do not run."""
    prune: bool = False
    """Delete what the project owned and its file no longer has (row D13)."""
    lenient: bool = False
    """Unknown keys of the file are told and ignored, not refused."""


class Deployed(Value, frozen=True, kw_only=True):
    """What came, or in a plan would come, of one deployment."""

    name: str
    """``flow/deployment``."""
    action: str
    """``created``, ``changed``, ``deleted`` or ``unchanged``; in a plan ``create`` and so on."""
    id: UUID | None = None
    work_pool_name: str | None = None
    changes: dict[str, list[Any]] = {}
    """Field -> what it was and what it is; secrets are masked."""
    drift: list[str] = []
    """What was changed by hand since the last time."""
    changed_by: str | None = None
    """Who changed it last, where the server knows."""
    uses: list[Use] = []
    job: list[JobChange] = []
    """The job of its runs; in a plan only."""


class DeployResult(Value, frozen=True, kw_only=True):
    """What came of a request, in the order of the file; ``hints`` say what to do next."""

    deployments: list[Deployed]
    hints: list[str] = []

    @property
    def differs(self) -> bool:
        """Whether anything is, or would be, other than before."""
        return any(one.action != "unchanged" for one in self.deployments)
