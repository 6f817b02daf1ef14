"""The shape of Kubernetes jobs and ECS tasks: manifests of one's own, and patches of them (row M3).

Owns which places of a manifest become variables of the pool, so that a deployment can still set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

from eparch.core.errors import Invalid
from eparch.core.model import Json
from eparch.migrate.account import Account
from eparch.migrate.inventory import is_masked
from eparch.migrate.patches import apply_patch, pointer

ENVIRONMENT = "/spec/template/spec/containers/0/env/-"

_PLAIN_POD = {"parallelism": 1, "completions": 1, "restartPolicy": "Never"}
_POD = ("spec", "template", "spec")
_CONTAINER = (*_POD, "containers", 0)
_PLACES: Mapping[str, tuple[str | int, ...]] = {
    "namespace": ("metadata", "namespace"),
    "image": (*_CONTAINER, "image"),
    "image_pull_policy": (*_CONTAINER, "imagePullPolicy"),
    "service_account_name": (*_POD, "serviceAccountName"),
    "finished_job_ttl": ("spec", "ttlSecondsAfterFinished"),
    "backoff_limit": ("spec", "backoffLimit"),
}
"""Variable -> where a manifest has it; the block's own fields won over it there."""

_NUMBERS = ("finished_job_ttl", "backoff_limit")

_NETWORK = "/networkConfiguration/awsvpcConfiguration"


def change_manifest(
    configuration: dict[str, Any], values: dict[str, Json], given: Mapping[str, Json], account: Account
) -> None:
    """Put the block's ``job`` and ``customizations`` into ``job_manifest``, as far as they fit."""
    manifest = given.get("job")
    if "job" in given:
        if not manifest or _is_plain(manifest):
            account.carried("job", "job_manifest", "it is the manifest that every job has")
        elif is_masked(manifest):
            account.needs_you("job", "it holds a secret that was masked: change 'job_manifest' of the pool")
        else:
            _take_manifest(configuration, values, manifest, account)
    if "customizations" in given:
        _customize(configuration, values, given["customizations"], account)


def plain_environment(operations: Json) -> dict[str, Json] | None:
    """The environment that patches add, if that is all that they do; else None."""
    if not isinstance(operations, list):
        return None
    found = [_added_environment(operation) for operation in operations]
    if any(one is None for one in found):
        return None
    return {name: value for one in found if one for name, value in one.items()}


def _added_environment(operation: Json) -> dict[str, Json] | None:
    if (
        not isinstance(operation, dict)
        or operation.get("op") != "add"
        or operation.get("path") != ENVIRONMENT
    ):
        return None
    value = operation.get("value")
    if not isinstance(value, dict) or value.keys() != {"name", "value"}:
        return None
    return {str(value["name"]): str(value["value"])} if isinstance(value["name"], str) else None


def _is_plain(manifest: Json) -> bool:
    """Whether it is the manifest that a block has if nobody gave one."""
    try:
        pod = manifest["spec"]["template"]["spec"]
        rest = {key: value for key, value in pod.items() if key not in _PLAIN_POD}
        is_plain: bool = (
            manifest.keys() <= {"apiVersion", "kind", "metadata", "spec"}
            and manifest["spec"].keys() == {"template"}
            and manifest["spec"]["template"].keys() == {"spec"}
            and not manifest["metadata"].get("labels")
            and manifest["metadata"].keys() <= {"labels"}
            and all(pod.get(key) == value for key, value in _PLAIN_POD.items())
            and rest == {"containers": [{"name": "prefect-job", "env": []}]}
        )
    except (KeyError, TypeError, AttributeError):
        return False
    return is_plain


def _take_manifest(
    configuration: dict[str, Any], values: dict[str, Json], given: Json, account: Account
) -> None:
    manifest, found = escaped(deepcopy(given)), dict(values)
    try:
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        metadata = manifest.setdefault("metadata", {})
        labels = metadata.get("labels") or {}
        for variable, place in _PLACES.items():
            _lift(manifest, variable, place, found)
        container["args"] = "{{ command }}"
        container["env"] = container.get("env") or "{{ env }}"
        found["labels"] = {**labels, **(found.get("labels") or {})}
        metadata.update(labels="{{ labels }}", generateName="{{ name }}-")
        metadata.pop("name", None)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        account.needs_you(
            "job", "it is no manifest of a Job with a container: change 'job_manifest' of the pool"
        )
        return
    values.update({name: value for name, value in found.items() if value != {}})
    configuration["job_manifest"] = manifest
    why = "what the pool has variables for became their defaults"
    account.renamed("job", "job_configuration.job_manifest", why)


