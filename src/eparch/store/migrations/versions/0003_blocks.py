"""Blocks: types, schemas, documents.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _record() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
    )


def _of(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "block_type",
        *_record(),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("logo_url", TEXT),
        sa.Column("documentation_url", TEXT),
        sa.Column("description", TEXT),
        sa.Column("code_example", TEXT),
        sa.Column("is_protected", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_block_type"),
        sa.UniqueConstraint("slug", name="uq_block_type_slug"),
    )
    op.create_index("ix_block_type_name", "block_type", ["name", "id"])
    op.create_table(
        "block_schema",
        *_record(),
        sa.Column("checksum", TEXT, nullable=False),
        sa.Column("fields", DOCUMENT, nullable=False),
        sa.Column("capabilities", DOCUMENT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("block_type_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_block_schema"),
        _of("block_schema", "block_type_id", "block_type"),
        sa.UniqueConstraint(
            "block_type_id", "checksum", "version", name="uq_block_schema_block_type_id_checksum_version"
        ),
    )
    op.create_index("ix_block_schema_checksum", "block_schema", ["checksum"])
    op.create_index("ix_block_schema_created", "block_schema", ["created", "id"])
    _make_documents()


def downgrade() -> None:
    for table in (
        "default_storage",
        "block_document_reference",
        "block_document",
        "block_schema",
        "block_type",
    ):
        op.drop_table(table)


def _make_documents() -> None:
    op.create_table(
        "block_document",
        *_record(),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("block_type_name", TEXT, nullable=False),
        sa.Column("is_anonymous", sa.Boolean(), nullable=False),
        sa.Column("block_type_id", ID, nullable=False),
        sa.Column("block_schema_id", ID, nullable=False),
        sa.Column("secret_fields", DOCUMENT, nullable=False),
        sa.Column("key_name", TEXT, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_block_document"),
        _of("block_document", "block_type_id", "block_type"),
        _of("block_document", "block_schema_id", "block_schema"),
        sa.UniqueConstraint("block_type_id", "name", name="uq_block_document_block_type_id_name"),
    )
    op.create_index("ix_block_document_name", "block_document", ["name", "id"])
    op.create_index("ix_block_document_block_type_name", "block_document", ["block_type_name", "name", "id"])
    op.create_index("ix_block_document_block_schema_id", "block_document", ["block_schema_id"])
    op.create_table(
        "block_document_reference",
        sa.Column("parent_id", ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("reference_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("parent_id", "name", name="pk_block_document_reference"),
        _of("block_document_reference", "parent_id", "block_document"),
        _of("block_document_reference", "reference_id", "block_document"),
    )
    op.create_index("ix_block_document_reference_reference_id", "block_document_reference", ["reference_id"])
    op.create_table(
        "default_storage",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("block_document_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_default_storage"),
        _of("default_storage", "block_document_id", "block_document"),
    )
    op.create_index("ix_default_storage_block_document_id", "default_storage", ["block_document_id"])
