"""The tables of blocks: types, schemas, documents, and which document refers to which.

What a document says is sealed before it comes here; nothing in these tables can be searched for a secret.
"""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Document, Flag, Id, Text, metadata, record

block_type = sa.Table(
    "block_type",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("slug", Text, nullable=False, unique=True),
        sa.Column("logo_url", Text),
        sa.Column("documentation_url", Text),
        sa.Column("description", Text),
        sa.Column("code_example", Text),
        sa.Column("is_protected", Flag, nullable=False),
    ),
    sa.Index("ix_block_type_name", "name", "id"),
)

block_schema = sa.Table(
    "block_schema",
    metadata,
    *record(
        sa.Column("checksum", Text, nullable=False),
        sa.Column("fields", Document, nullable=False),
        sa.Column("capabilities", Document, nullable=False),
        sa.Column("version", Text, nullable=False),
        sa.Column("block_type_id", Id, sa.ForeignKey("block_type.id", ondelete="CASCADE"), nullable=False),
    ),
    sa.UniqueConstraint("block_type_id", "checksum", "version"),
    sa.Index("ix_block_schema_checksum", "checksum"),
    sa.Index("ix_block_schema_created", "created", "id"),
)

block_document = sa.Table(
    "block_document",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("block_type_name", Text, nullable=False),
        sa.Column("is_anonymous", Flag, nullable=False),
        sa.Column("block_type_id", Id, sa.ForeignKey("block_type.id", ondelete="CASCADE"), nullable=False),
        sa.Column(
            "block_schema_id", Id, sa.ForeignKey("block_schema.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("secret_fields", Document, nullable=False),
        sa.Column("key_name", Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    ),
    sa.UniqueConstraint("block_type_id", "name"),
    sa.Index("ix_block_document_name", "name", "id"),
    sa.Index("ix_block_document_block_type_name", "block_type_name", "name", "id"),
    sa.Index("ix_block_document_block_schema_id", "block_schema_id"),
)
"""``sealed`` is the data, ``key_name`` the key that sealed it, ``secret_fields`` what a reader is not shown.

The secret fields are the document's own, so that what an older schema called secret stays masked.
"""

block_document_reference = sa.Table(
    "block_document_reference",
    metadata,
    sa.Column("parent_id", Id, sa.ForeignKey("block_document.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", Text, primary_key=True),
    sa.Column("reference_id", Id, sa.ForeignKey("block_document.id", ondelete="CASCADE"), nullable=False),
    sa.Index("ix_block_document_reference_reference_id", "reference_id"),
)
"""The field ``name`` of one document is filled by another; it is empty once that is gone."""

default_storage = sa.Table(
    "default_storage",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column(
        "block_document_id", Id, sa.ForeignKey("block_document.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Index("ix_default_storage_block_document_id", "block_document_id"),
)
"""Which document is used where nobody names one; there is one for ``results``."""
