"""Blocks on the server: types and schemas registered, documents saved, loaded and deleted.

Owns what is sent, in which order, and what is said when it is refused. What a class of blocks is, is in
``block``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec

from eparch.core import calls
from eparch.core.blocks import (
    BlockDocument,
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockType,
    BlockTypeCreate,
    BlockTypeUpdate,
    referred,
)
from eparch.core.errors import BlockExists, Conflict, NoSuchBlock, NotFound, Usage
from eparch.sdk.either import either
from eparch.sdk.session import current
from eparch.steps.references import nearest_block

if TYPE_CHECKING:
    from eparch.sdk.blocks.block import Block


class Read(NamedTuple):
    """A document as it was read, or one that stands within another."""

    id: UUID
    name: str | None
    slug: str
    is_anonymous: bool
    data: dict[str, Any]
    references: Mapping[str, Any]

    def inner(self) -> dict[str, Read]:
        """The documents that stand in its fields."""
        found = {}
        for name, reference in self.references.items():
            one, data = reference["block_document"], self.data.get(name)
            if isinstance(data, dict):
                found[name] = Read(
                    UUID(str(one["id"])), one["name"], one["block_type"]["slug"], one["is_anonymous"], data,
                    one["block_document_references"],
                )  # fmt: skip
        return found


def read_referred(reference: Any) -> Read:
    """The document with that id, or of a reference to it; it blocks.

    Raises:
        NoSuchBlock: there is none.
        BadRequest: it is no reference.
    """
    if isinstance(reference, Mapping) and not reference.get("block_document_id"):
        type_, _, name = str(reference.get("block_document_slug") or "").partition("/")
        if name:
            return _named(type_, name)
    given = reference if isinstance(reference, Mapping) else {"block_document_id": str(reference)}
    id_ = referred({"$ref": given})
    try:
        return _read(current().client.send(calls.read_block_document(id=id_, include_secrets="true")))
    except NotFound as error:
        raise NoSuchBlock(f"There is no block with the id {id_}.") from error


def _named(type_: str, name: str) -> Read:
    call = calls.read_block_document_by_name(slug=type_, block_document_name=name, include_secrets="true")
    client = current().client
    try:
        return _read(client.send(call))
    except NotFound as error:
        fix = nearest_block(client, type_, name)
        raise NoSuchBlock(f"There is no block '{type_}/{name}'.", fix=fix) from error


def _read(found: BlockDocument) -> Read:
    slug = found.block_type.slug if found.block_type else ""
    references = found.block_document_references
    return Read(found.id, found.name, slug, found.is_anonymous, found.data, references)


def _of(cls: type[Block], name: str) -> tuple[str, str]:
    """Type and name of the block that ``cls`` calls ``name``.

    Raises:
        Usage: ``Block`` itself has no type.
    """
    from eparch.sdk.blocks.block import Block

    if cls is not Block:
        return cls.get_block_type_slug(), name
    slug, _, own = name.partition("/")
    if not own:
        raise Usage(
            f"{name!r} does not say which type of block.", fix="Write '<type>/<name>', as secret/api-key."
        )
    return slug, own


@either
def load(cls: type[Block], name: str, validate: bool) -> Block:
    """The block of that name, with its secrets."""
    return cls.from_document(_named(*_of(cls, name)), validate=validate)


@either
def load_referred(cls: type[Block], reference: Any, validate: bool) -> Block:
    """The block with that id, or of a reference to it, with its secrets."""
    return cls.from_document(read_referred(reference), validate=validate)


@either
def delete(cls: type[Block], name: str) -> None:
    """Delete the block of that name."""
    current().client.send(calls.delete_block_document(id=_named(*_of(cls, name)).id))


@either
def register(cls: type[Block]) -> None:
    """Let the server know the type of ``cls`` and its schema, and those of the blocks within it."""
    _register(cls)


@either
def save(block: Block, name: str | None, overwrite: bool, is_anonymous: bool = False) -> UUID:
    """Keep ``block``: made, or changed where there is one and ``overwrite`` is true."""
    name = None if is_anonymous else name or block._block_document_name
    if name is None and not is_anonymous:
        raise Usage("The block has no name.", fix='Give it one: block.save("name").')
    data = block.to_data()
    type_id, schema_id = _register(type(block))
    client = current().client
    body = BlockDocumentCreate(
        name=name, data=data, block_type_id=type_id, block_schema_id=schema_id, is_anonymous=is_anonymous
    )
    try:
        id_ = client.send(calls.create_block_document(body=body)).id
    except Conflict as error:
        slug = block.get_block_type_slug()
        if not overwrite or name is None:
            raise BlockExists(
                f"There is a block '{slug}/{name}' already.", fix="Give overwrite=True to change it."
            ) from error
        id_ = _named(slug, name).id
        patch = BlockDocumentUpdate(data=data, block_schema_id=schema_id, merge_existing_data=False)
        client.send(calls.update_block_document(id=id_, body=patch))
    block._saved_as(id_, name, is_anonymous)
    return id_


def _register(cls: type[Block]) -> tuple[UUID, UUID]:
    """The ids of the type and of the schema of ``cls``.

    Raises:
        Usage: it is ``Block`` itself.
    """
    from eparch.sdk.blocks.block import Block, nested_types

    if cls is Block or not cls.block_fields():
        raise Usage(
            f"{cls.__name__} has no fields and is no type of blocks.", fix="Register a subclass of it."
        )
    for field in cls.block_fields().values():
        for inner in nested_types(field):
            _register(inner)
    client = current().client
    type_ = _type_of(cls)
    if cls._is_system:
        wanted = {"block_schemas": {"block_type_id": {"any_": [type_.id]}}, "limit": 1}
        if known := client.send(calls.read_block_schemas(body=wanted)):
            return type_.id, known[0].id
    body = BlockSchemaCreate(
        block_type_id=type_.id,
        fields=cls.model_json_schema(),
        capabilities=sorted(cls.get_block_capabilities()),
        version=cls.get_block_schema_version(),
    )
    return type_.id, client.send(calls.create_block_schema(body=body)).id


def _type_of(cls: type[Block]) -> BlockType:
    """The type of ``cls``, made or brought up to date; one of the system stays as it is."""
    client, slug = current().client, cls.get_block_type_slug()
    about = {
        "logo_url": cls._logo_url,
        "documentation_url": cls._documentation_url,
        "description": cls.get_description(),
        "code_example": cls._code_example,
    }
    said = {name: str(text) for name, text in about.items() if text is not None}
    try:
        known = client.send(calls.read_block_type_by_slug(slug=slug))
    except NotFound:
        body = BlockTypeCreate(name=cls.get_block_type_name(), slug=slug, **said)
        try:
            return client.send(calls.create_block_type(body=body))
        except Conflict:
            # Another process that saves such a block was faster.
            return client.send(calls.read_block_type_by_slug(slug=slug))
    new = {name: text for name, text in said.items() if getattr(known, name) != text}
    if new and not cls._is_system:
        patch = msgspec.convert(new, BlockTypeUpdate)
        client.send(calls.update_block_type(id=known.id, body=patch))
    return known
