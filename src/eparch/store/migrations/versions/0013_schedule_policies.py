"""Policies of schedules, backfills and service levels.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
FLAG = sa.Boolean()


def _record(*columns: sa.Column) -> tuple[sa.Column, ...]:  # type: ignore[type-arg]
    return (
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        *columns,
    )


def _of_deployment(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["deployment_id"], ["deployment.id"], name=f"fk_{table}_deployment_id", ondelete="CASCADE"
    )


def upgrade() -> None:
    """What is done with missed and overlapping runs; runs for the past; what runs are to keep to."""
    op.add_column("deployment_schedule", sa.Column("missed_runs", DOCUMENT))
    op.add_column("deployment_schedule", sa.Column("overlap", TEXT))
    op.add_column("deployment_schedule", sa.Column("decided_until", TIME))
    op.create_table(
        "backfill",
        *_record(
            sa.Column("deployment_id", ID, nullable=False),
            sa.Column("status", TEXT, nullable=False),
            sa.Column("spec", DOCUMENT, nullable=False),
            sa.Column("series", TEXT, nullable=False),
            sa.Column("total", sa.BigInteger(), nullable=False),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_backfill"),
        _of_deployment("backfill"),
    )
    op.create_index("ix_backfill_deployment_id", "backfill", ["deployment_id", "id"])
    op.create_index("ix_backfill_status", "backfill", ["status", "id"])
    op.create_table(
        "backfill_date",
        sa.Column("backfill_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("logical_date", TIME, nullable=False),
        sa.Column("series", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("flow_run_id", ID),
        sa.PrimaryKeyConstraint("backfill_id", "position", name="pk_backfill_date"),
        sa.ForeignKeyConstraint(
            ["backfill_id"], ["backfill.id"], name="fk_backfill_date_backfill_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_backfill_date_status", "backfill_date", ["backfill_id", "status", "position"])
    op.create_index("ix_backfill_date_series", "backfill_date", ["series", "logical_date"])
    _service_levels()


def _service_levels() -> None:
    op.create_table(
        "service_level",
        *_record(
            sa.Column("deployment_id", ID, nullable=False),
            sa.Column("name", TEXT, nullable=False),
            sa.Column("type", TEXT, nullable=False),
            sa.Column("severity", TEXT, nullable=False),
            sa.Column("enabled", FLAG, nullable=False),
            sa.Column("seconds", sa.Double(), nullable=False),
            sa.Column("checked", TIME, nullable=False),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_service_level"),
        _of_deployment("service_level"),
        sa.UniqueConstraint("deployment_id", "name", name="uq_service_level_deployment_id_name"),
    )
    op.create_table(
        "service_level_breach",
        sa.Column("service_level_id", ID, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("occurred", TIME, nullable=False),
        sa.PrimaryKeyConstraint("service_level_id", "subject", name="pk_service_level_breach"),
        sa.ForeignKeyConstraint(
            ["service_level_id"],
            ["service_level.id"],
            name="fk_service_level_breach_service_level_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_service_level_breach_occurred", "service_level_breach", ["occurred"])


def downgrade() -> None:
    """As it was; policies, backfills and service levels are lost, their runs are not."""
    op.drop_table("service_level_breach")
    op.drop_table("service_level")
    op.drop_table("backfill_date")
    op.drop_table("backfill")
    for name in ("decided_until", "overlap", "missed_runs"):
        op.drop_column("deployment_schedule", name)
