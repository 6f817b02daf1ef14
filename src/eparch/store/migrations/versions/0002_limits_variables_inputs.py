"""Named limits and their leases, variables, inputs of flow runs, saved searches.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
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


def upgrade() -> None:
    _make_limits()
    _make_variable()
    op.create_table(
        "flow_run_input",
        *_record(),
        sa.Column("flow_run_id", ID, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("sender", TEXT),
        sa.PrimaryKeyConstraint("id", name="pk_flow_run_input"),
        sa.ForeignKeyConstraint(
            ["flow_run_id"], ["flow_run.id"], name="fk_flow_run_input_flow_run_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("flow_run_id", "key", name="uq_flow_run_input_flow_run_id_key"),
    )
    op.create_table(
        "saved_search",
        *_record(),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("filters", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_saved_search"),
        sa.UniqueConstraint("name", name="uq_saved_search_name"),
    )


def downgrade() -> None:
    for table in ("saved_search", "flow_run_input", "variable", "concurrency_slot", "concurrency_limit"):
        op.drop_table(table)


def _make_limits() -> None:
    op.create_table(
        "concurrency_limit",
        *_record(),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("active_slots", sa.BigInteger(), nullable=False),
        sa.Column("denied_slots", sa.BigInteger(), nullable=False),
        sa.Column("slot_decay_per_second", sa.Double(), nullable=False),
        sa.Column("avg_slot_occupancy_seconds", sa.Double(), nullable=False),
        sa.Column("decayed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_concurrency_limit"),
        sa.UniqueConstraint("name", name="uq_concurrency_limit_name"),
    )
    op.create_index("ix_concurrency_limit_created", "concurrency_limit", ["created", "id"])
    op.create_table(
        "concurrency_slot",
        sa.Column("lease_id", ID, nullable=False),
        sa.Column("limit_id", ID, nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.Column("holder_type", TEXT),
        sa.Column("holder_id", ID),
        sa.Column("created", TIME, nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.PrimaryKeyConstraint("lease_id", "limit_id", name="pk_concurrency_slot"),
        sa.ForeignKeyConstraint(
            ["limit_id"], ["concurrency_limit.id"], name="fk_concurrency_slot_limit_id", ondelete="CASCADE"
        ),
    )
    for column in ("limit_id", "expires", "holder_id"):
        op.create_index(f"ix_concurrency_slot_{column}", "concurrency_slot", [column])


def _make_variable() -> None:
    op.create_table(
        "variable",
        *_record(),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", DOCUMENT),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_variable"),
        sa.UniqueConstraint("name", name="uq_variable_name"),
    )
    op.create_index("ix_variable_created", "variable", ["created", "id"])
    op.create_index("ix_variable_updated", "variable", ["updated", "id"])
