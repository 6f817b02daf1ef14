"""Blocks: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.blocks import (
    BlockDocument,
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchema,
    BlockSchemaCreate,
    BlockType,
    BlockTypeCreate,
    BlockTypeUpdate,
)
from eparch.core.endpoint import Endpoint

_TYPES, _SCHEMAS, _DOCUMENTS = "Block types", "Block schemas", "Block documents"
_SECRETS = ("include_secrets",)

create_block_type: Endpoint[BlockType] = Endpoint(
    "POST", "/block_types/", BlockType, body=BlockTypeCreate, status=201, tag=_TYPES
)
read_block_type: Endpoint[BlockType] = Endpoint("GET", "/block_types/{id}", BlockType, tag=_TYPES)
read_block_type_by_slug: Endpoint[BlockType] = Endpoint(
    "GET", "/block_types/slug/{slug}", BlockType, tag=_TYPES
)
read_block_types: Endpoint[list[BlockType]] = Endpoint(
    "POST",
    "/block_types/filter",
    list[BlockType],
    body=filters.READ_BLOCK_TYPES,
    tag=_TYPES,
    idempotent=True,
)
update_block_type: Endpoint[None] = Endpoint(
    "PATCH", "/block_types/{id}", None, body=BlockTypeUpdate, status=204, tag=_TYPES
)
delete_block_type: Endpoint[None] = Endpoint("DELETE", "/block_types/{id}", None, status=204, tag=_TYPES)
install_block_types: Endpoint[None] = Endpoint(
    "POST", "/block_types/install_system_block_types", None, tag=_TYPES, idempotent=True
)
read_documents_of_type: Endpoint[list[BlockDocument]] = Endpoint(
    "GET", "/block_types/slug/{slug}/block_documents", list[BlockDocument], query=_SECRETS, tag=_TYPES
)
read_block_document_by_name: Endpoint[BlockDocument] = Endpoint(
    "GET",
    "/block_types/slug/{slug}/block_documents/name/{block_document_name}",
    BlockDocument,
    query=_SECRETS,
    tag=_TYPES,
)

create_block_schema: Endpoint[BlockSchema] = Endpoint(
    "POST",
    "/block_schemas/",
    BlockSchema,
    body=BlockSchemaCreate,
    status=201,
    also=(200,),
    tag=_SCHEMAS,
    idempotent=True,
)
read_block_schema: Endpoint[BlockSchema] = Endpoint("GET", "/block_schemas/{id}", BlockSchema, tag=_SCHEMAS)
read_block_schema_by_checksum: Endpoint[BlockSchema] = Endpoint(
    "GET", "/block_schemas/checksum/{checksum}", BlockSchema, query=("version",), tag=_SCHEMAS
)
read_block_schemas: Endpoint[list[BlockSchema]] = Endpoint(
    "POST",
    "/block_schemas/filter",
    list[BlockSchema],
    body=filters.READ_BLOCK_SCHEMAS,
    tag=_SCHEMAS,
    idempotent=True,
)
delete_block_schema: Endpoint[None] = Endpoint(
    "DELETE", "/block_schemas/{id}", None, status=204, tag=_SCHEMAS
)

create_block_document: Endpoint[BlockDocument] = Endpoint(
    "POST",
    "/block_documents/",
    BlockDocument,
    body=BlockDocumentCreate,
    status=201,
    tag=_DOCUMENTS,
    secret=True,
)
read_block_document: Endpoint[BlockDocument] = Endpoint(
    "GET", "/block_documents/{id}", BlockDocument, query=_SECRETS, tag=_DOCUMENTS
)
read_block_documents: Endpoint[list[BlockDocument]] = Endpoint(
    "POST",
    "/block_documents/filter",
    list[BlockDocument],
    body=filters.READ_BLOCK_DOCUMENTS,
    tag=_DOCUMENTS,
    idempotent=True,
)
count_block_documents: Endpoint[int] = Endpoint(
    "POST", "/block_documents/count", int, body=filters.COUNT_BLOCK_DOCUMENTS, tag=_DOCUMENTS, idempotent=True
)
update_block_document: Endpoint[None] = Endpoint(
    "PATCH", "/block_documents/{id}", None, body=BlockDocumentUpdate, status=204, tag=_DOCUMENTS, secret=True
)
delete_block_document: Endpoint[None] = Endpoint(
    "DELETE", "/block_documents/{id}", None, status=204, tag=_DOCUMENTS
)

read_block_capabilities: Endpoint[list[str]] = Endpoint(
    "GET", "/block_capabilities/", list[str], tag="Block capabilities"
)
