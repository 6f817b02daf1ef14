"""Saves blocks on a real server."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.blocks import BlockDocument, BlockDocumentCreate, BlockSchemaCreate, BlockTypeCreate
from eparch.core.errors import NotFound


class Keeper:
    """Blocks of one test; their names end alike."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.end = uuid4().hex[:6]

    def name(self, start: str) -> str:
        """The name under which ``keep`` saves."""
        return f"{start}-{self.end}"

    def keep(self, slug: str, start: str, **data: Any) -> BlockDocument:
        """A block of a type; of an unknown one everything that is called like a secret is one."""
        try:
            type_ = self.client.send(calls.read_block_type_by_slug(slug=slug))
        except NotFound:
            type_ = self.client.send(calls.create_block_type(body=BlockTypeCreate(name=slug, slug=slug)))
            secrets = ["access_token", "credentials.token", "bitbucket_credentials.token"]
            fields = {"type": "object", "title": slug, "properties": {}, "secret_fields": secrets}
            self.client.send(
                calls.create_block_schema(body=BlockSchemaCreate(block_type_id=type_.id, fields=fields))
            )
        wanted = {"block_schemas": {"block_type_id": {"any_": [type_.id]}}, "limit": 1}
        schema = self.client.send(calls.read_block_schemas(body=wanted))[0]
        body = BlockDocumentCreate(
            name=self.name(start), data=data, block_type_id=type_.id, block_schema_id=schema.id
        )
        return self.client.send(calls.create_block_document(body=body))
