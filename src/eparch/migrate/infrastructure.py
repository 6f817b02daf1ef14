"""Infrastructure blocks as typed work pools (rows M1 to M4).

Owns the table of block types and fields, and what is made of each value. The structure of Kubernetes jobs and
ECS tasks is in ``manifests``. The templates that are filled are those of new pools
(``core.infrastructure_types``).
"""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from eparch.core.infrastructure_types import shipped_template
from eparch.core.job_templates import check_values
from eparch.core.model import Json, Value
from eparch.migrate.account import Account
from eparch.migrate.inventory import OF_DOCUMENT, Block, Reference, is_masked
from eparch.migrate.manifests import change_manifest, change_task

TYPES = {
    "process": "process",
    "docker-container": "docker",
    "kubernetes-job": "kubernetes",
    "ecs-task": "ecs",
    "cloud-run-job": "cloud-run",
    "cloud-run-job-v2": "cloud-run-v2",
    "vertex-ai-custom-training-job": "vertex-ai",
    "azure-container-instance-job": "azure-container-instance",
}
"""Slug of a block type -> type of the work pools that do the same (row M2)."""

CLASSES = {
    "process": "Process",
    "docker-container": "DockerContainer",
    "kubernetes-job": "KubernetesJob",
    "ecs-task": "ECSTask",
    "cloud-run-job": "CloudRunJob",
    "vertex-ai-custom-training-job": "VertexAICustomTrainingJob",
    "azure-container-instance-job": "AzureContainerInstanceJob",
}
"""Slug of a block type -> its class in code."""

ENGINE = ["python", "-m", "prefect.engine"]
"""The command that agents gave a run; a worker has its own."""

STRUCTURE = frozenset({"job", "customizations", "task_definition", "task_customizations", "args"})
"""Fields that change the shape of a job, which only a pool's template can."""

_WINDOWS = re.compile(r"^(?:[A-Za-z]:[\\/]|\\\\)|\.(?:exe|bat|cmd|ps1)$", re.IGNORECASE)
_POLICIES = {"ALWAYS": "Always", "NEVER": "Never", "IF_NOT_PRESENT": "IfNotPresent"}
_RENAMED = {
    "vertex-ai": {"gcp_credentials": "credentials", "service_account": "service_account_name"},
    "docker": {"image_registry": "registry_credentials"},
}
_LOGIN = (
    "workers of type docker do not log in with it: run 'docker login' where the worker runs, or set "
    "'registry_credentials' of the work pool to a block of type docker-registry-credentials"
)


class Pool(Value, frozen=True, kw_only=True):
    """A work pool that is to be made."""

    name: str
    type: str
    base_job_template: dict[str, Json]
    block_id: str | None = None
    """Of the block that it was made from; what is undone knows it by this (row M12)."""
    origin: str = ""
    block: str = ""
    """The block in code, ``KubernetesJob/name``; empty for one that code cannot load."""

    @property
    def is_plain(self) -> bool:
        """Whether its template is the one that every new pool of its type has."""
        return self.base_job_template == shipped_template(self.type)


