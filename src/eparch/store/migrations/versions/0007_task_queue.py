"""The queue of background tasks, and who serves it.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """A row for each background task that has not ended, and one for each connected task worker."""
    op.create_table(
        "task_queue",
        sa.Column("task_run_id", ID, nullable=False),
        sa.Column("task_key", TEXT, nullable=False),
        sa.Column("due", TIME, nullable=False),
        sa.Column("parameters_id", ID),
        sa.Column("lost", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("holder", ID),
        sa.Column("acknowledged", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("lease_until", TIME),
        sa.PrimaryKeyConstraint("task_run_id", name="pk_task_queue"),
        sa.ForeignKeyConstraint(
            ["task_run_id"], ["task_run.id"], name="fk_task_queue_task_run_id", ondelete="CASCADE"
        ),
    )
    _index("waiting", ["task_key", "due", "task_run_id"], "holder IS NULL")
    for column in ("holder", "lease_until"):
        _index(column, [column], f"{column} IS NOT NULL")
    op.create_table(
        "task_worker",
        sa.Column("id", ID, nullable=False),
        sa.Column("client_id", TEXT, nullable=False),
        sa.Column("task_keys", DOCUMENT, nullable=False),
        sa.Column("seen", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_task_worker"),
    )


def downgrade() -> None:
    """As it was."""
    op.drop_table("task_worker")
    op.drop_table("task_queue")


def _index(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        f"ix_task_queue_{name}",
        "task_queue",
        columns,
        sqlite_where=condition,
        postgresql_where=condition,
    )
