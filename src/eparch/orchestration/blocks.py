"""Blocks: making, reading, changing and deleting types, schemas and documents (wire 4.6).

Documents are sealed before they are stored and opened when they are read; what is secret is masked unless it
was asked for. Documents that a document refers to stand in their fields, as Prefect's clients expect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from eparch.core import blocks as rules
from eparch.core.block_events import document_event, type_event
from eparch.core.blocks import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockTypeCreate,
    BlockTypeUpdate,
)
from eparch.core.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, TooLarge
from eparch.core.filters import Condition, Group, Query
from eparch.core.model import UNSET, changes, encode, new_id
from eparch.orchestration.announcing import emit
from eparch.orchestration.sealing import Keyring, Unopened
from eparch.store import blocks
from eparch.store.blocks import Found
from eparch.store.statement import Steps

logger = logging.getLogger("eparch.server")

NO_TYPE = "Block type not found"
NO_SCHEMA = "Block schema not found"
NO_DOCUMENT = "Block document not found"

MAX_NESTED = 1_000
"""Documents that stand inside one document, counted as often as they stand there."""

MAX_TYPES = 100
"""Block types that the fields of one schema may refer to."""

MAX_OF_TYPE = 10_000
"""Documents of one type that are listed at once."""

RESULTS = "results"
"""What a default document is for: keeping results."""


# Types


def create_type(body: BlockTypeCreate, now: datetime) -> Steps[Found]:
    """Make a block type.

    Raises:
        Forbidden: its name begins like those of the system.
        Conflict: there is one with this slug.
    """
    if body.name.lower().startswith("prefect"):
        raise Forbidden("Block type names beginning with 'Prefect' are reserved.")
    if (yield from blocks.read_type(body.slug)) is not None:
        raise Conflict(
            f'Block type with name "{body.name}" already exists', why=f"Its slug is {body.slug!r}."
        )
    made = {"id": new_id(), "created": now, "updated": now, **changes(body), "is_protected": False}
    yield from blocks.insert_type(made)
    yield from emit(type_event("created", made, now), now)
    return made


def update_type(type_id: UUID, patch: BlockTypeUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names.

    Raises:
        NotFound: there is no such type.
    """
    known = yield from _known(blocks.read_type(type_id), NO_TYPE)
    given = {name: value for name, value in changes(patch).items() if value != known[name]}
    if given:
        yield from blocks.write_type(type_id, {**given, "updated": now})
        yield from emit(type_event("updated", {**known, **given}, now), now)


def delete_type(type_id: UUID, now: datetime) -> Steps[None]:
    """Delete a type with its schemas and documents.

    Raises:
        NotFound: there is no such type.
        Forbidden: it belongs to the system.
    """
    known = yield from _known(blocks.read_type(type_id), NO_TYPE)
    if known["is_protected"]:
        raise Forbidden("protected block types cannot be deleted.")
    yield from blocks.delete_type(type_id)
    yield from emit(type_event("deleted", known, now), now)


def _known(reading: Steps[Found | None], message: str) -> Steps[Found]:
    found = yield from reading
    if found is None:
        raise NotFound(message)
    return found


# Schemas


def create_schema(body: BlockSchemaCreate, now: datetime) -> Steps[tuple[Found, bool]]:
    """Get or make the schema with these fields and this version; the answer, and whether it was made now.

    Raises:
        NotFound: there is no such type.
        Conflict: the fields refer to a type that is not there.
        TooLarge: the fields are larger than ``rules.MAX_SIZE``, or refer to too many types.
    """
    type_ = yield from _known(
        blocks.read_type(body.block_type_id), f"Block type {body.block_type_id} not found."
    )
    _check_size(body.fields, "The fields of a block schema")
    checksum = rules.schema_checksum(body.fields)
    known = yield from blocks.read_same_schema(body.block_type_id, checksum, body.version)
    if known is not None:
        return known, False
    slugs = {slug for slug, _ in rules.schema_references(body.fields)}
    if len(slugs) > MAX_TYPES:
        raise TooLarge(f"A block schema cannot refer to more than {MAX_TYPES} block types.")
    for slug in slugs:
        if (yield from blocks.read_type(slug)) is None:
            raise Conflict(
                f"Cannot create block schema because block type {slug!r} was not found.",
                fix="Register that block type first.",
            )
    made = {"id": new_id(), "created": now, "updated": now, "checksum": checksum, **changes(body)}
    yield from blocks.insert_schema(made)
    return {**made, "block_type": type_}, True