class Conversion:
    """One block on its way to a pool: values of variables, and a configuration that may change.

    ``of_deployment`` writes references as placeholders, which job variables of a project file may hold.
    """

    def __init__(self, block: Block, account: Account, *, of_deployment: bool = False) -> None:
        self.block, self.account, self.of_deployment = block, account, of_deployment
        self.type = TYPES[block.slug]
        self.template: dict[str, Any] = shipped_template(self.type) or {}
        self.values: dict[str, Json] = {}

    @property
    def properties(self) -> dict[str, Any]:
        """The variables of the pool."""
        found: dict[str, Any] = self.template["variables"]["properties"]
        return found

    @property
    def configuration(self) -> dict[str, Any]:
        """The job, with placeholders for the variables."""
        found: dict[str, Any] = self.template["job_configuration"]
        return found

    @property
    def is_structural(self) -> bool:
        """Whether more than values of variables was changed."""
        return self.template != shipped_template(self.type)

    def put(self, field: str, variable: str, value: Json, *, same: bool = True, why: str = "") -> None:
        """Give ``variable`` the value of ``field``; what cannot be is told."""
        if is_masked(value):
            self.account.needs_you(field, f"it holds a secret that was masked: set '{variable}' of the pool")
            return
        if variable in self.properties:
            wrong = check_values(self.template["variables"], {variable: value}, required=False)
            if wrong:
                why = f"a {self.type} work pool does not take its value ({wrong[0].message}): set it yourself"
                self.account.needs_you(field, why)
                return
            self.values[variable] = value
            self.account.placed(field, variable, same=same, why=why)
        elif variable in self.configuration:
            self.configuration[variable] = value
            self.account.renamed(field, f"job_configuration.{variable}", why)
        else:
            why = f"{self.type} work pools have nothing like it: if you need it, change the template"
            self.account.needs_you(field, why)

    def refer(self, field: str, reference: Reference) -> None:
        """Give the variable of ``field`` a reference to another block."""
        variable = _RENAMED.get(self.type, {}).get(field, field)
        if self.type == "docker" and reference.slug != "docker-registry-credentials":
            self.account.needs_you(field, _LOGIN)
        elif variable not in self.properties:
            self.account.needs_you(field, f"{self.type} work pools refer to no such block")
        elif self.of_deployment and reference.slug and reference.name:
            value = f"{{{{ prefect.blocks.{reference.slug}.{reference.name} }}}}"
            self.values[variable] = value
            self.account.renamed(field, variable, "a reference to the block")
        elif reference.id:
            self.values[variable] = {"$ref": {"block_document_id": reference.id}}
            self.account.renamed(field, variable, "a reference to the block")
        else:
            self.account.needs_you(field, f"its block was not saved: save it, set '{variable}' of the pool")

    def own_values(self) -> dict[str, Json]:
        """The values that are not what new pools of the type have anyway."""
        return {
            name: value
            for name, value in self.values.items()
            if value != self.properties[name].get("default")
        }

    def filled(self) -> dict[str, Json]:
        """The base job template, with the values as defaults of their variables."""
        filled = deepcopy(self.template)
        for name, value in self.values.items():
            filled["variables"]["properties"][name]["default"] = value
        return filled


def convert(block: Block, account: Account, *, of_deployment: bool = False) -> Conversion:
    """What a pool of the type that ``block`` stands for has to be, with every field accounted for.

    Raises:
        KeyError: the type of the block is not in ``TYPES``; see ``pool_of_unknown``.
    """
    conversion = Conversion(block, account, of_deployment=of_deployment)
    for field in OF_DOCUMENT:
        if field in block.data:
            account.renamed(field, "work pool", "it says which block it was")
    for field, reference in block.references.items():
        conversion.refer(field, reference)
    for field, value in block.data.items():
        if field in account.fields() or field in STRUCTURE:
            continue
        if value is None or value == {} or value == []:
            account.carried(field, why="it was empty")
            continue
        special = _SPECIAL.get((conversion.type, field)) or _SPECIAL.get(("", field))
        if special is not None:
            special(conversion, field, value)
        else:
            variable = _RENAMED.get(conversion.type, {}).get(field, field)
            conversion.put(field, variable, value)
    _change_structure(conversion)
    return conversion


def _change_structure(conversion: Conversion) -> None:
    """Apply the fields that change the shape of the job."""
    data = conversion.block.data
    given = {field: data[field] for field in STRUCTURE if field in data}
    meant: set[str] = set()
    if conversion.type == "kubernetes":
        meant = {"job", "customizations"}
        change_manifest(conversion.configuration, conversion.values, given, conversion.account)
    elif conversion.type == "ecs":
        meant = {"task_definition", "task_customizations"}
        change_task(conversion.configuration, conversion.values, given, conversion.account)
    elif conversion.type == "cloud-run":
        meant = {"args"}
        _arguments(conversion, given.get("args"))
    for field in sorted(given.keys() - meant - conversion.account.fields()):
        if data[field] in (None, {}, []):
            conversion.account.carried(field, why="it was empty")
        else:
            conversion.put(field, field, data[field])


def to_pool(block: Block, account: Account, *, name: str | None = None) -> Pool:
    """The work pool that does what ``block`` did (row M1); ``name`` is the block's unless given."""
    called = name or block.name or TYPES.get(block.slug, "block")
    if block.slug not in TYPES:
        return pool_of_unknown(block, account, name=called)
    conversion = convert(block, account)
    return Pool(
        name=called,
        type=conversion.type,
        base_job_template=conversion.filled(),
        block_id=block.id,
        origin=block.label,
        block=f"{CLASSES[block.slug]}/{block.name}" if block.name and block.slug in CLASSES else "",
    )


