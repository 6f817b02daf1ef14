"""Signatures as JSON Schema, in the shape of ``parameter_openapi_schema``.

Owns one set of rules from annotations to schemas, and two readers that feed it: source as AST (nothing is
imported or run) and live functions. Does not own checking values, see ``parameters``.
What cannot be read becomes ``{}``: anything is allowed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from eparch.core.docstrings import describe

if TYPE_CHECKING:
    from datetime import timedelta

MAX_DEPTH = 20
"""How deep annotations and classes are followed."""

_NONE = object()
"""There is no default, or none that can be written down."""


class Annotation(NamedTuple):
    """One annotation as both readers see it: the full name of a type, its arguments, its class if it is ours.

    ``literal`` values are the arguments of ``typing.Literal``.
    """

    name: str
    args: tuple[Annotation, ...] = ()
    literal: tuple[Any, ...] = ()
    cls: Class | None = None


class Attribute(NamedTuple):
    """One field of a class."""

    name: str
    annotation: Annotation
    default: Any
    required: bool


class Class(NamedTuple):
    """A class whose values are JSON objects (``attributes``) or an enumeration (``members``)."""

    name: str
    doc: str
    attributes: Callable[[], list[Attribute]]
    members: list[Any] | None = None
    schema: Callable[[], dict[str, Any]] | None = None


class Parameter(NamedTuple):
    """One parameter. ``kind`` is ``*`` or ``**`` for what collects, else empty."""

    name: str
    position: int
    annotation: Annotation
    default: Any
    required: bool
    kind: str = ""


ANY = Annotation("typing.Any")

_SIMPLE: dict[str, dict[str, Any]] = {
    "builtins.int": {"type": "integer"},
    "builtins.float": {"type": "number"},
    "builtins.str": {"type": "string"},
    "builtins.bool": {"type": "boolean"},
    "builtins.complex": {"type": "string"},
    "builtins.bytes": {"type": "string", "format": "binary"},
    "builtins.NoneType": {"type": "null"},
    "datetime.datetime": {"type": "string", "format": "date-time"},
    "datetime.date": {"type": "string", "format": "date"},
    "datetime.time": {"type": "string", "format": "time"},
    "datetime.timedelta": {"type": "string", "format": "duration"},
    "uuid.UUID": {"type": "string", "format": "uuid"},
    "pathlib.Path": {"type": "string", "format": "path"},
    "pathlib.PurePath": {"type": "string", "format": "path"},
    "decimal.Decimal": {"anyOf": [{"type": "number"}, {"type": "string"}]},
    **{
        f"{module}.SecretStr": {"type": "string", "format": "password", "writeOnly": True}
        for module in ("pydantic", "pydantic.types", "eparch.core.secrets")
    },
    "eparch.core.secrets.SecretDict": {"type": "object"},
}
_LISTS = {
    "builtins.list",
    "typing.List",
    *(
        f"{m}.{n}"
        for m in ("typing", "collections.abc")
        for n in ("Sequence", "Iterable", "Collection", "MutableSequence")
    ),
    "collections.deque",
    "typing.Deque",
}
_SETS = {
    "builtins.set",
    "builtins.frozenset",
    "typing.Set",
    "typing.FrozenSet",
    *(f"{m}.{n}" for m in ("typing", "collections.abc") for n in ("AbstractSet", "MutableSet")),
    "collections.abc.Set",
}
_MAPS = {
    "builtins.dict",
    "typing.Dict",
    *(f"{m}.{n}" for m in ("typing", "collections.abc") for n in ("Mapping", "MutableMapping")),
    "collections.OrderedDict",
    "collections.defaultdict",
    "typing.DefaultDict",
    "typing.OrderedDict",
}
_TUPLES = {"builtins.tuple", "typing.Tuple"}


# The rules.


def _write(annotation: Annotation, definitions: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """The JSON Schema of ``annotation``; named classes go into ``definitions``."""
    name, args = annotation.name, annotation.args
    if depth > MAX_DEPTH:
        return {}
    if annotation.cls is not None:
        return _write_class(annotation.cls, definitions, depth)
    if name in _SIMPLE:
        return dict(_SIMPLE[name])
    if name == "typing.Union":
        return _write_union(args, definitions, depth)
    if name == "typing.Literal":
        return _write_literal(annotation.literal)
    inner = [_write(arg, definitions, depth + 1) for arg in args if arg.name != "..."]
    if name in _LISTS or name in _SETS:
        unique = {"uniqueItems": True} if name in _SETS else {}
        return {"type": "array", "items": inner[0] if inner else {}, **unique}
    if name in _MAPS:
        return {"type": "object", "additionalProperties": (inner[1] if len(inner) == 2 else {}) or True}
    if name in _TUPLES:
        if len(args) == 2 and args[1].name == "...":
            return {"type": "array", "items": inner[0]}
        if args:
            fixed = [] if args[0].name == "()" else inner
            size = {"minItems": len(fixed), "maxItems": len(fixed)}
            return {"type": "array", **size, **({"prefixItems": fixed} if fixed else {})}
        return {"type": "array", "items": {}}
    return {}


def _write_union(args: tuple[Annotation, ...], definitions: dict[str, Any], depth: int) -> dict[str, Any]:
    """``anyOf`` of all that may be, null last; the same one is there once."""
    flat: list[Annotation] = []
    for arg in args:
        flat.extend(arg.args if arg.name == "typing.Union" else [arg])
    choices: list[dict[str, Any]] = []
    for arg in [one for one in flat if one.name != "builtins.NoneType"]:
        choice = _write(arg, definitions, depth + 1)
        if choice not in choices:
            choices.append(choice)
    if len(flat) > sum(one.name != "builtins.NoneType" for one in flat):
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _write_literal(values: tuple[Any, ...]) -> dict[str, Any]:
    head: dict[str, Any] = {"const": values[0]} if len(values) == 1 else {"enum": list(values)}
    return {**head, **_type_of(values)}


def _type_of(values: Any) -> dict[str, Any]:
    """The one JSON type of all ``values``, if there is one."""
    kinds = {type(value) for value in values}
    names = {bool: "boolean", int: "integer", str: "string", float: "number", type(None): "null"}
    if kinds == {int, float}:
        return {"type": "number"}
    return {"type": names[kinds.pop()]} if len(kinds) == 1 and kinds <= names.keys() else {}


def _write_class(cls: Class, definitions: dict[str, Any], depth: int) -> dict[str, Any]:
    reference = {"$ref": f"#/definitions/{cls.name}"}
    if cls.name in definitions:
        return reference
    about = {"title": cls.name, **({"description": cls.doc} if cls.doc else {})}
    definitions[cls.name] = about
    if cls.schema is not None:
        written = cls.schema()
        definitions.update(written.pop("$defs", {}) | written.pop("definitions", {}))
        definitions[cls.name] = written
    elif cls.members is not None:
        definitions[cls.name] = {"enum": cls.members, **about, **_type_of(cls.members)}
    else:
        properties: dict[str, Any] = {}
        attributes = cls.attributes()
        for one in attributes:
            schema = _write(one.annotation, definitions, depth + 1)
            if not _is_reference(schema):
                schema["title"] = titled(one.name)
            if one.default is not _NONE:
                schema["default"] = one.default
            properties[one.name] = schema
        needed = [one.name for one in attributes if one.required]
        definitions[cls.name] = {
            **about,
            "type": "object",
            "properties": properties,
            **({"required": needed} if needed else {}),
        }
    return reference


def _is_reference(schema: dict[str, Any]) -> bool:
    choices = schema.get("anyOf", [])
    return "$ref" in schema or (len(choices) == 2 and "$ref" in choices[0] and choices[1] == {"type": "null"})


def _write_parameters(parameters: list[Parameter], doc: str) -> dict[str, Any]:
    """The whole schema. ``*args`` and ``**kwargs`` may be left out, other names go where ``**kwargs`` is."""
    described = describe(doc)
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for one in parameters:
        schema = _write(one.annotation, definitions)
        if one.kind == "*":
            schema = {"type": "array", "items": schema}
        elif one.kind == "**":
            schema = {"type": "object", "additionalProperties": schema or True}
        schema.update(title=one.name, position=one.position)
        if one.default is not _NONE:
            schema["default"] = one.default
        if one.name in described:
            schema["description"] = described[one.name]
        properties[one.name] = schema
    whole = {
        "title": "Parameters",
        "type": "object",
        "properties": properties,
        "required": [one.name for one in parameters if one.required],
        "definitions": definitions,
    }
    return {**whole, "additionalProperties": True} if any(one.kind == "**" for one in parameters) else whole


def plain(value: Any) -> Any:
    """``value`` as JSON holds it, or the mark that it has none."""
    import math
    from datetime import timedelta
    from pathlib import PurePath

    import msgspec

    def write(odd: Any) -> Any:
        if isinstance(odd, PurePath | complex):
            return str(odd).strip("()")
        if hasattr(odd, "model_dump"):
            return odd.model_dump(mode="json", exclude_unset=True)
        raise TypeError

    if isinstance(value, float) and not math.isfinite(value):
        return _NONE
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=write))
    except (TypeError, ValueError, RecursionError):
        return _NONE


def is_plain(value: Any) -> bool:
    """Whether ``value``, which ``plain`` gave, is one."""
    return value is not _NONE


def _duration(value: timedelta) -> str:
    """ISO 8601, in the largest units that fit: ``P1DT2H``."""
    whole = abs(value)
    hours, rest = divmod(whole.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    second = (
        f"{seconds}.{whole.microseconds:06}".rstrip("0").rstrip(".") if whole.microseconds else str(seconds)
    )
    units = ((str(hours), "H"), (str(minutes), "M"), (second, "S"))
    time = "".join(number + unit for number, unit in units if number != "0")
    text = (f"{whole.days}D" if whole.days else "") + (f"T{time}" if time else "")
    return f"{'-' if value < whole else ''}P{text or 'T0S'}"


# Source as AST.


def schema_of_ast(
    fn: ast.FunctionDef | ast.AsyncFunctionDef, module: ast.Module | None = None
) -> dict[str, Any]:
    """The parameter schema of ``fn``; classes and imports are looked up in ``module``. Runs nothing.

    A default that is no literal is left out; the parameter is then still optional.
    """
    scope = _Scope(module)
    args = fn.args
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    named = [*zip(positional, defaults, strict=True)]
    every = [(arg, default, "") for arg, default in named]
    every += [(args.vararg, None, "*")] if args.vararg else []
    every += [(arg, default, "") for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    every += [(args.kwarg, None, "**")] if args.kwarg else []
    parameters = [
        Parameter(
            name=arg.arg,
            position=position,
            annotation=scope.read(arg.annotation),
            default=scope.value(default),
            required=default is None and not kind,
            kind=kind,
        )
        for position, (arg, default, kind) in enumerate(every)
        if arg.arg not in ("self", "cls")
    ]
    return _write_parameters(parameters, ast.get_docstring(fn) or "")


class _Scope:
    """Names of a module: what they were imported as, and the classes that it defines."""

    def __init__(self, module: ast.Module | None) -> None:
        self.imports: dict[str, str] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        for node in module.body if module else []:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def name(self, node: ast.expr) -> str:
        """The full name of what ``node`` names."""
        if isinstance(node, ast.Attribute):
            return f"{self.name(node.value)}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        full = self.imports.get(node.id)
        if full is None:
            full = node.id if node.id in self.classes else f"builtins.{node.id}"
        return full.replace("typing_extensions.", "typing.")

    def read(self, node: ast.expr | None, depth: int = 0) -> Annotation:
        """The annotation that ``node`` writes."""
        if node is None or depth > MAX_DEPTH:
            return ANY
        if isinstance(node, ast.Constant):
            return self._read_constant(node.value, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return Annotation(
                "typing.Union", (self.read(node.left, depth + 1), self.read(node.right, depth + 1))
            )
        if isinstance(node, ast.Tuple) and not node.elts:
            return Annotation("()")
        if isinstance(node, ast.Subscript):
            return self._read_subscript(node, depth)
        name = self.name(node)
        if name in self.classes:
            cls = self._class(self.classes[name])
            return Annotation(name, cls=cls) if cls else ANY
        return Annotation(name) if name else ANY

    def _read_constant(self, value: Any, depth: int) -> Annotation:
        if value is None:
            return Annotation("builtins.NoneType")
        if value is ...:
            return Annotation("...")
        try:
            return self.read(ast.parse(str(value), mode="eval").body, depth + 1)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ANY

    def _read_subscript(self, node: ast.Subscript, depth: int) -> Annotation:
        name = self.name(node.value)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) and node.slice.elts else [node.slice]
        if name == "typing.Literal":
            values = [self.value(part) for part in parts]
            return ANY if _NONE in values else Annotation(name, literal=tuple(values))
        if name == "typing.Annotated":
            return self.read(parts[0], depth + 1)
        args = tuple(self.read(part, depth + 1) for part in parts)
        if name == "typing.Optional":
            return Annotation("typing.Union", (*args, Annotation("builtins.NoneType")))
        return Annotation(name, args)

    def value(self, node: ast.expr | None) -> Any:
        """The JSON value that ``node`` writes: a literal, or a member of an enumeration of the module."""
        if node is None:
            return _NONE
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = self.classes.get(node.value.id)
            members = _members(owner, self) if owner else None
            return members.get(node.attr, _NONE) if members else _NONE
        try:
            return plain(ast.literal_eval(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return _NONE

    def _class(self, node: ast.ClassDef) -> Class | None:
        """The class that ``node`` defines, if its fields can be read."""
        doc = ast.get_docstring(node) or ""
        members = _members(node, self)
        if members is not None:
            return Class(node.name, doc, list, list(members.values())) if members else None
        if not self._is_data(node) or any(self._attribute(one) is None for one in _assigned(node)):
            return None
        return Class(node.name, doc, lambda: self._attributes(node))

    def _is_data(self, node: ast.ClassDef) -> bool:
        """Whether it is a plain dataclass or pydantic model."""
        decorators = [
            self.name(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list
        ]
        bases = [self.name(base) for base in node.bases]
        if bases and not node.decorator_list:
            return bases == ["pydantic.BaseModel"] and not node.keywords
        return decorators == ["dataclasses.dataclass"] and not bases

    def _attributes(self, node: ast.ClassDef) -> list[Attribute]:
        return [one for one in map(self._attribute, _assigned(node)) if one is not None]

    def _attribute(self, node: ast.AnnAssign) -> Attribute | None:
        """One field, or none if only running it would tell what it is."""
        assert isinstance(node.target, ast.Name)
        annotation, default = self.read(node.annotation), self.value(node.value)
        if isinstance(node.value, ast.Call):
            call = node.value
            keywords = {one.arg for one in call.keywords}
            if self.name(call.func) not in ("dataclasses.field", "pydantic.Field") or call.args:
                return None
            if not keywords <= {"default_factory"} or (
                self.name(call.func) == "pydantic.Field" and not keywords
            ):
                return None
            return Attribute(node.target.id, annotation, _NONE, required=not keywords)
        if node.value is not None and default is _NONE:
            return None
        return Attribute(node.target.id, annotation, default, required=node.value is None)


def _assigned(node: ast.ClassDef) -> list[ast.AnnAssign]:
    return [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]


def _members(node: ast.ClassDef, scope: _Scope) -> dict[str, Any] | None:
    """Values of an enumeration by name, empty if they cannot be read; none if it is no enumeration."""
    if not {scope.name(base) for base in node.bases} & {"enum.Enum", "enum.StrEnum", "enum.IntEnum"}:
        return None
    members: dict[str, Any] = {}
    for one in node.body:
        if isinstance(one, ast.Assign) and len(one.targets) == 1 and isinstance(one.targets[0], ast.Name):
            try:
                members[one.targets[0].id] = ast.literal_eval(one.value)
            except ValueError:
                return {}
    return members


# Live functions.


def schema_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The parameter schema of ``fn``, from its signature and type hints.

    Raises:
        TypeError, ValueError: ``fn`` has no signature.
    """
    import inspect

    from eparch.core.annotations import hints_of, signature_of

    parameters = []
    hints = hints_of(fn)
    kinds: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for position, one in enumerate(signature_of(fn).parameters.values()):
        if one.name in ("self", "cls"):
            continue
        kind, missing = kinds.get(one.kind, ""), one.default is one.empty
        parameters.append(
            Parameter(
                name=one.name,
                position=position,
                annotation=_read_live(hints.get(one.name, Any)),
                default=_NONE if missing else plain(one.default),
                required=missing and not kind,
                kind=kind,
            )
        )
    return _write_parameters(parameters, fn.__doc__ or "")


