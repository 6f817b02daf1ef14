"""Blocks over a real store of each kind: the statuses that Terraform expects, masks, hostile bodies."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.blocks import MASK
from eparch.core.model import decode, encode

from .application import DATABASES, Client, started

NOBODY = uuid4()
SECRET = "5ecret-wire"
FIELDS = {"properties": {"key": {"type": "string"}}, "secret_fields": ["key"], "type": "object"}


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def type_(ask: Client) -> Any:
    mark = uuid4().hex[:8]
    return ask(calls.create_block_type(body={"name": f"Type {mark}", "slug": f"type-{mark}"}))


@pytest.fixture
def schema(ask: Client, type_: Any) -> Any:
    body = {"block_type_id": type_["id"], "fields": FIELDS, "capabilities": ["write-path"]}
    return ask(calls.create_block_schema(body=body))


@pytest.fixture
def document(ask: Client, schema: Any) -> Any:
    return ask(calls.create_block_document(body=new(schema)))


def new(schema: Any, **more: Any) -> dict[str, Any]:
    ids = {"block_type_id": schema["block_type_id"], "block_schema_id": schema["id"]}
    return {"name": "one", "data": {"key": SECRET}, **ids, **more}


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        (calls.read_block_type(id=NOBODY), "Block type not found"),
        (calls.read_block_type_by_slug(slug="nope"), "Block type not found"),
        (calls.update_block_type(id=NOBODY, body={"description": "d"}), "Block type not found"),
        (calls.delete_block_type(id=NOBODY), "Block type not found"),
        (calls.read_documents_of_type(slug="nope"), "Block type not found"),
        (calls.create_block_schema(body={"block_type_id": NOBODY}), f"Block type {NOBODY} not found."),
        (calls.read_block_schema(id=NOBODY), "Block schema not found"),
        (calls.read_block_schema_by_checksum(checksum="sha256:0"), "Block schema not found"),
        (calls.delete_block_schema(id=NOBODY), "Block schema not found"),
        (calls.read_block_document(id=NOBODY), "Block document not found"),
        (
            calls.read_block_document_by_name(slug="secret", block_document_name="no"),
            "Block document not found",
        ),
        (calls.update_block_document(id=NOBODY, body={}), "Block document not found"),
        (calls.delete_block_document(id=NOBODY), "Block document not found"),
    ],
    ids=lambda value: f"{value.method} {value.endpoint.path}" if isinstance(value, calls.Call) else "",
)
def test_what_is_not_there(ask: Client, call: calls.Call[Any], detail: str) -> None:
    assert ask(call, 404)["detail"] == detail


def test_terraforms_statuses_without_a_slash(ask: Client) -> None:
    def send(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = ask.send(method, path, encode(body) if body is not None else None)
        return answer.status, answer.json() if answer.body else None

    mark = uuid4().hex[:8]
    status, made = send("POST", "/block_types", {"name": f"T {mark}", "slug": f"t-{mark}"})
    assert status == 201
    assert send("GET", f"/block_types/slug/t-{mark}") == (200, made)
    assert send("PATCH", f"/block_types/{made['id']}", {"description": "d"}) == (204, None)
    status, schema = send("POST", "/block_schemas", {"block_type_id": made["id"], "fields": FIELDS})
    assert status == 201
    assert send("POST", "/block_schemas", {"block_type_id": made["id"], "fields": FIELDS})[0] == 200
    assert send("GET", f"/block_schemas/{schema['id']}") == (200, schema)
    status, document = send("POST", "/block_documents", new(schema))
    assert status == 201
    status, shown = send("GET", f"/block_documents/{document['id']}?include_secrets=true")
    assert (status, shown["data"]) == (200, {"key": SECRET})
    assert send("PATCH", f"/block_documents/{document['id']}", {"data": {"key": "n"}}) == (204, None)
    assert send("DELETE", f"/block_documents/{document['id']}") == (204, None)
    assert send("DELETE", f"/block_schemas/{schema['id']}") == (204, None)
    assert send("DELETE", f"/block_types/{made['id']}") == (204, None)


def test_no_answer_tells_a_secret_that_is_not_asked_for(ask: Client, document: Any) -> None:
    slug, ids = document["block_type"]["slug"], {"block_documents": {"id": {"any_": [document["id"]]}}}
    named = {"slug": slug, "block_document_name": "one"}
    ways: list[calls.Call[Any]] = [
        calls.read_block_document(id=document["id"]),
        calls.read_block_document_by_name(**named),
        calls.read_documents_of_type(slug=slug),
        calls.read_block_documents(body=ids),
    ]
    for way in ways:
        answer = ask(way)
        one = answer[0] if isinstance(answer, list) else answer
        assert one == document
        assert one["data"] == {"key": MASK}
        assert SECRET not in encode(answer).decode()
    asked: list[calls.Call[Any]] = [
        calls.read_block_document(id=document["id"], include_secrets="true"),
        calls.read_block_document_by_name(**named, include_secrets="true"),
        calls.read_documents_of_type(slug=slug, include_secrets="true"),
        calls.read_block_documents(body={**ids, "include_secrets": True}),
    ]
    for way in asked:
        answer = ask(way)
        assert (answer[0] if isinstance(answer, list) else answer)["data"] == {"key": SECRET}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Not Allowed"},
        {"name": "a/b"},
        {"name": "../x"},
        {"name": "x\n"},
        {"name": ""},
        {"name": "x" * 256},
        {"name": None},
        {"data": [SECRET]},
        {"unknown": 1},
        {"block_type_id": "no-id"},
        {"data": {"key": f"{SECRET}\x00"}},
    ],
    ids=str,
)
def test_a_refused_document_is_not_sent_back(ask: Client, schema: Any, wrong: Any) -> None:
    answer = ask.send("POST", "/block_documents/", encode(new(schema, **wrong)))
    assert answer.status == 422
    assert SECRET.encode() not in answer.body
    broken = encode(new(schema))[:-1]
    answer = ask.send("POST", "/block_documents/", broken)
    assert answer.status == 422
    assert SECRET.encode() not in answer.body


def test_a_refused_change_is_not_sent_back(ask: Client, document: Any) -> None:
    body = encode({"data": {"key": SECRET}, "merge_existing_data": "maybe"})
    answer = ask.send("PATCH", f"/block_documents/{document['id']}", body)
    assert answer.status == 422
    assert SECRET.encode() not in answer.body


@pytest.mark.parametrize("slug", ["Upper", "a b", "a/b", "..", "x\n", "", "é", "x" * 256])
def test_slugs_that_no_type_can_have(ask: Client, slug: str) -> None:
    assert ask.send("POST", "/block_types/", encode({"name": "n", "slug": slug})).status == 422


def test_conflicts_and_what_is_protected(ask: Client, schema: Any, document: Any) -> None:
    taken = {"name": "other", "slug": document["block_type"]["slug"]}
    assert "already exists" in ask(calls.create_block_type(body=taken), 409)["detail"]
    assert ask(calls.create_block_document(body=new(schema)), 409)["detail"] == "Block already exists"
    assert ask(calls.create_block_type(body={"name": "Prefect x", "slug": "x"}), 403)
    secret = ask(calls.read_block_type_by_slug(slug="secret"))
    assert secret["is_protected"]
    assert "protected" in ask(calls.delete_block_type(id=secret["id"]), 403)["detail"]


def test_documents_are_counted_and_sorted(ask: Client, schema: Any) -> None:
    for name in ("b", "a", "c"):
        ask(calls.create_block_document(body=new(schema, name=name)))
    ask(calls.create_block_document(body=new(schema, name=None, is_anonymous=True)))
    of_type = {"block_types": {"slug": {"any_": [schema["block_type"]["slug"]]}}}
    assert ask(calls.count_block_documents(body=of_type)) == 3
    assert ask(calls.count_block_documents(body={**of_type, "block_documents": {"is_anonymous": None}})) == 4
    found = ask(calls.read_block_documents(body={**of_type, "sort": "BLOCK_TYPE_AND_NAME_ASC", "limit": 2}))
    assert [one["name"] for one in found] == ["a", "b"]
    found = ask(calls.read_block_documents(body={**of_type, "sort": "NAME_DESC", "limit": 1, "offset": 1}))
    assert [one["name"] for one in found] == ["b"]


def test_schemas_by_checksum_and_version(ask: Client, schema: Any) -> None:
    body = {"block_type_id": schema["block_type_id"], "fields": FIELDS, "version": "2.0"}
    newer = ask(calls.create_block_schema(body=body))
    of_type = {"block_schemas": {"block_type_id": {"any_": [schema["block_type_id"]]}}}
    assert ask(calls.read_block_schemas(body=of_type)) == [newer, schema]
    by = calls.read_block_schema_by_checksum
    assert ask(by(checksum=schema["checksum"]))["id"] == newer["id"]
    assert ask(by(checksum=schema["checksum"], version="non-versioned")) == schema
    assert "write-path" in ask(calls.read_block_capabilities())


def test_default_result_storage(ask: Client, document: Any) -> None:
    nothing = {"default_result_storage_block_id": None}
    assert ask(calls.read_result_storage()) == nothing
    body = {"default_result_storage_block_id": document["id"]}
    assert ask(calls.update_result_storage(body=body)) == body
    assert ask(calls.read_result_storage()) == body
    ask(calls.delete_block_document(id=document["id"]))
    assert ask(calls.read_result_storage()) == nothing
    secret = ask(calls.read_block_type_by_slug(slug="secret"))
    of_secret = {"block_schemas": {"block_type_id": {"any_": [secret["id"]]}}}
    (schema,) = ask(calls.read_block_schemas(body=of_secret))
    other = ask(calls.create_block_document(body=new(schema, name=f"s-{uuid4().hex}", data={"value": 1})))
    ask(calls.update_result_storage(body={"default_result_storage_block_id": other["id"]}), 422)


def test_system_types_are_there_and_can_be_installed_again(ask: Client) -> None:
    slugs = {one["slug"] for one in ask(calls.read_block_types(body={}))}
    assert {"secret", "local-file-system", "webhook", "slack-webhook", "sendgrid-email"} <= slugs
    gone = ask(calls.read_block_type_by_slug(slug="smb"))
    ask(calls.delete_block_type(id=gone["id"]))
    ask(calls.install_block_types())
    assert ask(calls.read_block_type_by_slug(slug="smb"))["id"] != gone["id"]
    smtp = {"block_types": {"name": {"like_": "slack"}}}
    assert [one["slug"] for one in ask(calls.read_block_types(body=smtp))] == ["slack-webhook"]
    notify = {"block_schemas": {"block_capabilities": {"all_": ["notify"]}}}
    assert "secret" not in {one["slug"] for one in ask(calls.read_block_types(body=notify))}


def test_numbers_of_json_survive(ask: Client, schema: Any) -> None:
    data = {"a": 1.0, "b": 2**53, "c": -0.5, "d": [None, True, "é🦊"], "e": {}}
    made = ask(calls.create_block_document(body=new(schema, data=data)))
    shown = ask.send("GET", f"/block_documents/{made['id']}?include_secrets=true")
    assert decode(shown.body)["data"] == data
