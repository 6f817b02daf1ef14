"""The fields of a block's class: read from its annotations, written as JSON Schema, filled with values.

Owns those three steps. Does not own what a class says of itself besides, see ``block``, nor the rules from
types to schemas, see ``core.signatures``. ``pydantic.Field`` and pydantic's types do where it is installed.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from eparch.core.annotations import own_hints_of
from eparch.core.errors import ParametersInvalid, did_you_mean
from eparch.core.parameters import coerce_value, refuse
from eparch.core.secrets import HIDDEN, SecretDict, is_secret_type, reveal
from eparch.core.signatures import is_plain, plain, schema_of_field

MISSING: Any = object()
"""There is no default."""


class FieldInfo(NamedTuple):
    """What ``Field`` said."""

    default: Any = MISSING
    default_factory: Callable[[], Any] | None = None
    title: str | None = None
    description: str | None = None
    examples: list[Any] | None = None
    json_schema_extra: Mapping[str, Any] | None = None


def Field(  # noqa: N802  people know it by this name
    default: Any = MISSING,
    *,
    default_factory: Callable[[], Any] | None = None,
    title: str | None = None,
    description: str | None = None,
    examples: list[Any] | None = None,
    json_schema_extra: Mapping[str, Any] | None = None,
) -> Any:
    """Say more of a field of a block: ``token: SecretStr = Field(description="The key of the API.")``."""
    return FieldInfo(
        MISSING if default is ... else default,
        default_factory, title, description, examples, json_schema_extra,
    )  # fmt: skip


class BlockField(NamedTuple):
    """One field of a block's class."""

    name: str
    annotation: Any
    info: FieldInfo

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.info.default is MISSING and self.info.default_factory is None

    def default(self) -> Any:
        """The value of a block that names none; a new one each time."""
        from copy import deepcopy

        info = self.info
        return info.default_factory() if info.default_factory is not None else deepcopy(info.default)

    @property
    def secret(self) -> bool:
        """Whether its value, or part of it, is secret."""
        return next(secret_paths(self), None) is not None


def fields_of(cls: type) -> dict[str, BlockField]:
    """The fields of ``cls`` and of what it is derived from, in their order."""
    found: dict[str, BlockField] = {}
    for owner in reversed(cls.__mro__):
        if not is_block_type(owner):
            continue
        for name, annotation in own_hints_of(owner).items():
            if name.startswith("_") or typing.get_origin(annotation) is typing.ClassVar:
                continue
            if name in owner.__dict__ or name not in found:
                found[name] = BlockField(name, annotation, _info(owner.__dict__.get(name, MISSING)))
    return found


def _info(given: Any) -> FieldInfo:
    """What was written behind the annotation."""
    if isinstance(given, FieldInfo):
        return given
    if type(given).__module__ != "pydantic.fields" or not hasattr(given, "default_factory"):
        return FieldInfo(given)
    default = MISSING if given.is_required() or given.default_factory else given.default
    extra = given.json_schema_extra if isinstance(given.json_schema_extra, Mapping) else None
    return FieldInfo(default, given.default_factory, given.title, given.description, given.examples, extra)


# Schemas


def write_properties(fields: Mapping[str, BlockField], definitions: dict[str, Any]) -> dict[str, Any]:
    """The properties of a block's schema; named classes go into ``definitions``."""
    properties = {}
    for position, (name, field) in enumerate(fields.items()):
        about = schema_of_field(name, field.annotation, definitions)
        info = field.info
        if info.default is not MISSING and is_plain(default := _shown_default(info.default)):
            about["default"] = default
        for key in ("title", "description", "examples"):
            if (said := getattr(info, key)) is not None:
                about[key] = said
        properties[name] = {**about, **(info.json_schema_extra or {}), "position": position}
    return properties


def _shown_default(default: Any) -> Any:
    """A default as a schema shows it."""
    if is_secret_type(type(default)):
        return HIDDEN if reveal(default) else ""
    return plain(default)


def without_additional(schema: Any) -> Any:
    """``schema`` as Prefect writes it for blocks: it does not say what else a mapping may hold."""
    if isinstance(schema, Mapping):
        kept = (item for item in schema.items() if item[0] != "additionalProperties")
        return {key: without_additional(value) for key, value in kept}
    return [without_additional(item) for item in schema] if isinstance(schema, list) else schema