def schema_of_field(name: str, annotation: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of one field of a class, with its title; named classes go into ``definitions``."""
    schema = _write(_read_live(annotation), definitions)
    return schema if _is_reference(schema) else {**schema, "title": titled(name)}


def titled(name: str) -> str:
    """The title of the field called ``name``, as pydantic makes it."""
    return name.title().replace("_", " ").strip()


def _read_live(annotation: Any, depth: int = 0) -> Annotation:
    """The annotation that a live type is."""
    import types
    import typing

    if depth > MAX_DEPTH:
        return ANY
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return Annotation("builtins.NoneType")
    if annotation is ...:
        return Annotation("...")
    if origin is typing.Annotated:
        return _read_live(args[0], depth + 1)
    if origin is typing.Literal:
        values = tuple(plain(value) for value in args)
        return ANY if _NONE in values else Annotation("typing.Literal", literal=values)
    if origin in (typing.Union, types.UnionType):
        return Annotation("typing.Union", tuple(_read_live(arg, depth + 1) for arg in args))
    kind = origin or annotation
    # Python 3.13 defines pathlib.Path in pathlib._local: where it is public is what it is known by.
    module = str(getattr(kind, "__module__", "")).partition("._")[0]
    name = f"{module}.{getattr(kind, '__qualname__', '')}"
    if name in _TUPLES and not args and "[" in repr(annotation):
        return Annotation(name, (Annotation("()"),))
    if not args and isinstance(kind, type) and name not in _SIMPLE and (cls := _live_class(kind)):
        return Annotation(name, cls=cls)
    return Annotation(name, tuple(_read_live(arg, depth + 1) for arg in args))


def _live_class(kind: type) -> Class | None:
    """What is known of a class: an enumeration, a dataclass, a model of pydantic."""
    import dataclasses
    import enum
    import inspect

    own_doc = kind.__dict__.get("__doc__")
    doc = inspect.cleandoc(own_doc) if isinstance(own_doc, str) else ""
    if issubclass(kind, enum.Enum):
        values = [plain(member.value) for member in kind]
        return (
            None
            if _NONE in values or not values
            else Class(kind.__name__, "" if doc == "An enumeration." else doc, list, values)
        )
    if callable(write := getattr(kind, "model_json_schema", None)):
        return Class(
            kind.__name__, doc, list, schema=lambda: dict(write(ref_template="#/definitions/{model}"))
        )
    if not dataclasses.is_dataclass(kind):
        return None
    own = "" if doc.startswith(f"{kind.__name__}(") else doc

    def attributes() -> list[Attribute]:
        from eparch.core.annotations import hints_of

        hints = hints_of(kind)
        found = []
        for one in dataclasses.fields(kind):
            missing = one.default is dataclasses.MISSING
            required = missing and one.default_factory is dataclasses.MISSING
            default = _NONE if missing else plain(one.default)
            if one.init:
                found.append(Attribute(one.name, _read_live(hints.get(one.name, Any)), default, required))
        return found

    return Class(kind.__name__, own, attributes)
