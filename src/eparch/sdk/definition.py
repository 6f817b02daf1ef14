"""What flows and tasks have in common: a function with a name, options, hooks and a timeout."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import update_wrapper
from pathlib import PurePath
from types import MethodType
from typing import Any, ClassVar, TypeVar, cast

from eparch.core.annotations import signature_of
from eparch.core.errors import Usage, did_you_mean
from eparch.core.states import StateType
from eparch.sdk.binding import Shape
from eparch.sdk.text import printable

D = TypeVar("D", bound="Definition")
Hook = Callable[..., Any]
Named = str | Callable[..., str] | None


class Definition:
    """A function that is run under the engine."""

    noun: ClassVar[str] = "definition"
    _options: dict[str, Any]
    hooked: ClassVar[Mapping[str, StateType]] = {}
    """Which hooks there are, and the state that calls them."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None,
        description: str | None,
        version: str | None,
        tags: Iterable[str] | None,
        run_name: Named,
        timeout_seconds: float | None,
        log_prints: bool | None,
        persist_result: bool | None,
        hooks: Mapping[str, Sequence[Hook] | None],
    ) -> None:
        inner = getattr(fn, "__func__", fn)
        if not callable(inner):
            raise Usage(f"A {self.noun} is made of a function, not of {type(fn).__name__}.")
        if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
            raise Usage(
                f"{inner.__name__!r} is a generator function; a {self.noun} cannot be one.",
                fix="Return a list, or call a task for each item.",
            )
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise Usage(f"A timeout of {timeout_seconds} seconds is not possible.", fix="Give more than 0.")
        if run_name is not None and not isinstance(run_name, str) and not callable(run_name):
            raise Usage(f"The {self.noun}_run_name of {name!r} is neither a text nor a function.")
        self._bare = fn if isinstance(fn, staticmethod | classmethod) else None
        self.fn: Callable[..., Any] = inner
        self.name = printable(str(name or name_of(inner)), 255)
        self.description = description or inspect.getdoc(inner)
        self.version = version
        self.tags = frozenset(printable(tag, 255) for tag in tags or ())
        self.timeout_seconds = float(timeout_seconds) if timeout_seconds is not None else None
        self.log_prints = log_prints
        self.persist_result = persist_result
        self.isasync = inspect.iscoroutinefunction(inner)
        self.shape = Shape(inner)
        self.hooks = {self.hooked[key]: list(given or ()) for key, given in hooks.items()}
        self._run_name = run_name
        update_wrapper(cast(Any, self), inner)

    @property
    def task_key(self) -> str:
        """The function's name and a digest of its code: equal in every process that has the same code."""
        found: str | None = self.__dict__.get("_task_key")
        if found is None:
            found = self._task_key = key_of(self.fn)
        return found

    def run_name(self, parameters: Mapping[str, Any]) -> str | None:
        """The name that a run with ``parameters`` is to have, None when there is no rule.

        Raises:
            Usage: the rule cannot be applied.
        """
        rule = self._run_name
        if rule is None:
            return None
        if isinstance(rule, str):
            try:
                return rule.format(**parameters)
            except (KeyError, IndexError) as error:
                missing = str(error.args[0])
                hint = did_you_mean(missing, parameters)
                raise Usage(
                    f"The {self.noun}_run_name {rule!r} names {missing!r}, which is no parameter.", fix=hint
                ) from error
        named = rule(parameters=parameters) if "parameters" in signature_of(rule).parameters else rule()
        if not isinstance(named, str):
            raise Usage(f"The function for {self.noun}_run_name returned {type(named).__name__}, not a text.")
        return named

    def options_with(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The options that this was made with, hooks that were added since among them, and ``changes``.

        Raises:
            Usage: a change names no option.
        """
        refuse_unknown(self.noun, type(self), changes)
        hooks = {key: list(self.hooks[state]) for key, state in self.hooked.items()}
        return {**self._options, **hooks, **changes}

    def add_hook(self, key: str, hook: Hook) -> Hook:
        """Call ``hook(definition, run, state)`` when the state of ``key`` is entered; gives ``hook`` back."""
        if not callable(hook):
            raise Usage(f"A hook is a function, not {type(hook).__name__}.")
        self.hooks.setdefault(self.hooked[key], []).append(hook)
        return hook

    def on_completion(self, hook: Hook) -> Hook:
        """Decorator: call ``hook`` when a run completed."""
        return self.add_hook("on_completion", hook)

    def on_failure(self, hook: Hook) -> Hook:
        """Decorator: call ``hook`` when a run failed, after its last retry."""
        return self.add_hook("on_failure", hook)

    def on_running(self, hook: Hook) -> Hook:
        """Decorator: call ``hook`` when a run begins."""
        return self.add_hook("on_running", hook)

    def __get__(self: D, instance: Any, owner: type | None = None) -> D:
        """The same for a method: bound to its instance, or to its class."""
        if self._bare is not None:
            fn = self._bare.__get__(instance, owner)
        elif instance is not None:
            fn = MethodType(self.fn, instance)
        else:
            return self
        twin = copy.copy(self)
        twin.fn, twin.shape, twin._bare = fn, Shape(fn), None
        return twin

    def __repr__(self) -> str:
        return f"<{self.noun} {self.name!r}>"


def name_of(fn: Any) -> str:
    """What the code calls ``fn``."""
    inner = getattr(fn, "__func__", fn)
    return str(getattr(inner, "__name__", type(inner).__name__))


def key_of(fn: Callable[..., Any]) -> str:
    """``name-digest`` of a function's code."""
    name = str(getattr(fn, "__qualname__", type(fn).__name__)).rsplit(".", 1)[-1]
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    if code is None:
        return name
    constants = [constant for constant in code.co_consts if not hasattr(constant, "co_code")]
    # The file, not the module: what a script calls __main__ has another name where a task worker loads it.
    file = PurePath(code.co_filename).stem
    told = repr((code.co_code, code.co_names, code.co_varnames, constants, file))
    return f"{name}-{hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:8]}"


def refuse_unknown(decorator: str, kind: type, options: Mapping[str, Any]) -> None:
    """Refuse options that ``kind`` does not have.

    Raises:
        Usage: there is one.
    """
    known = set(inspect.signature(kind).parameters) - {"fn"}
    for name in options:
        if name not in known:
            raise Usage(f"@{decorator} does not have an option {name!r}.", fix=did_you_mean(name, known))
