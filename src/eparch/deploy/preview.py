"""What a plan means for jobs and for what they name: the rendered job before and after, and what is missing.

Owns the comparison of jobs and which values are not shown. How a job is rendered is in ``core.job_origins``;
what a worker adds to it is its own and is not compared. Pure, except for the questions of ``Uses``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from eparch.core.errors import EparchError, Invalid, NotFound
from eparch.core.job_origins import Origin, explain_job, leaves
from eparch.core.job_templates import Layer
from eparch.core.model import UNSET, Json, Value
from eparch.core.pools import WorkPool
from eparch.core.templates import Kind, Path, placeholders
from eparch.deploy.plan import Action
from eparch.steps.references import ServerReferences

MASK = "********"

_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|connection[_-]?string",
    re.IGNORECASE,
)


class JobChange(Value, frozen=True, kw_only=True):
    """A value of the job; ``before`` and ``after`` of None: it is not there. Each with its layers."""

    key: str
    before: Json = None
    after: Json = None
    before_from: str = ""
    after_from: str = ""

    @property
    def differs(self) -> bool:
        """Whether the value is another one."""
        return bool(self.before != self.after) or bool(self.before_from) != bool(self.after_from)


class Use(Value, frozen=True, kw_only=True):
    """Something that a deployment needs; ``state`` is ``there``, ``created`` or ``missing``."""

    kind: str
    """``work pool``, ``work queue``, ``block`` or ``variable``."""
    name: str
    state: str


def compare_jobs(action: Action, pools: Mapping[str, WorkPool]) -> list[JobChange]:
    """Every value of the job before and after, in the order of the job; secrets are masked."""
    standing = action.standing.deployment if action.standing else None
    before = _job(pools.get((standing.work_pool_name if standing else None) or ""), standing)
    after = _job(pools.get(action.content.work_pool_name or ""), action.content if action.wanted else None)
    found = []
    for path in dict.fromkeys([*after, *before]):
        (was, was_from), (is_, is_from) = before.get(path, _ABSENT), after.get(path, _ABSENT)
        key = ".".join(map(str, path))
        differs = was != is_
        found.append(
            JobChange(
                key=key,
                before=_masked(path, was, changed=False),
                after=_masked(path, is_, changed=differs),
                before_from=was_from,
                after_from=is_from,
            )
        )
    return found


_ABSENT: tuple[Json, str] = (None, "")


def _job(pool: WorkPool | None, subject: Any) -> dict[Path, tuple[Json, str]]:
    if pool is None or subject is None or not pool.base_job_template:
        return {}
    layer = Layer(name="deployment", values=subject.job_variables)
    try:
        job, origins = explain_job(pool.base_job_template, [layer])
    except Invalid:
        return {}  # what does not fit any more has been told by the checks
    return {path: (value, _layers(origins.get(path))) for path, value in leaves(job)}


def _layers(origin: Origin | None) -> str:
    return ", ".join(origin.layers) if origin else "template"


def _masked(path: Path, value: Json, *, changed: bool) -> Json:
    """``value``, unless its name says that it is secret; a reference to a block is none."""
    if value in (None, "") or not any(isinstance(key, str) and _SECRET.search(key) for key in path):
        return value
    if isinstance(value, str) and any(one.kind is Kind.BLOCK for one in placeholders(value)):
        return value
    return f"{MASK} (changed)" if changed else MASK


def mask_changes(changes: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Changes of fields as they are shown: secrets in them are masked."""
    return {name: [mask(was), mask(will)] for name, (was, will) in changes.items()}


def mask(value: Json, path: Path = ()) -> Json:
    """``value`` with every text masked whose key says that it is secret."""
    if isinstance(value, dict):
        return {key: mask(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item, (*path, at)) for at, item in enumerate(value)]
    return _masked(path, value, changed=False) if isinstance(value, str) else value


class Uses:
    """What deployments name on the server; everything is asked for once."""

    def __init__(self, references: ServerReferences, pools: Mapping[str, WorkPool]) -> None:
        self.references, self.pools = references, pools
        self._known: dict[tuple[str, str], str] = {}

    def of(self, action: Action, queues: Mapping[str, frozenset[str]]) -> list[Use]:
        """What the deployment needs; ``queues`` are the names of a pool's queues."""
        if action.wanted is None:
            return []
        found = []
        pool, queue = action.content.work_pool_name, action.content.work_queue_name
        if pool is not None:
            found.append(Use(kind="work pool", name=pool, state="there" if pool in self.pools else "missing"))
            if queue is not None and pool in queues:
                state = "there" if queue in queues[pool] else "created"
                found.append(Use(kind="work queue", name=f"{pool}/{queue}", state=state))
        named = [action.content.job_variables, action.content.pull_steps]
        found += [Use(kind=kind, name=name, state=self._state(kind, name)) for kind, name in _named(named)]
        return found

    def _state(self, kind: str, name: str) -> str:
        if (kind, name) not in self._known:
            self._known[kind, name] = self._ask(kind, name)
        return self._known[kind, name]

    def _ask(self, kind: str, name: str) -> str:
        try:
            value = self.references.variable(name) if kind == "variable" else self.references.block(name)
        except NotFound:
            return "missing"
        except EparchError as error:
            return f"unknown: {error.message}"
        return "missing" if value is UNSET else "there"


def _named(value: Json) -> Iterable[tuple[str, str]]:
    kinds = {Kind.BLOCK: "block", Kind.VARIABLE: "variable"}
    found = [(kinds[one.kind], one.key) for one in placeholders(value) if one.kind in kinds]
    return dict.fromkeys(found)
