"""Versions of deployments and who owns them.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """The newest version of each deployment, those before it, and answers to plans."""
    op.create_table(
        "deployment_head",
        sa.Column("deployment_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("project", TEXT),
        sa.Column("applied", DOCUMENT),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_deployment_head"),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name="fk_deployment_head_deployment_id", ondelete="CASCADE"
        ),
    )
    known = sa.text("project IS NOT NULL")
    op.create_index(
        "ix_deployment_head_project",
        "deployment_head",
        ["project", "deployment_id"],
        sqlite_where=known,
        postgresql_where=known,
    )
    op.create_table(
        "deployment_version",
        sa.Column("deployment_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("origin", DOCUMENT, nullable=False),
        sa.Column("content", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "number", name="pk_deployment_version"),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.id"],
            name="fk_deployment_version_deployment_id",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "applied_plan",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("answer", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_applied_plan"),
    )
    op.create_index("ix_applied_plan_created", "applied_plan", ["created"])


def downgrade() -> None:
    """As it was; versions are lost, deployments are not."""
    op.drop_table("applied_plan")
    op.drop_table("deployment_version")
    op.drop_table("deployment_head")
