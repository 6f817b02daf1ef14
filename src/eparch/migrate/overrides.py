"""``infra_overrides`` as job variables (row M6): dotted keys, indexes of lists, and patches.

Owns what an override means for the block that it overrides. Does not own what a field becomes
(``infrastructure``).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import msgspec

from eparch.core.model import Json, Value
from eparch.migrate.account import Account, Outcome
from eparch.migrate.infrastructure import STRUCTURE, TYPES, convert
from eparch.migrate.inventory import Block, is_masked
from eparch.migrate.manifests import escaped, plain_environment


class Overridden(Value, frozen=True, kw_only=True):
    """What overrides come to: job variables, and the block of a pool of its own where these cannot say it."""

    job_variables: dict[str, Json] = {}
    derived: Block | None = None


def nested(overrides: Mapping[str, Json]) -> dict[str, Json]:
    """The overrides with dotted keys written out, as a mapping within a mapping."""
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        _put(found, key.split("."), value)
    return found


def apply_overrides(
    block: Block, overrides: Mapping[str, Json], account: Account, *, name: str
) -> Overridden:
    """What ``overrides`` of the deployment ``name`` come to for ``block``; each key is accounted for."""
    if block.slug not in TYPES:
        for key in overrides:
            account.needs_you(f"infra_overrides.{key}", f"a pool of {block.slug} blocks has no job variables")
        return Overridden()
    overrides = {str(key): value for key, value in overrides.items()}
    data = deepcopy(block.data)
    for key, value in overrides.items():
        _put(data, key.split("."), value)
    touched = dict.fromkeys(key.split(".")[0] for key in overrides)
    given = _given(block, data, touched, overrides)
    scratch = Account(account.owner)
    conversion = convert(
        Block(slug=block.slug, name=name, data=given, origin=block.origin), scratch, of_deployment=True
    )
    values = dict(conversion.values)
    outcomes = {entry.field: entry for entry in scratch.entries}
    shape = {
        field
        for field in touched.keys() & given.keys()
        if _changes_shape(block, field, outcomes[field].target)
    }
    environment = plain_environment(data.get("customizations")) if "customizations" in touched else None
    if environment is not None and not block.data.get("customizations"):
        shape.discard("customizations")
    elif "customizations" in shape:
        values = {key: value for key, value in values.items() if key != "env" or "env" in touched}
    for key in overrides:
        _tell(account, key, outcomes.get(key.split(".")[0]), shape)
    derived = None
    if shape:
        own = {**block.data, **{field: data[field] for field in shape}}
        label = f"{block.name or TYPES[block.slug]}-{name}"
        derived = msgspec.structs.replace(block, name=label, data=own)
    return Overridden(job_variables=values, derived=derived)


def _given(
    block: Block, data: dict[str, Json], touched: Mapping[str, None], overrides: Mapping[str, Json]
) -> dict[str, Json]:
    """The fields that are overridden, as a block has them; the environment merges, so only what is new."""
    given = {field: data[field] for field in touched if field in data}
    if touched.keys() & {"memory", "memory_unit"}:
        given |= {field: data[field] for field in ("memory", "memory_unit") if field in data}
    own = block.data.get("env")
    if "env" in overrides and isinstance(given.get("env"), dict) and isinstance(own, dict):
        # An override replaced the whole environment; that of a pool stays unless it is set to null.
        given["env"] = {**dict.fromkeys(own), **given["env"]}
    elif "env" in touched:
        given["env"] = {
            key.partition(".")[2]: value for key, value in overrides.items() if key.startswith("env.")
        }
    return {field: escaped(value) for field, value in given.items()}


def _changes_shape(block: Block, field: str, target: str) -> bool:
    if field == "args" and TYPES[block.slug] == "cloud-run":
        return not block.data.get("args")
    return field in STRUCTURE - {"args"} or target.startswith("job_configuration")


def _tell(account: Account, key: str, entry: Any, shape: set[str]) -> None:
    field, target = f"infra_overrides.{key}", "work_pool.job_variables"
    if entry is None:
        account.needs_you(field, "the infrastructure has no such field: see whether you need it")
    elif entry.outcome in (Outcome.NEEDS_YOU, Outcome.DROPPED):
        account.needs_you(field, entry.why) if entry.outcome is Outcome.NEEDS_YOU else account.dropped(
            field, entry.why
        )
    elif entry.field in shape:
        account.renamed(
            field, "work_pool.name", "job variables cannot say it: the deployment has a pool of its own"
        )
    else:
        account.renamed(field, f"{target}.{entry.target or key}", entry.why)


def _put(data: Any, keys: list[str], value: Json) -> None:
    """Set the value at ``keys``; an index leads into a list, what is missing is made."""
    for key, below in pairwise(keys):
        at: Any = int(key) if isinstance(data, list) and key.isdecimal() and int(key) < len(data) else key
        if isinstance(data, list) and isinstance(at, str):
            return
        held = data[at] if isinstance(data, list) else data.get(at)
        if not isinstance(held, dict | list):
            held = [] if below.isdecimal() and held is not None else {}
            data[at] = held
        data = held
    last = keys[-1]
    if isinstance(data, dict):
        data[last] = value
    elif last.isdecimal() and int(last) < len(data):
        data[int(last)] = value
    else:
        data.append(value)


def without_masked(overrides: Mapping[str, Json], account: Account) -> dict[str, Json]:
    """The overrides without those that hold a masked secret, which are told."""
    kept = {}
    for key, value in overrides.items():
        if is_masked(value):
            account.needs_you(
                f"infra_overrides.{key}", "a secret that was masked: set the job variable again"
            )
        else:
            kept[str(key)] = value
    return kept
