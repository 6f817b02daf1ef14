"""Blocks on every database: sealed at rest, masked when read, joined with what they refer to (wire 4.6)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from eparch.core.blocks import (
    MASK,
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockTypeCreate,
    BlockTypeUpdate,
    document_reference,
    schema_checksum,
)
from eparch.core.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, TooLarge
from eparch.core.filters import READ_BLOCK_DOCUMENTS, READ_BLOCK_SCHEMAS, READ_BLOCK_TYPES
from eparch.orchestration import blocks, system_blocks
from eparch.orchestration.sealing import Keyring, Unopened, key_name
from eparch.store import blocks as stored
from eparch.store.database import Database
from eparch.store.statement import Statement, Steps

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
SECRET = "5ecret-7f3a"
FIELDS = {
    "properties": {"user": {}, "password": {}, "env": {}, "child": {}},
    "secret_fields": ["password", "env.*", "child.password"],
}
OLD, NEW = b"o" * 32, b"n" * 32
NOBODY = uuid4()


class Shelf:
    """A database with one type and one schema, and short words for what is done with documents."""

    def __init__(self, database: Database, type_: dict[str, Any], schema: dict[str, Any]) -> None:
        self.database = database
        self.type, self.schema = type_, schema
        self.held = [OLD]
        self.keys = Keyring(lambda make: self.held, "the test")

    async def save(self, name: str | None = "one", **more: Any) -> UUID:
        data = more.pop("data", {"user": "ada", "password": SECRET})
        ids = {"block_type_id": self.type["id"], "block_schema_id": self.schema["id"]}
        body = BlockDocumentCreate(name=name, data=data, **{**ids, **more})
        made = await self.database.write(blocks.create_document, body, self.keys, NOW)
        found: UUID = made["id"]
        return found

    async def read(self, document_id: UUID, secrets: bool = True) -> dict[str, Any]:
        found = await self.database.read(blocks.read_document, document_id, self.keys, secrets)
        assert found is not None
        return found

    async def data(self, document_id: UUID, secrets: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = (await self.read(document_id, secrets))["data"]
        return found

    async def update(self, document_id: UUID, **patch: Any) -> None:
        body = BlockDocumentUpdate(**patch)
        await self.database.write(blocks.update_document, document_id, body, self.keys, NOW)

    async def add_schema(self, fields: dict[str, Any], version: str = "2") -> dict[str, Any]:
        body = BlockSchemaCreate(block_type_id=self.type["id"], fields=fields, version=version)
        schema, _ = await self.database.write(blocks.create_schema, body, NOW)
        return schema


@pytest.fixture
async def shelf(database: Database) -> Shelf:
    type_ = await database.write(blocks.create_type, BlockTypeCreate(name="Login", slug="login"), NOW)
    body = BlockSchemaCreate(block_type_id=type_["id"], fields=FIELDS, capabilities=["write-path"])
    schema, fresh = await database.write(blocks.create_schema, body, NOW)
    assert fresh
    return Shelf(database, type_, schema)


def everything(table: str) -> Callable[[], Steps[str]]:
    """All that a table holds, as a text."""

    def look() -> Steps[str]:
        found = yield Statement(sa.select(sa.text("*")).select_from(sa.table(table)))()
        return repr([list(row) for row in found])

    return look


async def test_no_secret_is_in_the_database(shelf: Shelf) -> None:
    saved = await shelf.save()
    assert SECRET not in await shelf.database.read(everything("block_document"))
    assert await shelf.data(saved) == {"user": "ada", "password": SECRET}


async def test_the_answer_to_a_new_document_is_masked(shelf: Shelf) -> None:
    ids = {"block_type_id": shelf.type["id"], "block_schema_id": shelf.schema["id"]}
    body = BlockDocumentCreate(name="new", data={"password": SECRET}, **ids)
    made = await shelf.database.write(blocks.create_document, body, shelf.keys, NOW)
    assert made["data"] == {"password": MASK}
    assert SECRET not in repr(made)


async def test_secrets_are_masked_unless_they_are_asked_for(shelf: Shelf) -> None:
    saved = await shelf.save(data={"user": "ada", "password": SECRET, "env": {"A": SECRET}, "more": 1})
    hidden = {"user": "ada", "password": MASK, "env": {"A": MASK}, "more": 1}
    assert await shelf.data(saved, secrets=False) == hidden
    listed = await shelf.database.scan(blocks.read_documents, READ_BLOCK_DOCUMENTS.parse({}), shelf.keys)
    assert [one["data"] for one in listed] == [hidden]
    asked = READ_BLOCK_DOCUMENTS.parse({"include_secrets": True})
    (full,) = await shelf.database.scan(blocks.read_documents, asked, shelf.keys)
    assert full["data"]["password"] == SECRET
    of_type = await shelf.database.scan(blocks.read_documents_of, "login", shelf.keys, False)
    assert [one["data"] for one in of_type] == [hidden]
    named = await shelf.database.read(blocks.read_document_named, "login", "one", shelf.keys, False)
    assert named == listed[0]


async def test_a_mask_that_is_sent_back_keeps_the_secret(shelf: Shelf) -> None:
    saved = await shelf.save(data={"user": "ada", "password": SECRET, "env": {"A": "a"}})
    shown = await shelf.data(saved, secrets=False)
    await shelf.update(saved, data={**shown, "user": "bob", "env": {"A": MASK, "B": "b"}})
    assert await shelf.data(saved) == {"user": "bob", "password": SECRET, "env": {"A": "a", "B": "b"}}
    await shelf.update(saved, data={"password": "new"})
    assert (await shelf.data(saved))["password"] == "new"
    await shelf.update(saved, data={"password": MASK}, merge_existing_data=False)
    assert await shelf.data(saved) == {"password": "new"}


async def test_what_an_older_schema_called_secret_stays_masked(shelf: Shelf) -> None:
    saved = await shelf.save()
    newer = await shelf.add_schema({"properties": {"user": {}}, "secret_fields": ["user"]})
    await shelf.update(saved, block_schema_id=newer["id"], data={"user": "bob"})
    assert await shelf.data(saved, secrets=False) == {"user": MASK, "password": MASK}
    assert (await shelf.read(saved))["block_schema"]["id"] == newer["id"]


async def test_a_document_stands_in_the_field_that_refers_to_it(shelf: Shelf) -> None:
    inner = await shelf.save("inner")
    middle = await shelf.save("middle", data={"child": document_reference(inner), "user": "eve"})
    outer = await shelf.save("outer", data={"child": document_reference(middle)})
    found = await shelf.read(outer, secrets=False)
    assert found["data"] == {"child": {"child": {"user": "ada", "password": MASK}, "user": "eve"}}
    first = found["block_document_references"]["child"]["block_document"]
    assert (first["id"], first["name"], first["is_anonymous"]) == (middle, "middle", False)
    assert first["block_type"]["slug"] == "login"
    assert first["block_document_references"]["child"]["block_document"]["id"] == inner
    await shelf.update(inner, data={"user": "changed"})
    assert (await shelf.data(outer))["child"]["child"] == {"user": "changed", "password": SECRET}


async def test_a_reference_stays_when_what_was_shown_of_it_comes_back(shelf: Shelf) -> None:
    inner = await shelf.save("inner")
    outer = await shelf.save("outer", data={"child": document_reference(inner), "user": "x"})
    await shelf.update(outer, data={**await shelf.data(outer, secrets=False), "user": "y"})
    await shelf.update(outer, data={"user": "z"})
    await shelf.update(inner, data={"user": "changed"})
    assert await shelf.data(outer) == {"child": {"user": "changed", "password": SECRET}, "user": "z"}
    await shelf.update(outer, data={"child": "plain"})
    assert await shelf.data(outer) == {"child": "plain", "user": "z"}
    await shelf.update(outer, data={"child": document_reference(inner)})
    assert (await shelf.data(outer))["child"]["user"] == "changed"


async def test_the_field_of_a_deleted_document_is_empty(shelf: Shelf) -> None:
    inner = await shelf.save("inner")
    outer = await shelf.save("outer", data={"child": document_reference(inner), "user": "x"})
    await shelf.database.write(blocks.delete_document, inner, shelf.keys, NOW)
    found = await shelf.read(outer)
    assert (found["data"], found["block_document_references"]) == ({"user": "x"}, {})
    with pytest.raises(NotFound):
        await shelf.database.write(blocks.delete_document, inner, shelf.keys, NOW)


async def test_references_make_no_circle_and_lead_somewhere(shelf: Shelf) -> None:
    inner = await shelf.save("inner")
    outer = await shelf.save("outer", data={"child": document_reference(inner)})
    for target in (outer, inner):
        with pytest.raises(BadRequest, match="refer to itself"):
            await shelf.update(inner, data={"child": document_reference(target)})
    with pytest.raises(BadRequest, match=f"'child' refers to the block document {NOBODY}"):
        await shelf.update(inner, data={"child": document_reference(NOBODY)})
    with pytest.raises(BadRequest, match="does not exist"):
        await shelf.save("third", data={"child": document_reference(NOBODY)})
    assert await shelf.data(inner) == {"user": "ada", "password": SECRET}


async def test_documents_that_would_stand_in_one_too_often_are_refused(shelf: Shelf) -> None:
    below = await shelf.save("level-0")
    for level in range(1, 9):
        two = {"a": document_reference(below), "b": document_reference(below)}
        below = await shelf.save(f"level-{level}", data=two)
    with pytest.raises(TooLarge, match="Too many documents"):
        await shelf.save("level-9", data={"a": document_reference(below), "b": document_reference(below)})


async def test_documents_nest_as_deep_as_prefect_lets_them(shelf: Shelf) -> None:
    below = await shelf.save("level-0", data={"user": "x"})
    for level in range(1, 51):
        below = await shelf.save(f"level-{level}", data={"child": document_reference(below)})
    with pytest.raises(TooLarge, match="too deep"):
        await shelf.save("level-51", data={"child": document_reference(below)})


async def test_a_chain_that_grew_from_below_can_still_be_read(shelf: Shelf) -> None:
    chain = [await shelf.save(f"link-{number}", data={}) for number in range(60)]
    for upper, lower in reversed(list(pairwise(chain))):
        if upper != chain[20]:
            await shelf.update(upper, data={"child": document_reference(lower)})
    await shelf.update(chain[20], data={"child": document_reference(chain[21])})
    value, depth = await shelf.data(chain[0]), 0
    while "$ref" not in value:
        value, depth = value["child"], depth + 1
    assert depth == 51
    with pytest.raises(TooLarge, match="50 deep"):
        await shelf.save("top", data={"child": document_reference(chain[0])})


async def test_a_document_that_has_grown_can_still_be_read_and_deleted(shelf: Shelf) -> None:
    leaf = await shelf.save("leaf")
    wide = {f"f{number}": document_reference(leaf) for number in range(40)}
    middle = await shelf.save("middle", data={"user": "x"})
    outer = await shelf.save("outer", data={f"f{number}": document_reference(middle) for number in range(40)})
    await shelf.update(middle, data=wide)
    data = await shelf.data(outer)
    whole = [name for name, inner in data.items() if "$ref" not in inner]
    assert len(whole) == 24  # of 41 documents each
    assert data["f9"] == document_reference(middle)
    listed = await shelf.database.scan(blocks.read_documents, READ_BLOCK_DOCUMENTS.parse({}), shelf.keys)
    assert len(listed) == 3
    await shelf.database.write(blocks.delete_document, outer, shelf.keys, NOW)


async def test_name_rules(shelf: Shelf) -> None:
    await shelf.save("one")
    with pytest.raises(Conflict, match="Block already exists"):
        await shelf.save("one")
    with pytest.raises(Invalid, match="Names must be provided"):
        await shelf.save(None)
    nameless = await shelf.save(None, is_anonymous=True)
    assert (await shelf.read(nameless))["name"].startswith("anonymous-")
    page = await shelf.database.scan(blocks.read_documents, READ_BLOCK_DOCUMENTS.parse({}), shelf.keys)
    assert [one["name"] for one in page] == ["one"]
    both = READ_BLOCK_DOCUMENTS.parse({"block_documents": {"is_anonymous": None}, "sort": "NAME_DESC"})
    assert len(await shelf.database.scan(blocks.read_documents, both, shelf.keys)) == 2


async def test_type_and_schema_of_a_document_must_fit(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="Block type"):
        await shelf.save(block_type_id=NOBODY)
    with pytest.raises(NotFound, match="Block schema"):
        await shelf.save(block_schema_id=NOBODY)
    other = await shelf.database.write(blocks.create_type, BlockTypeCreate(name="O", slug="o"), NOW)
    body = BlockSchemaCreate(block_type_id=other["id"], fields=FIELDS)
    foreign, fresh = await shelf.database.write(blocks.create_schema, body, NOW)
    assert fresh
    with pytest.raises(BadRequest, match="same block type"):
        await shelf.save(block_schema_id=foreign["id"])
    saved = await shelf.save()
    with pytest.raises(BadRequest, match="same block type"):
        await shelf.update(saved, block_schema_id=foreign["id"])


async def test_data_has_a_largest_size(shelf: Shelf) -> None:
    with pytest.raises(TooLarge, match="1000000 bytes"):
        await shelf.save(data={"user": "x" * 1_000_001})
    with pytest.raises(TooLarge, match="1000000 bytes"):
        await shelf.add_schema({"description": "x" * 1_000_001})


async def test_schemas_are_there_once_for_each_version_and_found_by_checksum(shelf: Shelf) -> None:
    again = BlockSchemaCreate(block_type_id=shelf.type["id"], fields=FIELDS)
    found, fresh = await shelf.database.write(blocks.create_schema, again, NOW)
    assert (found["id"], fresh) == (shelf.schema["id"], False)
    newer, _ = await shelf.database.write(
        blocks.create_schema,
        BlockSchemaCreate(block_type_id=shelf.type["id"], fields=FIELDS, version="2"),
        NOW + timedelta(seconds=1),
    )
    checksum = schema_checksum(FIELDS)
    for version, expected in ((None, newer), ("2", newer), ("non-versioned", shelf.schema)):
        one = await shelf.database.read(stored.read_schema_by_checksum, checksum, version)
        assert one is not None
        assert one["id"] == expected["id"]
    assert await shelf.database.read(stored.read_schema_by_checksum, checksum, "3") is None
    page = await shelf.database.scan(stored.read_schemas, READ_BLOCK_SCHEMAS.parse({}))
    assert [one["id"] for one in page] == [newer["id"], shelf.schema["id"]]
    assert page[0]["block_type"]["slug"] == "login"
    can = {"block_schemas": {"block_capabilities": {"all_": ["write-path"]}}}
    page = await shelf.database.scan(stored.read_schemas, READ_BLOCK_SCHEMAS.parse(can))
    assert [one["id"] for one in page] == [shelf.schema["id"]]
    assert await shelf.database.scan(stored.read_capabilities) == ["write-path"]


async def test_a_schema_that_refers_to_an_unknown_type_is_refused(shelf: Shelf) -> None:
    one = {"block_type_slug": "nobody", "block_schema_checksum": "sha256:1"}
    with pytest.raises(Conflict, match="block type 'nobody' was not found"):
        await shelf.add_schema({"block_schema_references": {"child": one}})


async def test_types_are_there_once_and_the_systems_are_protected(shelf: Shelf) -> None:
    write = shelf.database.write
    with pytest.raises(Conflict, match="already exists"):
        await write(blocks.create_type, BlockTypeCreate(name="Other", slug="login"), NOW)
    with pytest.raises(Forbidden, match="reserved"):
        await write(blocks.create_type, BlockTypeCreate(name="prefect thing", slug="x"), NOW)
    await write(blocks.update_type, shelf.type["id"], BlockTypeUpdate(description="d"), NOW)
    found = await shelf.database.read(stored.read_type, "login")
    assert found is not None
    assert found["description"] == "d"
    await write(system_blocks.install, NOW)
    secret = await shelf.database.read(stored.read_type, "secret")
    assert secret is not None
    with pytest.raises(Forbidden, match="protected"):
        await write(blocks.delete_type, secret["id"], NOW)
    schemas = {"block_schemas": {"block_type_id": {"any_": [str(secret["id"])]}}}
    (schema,) = await shelf.database.scan(stored.read_schemas, READ_BLOCK_SCHEMAS.parse(schemas))
    with pytest.raises(Forbidden, match="protected"):
        await write(blocks.delete_schema, schema["id"])


async def test_documents_go_with_their_type(shelf: Shelf) -> None:
    saved = await shelf.save()
    await shelf.database.write(blocks.set_result_storage, saved)
    assert await shelf.database.read(stored.read_default, blocks.RESULTS) == saved
    await shelf.database.write(blocks.delete_type, shelf.type["id"], NOW)
    assert await shelf.database.read(blocks.read_document, saved, shelf.keys, False) is None
    assert await shelf.database.read(stored.read_schema, shelf.schema["id"]) is None
    assert await shelf.database.read(stored.read_default, blocks.RESULTS) is None


async def test_a_block_that_cannot_write_keeps_no_results(shelf: Shelf) -> None:
    other = await shelf.add_schema({"properties": {}})
    saved = await shelf.save(block_schema_id=other["id"])
    with pytest.raises(Invalid, match="cannot be used for result storage"):
        await shelf.database.write(blocks.set_result_storage, saved)


async def test_installing_system_types_again_changes_nothing(database: Database) -> None:
    await database.write(system_blocks.install, NOW)
    types = await database.scan(stored.read_types, READ_BLOCK_TYPES.parse({}))
    schemas = await database.scan(stored.read_schemas, READ_BLOCK_SCHEMAS.parse({}))
    assert len([one for one in types if one["is_protected"]]) == 3
    assert len(types) == len(schemas) == len(system_blocks.SYSTEM_TYPES)
    await database.write(system_blocks.install, NOW + timedelta(days=1))
    assert await database.scan(stored.read_schemas, READ_BLOCK_SCHEMAS.parse({})) == schemas
    assert all(one["updated"] == NOW for one in schemas)


def test_system_types_have_schemas_that_fit_them() -> None:
    slugs = [one.slug for one in system_blocks.SYSTEM_TYPES]
    assert len(set(slugs)) == len(slugs)
    for one in system_blocks.SYSTEM_TYPES:
        fields = one.schema()
        hidden = {name for name, about in fields["properties"].items() if about.get("writeOnly")}
        assert {path.removesuffix(".*") for path in fields["secret_fields"]} == hidden
        assert set(fields["required"]) <= set(fields["properties"])


# Keys


async def rotate(shelf: Shelf, limit: int) -> tuple[int, list[str]]:
    after: UUID | None = UUID(int=0)
    total, broken = 0, []
    while after is not None:
        count, after, failed = await shelf.database.write(blocks.reseal, shelf.keys, after, limit)
        total += count
        broken += failed
    return total, broken


async def test_rotation_seals_everything_anew_and_can_be_begun_again(shelf: Shelf) -> None:
    saved = [await shelf.save(f"d-{number}", data={"password": f"p{number}"}) for number in range(7)]
    shelf.held = [NEW, OLD]
    first = await shelf.database.write(blocks.reseal, shelf.keys, UUID(int=0), 3)  # and then it is killed
    assert first[0] == 3
    assert await rotate(shelf, 2) == (4, [])
    assert await rotate(shelf, 2) == (0, [])
    assert await shelf.database.read(stored.read_keys_in_use) == [key_name(NEW)]
    shelf.held = [NEW]
    assert [(await shelf.data(one))["password"] for one in saved] == [f"p{n}" for n in range(7)]


async def test_a_document_without_its_key_is_named_can_be_listed_and_deleted(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    saved = await shelf.save()
    shelf.held = [NEW]
    with pytest.raises(Unopened, match="'Login/one' cannot be opened"):
        await shelf.read(saved)
    with pytest.raises(Unopened):
        await shelf.update(saved, data={"user": "x"})
    with caplog.at_level(logging.WARNING, "eparch.server"):
        assert await shelf.data(saved, secrets=False) == {}
    assert "'Login/one'" in caplog.text
    count, (told,) = await rotate(shelf, 10)
    assert count == 0
    assert "'Login/one'" in told
    await shelf.database.write(blocks.delete_document, saved, shelf.keys, NOW)


async def test_a_server_that_lacks_a_key_says_so_at_its_start(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    await shelf.save()
    with caplog.at_level(logging.WARNING, "eparch.server"):
        await shelf.database.read(blocks.check_keys, shelf.keys)
        assert caplog.text == ""
        shelf.held = [NEW]
        await shelf.database.read(blocks.check_keys, shelf.keys)
    assert key_name(OLD) in caplog.text
    assert "the test" in caplog.text


async def test_a_row_that_was_copied_over_another_is_not_opened(shelf: Shelf) -> None:
    one, two = await shelf.save("one"), await shelf.save("two", data={"user": "public"})

    def swap() -> Steps[None]:
        rows = yield from stored.read_documents_by_ids([one])
        yield from stored.write_document(two, {"sealed": rows[0]["sealed"]})

    await shelf.database.write(swap)
    with pytest.raises(Unopened, match="moved from another block"):
        await shelf.data(two)


async def test_what_happens_to_blocks_is_told_without_secrets(shelf: Shelf) -> None:
    told: list[Any] = []
    shelf.database.on_notes = lambda notes: told.extend(
        note.value for note in notes if note.topic == "events"
    )
    saved = await shelf.save(data={"user": "ada", "password": SECRET, "env": {"A": SECRET}})
    await shelf.save(None, is_anonymous=True)
    await shelf.update(saved, data={"user": "bob"})
    await shelf.database.write(blocks.delete_document, saved, shelf.keys, NOW)
    await shelf.database.write(blocks.update_type, shelf.type["id"], BlockTypeUpdate(description="d"), NOW)
    await shelf.database.write(blocks.delete_type, shelf.type["id"], NOW)
    assert [one.event for one in told] == [
        "prefect.block-document.created",
        "prefect.block-document.updated",
        "prefect.block-document.deleted",
        "prefect.block-type.updated",
        "prefect.block-type.deleted",
    ]
    assert [one.payload["data"] for one in told[:3]] == [{"user": "ada"}, {"user": "bob"}, {"user": "bob"}]
    assert told[0].resource["prefect.resource.id"] == f"prefect.block-document.{saved}"
    assert SECRET not in repr(told)
    assert SECRET not in await shelf.database.read(everything("event"))
