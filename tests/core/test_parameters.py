"""Parameters: signatures as schemas, checking, binding, coercing."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
import textwrap
import types
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.core.errors import ParametersInvalid
from eparch.core.parameters import bind, call_arguments, check, coerce
from eparch.core.signatures import schema_of, schema_of_ast

HEAD = """
import collections.abc, dataclasses, datetime as dt, decimal, enum, pathlib, typing as t, uuid
from datetime import datetime, timedelta
from typing import *
from typing import Annotated, Any, Dict, List, Literal, Mapping, Optional, Sequence, Tuple, Union
class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"
class Number(enum.IntEnum):
    ONE = 1
    TWO = 2
class Mixed(enum.Enum):
    A = 1
    B = "x"
@dataclasses.dataclass
class Point:
    '''A point.'''
    x: int
    some_y: float = 1.5
    tags: list[str] = dataclasses.field(default_factory=list)
    color: Color = Color.RED
class Custom: ...
"""


def both(signature: str, doc: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of ``def f(signature)`` by both readers."""
    source = textwrap.dedent(HEAD) + f"def f({signature}):\n    {doc!r}\n"
    tree = ast.parse(source)
    module = types.ModuleType("flows_of_a_test")
    sys.modules[module.__name__] = module
    exec(source, module.__dict__)
    fn = tree.body[-1]
    assert isinstance(fn, ast.FunctionDef)
    return schema_of_ast(fn, tree), schema_of(module.f)


INT, STR, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}
COLOR = {"Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"}}
POINT = {
    "Point": {
        "description": "A point.",
        "properties": {
            "x": {"title": "X", "type": "integer"},
            "some_y": {"default": 1.5, "title": "Some Y", "type": "number"},
            "tags": {"items": STR, "title": "Tags", "type": "array"},
            "color": {"$ref": "#/definitions/Color", "default": "red"},
        },
        "required": ["x"],
        "title": "Point",
        "type": "object",
    },
    **COLOR,
}

# What Prefect 3.8.8 stores for `a: <annotation>`.
TABLE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("int", INT, {}),
    ("str", STR, {}),
    ("float", {"type": "number"}, {}),
    ("bool", {"type": "boolean"}, {}),
    ("None", NULL, {}),
    ("bytes", {"type": "string", "format": "binary"}, {}),
    ("Any", {}, {}),
    ("object", {}, {}),
    ("Custom", {}, {}),
    ("'int'", INT, {}),
    ("Optional[int]", {"anyOf": [INT, NULL]}, {}),
    ("int | None", {"anyOf": [INT, NULL]}, {}),
    ("None | str | int", {"anyOf": [STR, INT, NULL]}, {}),
    ("Union[int, None, str]", {"anyOf": [INT, STR, NULL]}, {}),
    ("Union[Optional[int], Optional[str]]", {"anyOf": [INT, STR, NULL]}, {}),
    ("Optional[Any]", {"anyOf": [{}, NULL]}, {}),
    ("Union[int, int]", INT, {}),
    ("list", {"type": "array", "items": {}}, {}),
    ("List", {"type": "array", "items": {}}, {}),
    ("list[int]", {"type": "array", "items": INT}, {}),
    ("t.List[int]", {"type": "array", "items": INT}, {}),
    ("Sequence[int]", {"type": "array", "items": INT}, {}),
    ("collections.abc.Iterable[int]", {"type": "array", "items": INT}, {}),
    ("list[Custom]", {"type": "array", "items": {}}, {}),
    ("dict", {"type": "object", "additionalProperties": True}, {}),
    ("dict[str, int]", {"type": "object", "additionalProperties": INT}, {}),
    ("Dict[str, Any]", {"type": "object", "additionalProperties": True}, {}),
    ("Mapping", {"type": "object", "additionalProperties": True}, {}),
    ("tuple", {"type": "array", "items": {}}, {}),
    ("tuple[int, str]", {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [INT, STR]}, {}),
    ("Tuple[int, ...]", {"type": "array", "items": INT}, {}),
    ("tuple[()]", {"type": "array", "minItems": 0, "maxItems": 0}, {}),
    ("set[int]", {"type": "array", "items": INT, "uniqueItems": True}, {}),
    ("frozenset", {"type": "array", "items": {}, "uniqueItems": True}, {}),
    ("Literal['a', 'b']", {"enum": ["a", "b"], "type": "string"}, {}),
    ("Literal[1]", {"const": 1, "type": "integer"}, {}),
    ("t.Literal[1, 'a', None]", {"enum": [1, "a", None]}, {}),
    ("Literal[True]", {"const": True, "type": "boolean"}, {}),
    ("Literal[Color.RED]", {"const": "red", "type": "string"}, {}),
    ("datetime", {"type": "string", "format": "date-time"}, {}),
    ("dt.date", {"type": "string", "format": "date"}, {}),
    ("timedelta", {"type": "string", "format": "duration"}, {}),
    ("dt.time", {"type": "string", "format": "time"}, {}),
    ("uuid.UUID", {"type": "string", "format": "uuid"}, {}),
    ("pathlib.Path", {"type": "string", "format": "path"}, {}),
    ("decimal.Decimal", {"anyOf": [{"type": "number"}, {"type": "string"}]}, {}),
    ("Annotated[int, 'x']", INT, {}),
    ("Color", {"$ref": "#/definitions/Color"}, COLOR),
    (
        "Number",
        {"$ref": "#/definitions/Number"},
        {"Number": {"enum": [1, 2], "title": "Number", "type": "integer"}},
    ),
    ("Mixed", {"$ref": "#/definitions/Mixed"}, {"Mixed": {"enum": [1, "x"], "title": "Mixed"}}),
    ("Optional[Color]", {"anyOf": [{"$ref": "#/definitions/Color"}, NULL]}, COLOR),
    ("Point", {"$ref": "#/definitions/Point"}, POINT),
    (
        "dict[str, list[Optional[Point]]]",
        {
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "items": {"anyOf": [{"$ref": "#/definitions/Point"}, NULL]},
            },
        },
        POINT,
    ),
    ("'Undefined'", {}, {}),
]


