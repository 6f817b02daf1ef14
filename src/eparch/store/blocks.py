"""Blocks: reading and writing the rows of types, schemas and documents.

What a document says is sealed bytes here; ``orchestration.blocks`` opens them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.filters import Query
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.rows import names
from eparch.store.statement import Statement, Steps, delete, insert, param, update, upsert
from eparch.store.where import bind

Found = dict[str, Any]

_type, _schema, _document = t.block_type, t.block_schema, t.block_document
_reference, _default = t.block_document_reference, t.default_storage

TYPES: sa.Select[Any] = sa.select(*_type.columns)
SCHEMAS: sa.Select[Any] = sa.select(*_schema.columns)
DOCUMENTS: sa.Select[Any] = sa.select(*_document.columns)
_TYPE_KEYS, _SCHEMA_KEYS, _DOCUMENT_KEYS = names(TYPES), names(SCHEMAS), names(DOCUMENTS)

_TYPE_BY = {key: Statement(TYPES.where(_type.c[key] == param("key", _type.c[key]))) for key in ("id", "slug")}
_TYPES_BY_IDS = Statement(TYPES.where(AnyOf(_type.c.id, "ids")))

_newest = SCHEMAS.order_by(_schema.c.created.desc(), _schema.c.id.desc()).limit(1)
_with_checksum = _newest.where(_schema.c.checksum == param("checksum", _schema.c.checksum))
_SCHEMA_BY_CHECKSUM = Statement(_with_checksum)
_SCHEMA_BY_VERSION = Statement(_with_checksum.where(_schema.c.version == param("version", _schema.c.version)))
_SAME_SCHEMA = Statement(
    SCHEMAS.where(
        *(_schema.c[key] == param(key, _schema.c[key]) for key in ("block_type_id", "checksum", "version"))
    )
)
_SCHEMAS_BY_IDS = Statement(SCHEMAS.where(AnyOf(_schema.c.id, "ids")))
_CAPABILITIES = Statement(sa.select(_schema.c.capabilities))
_REGISTERED = Statement(
    sa.select(_type.c.slug, _schema.c.checksum)
    .select_from(_type.join(_schema, _schema.c.block_type_id == _type.c.id))
    .where(AnyOf(_type.c.slug, "slugs"))
)

_DOCUMENTS_BY_IDS = Statement(DOCUMENTS.where(AnyOf(_document.c.id, "ids")))
_DOCUMENT_BY_NAME = Statement(
    DOCUMENTS.where(
        _document.c.block_type_id == param("type_id", _document.c.block_type_id),
        _document.c.name == param("name", _document.c.name),
    )
)
_OTHERWISE_SEALED = Statement(
    DOCUMENTS.where(
        _document.c.key_name != param("key_name", _document.c.key_name),
        _document.c.id > param("after", _document.c.id),
    )
    .order_by(_document.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_KEYS_IN_USE = Statement(sa.select(_document.c.key_name).distinct())
_REFERENCES = Statement(
    sa.select(_reference.c.parent_id, _reference.c.name, _reference.c.reference_id)
    .where(AnyOf(_reference.c.parent_id, "ids"))
    .order_by(_reference.c.parent_id, _reference.c.name)
)
_DEFAULT = Statement(
    sa.select(_default.c.block_document_id).where(_default.c.name == param("name", _default.c.name))
)
_SET_DEFAULT = upsert(_default, ("name",), ("block_document_id",))


# Types


def read_type(key: UUID | str) -> Steps[Found | None]:
    """The block type with that id (a UUID) or slug (a text); None: there is none."""
    found = yield _TYPE_BY["id" if isinstance(key, UUID) else "slug"](key=key)
    return dict(zip(_TYPE_KEYS, found[0], strict=True)) if found else None


def read_types(query: Query) -> Steps[list[Found]]:
    """A page of block types."""
    found = yield bind(TYPES, query)
    return [dict(zip(_TYPE_KEYS, row, strict=True)) for row in found]


def insert_type(columns: Mapping[str, Any]) -> Steps[None]:
    """Add a block type."""
    yield insert(_type)(**columns)


def write_type(type_id: UUID, columns: Mapping[str, Any]) -> Steps[None]:
    """Change columns of a block type."""
    yield update(_type, frozenset(columns))(key_id=type_id, **columns)


def delete_type(type_id: UUID) -> Steps[None]:
    """Delete a block type with its schemas and documents."""
    yield delete(_type)(key=type_id)


def read_registered(slugs: Sequence[str]) -> Steps[set[tuple[str, str]]]:
    """``(slug, checksum)`` of every schema of the types with these slugs."""
    found = yield _REGISTERED(slugs=list(slugs))
    return {(row[0], row[1]) for row in found}


# Schemas


def read_schema(schema_id: UUID) -> Steps[Found | None]:
    """The schema with that id, and its type; None: there is none."""
    found = yield from read_schemas_by_ids([schema_id])
    return found.get(schema_id)


def read_schema_by_checksum(checksum: str, version: str | None = None) -> Steps[Found | None]:
    """The newest schema with that checksum, of ``version`` if one is given; None: there is none."""
    if version is None:
        found = yield _SCHEMA_BY_CHECKSUM(checksum=checksum)
    else:
        found = yield _SCHEMA_BY_VERSION(checksum=checksum, version=version)
    return (yield from _with_types(found))[0] if found else None


def read_same_schema(type_id: UUID, checksum: str, version: str) -> Steps[Found | None]:
    """The schema of that type with that checksum and version; None: there is none."""
    found = yield _SAME_SCHEMA(block_type_id=type_id, checksum=checksum, version=version)
    return (yield from _with_types(found))[0] if found else None


def read_schemas(query: Query) -> Steps[list[Found]]:
    """A page of schemas, the newest first."""
    found = yield bind(SCHEMAS, query, wire=False)
    return (yield from _with_types(found))


def read_schemas_by_ids(ids: Sequence[UUID]) -> Steps[dict[UUID, Found]]:
    """The schemas with these ids, by id."""
    found = yield _SCHEMAS_BY_IDS(ids=list(ids))
    return {one["id"]: one for one in (yield from _with_types(found))}


def _with_types(rows: Sequence[Any]) -> Steps[list[Found]]:
    schemas = [dict(zip(_SCHEMA_KEYS, row, strict=True)) for row in rows]
    types = yield from read_types_by_ids({one["block_type_id"] for one in schemas})
    return [{**one, "block_type": types[one["block_type_id"]]} for one in schemas]


def read_types_by_ids(ids: set[UUID]) -> Steps[dict[UUID, Found]]:
    """The types with these ids, by id."""
    found = (yield _TYPES_BY_IDS(ids=list(ids))) if ids else []
    return {row[0]: dict(zip(_TYPE_KEYS, row, strict=True)) for row in found}


def insert_schema(columns: Mapping[str, Any]) -> Steps[None]:
    """Add a schema."""
    yield insert(_schema)(**columns)


def delete_schema(schema_id: UUID) -> Steps[None]:
    """Delete a schema with its documents."""
    yield delete(_schema)(key=schema_id)


def read_capabilities() -> Steps[list[str]]:
    """Everything that some schema can do, in the order of the alphabet."""
    found = yield _CAPABILITIES()
    return sorted({capability for row in found for capability in row[0]})


# Documents


def read_documents(query: Query) -> Steps[list[Found]]:
    """The rows of a page of documents."""
    found = yield bind(DOCUMENTS, query, wire=False)
    return [dict(zip(_DOCUMENT_KEYS, row, strict=True)) for row in found]


def read_documents_by_ids(ids: Sequence[UUID]) -> Steps[list[Found]]:
    """The rows of the documents with these ids."""
    found = (yield _DOCUMENTS_BY_IDS(ids=list(ids))) if ids else []
    return [dict(zip(_DOCUMENT_KEYS, row, strict=True)) for row in found]


def read_document_named(type_id: UUID, name: str) -> Steps[Found | None]:
    """The row of the document of that type and name; None: there is none."""
    found = yield _DOCUMENT_BY_NAME(type_id=type_id, name=name)
    return dict(zip(_DOCUMENT_KEYS, found[0], strict=True)) if found else None


def read_sealed_otherwise(key_name: str, after: UUID, limit: int) -> Steps[list[Found]]:
    """Rows of documents that another key than that sealed, in the order of their ids."""
    found = yield _OTHERWISE_SEALED(key_name=key_name, after=after, limit=limit)
    return [dict(zip(_DOCUMENT_KEYS, row, strict=True)) for row in found]


def read_keys_in_use() -> Steps[list[str]]:
    """The names of the keys that sealed something that is there."""
    found = yield _KEYS_IN_USE()
    return [row[0] for row in found]


def insert_document(columns: Mapping[str, Any]) -> Steps[None]:
    """Add a document."""
    yield insert(_document)(**columns)


def write_document(document_id: UUID, columns: Mapping[str, Any]) -> Steps[None]:
    """Change columns of a document."""
    yield update(_document, frozenset(columns))(key_id=document_id, **columns)


def delete_document(document_id: UUID) -> Steps[bool]:
    """Delete a document; whoever referred to it refers to nothing. False: there was none."""
    return bool((yield delete(_document)(key=document_id)))


def read_references(ids: Sequence[UUID]) -> Steps[dict[UUID, dict[str, UUID]]]:
    """Which field of each of these documents refers to which document."""
    found = (yield _REFERENCES(ids=list(ids))) if ids else []
    references: dict[UUID, dict[str, UUID]] = {}
    for parent, name, target in found:
        references.setdefault(parent, {})[name] = target
    return references


def write_references(parent: UUID, references: Mapping[str, UUID]) -> Steps[None]:
    """Let the document refer to these, and to no others."""
    yield delete(_reference, "parent_id")(key=parent)
    if references:
        yield insert(_reference).each(
            [{"parent_id": parent, "name": name, "reference_id": one} for name, one in references.items()]
        )


# What is used where nobody names a document


def read_default(name: str) -> Steps[UUID | None]:
    """The document that serves as ``name``; None: there is none."""
    found = yield _DEFAULT(name=name)
    return found[0][0] if found else None


def write_default(name: str, document_id: UUID) -> Steps[None]:
    """Let that document serve as ``name``."""
    yield _SET_DEFAULT(name=name, block_document_id=document_id)


def delete_default(name: str) -> Steps[None]:
    """Let no document serve as ``name``."""
    yield delete(_default, "name")(key=name)
