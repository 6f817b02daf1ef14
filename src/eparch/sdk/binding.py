"""How calls of one function become parameters by name, and parameters arguments again, at speed.

Owns the short way for plain functions, whose signature is read once. All else is in ``core.parameters``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eparch.core.annotations import signature_of
from eparch.core.errors import ParametersInvalid
from eparch.core.parameters import bind, call_arguments

_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD


class Shape:
    """The parameters of a function."""

    __slots__ = ("_fn", "_names", "_plain", "_signature")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        try:
            self._signature = signature_of(fn)
        except (TypeError, ValueError):  # a builtin without one
            self._signature = inspect.signature(_anything)
            self._fn = _anything
        parameters = self._signature.parameters.values()
        self._names = tuple(one.name for one in parameters)
        self._plain = all(one.kind is _NAMED for one in parameters)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters by name, defaults included.

        Raises:
            ParametersInvalid: the function cannot be called so.
        """
        if self._plain and not kwargs and len(args) == len(self._names):
            return dict(zip(self._names, args, strict=True))
        return bind(self._fn, tuple(args), dict(kwargs))

    def spread(self, parameters: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What to call the function with, for ``parameters`` as ``bind`` gives them."""
        if self._plain:
            return (), parameters
        return call_arguments(self._fn, dict(parameters))

    def defaults(self) -> dict[str, Any]:
        """The parameters that need not be given."""
        parameters = self._signature.parameters.values()
        return {one.name: one.default for one in parameters if one.default is not one.empty}

    def given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters by name without defaults; those of ``**kwargs`` stand beside the others.

        Raises:
            ParametersInvalid: the function cannot be called so.
        """
        try:
            named = dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise ParametersInvalid(f"{getattr(self._fn, '__name__', 'map')}(): {error}") from None
        for one in self._signature.parameters.values():
            if one.kind is one.VAR_KEYWORD:
                named.update(named.pop(one.name, {}))
        return named

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as ``bind`` gives them, for values as ``given`` names them."""
        args, kwargs = call_arguments(self._fn, dict(given))
        return bind(self._fn, args, kwargs)


def _anything(*args: Any, **kwargs: Any) -> None:
    """Stands for a function whose signature nobody knows."""
