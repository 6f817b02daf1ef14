"""Results of tasks that are kept, and when a kept one stands in for a run (row B3, its local part).

Owns cache policies and the folder of results in the home. Results elsewhere than on this machine, locks
between runs and transactions are not here.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from eparch.core.states import StateCreate, StateType
from eparch.sdk.text import printable

if TYPE_CHECKING:
    from eparch.sdk.flow_run import FlowRunContext
    from eparch.sdk.task_run import TaskRunContext

Key = str | None


class CachePolicy:
    """What a cache key is made of. ``a + b`` needs both the same, ``a - 'name'`` leaves an input out."""

    __slots__ = ("omitted", "parts")

    def __init__(self, parts: frozenset[str] = frozenset(), omitted: frozenset[str] = frozenset()) -> None:
        self.parts = parts
        self.omitted = omitted

    def __add__(self, other: CachePolicy) -> CachePolicy:
        return CachePolicy(self.parts | other.parts, self.omitted | other.omitted)

    def __sub__(self, name: str) -> CachePolicy:
        return CachePolicy(self.parts, self.omitted | {name})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CachePolicy) and (self.parts, self.omitted) == (other.parts, other.omitted)

    def __hash__(self) -> int:
        return hash((self.parts, self.omitted))

    def __bool__(self) -> bool:
        return bool(self.parts)

    def key(self, run: TaskRunContext) -> Key:
        """The key of ``run``, None when nothing is cached.

        Raises:
            ValueError: an input can neither be encoded nor pickled.
        """
        if not self.parts:
            return None
        flow = run.flow_context
        made: dict[str, Callable[[], Any]] = {
            "inputs": lambda: {k: v for k, v in run.parameters.items() if k not in self.omitted},
            "task_source": lambda: source_of(run.task.fn),
            "flow_parameters": lambda: dict(flow.parameters) if flow is not None else {},
            "run_id": lambda: str(flow.record.id if flow is not None else run.record.id),
        }
        return digest([run.task.task_key, *((part, made[part]()) for part in sorted(self.parts))])

    def __repr__(self) -> str:
        return " + ".join(part.upper() for part in sorted(self.parts)) or "NO_CACHE"


INPUTS = CachePolicy(frozenset({"inputs"}))
TASK_SOURCE = CachePolicy(frozenset({"task_source"}))
FLOW_PARAMETERS = CachePolicy(frozenset({"flow_parameters"}))
RUN_ID = CachePolicy(frozenset({"run_id"}))
NO_CACHE = CachePolicy()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


class Kept:
    """A value that was written to a file, or can be read from one."""

    __slots__ = ("_value", "expires", "path")

    def __init__(self, path: Path, value: Any, expires: datetime | None = None) -> None:
        self.path = path
        self.expires = expires
        self._value = value

    @property
    def wire(self) -> dict[str, Any]:
        """What the server is told of it (wire: result metadata)."""
        return {
            "storage_key": str(self.path),
            "expiration": self.expires,
            "serializer": {"type": "pickle", "picklelib": "cloudpickle", "picklelib_version": None},
            "storage_block_id": None,
        }

    def get(self, raise_on_failure: bool = True) -> Any:
        """The value."""
        return self._value


def source_of(fn: Callable[..., Any]) -> str:
    """The source of ``fn``, its bytecode where there is none."""
    try:
        return inspect.getsource(fn)
    except (OSError, TypeError):
        code = getattr(fn, "__code__", None)
        return code.co_code.hex() if code is not None else repr(fn)


def digest(value: Any) -> str:
    """A key that equal values share.

    Raises:
        ValueError: the value can neither be encoded nor pickled.
    """
    try:
        data = msgspec.json.encode(value, order="deterministic")
    except (TypeError, ValueError, RecursionError):
        import cloudpickle

        try:
            data = cloudpickle.dumps(value)
        except Exception as error:
            raise ValueError(f"no cache key can be made: {error}") from error
    return hashlib.sha256(data).hexdigest()


def key_of(run: TaskRunContext) -> Key:
    """The cache key of ``run``; one that cannot be made is logged and there is none."""
    task = run.task
    try:
        if task.cache_key_fn is not None:
            key = task.cache_key_fn(run, run.parameters)
            return None if key is None else printable(key)
        return task.cache_policy.key(run)
    except Exception as error:
        run.logger.log(logging.ERROR, "The cache key could not be computed, nothing is cached: %s", error)
        return None


def recall(run: TaskRunContext, key: Key) -> StateCreate | None:
    """The state with the result that was kept under ``key``; None when there is none that may be used."""
    if key is None or run.task.refresh_cache:
        return None
    kept = read(_path_of(run, key))
    if kept is None:
        return None
    return StateCreate(type=StateType.COMPLETED, name="Cached", data=kept)


def keep(run: TaskRunContext | FlowRunContext, state: StateCreate) -> StateCreate:
    """``state`` with its value kept in a file; as it is, with a warning in the log, when that fails."""
    key = getattr(run.record, "cache_key", None) or uuid4().hex
    lifetime: timedelta | None = getattr(run.definition, "cache_expiration", None)
    expires = datetime.now(UTC) + lifetime if lifetime is not None else None
    assert state.data is not None
    value = state.data.get()
    try:
        kept = write(_path_of(run, key), value, expires)
    except Exception as error:
        run.logger.warning("The result could not be kept: %s", error)
        return state
    return msgspec.structs.replace(state, data=kept)


def _path_of(run: TaskRunContext | FlowRunContext, key: str) -> Path:
    return run.session.settings.home / "storage" / hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def write(path: Path, value: Any, expires: datetime | None) -> Kept:
    """Write ``value`` to ``path``, whole or not at all."""
    import cloudpickle

    data = cloudpickle.dumps((expires, value))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    draft.write_bytes(data)
    os.replace(draft, path)
    return Kept(path, value, expires)


def read(path: Path) -> Kept | None:
    """What was written to ``path``; None when there is nothing, it has expired or cannot be read."""
    try:
        expires, value = pickle.loads(path.read_bytes())  # noqa: S301 - this user's own home
    except FileNotFoundError:
        return None
    except Exception:
        return None  # written by other code: as good as not there
    if expires is not None and expires <= datetime.now(UTC):
        return None
    return Kept(path, value, expires)


def task_input_hash(run: TaskRunContext, parameters: Mapping[str, Any]) -> str | None:
    """A cache key of the task and its inputs, for ``cache_key_fn``; None when none can be made."""
    try:
        return digest([run.task.task_key, source_of(run.task.fn), dict(parameters)])
    except ValueError:
        return None
