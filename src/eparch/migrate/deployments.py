"""A deployment of Prefect 2 as an item of ``deployments:`` (rows M5, M6).

Owns what becomes of each of its fields. The pool that its infrastructure becomes is chosen by the caller;
overrides are in ``overrides``, storage in ``storage``, schedules in ``schedules``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from eparch.core.model import Json, Value
from eparch.migrate.account import Account
from eparch.migrate.entrypoints import Exists, is_absolute, locate
from eparch.migrate.inventory import OldDeployment
from eparch.migrate.manifests import escaped
from eparch.migrate.schedules import read_schedules
from eparch.migrate.storage import pull_steps

AGENT_POOL = "default-agent-pool"
"""Where agents without a pool took their runs from."""

_GENERATED = {
    "manifest_path": "manifests have had no effect since 2.1",
    "parameter_openapi_schema": "it is read from the flow",
    "timestamp": "it said when the file was written",
}
_CARRIED = ("name", "description", "version", "tags", "parameters", "triggers", "enforce_parameter_schema")
_POOL = ("work_pool_name", "work_queue_name", "work_pool_queue_name", "work_pool")
_OVERRIDES = ("infra_overrides", "job_variables")


class Choice(Value, frozen=True, kw_only=True):
    """The work pool of a deployment and what it sets there; ``name`` None: nothing says which."""

    name: str | None = None
    job_variables: dict[str, Json] = {}


Choose = Callable[[OldDeployment, dict[str, Json], Account], Choice]
"""Chooses the pool of a deployment that has those overrides."""


def to_item(old: OldDeployment, account: Account, *, choose: Choose, exists: Exists) -> dict[str, Json]:
    """The item of ``deployments:``; every field of ``old`` is in the account.

    ``exists`` says whether a path, relative to the root, is there.
    """
    item: dict[str, Any] = {"name": old.name}
    for field in _CARRIED:
        if field in old.fields:
            _carry(item, field, old.fields[field], account)
    _set_entrypoint(item, old, account, exists)
    schedules = read_schedules(old.fields, account)
    if schedules:
        item["schedules"] = schedules
    _set_pool(item, old, account, choose)
    _set_pull(item, old, account, exists)
    for field in old.fields:
        if field in account.fields() or field in _OVERRIDES:
            continue
        if field in _GENERATED:
            account.dropped(field, _GENERATED[field])
        elif old.fields[field] in (None, {}, [], ""):
            account.carried(field, why="it was empty")
        else:
            account.needs_you(field, "deployments have no such field: see whether you need it")
    return item


def _carry(item: dict[str, Any], field: str, value: Json, account: Account) -> None:
    if value in (None, {}, [], "") and field != "name":
        account.carried(field, why="it was empty")
        return
    item[field] = value if field in ("name", "triggers") else escaped(value)
    account.carried(field)


def _set_entrypoint(item: dict[str, Any], old: OldDeployment, account: Account, exists: Exists) -> None:
    fields = old.fields
    given = fields.get("entrypoint")
    folder = str(PurePosixPath(old.origin.replace("\\", "/")).parent)
    path = fields.get("path") if isinstance(fields.get("path"), str) else None
    if isinstance(given, str) and given:
        place = locate(given, path, folder="" if folder == "." else folder, exists=exists)
        item["entrypoint"] = place.entrypoint
        if place.is_found:
            account.placed("entrypoint", "entrypoint", same=place.entrypoint == given)
        else:
            account.needs_you("entrypoint", f"there is no '{place.entrypoint}' here: write where the flow is")
    elif "entrypoint" in fields:
        account.needs_you("entrypoint", "write 'entrypoint: path/to/file.py:function'")
    if fields.get("flow_name") and item.get("entrypoint"):
        account.dropped("flow_name", "the flow at the entrypoint has its name")
    elif fields.get("flow_name"):
        item["flow_name"] = fields["flow_name"]
        account.carried("flow_name")
    if fields.get("flow_location"):
        account.needs_you("flow_location", "write 'entrypoint: path/to/file.py:function'")


def _set_pool(item: dict[str, Any], old: OldDeployment, account: Account, choose: Choose) -> None:
    fields = old.fields
    overrides: dict[str, Json] = {}
    for field in _OVERRIDES:
        given = fields.get(field)
        if isinstance(given, dict) and given:
            overrides |= given
            account.renamed(field, "work_pool.job_variables")
        elif given:
            account.needs_you(field, "it is no mapping: write 'work_pool.job_variables'")
        elif field in fields:
            account.carried(field, why="it was empty")
    written = fields.get("work_pool")
    pool = dict(written) if isinstance(written, dict) else {}
    choice = choose(old, overrides, account)
    name = choice.name or pool.get("name")
    variables = {**(pool.get("job_variables") or {}), **choice.job_variables}
    queue = fields.get("work_queue_name") or fields.get("work_pool_queue_name") or pool.get("work_queue_name")
    chosen = {**pool, "name": name, "work_queue_name": queue, "job_variables": variables}
    item["work_pool"] = {key: value for key, value in chosen.items() if value not in (None, {}, "")}
    if not item["work_pool"]:
        del item["work_pool"]
    for field in _POOL:
        given = fields.get(field)
        if field not in fields:
            continue
        if given in (None, {}, ""):
            account.carried(field, why="it was empty")
        elif field == "work_pool_name" and given != name:
            account.renamed(
                field, "work_pool.name", "agents served it; workers serve that of its infrastructure"
            )
        elif field == "work_pool":
            account.carried(field)
        else:
            target = "name" if field == "work_pool_name" else "work_queue_name"
            account.renamed(field, f"work_pool.{target}")


def _set_pull(item: dict[str, Any], old: OldDeployment, account: Account, exists: Exists) -> None:
    path = old.fields.get("path")
    if old.storage is not None:
        steps = pull_steps(old.storage, account)
        if steps:
            item["pull"] = steps
        if "path" in old.fields:
            said = "the entrypoint says it"
            account.renamed("path", "entrypoint", said) if path else account.carried(
                "path", why="it was empty"
            )
        return
    if "storage" in old.fields:
        account.carried("storage", why="it was empty: the code is where the deployment was made")
    if "path" not in old.fields:
        return
    if not isinstance(path, str) or not path:
        account.carried("path", why="it was empty")
    elif is_absolute(path) and exists(path):
        item["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": path}}]
        account.renamed("path", "pull")
    else:
        account.dropped("path", "there is no such folder here; the entrypoint is relative to the repository")
