"""Events and logs have a position in the order of their commits.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("event", "log"):
        # Rows that are there already share the first position: their ids order them.
        op.add_column(table, sa.Column("position", sa.BigInteger(), nullable=False, server_default="0"))
        op.create_index(f"ix_{table}_position", table, ["position", "id"])


def downgrade() -> None:
    for table in ("event", "log"):
        op.drop_index(f"ix_{table}_position", table)
        op.drop_column(table, "position")