def delete_schema(schema_id: UUID) -> Steps[None]:
    """Delete a schema with its documents.

    Raises:
        NotFound: there is no such schema.
        Forbidden: its type belongs to the system.
    """
    known = yield from _known(blocks.read_schema(schema_id), NO_SCHEMA)
    if known["block_type"]["is_protected"]:
        raise Forbidden("Block schemas for protected block types cannot be deleted.")
    yield from blocks.delete_schema(schema_id)


# Reading documents


def read_document(document_id: UUID, keys: Keyring, secrets: bool) -> Steps[Found | None]:
    """The document with that id; None: there is none.

    Raises:
        Unopened: secrets are asked for and the document cannot be opened.
    """
    rows = yield from blocks.read_documents_by_ids([document_id])
    found = yield from _whole(rows, keys, secrets)
    return found[0] if found else None


def read_document_named(slug: str, name: str, keys: Keyring, secrets: bool) -> Steps[Found | None]:
    """The document of that name and type; None: there is none. Raises as ``read_document``."""
    type_ = yield from blocks.read_type(slug)
    row = (yield from blocks.read_document_named(type_["id"], name)) if type_ is not None else None
    return (yield from _whole([row], keys, secrets))[0] if row is not None else None


def read_documents(query: Query, keys: Keyring) -> Steps[list[Found]]:
    """A page of documents, with secrets when the query asks for them. Raises as ``read_document``."""
    rows = yield from blocks.read_documents(query)
    return (yield from _whole(rows, keys, query.more.include_secrets))


def read_documents_of(slug: str, keys: Keyring, secrets: bool) -> Steps[list[Found]]:
    """All named documents of a type. Raises as ``read_document``.

    Raises:
        NotFound: there is no such type.
    """
    type_ = yield from _known(blocks.read_type(slug), NO_TYPE)
    where = (Condition("block_type_id", "any_", [type_["id"]]), Condition("is_anonymous", "eq_", False))
    query = Query("block_documents", Group("and_", where), sort="NAME_ASC", limit=MAX_OF_TYPE)
    rows = yield from blocks.read_documents(query)
    return (yield from _whole(rows, keys, secrets))


def _whole(
    rows: Sequence[Found], keys: Keyring, secrets: bool, *, strict: bool = False
) -> Steps[list[Found]]:
    """The documents of these rows with all that they refer to, level by level.

    Raises:
        TooLarge: ``strict``, and too many documents stand inside of one.
    """
    documents = {row["id"]: row for row in rows}
    references: dict[UUID, dict[str, UUID]] = {}
    new = list(documents)
    for _ in range(rules.MAX_DEPTH + 1):
        if not new:
            break
        level = yield from blocks.read_references(new)
        references |= level
        wanted = {one for fields in level.values() for one in fields.values()} - set(documents)
        below = yield from blocks.read_documents_by_ids(list(wanted))
        documents |= {row["id"]: row for row in below}
        new = [row["id"] for row in below]
    types = yield from blocks.read_types_by_ids({row["block_type_id"] for row in documents.values()})
    schemas = yield from blocks.read_schemas_by_ids(list({row["block_schema_id"] for row in rows}))
    joined = _Joined(documents, references, types, keys, secrets, strict)
    return [joined.answer(row, schemas[row["block_schema_id"]]) for row in rows]


