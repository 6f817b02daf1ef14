"""Automations: their buckets, firings and actions.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _make_automation()
    _make_state()
    _make_action()


def downgrade() -> None:
    for table in ("action", "cursor", "firing", "bucket", "resource"):
        op.drop_table(f"automation_{table}")
    op.drop_table("automation")


def _documents(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, DOCUMENT, nullable=False) for name in names]


def _to_automation(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_automation_id"
    return sa.ForeignKeyConstraint(["automation_id"], ["automation.id"], name=name, ondelete="CASCADE")


def _make_automation() -> None:
    op.create_table(
        "automation",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        *_documents("tags", "trigger", "actions", "actions_on_trigger", "actions_on_resolve"),
        sa.Column("after_position", sa.BigInteger(), nullable=False),
        sa.Column("after_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_automation"),
    )
    for column in ("name", "created", "updated"):
        op.create_index(f"ix_automation_{column}", "automation", [column, "id"])
    op.create_table(
        "automation_resource",
        sa.Column("automation_id", ID, nullable=False),
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("owned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("automation_id", "resource_id", name="pk_automation_resource"),
        _to_automation("automation_resource"),
    )
    op.create_index("ix_automation_resource_resource_id", "automation_resource", ["resource_id"])


def _make_state() -> None:
    op.create_table(
        "automation_bucket",
        sa.Column("id", ID, nullable=False),
        sa.Column("automation_id", ID, nullable=False),
        sa.Column("trigger_id", ID, nullable=False),
        *_documents("key", "state"),
        sa.Column("due", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_automation_bucket"),
        _to_automation("automation_bucket"),
    )
    op.create_index("ix_automation_bucket_automation_id", "automation_bucket", ["automation_id"])
    known = sa.text("due IS NOT NULL")
    op.create_index(
        "ix_automation_bucket_due",
        "automation_bucket",
        ["due", "id"],
        sqlite_where=known,
        postgresql_where=known,
    )
    op.create_table(
        "automation_firing",
        sa.Column("automation_id", ID, nullable=False),
        sa.Column("trigger_id", ID, nullable=False),
        sa.Column("triggered", TIME, nullable=False),
        *_documents("firing"),
        sa.PrimaryKeyConstraint("automation_id", "trigger_id", name="pk_automation_firing"),
        _to_automation("automation_firing"),
    )
    op.create_table(
        "automation_cursor",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_automation_cursor"),
    )


def _make_action() -> None:
    op.create_table(
        "automation_action",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("automation_id", ID, nullable=False),
        sa.Column("automation_name", TEXT, nullable=False),
        *_documents("automation"),
        sa.Column("action_index", sa.BigInteger(), nullable=False),
        *_documents("action", "firing"),
        sa.Column("triggering_event", DOCUMENT),
        sa.Column("triggered_event_id", ID),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt", TIME, nullable=False),
        sa.Column("claimed_by", ID),
        sa.Column("lease_until", TIME),
        sa.Column("error", TEXT),
        sa.PrimaryKeyConstraint("id", name="pk_automation_action"),
    )
    op.create_index(
        "ix_automation_action_status_next_attempt", "automation_action", ["status", "next_attempt", "id"]
    )
    op.create_index("ix_automation_action_automation_id", "automation_action", ["automation_id", "created"])