@pytest.mark.parametrize(("annotation", "expected", "definitions"), TABLE, ids=[row[0] for row in TABLE])
def test_source_and_live_function_give_the_schema_of_prefect(
    annotation: str, expected: dict[str, Any], definitions: dict[str, Any]
) -> None:
    written, live = both(f"a: {annotation}")
    assert written == live
    assert written["properties"] == {"a": {**expected, "title": "a", "position": 0}}
    assert written["required"] == ["a"]
    assert written["definitions"] == definitions
    assert (written["title"], written["type"]) == ("Parameters", "object")


@pytest.mark.parametrize(
    ("signature", "properties", "required"),
    [
        ("", {}, []),
        ("a, b=1", {"a": {}, "b": {"default": 1}}, ["a"]),
        ("a, /, b, *, c=None, d", {"a": {}, "b": {}, "c": {"default": None}, "d": {}}, ["a", "b", "d"]),
        (
            "a=[1, (2, 3)], b={'x': -1.5}, c={1}",
            {"a": {"default": [1, [2, 3]]}, "b": {"default": {"x": -1.5}}, "c": {"default": [1]}},
            [],
        ),
        ("a: Color = Color.RED", {"a": {"$ref": "#/definitions/Color", "default": "red"}}, []),
        ("a=b'x'", {"a": {"default": "x"}}, []),
        ("a=object()", {"a": {}}, []),
        ("a: float = float('inf')", {"a": {"type": "number"}}, []),
    ],
)
def test_defaults(signature: str, properties: dict[str, Any], required: list[str]) -> None:
    written, live = both(signature)
    assert written == live
    for about in written["properties"].values():
        assert about.pop("title") in properties
        about.pop("position")
    assert (written["properties"], written["required"]) == (properties, required)


def test_positions_count_self_and_collecting_parameters_are_optional() -> None:
    written, live = both("self, a, *args: int, b: int, **more: str")
    assert written == live
    assert {name: about["position"] for name, about in written["properties"].items()} == {
        "a": 1,
        "args": 2,
        "b": 3,
        "more": 4,
    }
    assert written["required"] == ["a", "b"]
    assert written["additionalProperties"] is True


@pytest.mark.parametrize(
    "doc",
    [
        "S.\n\n    Args:\n        a (int): the a\n            goes on\n        b: the b\n\n"
        "    Returns:\n        c: no",
        "S.\n\n    Parameters\n    ----------\n    a : int\n        the a\n        goes on\n"
        "    b\n        the b\n\n    Returns\n    -------\n    c\n        no",
        "S.\n\n    :param int a: the a\n    goes on\n    :param b: the b\n    :returns: no\n    ",
    ],
    ids=["google", "numpy", "sphinx"],
)
def test_descriptions_come_from_the_docstring(doc: str) -> None:
    written, live = both("a, b, c=1", doc)
    assert written == live
    assert written["properties"]["a"]["description"].startswith("the a")
    assert written["properties"]["b"]["description"] == "the b"
    assert "description" not in written["properties"]["c"]


def test_source_is_never_run() -> None:
    tree = ast.parse("raise SystemExit\ndef f(a: boom() = boom(), b: 1/0 = 1/0, c: x.y[z] = q.r): ...")
    fn = tree.body[-1]
    assert isinstance(fn, ast.FunctionDef)
    schema = schema_of_ast(fn, tree)
    assert schema["required"] == []
    assert schema["properties"]["a"] == {"title": "a", "position": 0}