class _Joined:
    """Documents put into the fields that refer to them; each is opened once.

    What is too much stays a reference, or is refused if ``strict``: a document that was well when it was
    saved can still be read when those inside of it have grown.
    """

    def __init__(
        self,
        documents: Mapping[UUID, Found],
        references: Mapping[UUID, Mapping[str, UUID]],
        types: Mapping[UUID, Found],
        keys: Keyring,
        secrets: bool,
        strict: bool,
    ) -> None:
        self._documents = documents
        self._references = references
        self._types = types
        self._keys = keys
        self._secrets = secrets
        self._strict = strict
        self._done: dict[UUID, tuple[Found, Found, int]] = {}
        self._open: list[UUID] = []

    def answer(self, row: Found, schema: Found) -> Found:
        """The document of ``row`` as the wire answers it."""
        data, references, _ = self._join(row["id"])
        shown = ("id", "created", "updated", "name", "block_schema_id", "block_type_id", "block_type_name")
        return {
            **{name: row[name] for name in shown},
            "is_anonymous": row["is_anonymous"],
            "data": data,
            "block_schema": schema,
            "block_type": self._types[row["block_type_id"]],
            "block_document_references": references,
        }

    def _join(self, document_id: UUID) -> tuple[Found, Found, int]:
        """A document's data, its references, and how many documents stand in it, itself included."""
        if document_id in self._done:
            return self._done[document_id]
        row = self._documents[document_id]
        data, references, size = _shown(row, self._keys, self._secrets), {}, 1
        self._open.append(document_id)
        for name, other in self._references.get(document_id, {}).items():
            deep = other not in self._documents or len(self._open) > rules.MAX_DEPTH
            fits = other not in self._open and not deep
            inner, below, count = self._join(other) if fits else ({}, {}, 0)
            if not fits or size + count > MAX_NESTED:
                if self._strict:
                    raise TooLarge(f"Too many documents stand in {_called(row)}, or too deep in one another.")
                data[name] = rules.document_reference(other)
                continue
            child = self._documents[other]
            data[name] = inner
            references[name] = {
                "block_document": {
                    "id": child["id"],
                    "name": child["name"],
                    "block_type": self._types[child["block_type_id"]],
                    "is_anonymous": child["is_anonymous"],
                    "block_document_references": below,
                }
            }
            size += count
        self._open.pop()
        self._done[document_id] = data, references, size
        return self._done[document_id]


def _called(row: Found) -> str:
    return f"The block document '{row['block_type_name']}/{row['name']}'"


def _opened(row: Found, keys: Keyring) -> Found:
    data: Found = keys.open(row["id"], row["key_name"], row["sealed"], _called(row))
    return data


def _shown(row: Found, keys: Keyring, secrets: bool) -> Found:
    """The data of a document. One that cannot be opened is shown empty where no secret is asked for, so that
    it can be listed and deleted.
    """
    try:
        data = _opened(row, keys)
    except Unopened as error:
        if secrets:
            raise
        logger.warning("%s It is shown without data. %s", error.message, error.fix)
        return {}
    return data if secrets else rules.masked(data, tuple(row["secret_fields"]))


# Changing documents


def create_document(body: BlockDocumentCreate, keys: Keyring, now: datetime) -> Steps[Found]:
    """Make a document; the answer is masked.

    Raises:
        Invalid: it has no name and is not anonymous.
        NotFound: there is no such type or schema.
        Conflict: there is one of this type and name.
        BadRequest: a reference is none, or the schema is of another type.
        TooLarge: the data is larger than ``rules.MAX_SIZE``, or too many documents stand in it.
    """
    name = body.name
    if name is None:
        if not body.is_anonymous:
            raise Invalid("Names must be provided for block documents.")
        name = f"anonymous-{uuid4()}"
    type_ = yield from _known(
        blocks.read_type(body.block_type_id), f"Block type {body.block_type_id} not found."
    )
    schema = yield from _schema_for(body.block_schema_id, body.block_type_id)
    if (yield from blocks.read_document_named(body.block_type_id, name)) is not None:
        raise Conflict("Block already exists", why=f"Its type is {type_['slug']!r}, its name {name!r}.")
    data, references = rules.split_references(body.data)
    document_id = new_id()
    row = {
        "id": document_id,
        "created": now,
        "updated": now,
        "name": name,
        "block_type_name": type_["name"],
        "is_anonymous": body.is_anonymous,
        "block_type_id": body.block_type_id,
        "block_schema_id": body.block_schema_id,
        "secret_fields": list(rules.secret_fields(schema["fields"])),
    }
    yield from blocks.insert_document({**row, **_sealed(document_id, data, keys)})
    yield from _refer(document_id, references)
    return (yield from _told("created", document_id, keys, now))


