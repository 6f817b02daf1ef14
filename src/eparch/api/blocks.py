"""Blocks: types, schemas, documents, and what keeps results by default."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eparch.api.request import Answer, Request, created, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.blocks import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockTypeCreate,
    BlockTypeUpdate,
)
from eparch.core.calls import ResultStorage, ResultStorageUpdate
from eparch.core.filters import Query
from eparch.orchestration import blocks as changes
from eparch.orchestration import system_blocks
from eparch.store import blocks


@handles(calls.create_block_type)
async def create_block_type(request: Request, body: BlockTypeCreate) -> Any:
    """Make a block type."""
    return await request.write(changes.create_type, body, request.now)


@handles(calls.read_block_type)
async def read_block_type(request: Request, id: UUID) -> Any:
    """One block type."""
    return found(await request.read(blocks.read_type, id), changes.NO_TYPE)


@handles(calls.read_block_type_by_slug)
async def read_block_type_by_slug(request: Request, slug: str) -> Any:
    """The block type with that slug."""
    return found(await request.read(blocks.read_type, slug), changes.NO_TYPE)


@handles(calls.read_block_types)
async def read_block_types(request: Request, body: Query) -> Any:
    """A page of block types."""
    return await request.scan(blocks.read_types, body)


@handles(calls.update_block_type)
async def update_block_type(request: Request, id: UUID, body: BlockTypeUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_type, id, body, request.now)


@handles(calls.delete_block_type)
async def delete_block_type(request: Request, id: UUID) -> None:
    """Delete a block type with its schemas and documents."""
    await request.write(changes.delete_type, id, request.now)


@handles(calls.install_block_types)
async def install_block_types(request: Request) -> None:
    """Register the block types of the system, as at the start of the server."""
    await request.write(system_blocks.install, request.now)


@handles(calls.read_documents_of_type)
async def read_documents_of_type(request: Request, slug: str, include_secrets: bool = False) -> Any:
    """All documents of a type."""
    return await request.scan(changes.read_documents_of, slug, request.services.keys, include_secrets)


@handles(calls.read_block_document_by_name)
async def read_block_document_by_name(
    request: Request, slug: str, block_document_name: str, include_secrets: bool = False
) -> Any:
    """The document of that type and name."""
    one = await request.read(
        changes.read_document_named, slug, block_document_name, request.services.keys, include_secrets
    )
    return found(one, changes.NO_DOCUMENT)


@handles(calls.create_block_schema)
async def create_block_schema(request: Request, body: BlockSchemaCreate) -> Answer:
    """Make a schema; one that is there is answered with 200."""
    schema, fresh = await request.write(changes.create_schema, body, request.now)
    return created(schema, fresh)


@handles(calls.read_block_schema)
async def read_block_schema(request: Request, id: UUID) -> Any:
    """One schema."""
    return found(await request.read(blocks.read_schema, id), changes.NO_SCHEMA)


@handles(calls.read_block_schema_by_checksum)
async def read_block_schema_by_checksum(request: Request, checksum: str, version: str | None = None) -> Any:
    """The newest schema with that checksum, of that version if one is named."""
    return found(await request.read(blocks.read_schema_by_checksum, checksum, version), changes.NO_SCHEMA)


@handles(calls.read_block_schemas)
async def read_block_schemas(request: Request, body: Query) -> Any:
    """A page of schemas, the newest first."""
    return await request.scan(blocks.read_schemas, body)


@handles(calls.delete_block_schema)
async def delete_block_schema(request: Request, id: UUID) -> None:
    """Delete a schema with its documents."""
    await request.write(changes.delete_schema, id)


@handles(calls.create_block_document)
async def create_block_document(request: Request, body: BlockDocumentCreate) -> Any:
    """Make a document; the answer is masked."""
    return await request.write(changes.create_document, body, request.services.keys, request.now)


@handles(calls.read_block_document)
async def read_block_document(request: Request, id: UUID, include_secrets: bool = False) -> Any:
    """One document."""
    one = await request.read(changes.read_document, id, request.services.keys, include_secrets)
    return found(one, changes.NO_DOCUMENT)


@handles(calls.read_block_documents)
async def read_block_documents(request: Request, body: Query) -> Any:
    """A page of documents; anonymous ones are left out unless the conditions name them."""
    return await request.scan(changes.read_documents, body, request.services.keys)


@handles(calls.count_block_documents)
async def count_block_documents(request: Request, body: Query) -> int:
    """How many documents there are."""
    count: int = await request.count(body)
    return count


@handles(calls.update_block_document)
async def update_block_document(request: Request, id: UUID, body: BlockDocumentUpdate) -> None:
    """Change the data and the schema of a document."""
    await request.write(changes.update_document, id, body, request.services.keys, request.now)


@handles(calls.delete_block_document)
async def delete_block_document(request: Request, id: UUID) -> None:
    """Delete a document."""
    await request.write(changes.delete_document, id, request.services.keys, request.now)


@handles(calls.read_block_capabilities)
async def read_block_capabilities(request: Request) -> Any:
    """Everything that some block can do."""
    return await request.scan(blocks.read_capabilities)


@handles(calls.read_result_storage)
async def read_result_storage(request: Request) -> ResultStorage:
    """Which block keeps results by default."""
    return ResultStorage(
        default_result_storage_block_id=await request.read(blocks.read_default, changes.RESULTS)
    )


@handles(calls.update_result_storage)
async def update_result_storage(request: Request, body: ResultStorageUpdate) -> ResultStorage:
    """Let a block keep results by default."""
    await request.write(changes.set_result_storage, body.default_result_storage_block_id)
    return ResultStorage(default_result_storage_block_id=body.default_result_storage_block_id)


@handles(calls.clear_result_storage)
async def clear_result_storage(request: Request) -> None:
    """From now on no block keeps results by default."""
    await request.write(blocks.delete_default, changes.RESULTS)
