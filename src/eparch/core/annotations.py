"""Signature and annotations of a live function, whatever Python evaluates them when.

Since Python 3.14 an annotation is evaluated when somebody asks for it, and may then name what is not there:
what was imported for a type checker only. Such a function can still be called. Does not own what an
annotation means, see ``signatures``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature of ``fn``; an annotation that cannot be evaluated stays a forward reference.

    Raises:
        TypeError, ValueError: ``fn`` has no signature.
    """
    import inspect

    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(fn, annotation_format=Format.FORWARDREF)
    return inspect.signature(fn)


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of ``fn`` by parameter; those that cannot be resolved are left out."""
    import inspect
    import typing

    target = inspect.unwrap(fn)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # an annotation is user code, it may raise anything
        written = _written(target)
    found = {}
    for name, annotation in written.items():
        holder = type("holder", (), {"__annotations__": {name: annotation}})
        try:
            found.update(typing.get_type_hints(holder, _globals_of(target), include_extras=True))
        except Exception:  # noqa: S112  # the same, for one annotation alone
            continue
    return found


def _globals_of(target: Any) -> dict[str, Any]:
    """The names that its annotations can use: those of the module of a function or class."""
    own = getattr(target, "__globals__", None)
    module = sys.modules.get(getattr(target, "__module__", ""))
    return own if own is not None else dict(vars(module)) if module is not None else {}


def own_hints_of(cls: type) -> dict[str, Any]:
    """Annotations that the body of ``cls`` has, in their order; one that cannot be resolved is ``Any``."""
    import inspect

    hints = hints_of(cls)
    own = _written(cls) if sys.version_info >= (3, 14) else inspect.get_annotations(cls)
    return {name: hints.get(name, Any) for name in own}


def _written(target: Any) -> dict[str, Any]:
    """The annotations one by one, those that cannot be evaluated as text or as forward references."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        try:
            return get_annotations(target, format=Format.FORWARDREF)
        except Exception:  # an annotation is user code, it may raise anything
            return {}
    found: dict[str, Any] = getattr(target, "__annotations__", {})
    return found