def update_document(
    document_id: UUID, patch: BlockDocumentUpdate, keys: Keyring, now: datetime
) -> Steps[None]:
    """Change a document's data and schema; a mask that comes back stands for the secret that it hid.

    Raises:
        NotFound: there is no such document or schema.
        BadRequest: a reference is none or makes a circle, or the schema is of another type.
        TooLarge: the data is larger than ``rules.MAX_SIZE``, or too many documents stand in it.
        Unopened: the document cannot be opened.
    """
    rows = yield from blocks.read_documents_by_ids([document_id])
    if not rows:
        raise NotFound(NO_DOCUMENT)
    row, secrets = rows[0], tuple(rows[0]["secret_fields"])
    current, data = _opened(row, keys), {}
    linked = (yield from blocks.read_references([document_id])).get(document_id, {})
    if patch.data is not UNSET:
        data = dict(patch.data)
        if linked:
            shown = yield from read_document(document_id, keys, False)
            assert shown is not None
            # What a reader was shown of another document is no copy of it when it comes back.
            unchanged = {name for name in linked if name in data and data[name] == shown["data"].get(name)}
            data |= {name: rules.document_reference(linked[name]) for name in unchanged}
    own, references = rules.split_references(data)
    own = rules.unmasked(own, current, secrets)
    if patch.merge_existing_data:
        own = {**{name: value for name, value in current.items() if name not in references}, **own}
        references = {**{name: one for name, one in linked.items() if name not in own}, **references}
    changed: Found = {"updated": now, **_sealed(document_id, own, keys)}
    schema_id = patch.block_schema_id
    if isinstance(schema_id, UUID) and schema_id != row["block_schema_id"]:
        schema = yield from _schema_for(schema_id, row["block_type_id"])
        changed |= {"block_schema_id": schema_id, "secret_fields": _still_secret(schema["fields"], secrets)}
    yield from blocks.write_document(document_id, changed)
    if references != linked:
        yield from _refer(document_id, references)
    yield from _told("updated", document_id, keys, now)


def delete_document(document_id: UUID, keys: Keyring, now: datetime) -> Steps[None]:
    """Delete a document; the fields that referred to it are empty then (wire: Prefect does so).

    Raises:
        NotFound: there is no such document.
    """
    if not (yield from blocks.read_documents_by_ids([document_id])):
        raise NotFound(NO_DOCUMENT)
    yield from _told("deleted", document_id, keys, now)
    yield from blocks.delete_document(document_id)


def _told(what: str, document_id: UUID, keys: Keyring, now: datetime) -> Steps[Found]:
    """The document, masked, and an event about it unless it is anonymous.

    Raises:
        TooLarge: it is made or changed, and too many documents stand inside of it.
    """
    rows = yield from blocks.read_documents_by_ids([document_id])
    (document,) = yield from _whole(rows, keys, False, strict=what != "deleted")
    if not document["is_anonymous"]:
        yield from emit(document_event(what, document, now), now)
    return document


def _sealed(document_id: UUID, data: Found, keys: Keyring) -> Found:
    _check_size(data, "The data of a block document")
    key_name, sealed = keys.seal(document_id, data)
    return {"key_name": key_name, "sealed": sealed}


