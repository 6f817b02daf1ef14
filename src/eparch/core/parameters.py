"""Parameters of a call: checked against a schema, bound to a signature, coerced to its annotations.

Owns those four steps. Does not own where a schema comes from, see ``signatures``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from eparch.core.errors import Invalid, ParametersInvalid, did_you_mean

if TYPE_CHECKING:
    import inspect

MAX_DEPTH = 64
"""How deep the parameters may be nested."""

MAX_ERRORS = 50
"""How many mistakes one refusal names."""


def check(schema: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Refuse ``parameters`` that do not fit ``schema`` (JSON Schema 2020-12), with every mistake at once.

    A name that the schema does not have is refused unless it allows ``additionalProperties``. A value equal
    to its default fits, and so does null for an optional parameter without one: so Prefect reads it.
    Nothing outside the schema is ever read: a reference must stay inside.

    Raises:
        ParametersInvalid: what does not fit, or that the schema itself cannot be used.
    """
    _check_depth(parameters)
    known = schema.get("properties")
    wrong: list[str] = []
    given = dict(parameters)
    if isinstance(known, dict) and not schema.get("additionalProperties", False):
        for name in sorted(parameters.keys() - known.keys()):
            del given[name]
            wrong.append(f"'{name}' is not a parameter. {did_you_mean(name, known)}".strip())
        schema = {**schema, "additionalProperties": True}
    if isinstance(known, dict):
        required = schema.get("required") or []
        given = {
            name: value for name, value in given.items() if not _is_default(name, value, known, required)
        }
    wrong.extend(_errors(schema, given))
    refuse(wrong)


def refuse(wrong: list[str]) -> None:
    """Raise one error that says all that is ``wrong``, if anything is.

    Raises:
        ParametersInvalid: something is.
    """
    if wrong:
        more = [f"and {len(wrong) - MAX_ERRORS} more"] if len(wrong) > MAX_ERRORS else []
        raise ParametersInvalid("\n".join([*wrong[:MAX_ERRORS], *more]))


def _is_default(name: str, value: Any, known: dict[str, Any], required: Iterable[str]) -> bool:
    about = known.get(name)
    if name in required or not isinstance(about, dict):
        return False
    if "default" not in about:
        return value is None
    return type(about["default"]) is type(value) and bool(about["default"] == value)


def _errors(schema: dict[str, Any], parameters: dict[str, Any]) -> Iterator[str]:
    from eparch.core.json_schema import mistakes

    try:
        found = list(mistakes(schema, parameters))
    except Invalid as error:
        raise ParametersInvalid(f"The parameter schema cannot be used: {error.message}") from None
    for one in sorted(found, key=lambda mistake: [str(part) for part in mistake.path]):
        path = ".".join(str(part) for part in one.path)
        yield f"'{path}': {one.message[:300]}" if path else one.message[:300]


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ParametersInvalid(f"The parameters are nested deeper than {MAX_DEPTH} levels.")


