"""Where a template that a user wrote is rendered: Jinja with nothing but what is listed here.

Owns what a template may name, call and spend. A render has a budget: each step costs the size of what it
reads and makes, and whatever could make much out of little is measured before it runs. So a hostile template
ends with an error after about a second, and never holds more than some megabytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from functools import partial
from string import Formatter
from typing import Any
from uuid import UUID

import msgspec
from jinja2 import ChainableUndefined, Undefined, nodes, pass_context, pass_environment
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

BUDGET = 10_000_000
"""What one render may cost: characters and values that its steps read and make."""

MAX_VALUE = 2_000_000
"""The size of one value in a template."""

MAX_RANGE = 100
"""Numbers of one `range`, as in Prefect."""

_MAX_BITS = 4096
_STEP = 20
_CALL = 200
_MAX_WRAPPED = 20_000
_MAX_SIZING = 1000
"""The largest width, precision or count that a filter is given."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METHODS: dict[type, frozenset[str]] = {
    str: _words(
        "capitalize casefold count endswith find format index isalnum isalpha isdigit islower isnumeric "
        "isspace isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex "
        "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
    ),
    dict: _words("get items keys values"),
    list: _words("count index"),
    tuple: _words("count index"),
    datetime: _words("astimezone date isoformat isoweekday strftime time timestamp weekday"),
    date: _words("isoformat isoweekday strftime weekday"),
    time: _words("isoformat strftime"),
    timedelta: _words("total_seconds"),
    Cycler: _words("next reset"),
    LoopContext: _words("changed cycle"),
}
_FIELDS: dict[type, frozenset[str]] = {
    datetime: _words("day hour microsecond minute month second tzinfo year"),
    date: _words("day month year"),
    time: _words("hour microsecond minute second"),
    timedelta: _words("days microseconds seconds"),
    UUID: _words("hex"),
    Cycler: _words("current"),
    LoopContext: _words("depth depth0 first index index0 last length nextitem previtem revindex revindex0"),
}
_FILTERS = _words(
    "abs batch capitalize center count d default dictsort e escape filesizeformat first float forceescape "
    "format groupby indent int items join last length list lower map max min random reject rejectattr "
    "replace reverse round safe select selectattr slice sort string sum title trim truncate unique upper "
    "urlencode wordcount wordwrap"
)
_SIZED = _words("batch center indent round slice tojson wordwrap")
_LAZY = _words("batch items map reject rejectattr reverse select selectattr slice")
_LONG_NUMBER = re.compile(r"\d{4,}|\*")
_PERCENT = re.compile(r"(?:\([^)]*\))?([^a-zA-Z]*)")
_NOT_HERE = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport, nodes.Block)


class TooCostly(SecurityError):
    """The template does too much."""


class Extended(dict[str, Any]):
    """An object of the context: its fields, and what else a template may ask of it."""

    kind = ""
    """What it is, as in the id of its resource: ``prefect.flow-run``."""

    def more(self, name: str) -> Any:
        """What a template gets for ``name``, which is no field.

        Raises:
            KeyError: nothing.
        """
        raise KeyError(name)

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


