"""Marks on the arguments of a task: ``unmapped``, ``allow_failure``, ``quote``, ``opaque``.

A mark says how the argument is treated before the task is called; the function sees the bare value.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Annotation(Generic[T]):
    """A marked value."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """The bare value."""
        return self.value

    def rewrap(self, value: Any) -> Annotation[Any]:
        """Another value under the same mark."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):  # noqa: N801
    """``map`` hands the value to every task as it is, instead of one element to each."""

    __slots__ = ()


class allow_failure(Annotation[T]):  # noqa: N801
    """The task runs even if this upstream failed; it is then given the exception."""

    __slots__ = ()


class quote(Annotation[T]):  # noqa: N801
    """The value is handed on untouched: no future or state in it is looked for."""

    __slots__ = ()

    def unquote(self) -> T:
        """The bare value."""
        return self.value


class opaque(Annotation[T]):  # noqa: N801
    """A future or state is resolved, what is inside of its value is not looked at."""

    __slots__ = ()
