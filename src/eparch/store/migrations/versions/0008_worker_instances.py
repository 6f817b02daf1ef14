"""Instances of workers, and what they said.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """A row for each process that serves a pool, and one for each of its last lines."""
    op.create_table(
        "worker_instance",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("work_pool_id", ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("last_polled_at", TIME),
        sa.Column("last_heartbeat_at", TIME),
        sa.Column("stopped_at", TIME),
        sa.Column("heartbeat_interval_seconds", sa.Double),
        sa.Column("poll_interval_seconds", sa.Double),
        sa.Column("worker_order", TEXT, nullable=False, server_default="work"),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("about", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_worker_instance"),
        sa.ForeignKeyConstraint(
            ["work_pool_id"], ["work_pool.id"], name="fk_worker_instance_work_pool_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_worker_instance_seen_at", "worker_instance", ["work_pool_id", "seen_at", "id"])
    op.create_table(
        "worker_log",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("level", sa.BigInteger, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_worker_log"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["worker_instance.id"], name="fk_worker_log_instance_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_worker_log_instance_id", "worker_log", ["instance_id", "id"])


def downgrade() -> None:
    """As it was."""
    op.drop_table("worker_log")
    op.drop_table("worker_instance")
