"""A pool's base job template and the newest default of its type: what differs, and both in one (row P13).

Owns the three-way merge and which default a pool began with. Nobody has to write that down: the defaults of
all releases are shipped, and a template began as the one that it is nearest to, whoever made the pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from eparch.core.job_origins import leaves
from eparch.core.job_templates import Layer, Problem, Severity, check_layers, check_template, parts_of
from eparch.core.model import UNSET, Json, Value, encode
from eparch.core.templates import Path

_UNKNOWN = object()
"""Stands for what a pool began with, where that is not known."""

_TEXTS = frozenset({"title", "description"})
"""Keys of a schema that are for people."""


class ChangeKind(StrEnum):
    """Who changed a place of the template since the pool was made, and so what a merge has there."""

    DEFAULT = "default"
    """The type did: its newest default is taken."""
    POOL = "pool"
    """Somebody did in the pool: that is kept."""
    CONFLICT = "conflict"
    """Both did: what the pool has is kept."""


class Change(Value, frozen=True, kw_only=True):
    """One place where the pool and the newest default differ; what is left out is not there."""

    kind: ChangeKind
    path: Path
    began: Json = UNSET
    """What the pool began with; also left out where that is not known."""
    pool: Json = UNSET
    default: Json = UNSET

    @property
    def is_text(self) -> bool:
        """Whether it is only what people read: a title or a description."""
        return self.path[-1:] in (("title",), ("description",)) and isinstance(self.default, str)


class Merged(Value, frozen=True, kw_only=True):
    """A template made of two, and every place where they differ."""

    template: dict[str, Json]
    changes: list[Change]

    @property
    def problems(self) -> list[Problem]:
        """Why ``template`` cannot be saved: a variable that the type gave up is still used, for one."""
        return [one for one in check_template(self.template) if one.severity is Severity.ERROR]


def merge_templates(began: dict[str, Json] | None, pool: dict[str, Json], default: dict[str, Json]) -> Merged:
    """``pool`` with what ``default`` has changed since ``began``; what both changed stays as in ``pool``.

    Without ``began`` nothing tells a change from a choice: what only ``default`` has is taken, all else that
    differs is a conflict. Lists are values, not merged.
    """
    changes: list[Change] = []
    template = _merge(_UNKNOWN if began is None else began, pool, default, (), changes)
    return Merged(template=template, changes=changes)


def nearest_template(template: dict[str, Json], known: Iterable[dict[str, Json]]) -> dict[str, Json] | None:
    """The one of ``known`` that differs from ``template`` in the fewest places; of two, the later.

    Texts for people do not count: Prefect's workers describe the same variables in other words.
    """
    mine = _places(template, texts=False)
    nearest = None
    least = -1
    for one in known:
        distance = len(mine ^ _places(one, texts=False))
        if nearest is None or distance <= least:
            nearest, least = one, distance
    return nearest


def no_longer_fits(
    old: dict[str, Json], new: dict[str, Json], job_variables: dict[str, Json]
) -> list[Problem]:
    """What is wrong with a deployment's job variables under the template ``new`` and was not under ``old``.

    Raises:
        Invalid: ``new`` is no template.
    """
    layers = [Layer(name="deployment", values=job_variables)]
    before = check_layers(parts_of(old)[0], layers, required=True)
    known = {problem.message for problem in before}
    found = check_layers(parts_of(new)[0], layers, required=True)
    return [problem for problem in found if problem.message not in known]


def _merge(began: Any, pool: Any, default: Any, path: Path, changes: list[Change]) -> Any:
    if _same(pool, default):
        return pool
    if not (isinstance(pool, dict) and isinstance(default, dict)):
        kind = _kind(began, pool, default)
        was = UNSET if began is _UNKNOWN else began
        changes.append(Change(kind=kind, path=path, began=was, pool=pool, default=default))
        return default if kind is ChangeKind.DEFAULT else pool
    merged = {}
    for key in [*pool, *(key for key in default if key not in pool)]:
        below = began if began is _UNKNOWN else began.get(key, UNSET) if isinstance(began, dict) else UNSET
        value = _merge(below, pool.get(key, UNSET), default.get(key, UNSET), (*path, key), changes)
        if value is not UNSET:
            merged[key] = value
    return merged


def _kind(began: Any, pool: Any, default: Any) -> ChangeKind:
    """Whose change it is; ``UNSET`` is what is not there."""
    known = began is not _UNKNOWN
    if (known and _same(began, pool)) or (not known and pool is UNSET):
        return ChangeKind.DEFAULT
    if (known and _same(began, default)) or (not known and default is UNSET):
        return ChangeKind.POOL
    return ChangeKind.CONFLICT


def _same(one: Any, other: Any) -> bool:
    """Whether they are the same JSON: 1 is not true, and the order of keys says nothing."""
    if one is UNSET or other is UNSET:
        return one is other
    return _places(one) == _places(other)


def _places(value: Json, *, texts: bool = True) -> frozenset[tuple[Path, bytes]]:
    return frozenset(
        (path, encode(leaf))
        for path, leaf in leaves(value)
        if texts or not (path and path[-1] in _TEXTS and isinstance(leaf, str))
    )
