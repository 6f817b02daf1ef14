"""Futures and states among the arguments of a run: where they are, what they stand for.

Owns the walk through arguments and the memory of which run made which value (``Links``), from which the graph
of task runs is drawn (wire: ``task_inputs``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from eparch.core.errors import UpstreamFailed
from eparch.core.states import State, StateType
from eparch.sdk.annotations import Annotation, allow_failure, opaque, quote
from eparch.sdk.futures import Future

MAX_DEPTH = 50
MAX_LINKS = 100_000
LINKED_PARTS = 16
"""A result of at most so many parts also links its parts, so that ``a, b = task()`` keeps its edges."""

_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
_SEQUENCES = (list, tuple, set, frozenset)


class Links:
    """Which run a value came from, by the value's identity.

    A value that cannot be referenced weakly may be gone and its id used again; type and length are compared
    to tell. A wrong edge in a picture is the worst that can come of it.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[UUID, Any]] = {}

    def add(self, value: Any, run_id: UUID) -> None:
        """Remember that ``value``, and its parts when they are few, came from the run."""
        if len(self._known) >= MAX_LINKS:
            return
        self._add_one(value, run_id)
        if type(value) in _SEQUENCES and len(value) <= LINKED_PARTS:
            for part in value:
                self._add_one(part, run_id)

    def _add_one(self, value: Any, run_id: UUID) -> None:
        kind = type(value)
        if value is None or kind is bool or (kind is int and -5 <= value <= 256):
            return  # everybody's value says nothing about where it came from
        mark = weakref.ref(value) if kind.__weakrefoffset__ else _print_of(value)
        self._known[id(value)] = (run_id, mark)

    def find(self, value: Any) -> UUID | None:
        """The run that made ``value``, None when it is not known."""
        known = self._known.get(id(value))
        if known is None:
            return None
        run_id, mark = known
        same = mark() is value if type(mark) is weakref.ref else mark == _print_of(value)
        return run_id if same else None


def _print_of(value: Any) -> tuple[type, int]:
    return type(value), len(value) if hasattr(value, "__len__") else hash(value)


class Found:
    """What ``collect`` found in the arguments of a run."""

    __slots__ = ("futures", "marked", "runs")

    def __init__(self) -> None:
        self.runs: dict[UUID, None] = {}
        """Runs that a value came from, in the order in which they were met."""
        self.futures: list[Future[Any]] = []
        self.marked = False
        """Whether there is anything to resolve."""


def collect(value: Any, links: Links | None, found: Found, depth: int = 0) -> None:
    """Add to ``found`` the runs that ``value`` came from and the futures in it."""
    kind = type(value)
    if isinstance(value, Future):
        found.runs[value.task_run_id] = None
        found.futures.append(value)
        found.marked = True
        return
    if isinstance(value, State):
        found.marked = True
        if value.state_details.task_run_id:
            found.runs[value.state_details.task_run_id] = None
        return
    if isinstance(value, Annotation):
        found.marked = True
        if kind is quote:
            return
    if links is not None:
        run_id = links.find(value)
        if run_id is not None:
            found.runs[run_id] = None
    if kind in _PLAIN or depth >= MAX_DEPTH:
        return
    for part in _parts(value, kind):
        collect(part, links, found, depth + 1)


def _parts(value: Any, kind: type) -> Iterable[Any]:
    if kind in _SEQUENCES or isinstance(value, list):
        return list(value)
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, Annotation):
        return (value.value,)
    names = _field_names(kind)
    return [getattr(value, name, None) for name in names] if names else ()


def _field_names(kind: type) -> Iterable[str]:
    fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__pydantic_fields__", None)
    return tuple(fields) if isinstance(fields, dict) else ()


def resolve(value: Any, forgive: bool = False, depth: int = 0) -> Any:
    """``value`` with marks taken off, and futures (which are done) and states replaced by results.

    What has nothing to replace in it is handed back itself, not a copy.

    Raises:
        UpstreamFailed: one of them did not complete, and ``allow_failure`` does not mark it.
    """
    kind = type(value)
    if kind in _PLAIN or depth >= MAX_DEPTH:
        return value
    if isinstance(value, Future):
        value.wait()
        return _result_of(value.state, forgive)
    if isinstance(value, State):
        return _result_of(value, forgive)
    if isinstance(value, Annotation):
        return _unmark(value, forgive, depth)
    if isinstance(value, dict):
        return _rebuilt(value, [*value.items()], lambda pairs: kind(pairs), forgive, depth)
    if kind in _SEQUENCES or isinstance(value, list):
        return _rebuilt(value, list(value), kind, forgive, depth)
    names = _field_names(kind)
    if names:
        return _refielded(value, names, forgive, depth)
    return value


def _unmark(mark: Annotation[Any], forgive: bool, depth: int) -> Any:
    inner = mark.value
    if isinstance(mark, quote):
        return inner
    forgive = forgive or isinstance(mark, allow_failure)
    if isinstance(mark, opaque) and not isinstance(inner, Future | State | Annotation):
        return inner
    return resolve(inner, forgive, depth + 1)


def _rebuilt(value: Any, items: list[Any], build: Callable[[Any], Any], forgive: bool, depth: int) -> Any:
    replaced = [item if type(item) in _PLAIN else resolve(item, forgive, depth + 1) for item in items]
    if all(new is old for new, old in zip(replaced, items, strict=True)):
        return value
    if hasattr(value, "_fields"):
        return type(value)(*replaced)
    return build(replaced)


def _refielded(value: Any, names: Iterable[str], forgive: bool, depth: int) -> Any:
    import copy

    changed = {}
    for name in names:
        old = getattr(value, name, None)
        new = resolve(old, forgive, depth + 1)
        if new is not old:
            changed[name] = new
    if not changed:
        return value
    twin = copy.copy(value)
    for name, new in changed.items():
        object.__setattr__(twin, name, new)
    return twin


def _result_of(state: State, forgive: bool) -> Any:
    if state.type is StateType.COMPLETED:
        return state.result(raise_on_failure=False)
    failed = state.type is StateType.FAILED or state.name == "NotReady"
    if forgive and failed:
        return state.result(raise_on_failure=False)
    raise UpstreamFailed(
        f"Upstream task run '{state.state_details.task_run_id}' did not reach a 'COMPLETED' state."
    )


def settle(value: Any) -> Any:
    """``value`` as a run returns it, with futures (which are done) replaced by their states."""
    kind = type(value)
    if isinstance(value, Future):
        return value.state
    if isinstance(value, list) or kind in (tuple, set, frozenset):
        replaced = [settle(item) for item in value]
        if all(new is old for new, old in zip(replaced, value, strict=True)):
            return value
        return list(replaced) if isinstance(value, list) else kind(replaced)
    if kind is dict:
        swapped = {key: settle(item) for key, item in value.items()}
        return value if all(swapped[key] is value[key] for key in value) else swapped
    return value
