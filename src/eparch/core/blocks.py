"""Blocks: typed configuration with secrets, kept on the server and shared by name (wire 4.6, row D20).

Owns the records and bodies of block types, schemas and documents, and the rules that server and client share:
the checksum of a schema, what is secret in a document and how that is masked, and how documents refer to each
other. How documents are sealed at rest is in ``orchestration.sealing``; the classes that people write are in
``sdk``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta

from eparch.core.errors import BadRequest, NotFound, did_you_mean
from eparch.core.model import UNSET, Body, Name, Patch, Record, UnsetType

MASK = "********"
"""Stands for a secret in every answer that does not ask for secrets (wire: Prefect's placeholder)."""

UNVERSIONED = "non-versioned"
"""The version of a schema that names none."""

MAX_DEPTH = 50
"""How deep documents may refer to documents."""

MAX_SIZE = 1_000_000
"""Bytes of JSON in one document, and in the fields of one schema."""

_DASHED = r"^[a-z0-9-]+$(?!\n)"

BlockTypeSlug = Annotated[str, Meta(min_length=1, max_length=255, pattern=_DASHED)]
"""Small letters, digits and dashes."""

BlockDocumentName = Annotated[str, Meta(min_length=1, max_length=255, pattern=_DASHED)]
"""Small letters, digits and dashes."""

Text = Annotated[str, Meta(max_length=100_000)]
Word = Annotated[str, Meta(max_length=255)]


class BlockTypeCreate(Body, frozen=True, kw_only=True):
    """``POST /block_types/``."""

    name: Name
    slug: BlockTypeSlug
    logo_url: Text | None = None
    documentation_url: Text | None = None
    description: Text | None = None
    code_example: Text | None = None


class BlockTypeUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /block_types/{id}``."""

    logo_url: Text | UnsetType | None = UNSET
    documentation_url: Text | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    code_example: Text | UnsetType | None = UNSET


class BlockType(Record, frozen=True, kw_only=True):
    """A kind of block; one that is protected belongs to the system."""

    name: str
    slug: str
    logo_url: str | None = None
    documentation_url: str | None = None
    description: str | None = None
    code_example: str | None = None
    is_protected: bool = False


class BlockSchemaCreate(Body, frozen=True, kw_only=True):
    """``POST /block_schemas/``; ``fields`` is a JSON Schema with Prefect's additions."""

    block_type_id: UUID
    fields: dict[str, Any] = {}
    capabilities: Annotated[list[Word], Meta(max_length=1_000)] = []
    version: Word = UNVERSIONED


class BlockSchema(Record, frozen=True, kw_only=True):
    """The fields of a block type as one version of its class has them."""

    checksum: str
    block_type_id: UUID | None = None
    fields: dict[str, Any] = {}
    block_type: BlockType | None = None
    capabilities: list[str] = []
    version: str = UNVERSIONED


class BlockDocumentCreate(Body, frozen=True, kw_only=True):
    """``POST /block_documents/``; only an anonymous document needs no name."""

    block_schema_id: UUID
    block_type_id: UUID
    name: BlockDocumentName | None = None
    data: dict[str, Any] = {}
    is_anonymous: bool = False

    def __repr__(self) -> str:
        """Without the data, which may be secret."""
        return f"BlockDocumentCreate(name={self.name!r})"


class BlockDocumentUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /block_documents/{id}``; the data is merged into what is there unless told otherwise."""

    block_schema_id: UUID | UnsetType | None = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    merge_existing_data: bool = True

    def __repr__(self) -> str:
        """Without the data, which may be secret."""
        return "BlockDocumentUpdate()"


class BlockDocument(Record, frozen=True, kw_only=True):
    """The values of one block.

    ``data`` holds the data of documents that it refers to in their places; ``block_document_references`` says
    which these are: field -> ``{"block_document": {id, name, block_type, is_anonymous,
    block_document_references}}``.
    """

    block_schema_id: UUID
    block_type_id: UUID
    name: str | None = None
    data: dict[str, Any] = {}
    block_schema: BlockSchema | None = None
    block_type_name: str | None = None
    block_type: BlockType | None = None
    block_document_references: dict[str, dict[str, Any]] = {}
    is_anonymous: bool = False

    def __repr__(self) -> str:
        """Without the data, which may be secret."""
        return f"BlockDocument(id={str(self.id)!r}, name={self.name!r}, type={self.block_type_name!r})"


# Schemas


def schema_checksum(fields: Mapping[str, Any]) -> str:
    """``sha256:<hex>`` of a schema's fields, by which clients look schemas up (wire 4.6).

    Which fields are secret does not count, nor do the definitions of blocks, which have schemas of their own.
    """
    counted = _without(fields, "secret_fields")
    if counted.get("definitions"):
        counted["definitions"] = _plain_definitions(counted)
        if not counted["definitions"]:
            del counted["definitions"]
    text = json.dumps([[counted], {}], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _without(value: Any, unwanted: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without(item, unwanted) for key, item in value.items() if key != unwanted}


def _plain_definitions(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions of ``fields`` that something refers to and that are no blocks."""
    known = fields["definitions"]
    if not isinstance(known, Mapping):
        return {}
    names = {name.replace("#/definitions/", "") for name in _pointers(fields)}
    found = ((name, known.get(name)) for name in names)
    return {
        name: one
        for name, one in found
        if one and not (isinstance(one, Mapping) and one.get("block_type_slug") is not None)
    }


def _pointers(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(pointer := value.get("$ref"), str):
            yield pointer
        for item in value.values():
            yield from _pointers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _pointers(item)


def secret_fields(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The dotted paths of what is secret, as a schema's ``secret_fields`` names them, each once.

    ``child.password`` is inside ``child``, ``env.*`` is all that is inside ``env``. What the properties
    themselves mark as a password is secret too, whatever the list says.
    """
    listed = fields.get("secret_fields")
    found = (
        dict.fromkeys(path for path in listed if isinstance(path, str)) if isinstance(listed, list) else {}
    )
    properties = fields.get("properties")
    for name, one in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(one, Mapping) and (one.get("writeOnly") is True or one.get("format") == "password"):
            found[name] = None
    return tuple(found)


def schema_references(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """``(slug of the block type, checksum of the schema)`` of every block that the fields refer to."""
    named = fields.get("block_schema_references")
    found = []
    for one in named.values() if isinstance(named, Mapping) else ():
        for reference in one if isinstance(one, list) else [one]:
            if isinstance(reference, Mapping):
                slug, checksum = reference.get("block_type_slug"), reference.get("block_schema_checksum")
                found.append((str(slug), str(checksum)))
    return found


# Secrets


def masked(data: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    """``data`` with ``MASK`` for every value that is secret; the keys inside ``env.*`` stay visible."""
    result: dict[str, Any] = _masked(data, secrets)
    return result


def _masked(value: Any, secrets: tuple[str, ...]) -> Any:
    if not secrets:
        return value
    if "" in secrets:
        return MASK if value is not None else None
    if _all(secrets):
        return _all_masked(value)
    if isinstance(value, Mapping):
        return {key: _masked(item, _inside(secrets, key)) for key, item in value.items()}
    return [_masked(item, secrets) for item in value] if isinstance(value, list) else value


def _all_masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _all_masked(item) for key, item in value.items()}
    return MASK if value is not None else None


def _all(secrets: tuple[str, ...]) -> bool:
    return any(path == "*" or path.startswith("*.") for path in secrets)


def _inside(secrets: tuple[str, ...], key: str) -> tuple[str, ...]:
    """What is left of each path inside ``key``; a key may itself hold dots."""
    ends = (path[len(key) :] for path in secrets if path.startswith(key))
    return tuple(end[1:] for end in ends if not end or end[0] == ".")


def unmasked(data: Mapping[str, Any], current: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    """``data`` with the value of ``current`` for every ``MASK`` that stands for a secret.

    Whoever sends back what they read does not overwrite the secret with its mask (wire: Prefect does so).
    """
    result: dict[str, Any] = _unmasked(data, current, secrets)
    return result


def _unmasked(value: Any, current: Any, secrets: tuple[str, ...]) -> Any:
    if not secrets or current is None:
        return value
    if "" in secrets:
        return current if value == MASK else value
    if _all(secrets):
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            return {key: _unmasked(item, current.get(key), ("*",)) for key, item in value.items()}
        return current if value == MASK else value
    if isinstance(value, Mapping) and isinstance(current, Mapping):
        return {key: _unmasked(item, current.get(key), _inside(secrets, key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(current, list):
        known = current + [None] * (len(value) - len(current))
        return [_unmasked(item, old, secrets) for item, old in zip(value, known, strict=False)]
    return value


# References of documents to documents


def document_reference(id_: UUID) -> dict[str, Any]:
    """What stands in the place of the document with that id."""
    return {"$ref": {"block_document_id": str(id_)}}


def referred(value: Any, place: str = "") -> UUID | None:
    """The id of the document that ``value`` stands for; None: it is no reference.

    Raises:
        BadRequest: it is a reference, but without an id; ``place`` says where.
    """
    if not isinstance(value, Mapping) or not isinstance(reference := value.get("$ref"), Mapping):
        return None
    found = reference.get("block_document_id")
    if isinstance(found, UUID):
        return found
    try:
        return UUID(found)
    except (ValueError, AttributeError, TypeError):
        where = f" in '{place}'" if place else ""
        raise BadRequest(
            f"A reference to a block document{where} has no valid block_document_id.",
            fix='Write {"$ref": {"block_document_id": "<id>"}}.',
        ) from None


def split_references(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, UUID]]:
    """A document's own data, and which field refers to which document.

    Only a field of the document itself can be a reference (wire: Prefect keeps no deeper ones).

    Raises:
        BadRequest: a reference has no id.
    """
    references = {key: one for key, value in data.items() if (one := referred(value, key)) is not None}
    return {key: value for key, value in data.items() if key not in references}, references


def find_references(value: Any) -> Iterator[UUID]:
    """The ids of all documents that ``value`` refers to, however deep (job variables, pull steps).

    Raises:
        BadRequest: a reference has no id.
    """
    found = referred(value)
    if found is not None:
        yield found
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from find_references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from find_references(item)


def replace_references(value: Any, resolve: Callable[[UUID], Any]) -> Any:
    """``value`` with what ``resolve`` makes of its id for each reference, however deep.

    Raises:
        BadRequest: a reference has no id.
    """
    found = referred(value)
    if found is not None:
        return resolve(found)
    if isinstance(value, Mapping):
        return {key: replace_references(item, resolve) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_references(item, resolve) for item in value]
    return value


def with_references(data: Mapping[str, Any], references: Mapping[str, Any]) -> dict[str, Any]:
    """A read document's data with a reference for each field that another document filled.

    ``references`` is the document's ``block_document_references``: saved like this, the document keeps
    referring to the others instead of holding copies of them.
    """
    ids = {
        name: document_reference(UUID(str(one["block_document"]["id"]))) for name, one in references.items()
    }
    return {**data, **ids}


def value_at(data: Mapping[str, Any], keys: list[str]) -> Any:
    """What ``{{ prefect.blocks.<type>.<name>.<keys> }}`` stands for in a document's data.

    A document that only has a ``value`` (a secret) stands for that value.

    Raises:
        NotFound: there is no such key.
    """
    value: Any = data
    if list(data) == ["value"] and keys[:1] != ["value"]:
        value = data["value"]
    for at, key in enumerate(keys):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            known = [str(one) for one in value] if isinstance(value, Mapping) else []
            raise NotFound(f"The block has no '{'.'.join(keys[: at + 1])}'.", fix=did_you_mean(key, known))
    return value
