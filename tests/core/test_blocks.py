"""Blocks: checksums, secrets and references, the rules that server and client share (wire 4.6)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core import blocks
from eparch.core.blocks import MASK, masked, unmasked
from eparch.core.errors import BadRequest, NotFound

ID = UUID("0192e7a0-0000-7000-8000-000000000001")

SECRET_FIELDS: dict[str, Any] = {
    "block_schema_references": {},
    "block_type_slug": "secret",
    "description": (
        "A block that represents a secret value. The value stored in this block will be obfuscated when "
        "this block is viewed or edited in the UI."
    ),
    "properties": {
        "value": {
            "anyOf": [
                {"format": "password", "type": "string", "writeOnly": True},
                {"title": "string", "type": "string"},
                {"$ref": "#/definitions/JsonValue", "title": "JSON"},
            ],
            "description": "A value that should be kept secret.",
            "examples": ["sk-1234567890", {"password": "s3cr3t", "username": "johndoe"}],
            "format": "password",
            "title": "Value",
            "writeOnly": True,
            "position": 0,
        }
    },
    "required": ["value"],
    "secret_fields": ["value", "value"],
    "title": "Secret",
    "type": "object",
    "definitions": {"JsonValue": {}},
}


def test_checksum_is_the_one_that_prefects_client_asks_for() -> None:
    found = blocks.schema_checksum(SECRET_FIELDS)
    assert found == "sha256:c078ed9c1e813e224c0b353d7ad4564a11d51d3198d9ac0686478165a1911c78"


def test_checksum_counts_neither_secret_fields_nor_definitions_of_blocks() -> None:
    plain = {"properties": {"a": {"$ref": "#/definitions/Child"}}}
    child = {"block_type_slug": "child", "properties": {}}
    full = {**plain, "secret_fields": ["a.x"], "definitions": {"Child": child}}
    assert blocks.schema_checksum(full) == blocks.schema_checksum(plain)


def test_checksum_counts_definitions_that_are_no_blocks_and_survives_a_circle() -> None:
    fields = {"properties": {"a": {"$ref": "#/definitions/Tree"}}}
    tree = {"properties": {"kids": {"items": {"$ref": "#/definitions/Tree"}}}}
    with_tree = blocks.schema_checksum({**fields, "definitions": {"Tree": tree}})
    assert with_tree != blocks.schema_checksum(fields)
    assert with_tree == blocks.schema_checksum({**fields, "definitions": {"Tree": tree, "Unused": {"a": 1}}})


@pytest.mark.parametrize("definitions", [[1], "text", {"A": "text"}, {"A": None}, {"A": [{"$ref": 7}]}])
def test_checksum_takes_any_definitions(definitions: Any) -> None:
    assert blocks.schema_checksum({"a": {"$ref": "#/definitions/A"}, "definitions": definitions})


def test_secret_fields_are_listed_once_and_marked_properties_count() -> None:
    fields = {
        "secret_fields": ["a", "a", 7],
        "properties": {"b": {"writeOnly": True}, "c": {"format": "password"}, "d": {}, "e": 5},
    }
    assert blocks.secret_fields(fields) == ("a", "b", "c")
    assert blocks.secret_fields({"secret_fields": "a", "properties": []}) == ()


def test_masked_replaces_what_is_secret_and_nothing_else() -> None:
    data = {
        "user": "ada",
        "password": "hunter2",
        "env": {"TOKEN": "t", "deep": {"list": [1, 2]}},
        "child": {"key": 7, "name": "kept"},
        "children": [{"key": "k1", "name": "n"}, {"key": "k2"}],
        "absent": None,
        "dotted.key": "s",
        "value": {"whole": "secret"},
    }
    secrets = ("password", "env.*", "child.key", "children.key", "absent", "dotted.key", "value")
    assert masked(data, secrets) == {
        "user": "ada",
        "password": MASK,
        "env": {"TOKEN": MASK, "deep": {"list": MASK}},
        "child": {"key": MASK, "name": "kept"},
        "children": [{"key": MASK, "name": "n"}, {"key": MASK}],
        "absent": None,
        "dotted.key": MASK,
        "value": MASK,
    }


def test_a_field_whose_name_only_begins_like_a_secret_one_is_not_masked() -> None:
    assert masked({"password_file": "f", "pass": "p"}, ("password",)) == {"password_file": "f", "pass": "p"}


def test_a_mask_that_comes_back_keeps_the_secret() -> None:
    current = {"password": "hunter2", "env": {"A": "a", "B": [1]}, "kids": [{"key": "k"}], "user": "ada"}
    secrets = ("password", "env.*", "kids.key")
    sent = {
        "password": MASK,
        "env": {"A": MASK, "B": MASK, "C": "new"},
        "kids": [{"key": MASK}, {"key": "k2"}],
        "user": MASK,
    }
    assert unmasked(sent, current, secrets) == {
        "password": "hunter2",
        "env": {"A": "a", "B": [1], "C": "new"},
        "kids": [{"key": "k"}, {"key": "k2"}],
        "user": MASK,
    }
    assert unmasked({"password": "new"}, current, secrets) == {"password": "new"}


KEYS = st.sampled_from(["a", "b", "c", "a.b", "*"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DATA = st.dictionaries(KEYS, PLAIN, max_size=4)
PATHS = st.lists(st.lists(KEYS, min_size=1, max_size=3).map(".".join), max_size=4).map(tuple)


@given(DATA, PATHS)
def test_masking_twice_is_masking_once_and_the_way_back_is_exact(
    data: dict[str, Any], secrets: tuple[str, ...]
) -> None:
    hidden = masked(data, secrets)
    assert masked(hidden, secrets) == hidden
    assert unmasked(hidden, data, secrets) == data


SECRET = "5ecret-7f3a"


def _planted(draw: Any, depth: int) -> tuple[Any, list[str]]:
    """A value that holds secrets, and the paths that say where; a path ends in a secret or in a wildcard."""
    kind = draw(st.sampled_from(["leaf", "leaf", "all", "dict", "list"])) if depth else "leaf"
    if kind == "leaf":
        return draw(st.sampled_from([SECRET, [SECRET], {"k": SECRET}, {"k": [{"l": SECRET}]}])), [""]
    if kind == "all":
        return draw(st.sampled_from([{"k": SECRET}, {"k": {"l": SECRET}}, {"k": [SECRET]}])), ["*"]
    if kind == "list":
        inner, paths = _planted(draw, depth - 1)
        return [inner, inner], paths
    value: dict[str, Any] = {"open": "seen"}
    found: list[str] = []
    for key in draw(st.lists(st.sampled_from(["a", "b", "a.b"]), unique=True, min_size=1, max_size=3)):
        value[key], paths = _planted(draw, depth - 1)
        found += [f"{key}.{path}".rstrip(".") for path in paths]
    return value, found


@st.composite
def planted(draw: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A document with secrets in random places, and its schema's list of secret fields."""
    data: dict[str, Any] = {"open": "seen"}
    secrets: list[str] = []
    for key in draw(st.lists(st.sampled_from(["x", "y", "x.y"]), unique=True, min_size=1)):
        data[key], paths = _planted(draw, 3)
        secrets += [f"{key}.{path}".rstrip(".") for path in paths]
    return data, tuple(secrets)