def test_live_defaults_are_written_as_json() -> None:
    def flow(
        wait: timedelta = timedelta(days=1, hours=2, seconds=1.5),
        when: datetime = datetime(2020, 1, 1),
        path: Path = Path("/x"),
        back: timedelta = timedelta(seconds=-60),
        call: type = int,
    ) -> None: ...

    properties = schema_of(flow)["properties"]
    defaults = {name: about.get("default") for name, about in properties.items()}
    assert defaults == {
        "wait": "P1DT2H1.5S",
        "when": "2020-01-01T00:00:00",
        "path": "/x",
        "back": "-PT1M",
        "call": None,
    }


class Model(pydantic.BaseModel):
    name: str
    n: int = pydantic.Field(3, ge=1)


@dataclasses.dataclass
class Place:
    x: int
    when: datetime | None = None


def test_a_live_model_describes_itself() -> None:
    def flow(a: Model) -> None: ...

    schema = schema_of(flow)
    assert schema["properties"]["a"]["$ref"] == "#/definitions/Model"
    assert schema["definitions"]["Model"]["properties"]["n"]["minimum"] == 1


def test_a_simple_model_is_read_from_source() -> None:
    source = (
        "from pydantic import BaseModel\n"
        "class M(BaseModel):\n    kids: list['M'] = []\n    n: int\n"
        "def f(a: M): ..."
    )
    tree = ast.parse(source)
    fn = tree.body[-1]
    assert isinstance(fn, ast.FunctionDef)
    model = schema_of_ast(fn, tree)["definitions"]["M"]
    assert model["properties"]["kids"]["items"] == {"$ref": "#/definitions/M"}
    assert model["required"] == ["n"]


# check


SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "default": 1},
        "name": {"type": "string"},
        "maybe": {"type": "string", "default": None},
        "pair": {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]},
        "inner": {"$ref": "#/definitions/Inner"},
        "block": {"type": "object", "default": {"$ref": "0198"}},
    },
    "required": ["name"],
    "definitions": {
        "Inner": {"type": "object", "properties": {"deep": {"type": "array", "items": {"type": "integer"}}}}
    },
}


def test_check_accepts_what_fits() -> None:
    check(SCHEMA, {"name": "x"})
    check(SCHEMA, {"name": "x", "count": 2, "maybe": None, "pair": [1, "a"], "inner": {"deep": [1]}})
    check({}, {"anything": 1})
    check({**SCHEMA, "additionalProperties": True}, {"name": "x", "other": 1})


def test_check_names_every_mistake() -> None:
    with pytest.raises(ParametersInvalid) as refusal:
        check(SCHEMA, {"cuont": 1, "count": "x", "pair": ["a", 1], "inner": {"deep": [1, "z"]}})
    message = refusal.value.message
    for part in (
        "Did you mean 'count'?",
        "'count'",
        "'name' is a required",
        "'pair.0'",
        "'pair.1'",
        "'inner.deep.1'",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "file:///etc/hostname"}, "outside itself"),
        ({"$ref": "http://127.0.0.1:9/x"}, "outside itself"),
        ({"$ref": "#/definitions/a"}, "circle"),
        ({"anyOf": [{"$ref": "#/properties/a"}]}, "circle"),
        ({"$ref": "#/nowhere"}, "cannot be used"),
        ({"type": "no such type"}, "cannot be used"),
        ({"enum": "x", "items": [[[]]] * 30_000}, "too large"),
    ],
)
def test_check_refuses_a_hostile_schema(schema: dict[str, Any], says: str) -> None:
    own = {"a": {"$ref": "#/definitions/a"}} if schema == {"$ref": "#/definitions/a"} else {}
    whole = {"properties": {"a": schema}, "definitions": own}
    with pytest.raises(ParametersInvalid, match=says):
        check(whole, {"a": "x"})


def test_check_refuses_deep_nesting_and_slow_patterns() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"not": deep}
    with pytest.raises(ParametersInvalid, match="too large"):
        check({"properties": {"a": deep}}, {"a": 1})
    value: Any = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(ParametersInvalid, match="nested deeper"):
        check({}, {"a": value})
    slow = {"properties": {"a": {"type": "string", "pattern": "^(?=(a+)+b)(a+)+$"}}}
    with pytest.raises(ParametersInvalid):
        check(slow, {"a": "a" * 60 + "!"})


# bind and back


def everything(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> Any:
    return a, b, c, rest, d, e, more


def keywords(a: int, b: int = 2, *, c: int = 3) -> Any:
    return a, b, c


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(), min_size=2, max_size=6),
    st.dictionaries(st.sampled_from(["d", "e", "x", "y", "a"]), st.integers()).map(
        lambda one: {"d": 0, **one}
    ),
)
def test_call_arguments_reads_bind_backwards(args: list[int], kwargs: dict[str, int]) -> None:
    parameters = bind(everything, tuple(args), kwargs)
    again, named = call_arguments(everything, parameters)
    assert everything(*again, **named) == everything(*args, **kwargs)
    assert bind(everything, again, named) == parameters


