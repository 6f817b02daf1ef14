"""The slot of a deployment's limit lapses when its holder does not renew it.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Until when a claim holds its slot; null: as long as it stands."""
    op.add_column("claim", sa.Column("slot_until", TIME))
    condition = sa.text("slot_until IS NOT NULL")
    op.create_index(
        "ix_claim_slot_until",
        "claim",
        ["slot_until"],
        sqlite_where=condition,
        postgresql_where=condition,
    )


def downgrade() -> None:
    """As it was."""
    op.drop_index("ix_claim_slot_until", "claim")
    op.drop_column("claim", "slot_until")