def _lift(manifest: Json, variable: str, place: tuple[str | int, ...], values: dict[str, Json]) -> None:
    """Put the variable's placeholder at ``place``; what the manifest has there becomes its default."""
    parent = manifest
    for key in place[:-1]:
        parent = parent[key]
    own = parent.get(place[-1])
    if own is not None and not isinstance(own, int if variable in _NUMBERS else str):
        raise ValueError(variable)
    if own is not None and own != "" and variable not in values:
        values[variable] = own
    parent[place[-1]] = f"{{{{ {variable} }}}}"


def _customize(
    configuration: dict[str, Any], values: dict[str, Json], operations: Json, account: Account
) -> None:
    if not operations:
        account.carried("customizations", why="it was empty")
        return
    if is_masked(operations):
        account.needs_you(
            "customizations", "it holds a secret that was masked: change 'job_manifest' of the pool"
        )
        return
    if not isinstance(operations, list):
        account.needs_you("customizations", "it is no list of patches: change 'job_manifest' of the pool")
        return
    rest, environment = [], {}
    for operation in operations:
        added = _added_environment(operation)
        environment.update(added or {})
        rest += [] if added is not None else [operation]
    manifest = deepcopy(configuration["job_manifest"])
    try:
        _open_places(manifest, rest)
        configuration["job_manifest"] = apply_patch(manifest, [escaped(one) for one in rest])
    except Invalid as error:
        why = f"{error.message}: change 'job_manifest' of the pool"
        account.needs_you("customizations", why)
        return
    if environment:
        values["env"] = {**(values.get("env") or {}), **environment}
    target = "job_configuration.job_manifest" if rest else "env"
    account.renamed("customizations", target, "environment became the variable 'env'" if environment else "")


def _open_places(manifest: Json, operations: list[Json]) -> None:
    """Make room where a patch reaches below a placeholder: a list, or a mapping of literals."""
    for operation in operations:
        path = pointer(operation.get("path") if isinstance(operation, dict) else None)
        parent = manifest
        for key, below in pairwise(path):
            at: Any = int(key) if isinstance(parent, list) and key.isdecimal() else key
            try:
                value = parent[at]
            except (KeyError, IndexError, TypeError):
                break
            if isinstance(value, str) and value.startswith("{{"):
                value = parent[at] = [] if below == "-" else {}
            parent = value


def change_task(
    configuration: dict[str, Any], values: dict[str, Json], given: Mapping[str, Json], account: Account
) -> None:
    """Put the block's ``task_definition`` and ``task_customizations`` into the request of a task."""
    definition = given.get("task_definition")
    if definition and is_masked(definition):
        account.needs_you("task_definition", "it holds a secret that was masked: change the pool's template")
    elif definition:
        configuration["task_definition"] = _with_image(escaped(definition), values)
        account.renamed("task_definition", "job_configuration.task_definition")
    elif "task_definition" in given:
        account.carried("task_definition", why="it was empty")
    operations = given.get("task_customizations")
    if not operations:
        if "task_customizations" in given:
            account.carried("task_customizations", why="it was empty")
        return
    try:
        _patch_task(configuration, values, operations)
    except Invalid as error:
        why = f"{error.message}: change 'task_run_request' of the pool"
        account.needs_you("task_customizations", why)
        return
    account.renamed("task_customizations", "job_configuration.task_run_request, network_configuration")


def _with_image(definition: Json, values: dict[str, Json]) -> Json:
    """The definition with the variable for the image, where the block has one."""
    containers = definition.get("containerDefinitions") if isinstance(definition, dict) else None
    if "image" in values and isinstance(containers, list) and containers and isinstance(containers[0], dict):
        containers[0] = {**containers[0], "image": "{{ image }}"}
    return definition


def _patch_task(configuration: dict[str, Any], values: dict[str, Json], operations: Json) -> None:
    if not isinstance(operations, list) or is_masked(operations):
        raise Invalid("It is no list of patches, or holds a secret that was masked")
    of_network, others = [], []
    for operation in operations:
        path = operation.get("path") if isinstance(operation, dict) else None
        if isinstance(path, str) and path.startswith(f"{_NETWORK}/"):
            of_network.append({**operation, "path": path.removeprefix(_NETWORK)})
        elif path in (_NETWORK, "/networkConfiguration"):
            inner = operation.get("value") or {}
            inner = inner.get("awsvpcConfiguration", {}) if path != _NETWORK else inner
            of_network.append({"op": "add", "path": "", "value": inner})
        else:
            others.append(operation)
    request = deepcopy(configuration["task_run_request"])
    _open_places(request, others)
    patched = apply_patch(request, [escaped(one) for one in others])
    network = apply_patch({}, of_network) if of_network else {}
    if not isinstance(network, dict):
        raise Invalid("The network is no mapping")
    configuration["task_run_request"] = patched
    if network:
        values["network_configuration"] = network


def escaped(value: Json) -> Json:
    """``value`` as a template that renders to it: braces of other tools are text."""
    if isinstance(value, str):
        return value.replace("{{", "{{{{").replace("}}", "}}}}") if "{{" in value else value
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value