@given(st.integers(), st.dictionaries(st.sampled_from(["b", "c"]), st.integers()))
def test_call_arguments_without_collecting(a: int, kwargs: dict[str, int]) -> None:
    again, named = call_arguments(keywords, bind(keywords, (a,), kwargs))
    assert keywords(*again, **named) == keywords(a, **kwargs)


def test_bind_says_what_python_says_and_the_nearest_name() -> None:
    def flow(customer: str) -> None: ...

    with pytest.raises(ParametersInvalid, match=r"flow\(\): missing a required argument"):
        bind(flow, (), {})
    with pytest.raises(ParametersInvalid) as refusal:
        bind(flow, ("x",), {"custmer": 1})
    assert "custmer" in refusal.value.message
    assert refusal.value.fix == "Did you mean 'customer'?"


def test_call_arguments_refuses_unknown_and_double_names() -> None:
    with pytest.raises(ParametersInvalid, match="Did you mean"):
        call_arguments(everything_named, {"custmer": 1})
    with pytest.raises(ParametersInvalid, match="'d' is given twice"):
        call_arguments(everything, {"a": 1, "b": 2, "d": 1, "more": {"d": 2}})
    assert call_arguments(everything, {"a": 1, "b": 2, "d": 1, "z": 9})[1]["z"] == 9


def everything_named(customer: str) -> None: ...


# coerce


def kinds(
    n: int = 0,
    maybe: int | None = None,
    either: int | str = 0,
    when: datetime | None = None,
    day: date | None = None,
    wait: timedelta | None = None,
    key: UUID | None = None,
    path: Path | None = None,
    place: Place | None = None,
    model: Model | None = None,
    models: list[Model] | None = None,
    numbers: list[int] | None = None,
    pair: tuple[int, str] | None = None,
    flag: bool = False,
    anything: Any = None,
    unknown: Undefined = None,  # type: ignore[name-defined]  # noqa: F821
    bare=None,  # type: ignore[no-untyped-def]
) -> None: ...


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("n", "3", 3),
        ("n", 3.0, 3),
        ("maybe", "4", 4),
        ("maybe", None, None),
        ("either", "3", "3"),
        ("when", "2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("day", "2024-01-02", date(2024, 1, 2)),
        ("wait", "PT1H", timedelta(hours=1)),
        ("key", "00000000-0000-0000-0000-000000000001", UUID(int=1)),
        ("path", "a/b", Path("a/b")),
        ("place", {"x": "1"}, Place(1)),
        ("place", Place(2), Place(2)),
        ("model", {"name": "x", "n": "2"}, Model(name="x", n=2)),
        ("models", [{"name": "x"}], [Model(name="x")]),
        ("numbers", ["1", 2], [1, 2]),
        ("pair", [1, "a"], (1, "a")),
        ("flag", "true", True),
        ("anything", {"x": 1}, {"x": 1}),
        ("unknown", "kept", "kept"),
        ("bare", "kept", "kept"),
    ],
)
def test_coerce_turns_json_into_the_annotations(name: str, value: Any, expected: Any) -> None:
    found = coerce(kinds, {name: value})[name]
    assert found == expected
    assert type(found) is type(expected)


def test_coerce_names_every_mistake() -> None:
    with pytest.raises(ParametersInvalid) as refusal:
        coerce(kinds, {"n": "x", "place": {"y": 1}, "model": {}})
    assert [line.split(":")[0] for line in refusal.value.message.split("\n") if line.startswith("'")] == [
        "'n'",
        "'place'",
        "'model'",
    ]
    with pytest.raises(ParametersInvalid, match="'customer' is missing"):
        coerce(everything_named, {})
    with pytest.raises(ParametersInvalid, match="Did you mean 'customer'"):
        coerce(everything_named, {"custommer": 1})


def test_coerce_leaves_alone_what_is_no_json() -> None:
    marker = object()
    assert coerce(kinds, {"n": marker})["n"] is marker


def test_coerce_collecting_parameters() -> None:
    found = coerce(everything, {"a": "1", "b": 2, "d": 3, "rest": ["4"], "more": {"x": "5"}})
    assert (found["a"], found["rest"], found["more"]) == (1, (4,), {"x": 5})


def test_importing_parameters_is_cheap() -> None:
    code = (
        "import sys, eparch.core.parameters;"
        "heavy = ('inspect', 'ast', 'pydantic', 'jsonschema', 'msgspec', 'dataclasses');"
        "print([name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "src"},
    )
    assert shown.stdout.strip() == "[]"