def size_of(value: Any, most: float = MAX_VALUE) -> int:
    """How large ``value`` is when it is written out: characters of texts, one for all else.

    Raises:
        TooCostly: more than ``most``.
    """
    size, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, dict):
            size += len(one)
            left.extend(one)
            left.extend(one.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            size += len(one)
            left.extend(one)
        elif isinstance(one, Namespace):
            left.append(one._Namespace__attrs)
        elif isinstance(one, int):
            size += one.bit_length() // 3
        size += 1
        if size + len(left) > most:
            raise TooCostly("It makes a value that is too large.")
    return size


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one render."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, more_filters: Mapping[str, Callable[..., Any]] | None = None) -> None:
        """``more_filters`` are ours: each takes the value and gives a value."""
        super().__init__(undefined=ChainableUndefined, finalize=_finalize, optimized=False, cache_size=0)
        self.left = BUDGET
        given = {name: FILTERS[name] for name in _FILTERS} | {"tojson": _tojson} | dict(more_filters or {})
        self.filters = {name: _guarded(name, one) for name, one in given.items()}
        self.filters |= {"_bounded": _bounded, "_seen": _seen, "_made": _seen, "_joined": _joined}
        self.globals = {
            "range": _range,
            "dict": dict,
            "namespace": Namespace,
            "cycler": Cycler,
            "joiner": Joiner,
        }

    def spend(self, amount: int) -> None:
        """Take ``amount`` from the budget.

        Raises:
            TooCostly: so much is not left.
        """
        self.left -= amount
        if self.left < 0:
            raise TooCostly("It takes too many steps.")

    def seen(self, *values: Any) -> None:
        """Pay for looking at ``values``."""
        for value in values:
            self.spend(_STEP + size_of(value))

    def made(self, value: Any) -> Any:
        """``value``, paid for."""
        self.seen(value)
        return value

    # What a template reaches

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``: a key, or one of the methods and fields that are listed."""
        self.spend(_STEP)
        if isinstance(obj, Undefined):
            return self.undefined(obj=obj, name=attribute)
        if isinstance(attribute, str) and attribute.startswith("_") and not isinstance(obj, Mapping):
            raise SecurityError(f"'{attribute}' is private.")
        if isinstance(obj, Namespace):
            return super().getattr(obj, attribute)
        if isinstance(obj, Extended):
            try:
                return obj.more(attribute)
            except KeyError:
                pass
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if _listed(_METHODS, obj, attribute):
            return partial(self._method, obj, attribute)
        if _listed(_FIELDS, obj, attribute):
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """``obj[argument]``."""
        if isinstance(argument, slice):
            self.seen(obj)
        self.spend(_STEP)
        try:
            return obj[argument]
        except (TypeError, LookupError):
            pass
        return (
            self.getattr(obj, argument)
            if isinstance(argument, str)
            else self.undefined(obj=obj, name=argument)
        )

    def _method(self, obj: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        self.seen(obj, args, kwargs)
        if name == "replace" and isinstance(obj, str):
            _check_replace(obj, *args)
        elif name == "join":
            args = (_check_join(list(args[0]), obj),)
        elif name == "format":
            return self.made(_Format(self).vformat(obj, args, kwargs))
        result = getattr(obj, name)(*args, **kwargs)
        return self.made(list(result) if isinstance(obj, dict) and name != "get" else result)

    def is_safe_callable(self, obj: Any) -> bool:
        """Only macros, loops and what came from ``getattr`` or the globals."""
        known = (partial, Macro, LoopContext, Joiner)
        return isinstance(obj, known) or any(obj is one for one in self.globals.values())

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call ``__obj`` for a template."""
        __self.spend(_CALL)
        if isinstance(__obj, LoopContext):
            __self.seen(args)
        if isinstance(__obj, Undefined):
            return __obj()
        result = super().call(__context, __obj, *args, **kwargs)
        return result if isinstance(__obj, partial) else __self.made(result)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """``left operator right``, unless it would be too large."""
        self.seen(left, right)
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        elif operator == "%" and isinstance(left, str):
            _check_percent(left, right)
        return self.made(super().call_binop(context, operator, left, right))

    # From text to template

    def prepare(self, source: str) -> Template:
        """The template, with a price on each of its steps.

        Raises:
            TemplateSyntaxError, RecursionError, SyntaxError: it is none.
        """
        tree = self.parse(source)
        if found := next(iter(tree.find_all(_NOT_HERE)), None):
            raise TemplateSyntaxError(f"'{type(found).__name__.lower()}' cannot be used here.", found.lineno)
        _Pricing().visit(tree)
        code = self.compile(tree)
        return Template.from_code(self, code, self.globals)


class _Pricing(NodeTransformer):
    """Puts what costs something around the steps that have no hook of their own."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _priced(node.iter, "_bounded")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        node.nodes = [
            nodes.Const(one.data, lineno=one.lineno) if isinstance(one, nodes.TemplateData) else one
            for one in node.nodes
        ]
        return self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _priced(node.expr, "_seen")
        for operand in node.ops:
            operand.expr = _priced(operand.expr, "_seen")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _priced(node.node, "_seen")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _priced(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _priced(node, "_made")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _priced(node, "_made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _priced(node, "_made") if node.ctx == "load" else node


def _priced(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


@pass_context
def _finalize(context: Context, value: Any) -> str:
    sandbox = _of(context)
    sandbox.seen(value)
    return str(value)


@pass_environment
def _bounded(sandbox: Sandbox, values: Any) -> Iterator[Any]:
    sandbox.seen(values)
    for value in values:
        sandbox.spend(_STEP)
        yield value


@pass_environment
def _seen(sandbox: Sandbox, value: Any) -> Any:
    return sandbox.made(value)


@pass_environment
def _joined(sandbox: Sandbox, values: list[Any]) -> str:
    sandbox.seen(values)
    return "".join(str(value) for value in values)


def _of(context: Context) -> Sandbox:
    sandbox = context.environment
    assert isinstance(sandbox, Sandbox)
    return sandbox


def _guarded(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    """The filter ``inner`` with a price on what goes in and comes out."""
    passed = getattr(getattr(inner, "jinja_pass_arg", None), "name", "")

    @pass_context
    def guarded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        sandbox = _of(context)
        sandbox.seen(value, args, kwargs)
        _check_filter(name, value, args, kwargs)
        first = {"context": context, "environment": sandbox, "eval_context": context.eval_ctx}
        given = (first[passed], value) if passed else (value,)
        result = inner(*given, *args, **kwargs)
        return sandbox.made(list(result) if name in _LAZY and not isinstance(result, str) else result)

    return guarded


def _check_filter(name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    given = [*args, *kwargs.values()]
    if name in _SIZED:
        sizes = [one if isinstance(one, int) else len(one) for one in given if isinstance(one, (int, str))]
        if any(abs(size) > _MAX_SIZING for size in sizes):
            raise TooCostly(f"The filter '{name}' is given too large a number.")
        lines = value.count("\n") + 1 if isinstance(value, str) else size_of(value)
        if lines * max([1] + [abs(size) for size in sizes]) > MAX_VALUE:
            raise TooCostly("It makes a value that is too large.")
    if name == "wordwrap" and size_of(value) > _MAX_WRAPPED:
        raise TooCostly("The text to wrap is too long.")
    if name == "replace":
        _check_replace(str(value), *map(str, args))
    elif name == "join" and isinstance(value, (list, tuple, dict)):
        _check_join(list(value), str(next(iter(given), "")))
    elif name == "format":
        _check_percent(str(value), args, kwargs)
    elif name == "sum" and not all(_is_number(one) for one in [*args[1:], kwargs.get("start", 0)]):
        raise TooCostly("Only numbers can be summed.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _check_replace(text: str, old: str = "", new: str = "", *_: Any) -> None:
    if (text.count(old) if old else len(text) + 1) * len(new) > MAX_VALUE:
        raise TooCostly("It makes a value that is too large.")


def _check_join(values: list[Any], separator: str) -> list[Any]:
    if len(values) * len(separator) + size_of(values) > MAX_VALUE:
        raise TooCostly("It makes a value that is too large.")
    return values


def _check_percent(text: str, *given: Any) -> None:
    parts = text.split("%")[1:]
    specs = [found[1] for part in parts if (found := _PERCENT.match(part))]
    if any(_LONG_NUMBER.search(spec) for spec in specs):
        raise TooCostly("It formats to a width that is too large.")
    if len(parts) * size_of(given) > MAX_VALUE:
        raise TooCostly("It makes a value that is too large.")


def _check_product(left: Any, right: Any) -> None:
    if isinstance(right, int) and not isinstance(left, (int, float)):
        left, right = right, left
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MAX_BITS:
            raise TooCostly("It makes a number that is too large.")
    elif isinstance(left, int) and not isinstance(right, float) and max(left, 0) * size_of(right) > MAX_VALUE:
        raise TooCostly("It makes a value that is too large.")


def _check_power(left: Any, right: Any) -> None:
    whole = isinstance(left, int) and isinstance(right, int)
    if whole and max(left.bit_length(), 1) * abs(right) > _MAX_BITS:
        raise TooCostly("It makes a number that is too large.")


class _Format(Formatter):
    """``str.format`` without attributes, and with a price."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        if "." in field_name or "[" in field_name:
            raise SecurityError("A format names no attributes.")
        key: Any = int(field_name) if field_name.isdigit() else field_name
        value = self.get_value(key, args, kwargs)
        self._sandbox.seen(value)
        return value, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if not isinstance(value, (datetime, date, time)) and _LONG_NUMBER.search(format_spec):
            raise TooCostly("It formats to a width that is too large.")
        text: str = super().format_field(value, format_spec)
        return text


def _listed(table: Mapping[type, frozenset[str]], obj: Any, name: str) -> bool:
    return any(isinstance(obj, kind) and name in names for kind, names in table.items())


def _range(*given: int) -> range:
    found = range(*given)
    if len(found) > MAX_RANGE:
        raise TooCostly(f"A range has at most {MAX_RANGE} numbers.")
    return found


def _tojson(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON that can stand in HTML."""
    if isinstance(value, Undefined):
        raise UndefinedError("What is to be JSON is not there.")
    text = json.dumps(msgspec.to_builtins(value, str_keys=True), sort_keys=True, indent=indent)
    for mark in "<>&'":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