def bind(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call as parameters by name, with defaults; ``*args``, ``**kwargs`` by their names.

    Raises:
        ParametersInvalid: ``fn`` cannot be called so.
    """
    from eparch.core.annotations import signature_of

    signature = signature_of(fn)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(fn, "__name__", "the function")
        hints = [did_you_mean(key, signature.parameters) for key in kwargs if key not in signature.parameters]
        raise ParametersInvalid(f"{name}(): {error}", fix=" ".join(filter(None, hints))) from None
    bound.apply_defaults()
    return {name: _default(value) for name, value in bound.arguments.items()}


def _default(value: Any) -> Any:
    """The default that a field of pydantic stands for, else the value itself."""
    if type(value).__module__ == "pydantic.fields" and hasattr(value, "get_default"):
        return value.get_default(call_default_factory=True)
    return value


def call_arguments(
    fn: Callable[..., Any], parameters: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments that call ``fn`` with ``parameters``: ``bind`` read backwards.

    Names that only ``**kwargs`` can take may also stand beside the others.

    Raises:
        ParametersInvalid: a name is unknown or given twice.
    """
    import inspect

    from eparch.core.annotations import signature_of

    known = signature_of(fn).parameters
    kinds = {one.kind: one.name for one in known.values()}
    rest, collects = kinds.get(inspect.Parameter.VAR_POSITIONAL), kinds.get(inspect.Parameter.VAR_KEYWORD)
    _refuse_unknown(known, parameters)
    spread = bool(rest and parameters.get(rest))
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, one in known.items():
        if name == rest:
            args.extend(parameters.get(name, ()))
        elif name == collects or name not in parameters:
            continue
        elif one.kind is one.POSITIONAL_ONLY or (spread and one.kind is one.POSITIONAL_OR_KEYWORD):
            args.append(parameters[name])
        else:
            kwargs[name] = parameters[name]
    others = {name: value for name, value in parameters.items() if name not in known}
    inner = parameters.get(collects, {}) if collects else {}
    twice = sorted((kwargs.keys() | others.keys()) & inner.keys())
    refuse([f"'{name}' is given twice." for name in twice])
    return tuple(args), {**kwargs, **others, **inner}


def _refuse_unknown(known: Any, parameters: dict[str, Any]) -> None:
    if not any(one.kind is one.VAR_KEYWORD for one in known.values()):
        refuse(
            [
                f"'{n}' is not a parameter. {did_you_mean(n, known)}".strip()
                for n in parameters
                if n not in known
            ]
        )


def coerce(fn: Callable[..., Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """``parameters`` with JSON values turned into what the annotations of ``fn`` say, as Prefect does.

    Text becomes numbers and times, objects become dataclasses and models. A value stays as it is where its
    annotation cannot be checked.

    Raises:
        ParametersInvalid: every name that is unknown or missing, every value that does not fit.
    """

    from eparch.core.annotations import hints_of, signature_of

    known, hints = signature_of(fn).parameters, hints_of(fn)
    _refuse_unknown(known, parameters)
    coerced: dict[str, Any] = {}
    mistakes = [f"'{one.name}' is missing." for one in known.values() if _is_missing(one, parameters)]
    for name, value in parameters.items():
        one = known.get(name)
        hint = hints.get(name, Any) if one else Any
        if one and hint is not Any and one.kind is one.VAR_POSITIONAL:
            hint = tuple.__class_getitem__((hint, ...))
        elif one and hint is not Any and one.kind is one.VAR_KEYWORD:
            hint = dict.__class_getitem__((str, hint))
        if one and (value is one.default or hint is Any):
            coerced[name] = _default(value)
            continue
        try:
            coerced[name] = coerce_value(value, hint)
        except ValueError as error:
            mistakes.append(f"'{name}': {error}")
    refuse(mistakes)
    return coerced


def _is_missing(one: inspect.Parameter, parameters: dict[str, Any]) -> bool:
    collects = one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    return one.default is one.empty and not collects and one.name not in parameters


def coerce_value(value: Any, hint: Any) -> Any:
    """``value`` as ``hint``: exactly if it can be, else leniently; so ``"3"`` stays text in ``int | str``.

    Raises:
        ValueError: it does not fit.
    """
    import msgspec

    if hint is Any or (isinstance(hint, type) and isinstance(value, hint)):
        return value
    if _has_model(hint):
        from pydantic import TypeAdapter

        return TypeAdapter(hint).validate_python(value)
    try:
        try:
            return msgspec.convert(value, hint, strict=True, dec_hook=_read_odd)
        except msgspec.ValidationError:
            return msgspec.convert(value, hint, strict=False, dec_hook=_read_odd)
    except msgspec.ValidationError:
        if _is_json(value):
            raise
        return value
    except (TypeError, NameError, RecursionError, NotImplementedError):
        return value


def _read_odd(kind: type, value: Any) -> Any:
    """Types that msgspec does not know: paths from text, blocks from fields or a reference; else what is
    already one.
    """
    from pathlib import PurePath

    if callable(make := getattr(kind, "from_value", None)):
        return make(value)
    if isinstance(kind, type) and issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    if not isinstance(kind, type) or isinstance(value, kind):
        return value
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _has_model(hint: Any, depth: int = 0) -> bool:
    """Whether a model of pydantic, or a type with its rules, is somewhere in ``hint``."""
    import typing

    if hasattr(hint, "__get_pydantic_core_schema__") or type(hint).__module__.startswith("pydantic."):
        return True
    inner = (*typing.get_args(hint), *getattr(hint, "__metadata__", ()))
    return depth < MAX_DEPTH and any(_has_model(one, depth + 1) for one in inner)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float)