def secret_paths(field: BlockField) -> Iterator[str]:
    """The dotted paths of what is secret in a field (wire: ``secret_fields``); ``.*`` is all below."""
    yield from _secret_paths(field.name, field.annotation)


def _secret_paths(path: str, annotation: Any) -> Iterator[str]:
    if inner := _inner(annotation):
        for one in inner:
            yield from _secret_paths(path, one)
    elif is_secret_type(annotation) or is_secret_type(typing.get_origin(annotation)):
        is_dict = isinstance(annotation, type) and annotation.__name__ == SecretDict.__name__
        yield f"{path}.*" if is_dict else path
    elif is_block_type(annotation):
        for below in annotation.model_json_schema()["secret_fields"]:
            yield f"{path}.{below}"
    elif isinstance(known := getattr(annotation, "model_fields", None), dict):
        for name, one in known.items():
            yield from _secret_paths(f"{path}.{name}", one.annotation)


def block_types(annotation: Any) -> Iterator[type]:
    """The classes of blocks that a field may hold."""
    if is_block_type(annotation):
        yield annotation
    for one in _inner(annotation):
        yield from block_types(one)


def is_block_type(annotation: Any) -> bool:
    """Whether it is the class of a block."""
    return isinstance(annotation, type) and hasattr(annotation, "__block_fields__")


def _inner(annotation: Any) -> tuple[Any, ...]:
    """What is inside of a union or a container; nothing where it is neither."""
    from collections.abc import Iterable

    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return typing.get_args(annotation)[:1]
    if origin in (typing.Union, types.UnionType) or (
        isinstance(origin, type) and issubclass(origin, Iterable)
    ):
        return typing.get_args(annotation)
    return ()


# Values


def fill(fields: Mapping[str, BlockField], given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The values of a block: those that are ``given``, and defaults.

    Raises:
        ParametersInvalid: every name that is unknown or missing, every value that does not fit; the message
            never shows the value of a secret.
    """
    wrong = [
        f"'{name}' is no field of {owner}. {did_you_mean(name, fields)}".strip()
        for name in given
        if name not in fields
    ]
    values = {}
    for name, field in fields.items():
        if name not in given:
            if field.required:
                wrong.append(f"{owner} needs '{name}'.")
            else:
                values[name] = field.default()
            continue
        try:
            values[name] = made(given[name], field.annotation)
        except ParametersInvalid as error:
            wrong.append(f"'{name}' of {owner}: {error.message}")
        except (ValueError, TypeError) as error:
            said = "it does not fit its type" if field.secret else str(error)
            wrong.append(f"'{name}' of {owner}: {said}")
    refuse(wrong)
    return values


def made(value: Any, annotation: Any) -> Any:
    """``value`` as ``annotation`` wants it: texts become secrets, mappings become blocks.

    Raises:
        ValueError, TypeError: it does not fit.
        ParametersInvalid: the fields of a block do not.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return made(value, args[0])
    if origin in (typing.Union, types.UnionType):
        return _first_made(value, args) if _is_special(annotation) else coerce_value(value, annotation)
    if is_block_type(annotation):
        return annotation.from_value(value)
    if is_secret_type(origin or annotation):
        kind = origin or annotation
        return value if isinstance(value, kind) else kind(reveal(value))
    if args and isinstance(origin, type) and _is_special(annotation):
        if isinstance(value, Mapping) and len(args) == 2:
            return {key: made(item, args[1]) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [made(item, args[0]) for item in value]
        raise ValueError(f"Expected `{origin.__name__}`, got `{type(value).__name__}`")
    return coerce_value(value, annotation)


def _first_made(value: Any, choices: tuple[Any, ...]) -> Any:
    """``value`` as the first of ``choices`` that it fits."""
    if value is None and type(None) in choices:
        return None
    errors: list[Exception] = []
    for one in choices:
        if one is type(None):
            continue
        try:
            return made(value, one)
        except (ValueError, TypeError, ParametersInvalid) as error:
            errors.append(error)
    raise errors[0] if errors else ValueError(f"Expected `None`, got `{type(value).__name__}`")


def _is_special(annotation: Any) -> bool:
    """Whether a secret or a block is somewhere in it."""
    return (
        next(_secret_paths("", annotation), None) is not None
        or next(block_types(annotation), None) is not None
    )