def pool_of_unknown(block: Block, account: Account, *, name: str) -> Pool:
    """A pool of type ``block``, which keeps the block as it is, so that nothing is lost (row M4)."""
    about = {"title": "Block", "type": "object", "description": "The infrastructure block that makes jobs."}
    if block.id:
        about["default"] = {"$ref": {"block_document_id": block.id}}  # type: ignore[assignment]
    for field in dict.fromkeys([*block.data, *block.references]):
        if block.id:
            account.carried(field, "block", f"no work pool type is known for {block.slug} blocks: it is kept")
        else:
            account.needs_you(field, f"no work pool type is known for {block.slug} blocks: save it")
    return Pool(
        name=name,
        type="block",
        base_job_template={
            "job_configuration": {"block": "{{ block }}"},
            "variables": {"type": "object", "properties": {"block": about}, "required": ["block"]},
        },
        block_id=block.id,
        origin=block.label,
    )


def join_command(words: list[Json], *, windows: bool = False) -> str:
    """The text that is split into ``words`` again; ``windows`` by the rules of its programs (row M3)."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if windows else shlex.join(texts)


def _command(conversion: Conversion, field: str, value: Json) -> None:
    if not isinstance(value, list):
        conversion.put(field, "command", value)
        return
    if value == ENGINE:
        conversion.account.dropped(field, "it is what agents gave every run; a worker has its own")
        return
    windows = conversion.type == "process" and any(_WINDOWS.search(str(word)) for word in value[:1])
    why = "a list became one text"
    if "prefect.engine" in value:
        why += "; it starts prefect.engine, which an environment without Prefect does not have"
    conversion.put(field, "command", join_command(value, windows=windows), same=False, why=why)


def _policy(conversion: Conversion, field: str, value: Json) -> None:
    new = _POLICIES.get(value, value) if isinstance(value, str) else value
    conversion.put(field, field, new, same=new == value)


def _as_text(conversion: Conversion, field: str, value: Json) -> None:
    conversion.put(field, field, str(value), same=isinstance(value, str))


def _registry(conversion: Conversion, field: str, value: Json) -> None:
    conversion.account.needs_you(field, _LOGIN)


def _seconds_as_hours(conversion: Conversion, field: str, value: Json) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        conversion.account.needs_you(field, "it is no number of seconds: set 'maximum_run_time_hours'")
        return
    hours = max(1, math.ceil(value / 3600))
    why = "" if hours * 3600 == value else "hours are whole; it was rounded up"
    conversion.put(field, "maximum_run_time_hours", hours, same=False, why=why)


def _processors(conversion: Conversion, field: str, value: Json) -> None:
    if isinstance(value, int) and not isinstance(value, bool):
        conversion.put(field, field, f"{value * 1000}m", same=False)
    else:
        conversion.put(field, field, value)


def _memory(conversion: Conversion, field: str, value: Json) -> None:
    unit = conversion.block.data.get("memory_unit")
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(unit, str):
        conversion.put(field, field, f"{value}{unit}", same=False)
    else:
        conversion.account.needs_you(field, "it has no unit: set 'memory' of the pool, such as 512Mi")


def _memory_unit(conversion: Conversion, field: str, value: Json) -> None:
    conversion.account.renamed(field, "memory", "the unit is part of the value")


def _tries(conversion: Conversion, field: str, value: Json) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        conversion.account.needs_you(field, "it is no count: set 'maxRetries' in the pool's 'job_body'")
        return
    task = conversion.configuration["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    task["maxRetries"] = value
    conversion.account.renamed(field, "job_configuration.job_body ... maxRetries")


def _arguments(conversion: Conversion, value: Json) -> None:
    """A new variable: pools of this type have none for arguments."""
    if not value:
        if "args" in conversion.block.data:
            conversion.account.carried("args", why="it was empty")
        return
    schema = {"title": "Arguments", "type": "array", "items": {"type": "string"}}
    conversion.properties["args"] = {**schema, "description": "Arguments of the command."}
    body = conversion.configuration["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    body["containers"][0]["args"] = "{{ args }}"
    conversion.put("args", "args", value)


_Special = Callable[[Conversion, str, Any], None]
_SPECIAL: Mapping[tuple[str, str], _Special] = {
    ("", "command"): _command,
    ("docker", "image_pull_policy"): _policy,
    ("docker", "image_registry"): _registry,
    ("docker", "mem_limit"): _as_text,
    ("docker", "memswap_limit"): _as_text,
    ("kubernetes", "image_pull_policy"): _policy,
    ("vertex-ai", "maximum_run_time"): _seconds_as_hours,
    ("cloud-run", "cpu"): _processors,
    ("cloud-run", "memory"): _memory,
    ("cloud-run", "memory_unit"): _memory_unit,
    ("cloud-run", "max_retries"): _tries,
}