def _check_size(value: Any, what: str) -> None:
    if len(encode(value)) > rules.MAX_SIZE:
        raise TooLarge(f"{what} cannot be larger than {rules.MAX_SIZE} bytes.")


def _schema_for(schema_id: UUID, type_id: UUID) -> Steps[Found]:
    schema = yield from _known(blocks.read_schema(schema_id), f"Block schema {schema_id} not found.")
    if schema["block_type_id"] != type_id:
        raise BadRequest(
            "Must migrate block document to a block schema of the same block type.",
            why=f"The schema belongs to the type {schema['block_type']['slug']!r}.",
        )
    return schema


def _still_secret(fields: Mapping[str, Any], before: Sequence[str]) -> list[str]:
    """The secret fields of a document whose schema is now ``fields``: what it does not know stays secret."""
    secrets = rules.secret_fields(fields)
    properties = fields.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    return [*secrets, *(path for path in before if path.split(".")[0] not in known and path not in secrets)]


def _refer(document_id: UUID, references: Mapping[str, UUID]) -> Steps[None]:
    """Let the document refer to these and to no others.

    Raises:
        BadRequest: one of them is not there, or refers back to the document.
        TooLarge: there are too many of them, or too deep in one another.
    """
    wanted = set(references.values())
    if len(references) > MAX_NESTED:
        raise TooLarge(f"A block document cannot refer to more than {MAX_NESTED} others.")
    there = {row["id"] for row in (yield from blocks.read_documents_by_ids(list(wanted)))}
    for name, one in references.items():
        if one not in there and one != document_id:
            raise BadRequest(f"'{name}' refers to the block document {one}, which does not exist.")
    seen: set[UUID] = set()
    for _ in range(rules.MAX_DEPTH + 1):
        if not wanted:
            break
        if document_id in wanted:
            raise BadRequest("The block document would refer to itself.", fix="Leave one reference out.")
        seen |= wanted
        level = yield from blocks.read_references(list(wanted))
        wanted = {one for fields in level.values() for one in fields.values()} - seen
    if wanted:
        raise TooLarge(f"Documents cannot stand more than {rules.MAX_DEPTH} deep in one another.")
    yield from blocks.write_references(document_id, references)


# Keys


def check_keys(keys: Keyring) -> Steps[None]:
    """Tell the log when something is sealed that this server cannot open; asked at its start."""
    missing = sorted(set((yield from blocks.read_keys_in_use())) - set(keys.names()))
    if missing:
        logger.warning(
            "Some blocks cannot be opened: this server does not have the keys %s. Its keys are those of %s.",
            ", ".join(missing),
            keys.place,
        )


def reseal(keys: Keyring, after: UUID, limit: int) -> Steps[tuple[int, UUID | None, list[str]]]:
    """Seal with the first key what other keys sealed: one batch of ``limit`` documents behind ``after``.

    Answers how many there were, the last of them (None: no more), and what cannot be opened, which stays.
    """
    rows = yield from blocks.read_sealed_otherwise(keys.first(), after, limit)
    broken = []
    for row in rows:
        try:
            data = _opened(row, keys)
        except Unopened as error:
            broken.append(error.message)
            continue
        yield from blocks.write_document(row["id"], _sealed(row["id"], data, keys))
    return len(rows) - len(broken), rows[-1]["id"] if rows else None, broken


# What keeps results where nobody names a block


def set_result_storage(document_id: UUID) -> Steps[None]:
    """Let this document keep results by default.

    Raises:
        NotFound: there is no such document.
        Invalid: blocks of its type cannot write.
    """
    rows = yield from blocks.read_documents_by_ids([document_id])
    if not rows:
        raise NotFound(f"Block document {document_id} not found.")
    schema = yield from blocks.read_schema(rows[0]["block_schema_id"])
    if schema is None or "write-path" not in schema["capabilities"]:
        raise Invalid(
            f"Block document {document_id} cannot be used for result storage.",
            why="Its schema does not have the capability 'write-path'.",
        )
    yield from blocks.write_default(RESULTS, document_id)
