"""What is wrong with a deployment before anything is done with it (rows D11, P5, P9).

Owns the questions: is it named, does its work pool exist, do job variables and parameters fit. All mistakes
are found at once, each with its place in the file where it has one. Asks no server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from eparch.core.errors import (
    EparchError,
    Invalid,
    NotFound,
    ParametersInvalid,
    SourceError,
    Usage,
    did_you_mean,
)
from eparch.core.job_templates import (
    Layer,
    Problem,
    check_values,
    resolve_variables,
    unknown_variables,
)
from eparch.core.model import Json
from eparch.core.parameters import check
from eparch.core.pools import WorkPool
from eparch.core.templates import Path, placeholders
from eparch.deploy.automations import automation_of
from eparch.deploy.overrides import is_flag
from eparch.deploy.project import ProjectDeployment
from eparch.deploy.request import DeployRequest
from eparch.deploy.scan import FoundFlow
from eparch.deploy.selection import Chosen

AGENT = "prefect-agent"
NOBODY = UUID(int=0)
"""Stands for a deployment that is not there yet."""
_POOL_NAME: Path = ("work_pool", "name")
_VARIABLES: Path = ("work_pool", "job_variables")


@dataclass(frozen=True, slots=True)
class Pools:
    """The work pools that are asked for, by name, and the names of all if one of them is missing."""

    found: Mapping[str, WorkPool] = field(default_factory=dict)
    known: tuple[str, ...] = ()


class Checker:
    """The mistakes of one deployment: ``rendered`` is what its file and the flags make of it."""

    def __init__(self, chosen: Chosen, rendered: ProjectDeployment, request: DeployRequest) -> None:
        self.document, self.rendered, self.request = chosen.project.document, rendered, request
        self.errors: list[EparchError] = []
        self.notes: list[str] = []

    def check_identity(self) -> None:
        """It has a name and an entrypoint."""
        if not self.rendered.name:
            self._refuse((), "The deployment has no name", fix="write 'name: ...'")
        if not self.rendered.entrypoint:
            fix = "write 'entrypoint: path/to/file.py:function'"
            why = "a flow is found by its file and function, not by its name" if self._flow_name() else ""
            self._refuse((), f"'{self.rendered.label}' has no entrypoint", why=why, fix=fix)

    def check_triggers(self) -> None:
        """Each of its triggers can be one of an automation."""
        for number, trigger in enumerate(self.rendered.triggers):
            try:
                automation_of(trigger, NOBODY, self.rendered.label, number + 1)
            except Invalid as error:
                self._refuse(("triggers", number), "The trigger cannot be used", why=error.message)

    def check_flow(self, flow: FoundFlow) -> None:
        """Its parameters, and those of its schedules, fit the flow."""
        if flow.is_name_computed:
            self.notes.append(
                f"The name of the flow at '{self.rendered.entrypoint}' is computed; '{flow.name}' is taken. "
                "--import finds the real one."
            )
        if self.rendered.enforce_parameter_schema is False:
            return
        self._check_parameters(flow, self.rendered.parameters, ("parameters",))
        for index, schedule in enumerate(self.rendered.schedules or ()):
            self._check_parameters(flow, schedule.parameters, ("schedules", index, "parameters"))

    def check_pool(self, pools: Pools) -> None:
        """Its work pool is there and takes its job variables."""
        choice = self.rendered.work_pool
        if choice.name is None:
            self._check_no_pool()
            return
        if placeholders(choice.name):
            return
        pool = pools.found.get(choice.name)
        if pool is None:
            hint = did_you_mean(choice.name, pools.known)
            create = f"create it: eparch work-pool create {choice.name} --type process"
            self._refuse(
                _POOL_NAME,
                f"There is no work pool '{choice.name}'",
                fix=f"{hint} Or {create}" if hint else create,
                kind=NotFound,
            )
            return
        if pool.type == AGENT:
            why = "agents run deployments of Prefect 2 only; no worker takes runs from such a pool"
            fix = "name another work pool, or create one with a --type"
            self._refuse(_POOL_NAME, f"The work pool '{pool.name}' is for agents", why=why, fix=fix)
            return
        if pool.is_paused:
            self.notes.append(f"The work pool '{pool.name}' is paused; resume it to have runs started.")
        self._check_variables(pool)

    def _check_no_pool(self) -> None:
        choice = self.rendered.work_pool
        fix = "name a work pool: 'work_pool: {name: ...}', --pool or EPARCH_DEFAULT_WORK_POOL"
        why = "without a work pool nothing reads it"
        if choice.job_variables:
            self._refuse(_VARIABLES, "Job variables need a work pool", why=why, fix=fix)
        if choice.work_queue_name:
            self._refuse(("work_pool", "work_queue_name"), "A queue needs a work pool", why=why, fix=fix)

    def _check_variables(self, pool: WorkPool) -> None:
        schema = pool.base_job_template.get("variables") or {}
        values = self.rendered.work_pool.job_variables
        if not schema:
            return
        unknown = unknown_variables(schema, values)
        for problem in unknown:
            self._refuse_variable(problem, f"The work pool '{pool.name}' has no job variable", key=True)
        refused = {problem.path[0] for problem in unknown}
        known = {key: value for key, value in values.items() if key not in refused}
        layer = Layer(name="deployment", values=known)
        resolved = resolve_variables(schema, layer).values
        if known:
            # As a run will have them, so that 'env.FOO' is judged like any other form.
            changed = {key: resolved[key] for name in known if (key := name.partition(".")[0]) in resolved}
            whole = changed | {key: value for key, value in known.items() if key in resolved}
            for problem in check_values(schema, whole, required=False):
                self._refuse_variable(problem, problem.message)
        missing = [name for name in schema.get("required") or () if name not in resolved]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            self.notes.append(
                f"Every run of '{self.rendered.label}' has to give {names}: "
                f"the work pool '{pool.name}' requires it and has no default."
            )

    def _refuse_variable(self, problem: Problem, message: str, *, key: bool = False) -> None:
        name = problem.path[0] if problem.path else ""
        text = f"{message} '{name}'" if key else message
        self._refuse((*_VARIABLES, *problem.path), text, fix=problem.fix, key=key)

    def _check_parameters(self, flow: FoundFlow, given: dict[str, Json], path: Path) -> None:
        schema = {**flow.parameter_schema, "required": []}
        for name, value in given.items():
            if placeholders(value):
                continue
            try:
                check(schema, {name: value})
            except ParametersInvalid as error:
                message = f"The flow '{flow.name}' does not take this: {error.message}"
                known = ", ".join(schema.get("properties") or ()) or "none"
                why = f"its parameters are: {known}" if "is not a parameter" in error.message else ""
                self._refuse((*path, name), message, why=why, key=bool(why))

    def _flow_name(self) -> bool:
        return bool(self.rendered.raw.get("flow_name"))

    def _refuse(
        self,
        path: Path,
        message: str,
        *,
        why: str = "",
        fix: str = "",
        key: bool = False,
        kind: type[EparchError] = Usage,
    ) -> None:
        """Remember a mistake at ``path`` of the deployment; one of a flag has no place and is a ``kind``."""
        if is_flag(path, self.request) or not self.document.file:
            self.errors.append(kind(f"{message.rstrip('.')}.", why=why, fix=fix))
            return
        self.errors.append(
            self.document.error((*self.rendered.path, *path), message, why=why, fix=fix, key=key)
        )


def at_entrypoint(error: SourceError, chosen: Chosen, request: DeployRequest) -> SourceError:
    """``error`` about an entrypoint, with the place where the entrypoint is written if it has none itself."""
    document = chosen.project.document
    if error.line or request.entrypoint or not document.file:
        return error
    path = (*chosen.deployment.path, "entrypoint")
    return document.error(path, error.message, why=error.why, fix=error.fix)