@given(planted())
def test_masking_never_leaks_a_secret(document: tuple[dict[str, Any], tuple[str, ...]]) -> None:
    data, secrets = document
    hidden = masked(data, secrets)
    assert SECRET not in repr(hidden)
    assert hidden["open"] == "seen"
    assert unmasked(hidden, data, secrets) == data


def test_references_are_found_split_and_replaced() -> None:
    reference = blocks.document_reference(ID)
    deep = {"a": [{"b": reference}], "c": {"$ref": "#/definitions/no"}, "d": 1}
    assert list(blocks.find_references(deep)) == [ID]
    assert blocks.replace_references(deep, lambda one: {"found": str(one)}) == {
        "a": [{"b": {"found": str(ID)}}],
        "c": {"$ref": "#/definitions/no"},
        "d": 1,
    }
    assert blocks.split_references({"own": 1, "other": reference}) == ({"own": 1}, {"other": ID})


@pytest.mark.parametrize("wrong", [None, 5, "not-an-id", [], {}])
def test_a_reference_without_an_id_is_refused_with_its_place(wrong: Any) -> None:
    with pytest.raises(BadRequest, match="in 'field'"):
        blocks.split_references({"field": {"$ref": {"block_document_id": wrong}}})


def test_a_read_document_can_be_saved_with_its_references() -> None:
    references = {"child": {"block_document": {"id": str(ID), "name": "n", "block_document_references": {}}}}
    data = {"child": {"key": "k"}, "own": 1}
    saved = blocks.with_references(data, references)
    assert saved == {"child": {"$ref": {"block_document_id": str(ID)}}, "own": 1}


def test_schema_references_name_type_and_checksum() -> None:
    one = {"block_type_slug": "a", "block_schema_checksum": "sha256:1"}
    two = {"block_type_slug": "b", "block_schema_checksum": "sha256:2"}
    fields = {"block_schema_references": {"x": one, "y": [one, two], "z": 5}}
    assert blocks.schema_references(fields) == [("a", "sha256:1"), ("a", "sha256:1"), ("b", "sha256:2")]


def test_a_placeholder_stands_for_a_value_in_the_document() -> None:
    assert blocks.value_at({"value": "s"}, []) == "s"
    assert blocks.value_at({"value": {"a": [1, {"b": 2}]}}, ["a", "1", "b"]) == 2
    assert blocks.value_at({"value": "s"}, ["value"]) == "s"
    assert blocks.value_at({"a": 1, "value": 2}, []) == {"a": 1, "value": 2}
    with pytest.raises(NotFound) as refused:
        blocks.value_at({"user": 1, "password": 2}, ["pasword"])
    assert "pasword" in refused.value.message
    assert "password" in refused.value.fix


def test_no_secret_is_in_a_repr() -> None:
    made = blocks.BlockDocumentCreate(block_schema_id=ID, block_type_id=ID, name="n", data={"v": SECRET})
    read = blocks.BlockDocument(id=ID, block_schema_id=ID, block_type_id=ID, data={"v": SECRET})
    assert (
        SECRET not in f"{made!r} {made} {read!r} {[read]} {blocks.BlockDocumentUpdate(data={'v': SECRET})!r}"
    )
