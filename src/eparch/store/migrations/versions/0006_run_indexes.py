"""Flow runs are sorted by when they began or should begin.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BEGAN = "CREATE INDEX ix_flow_run_began ON flow_run (coalesce(start_time, expected_start_time), id)"
NEWEST_FIRST = "CREATE INDEX ix_flow_run_start_time_desc ON flow_run (start_time DESC NULLS LAST, id DESC)"


def upgrade() -> None:
    """One index on what is sorted by, in place of those on the time of the start alone."""
    op.drop_index("ix_flow_run_start_time", "flow_run")
    if op.get_context().dialect.name == "postgresql":
        op.drop_index("ix_flow_run_start_time_desc", "flow_run")
    op.execute(BEGAN)


def downgrade() -> None:
    """As it was."""
    op.drop_index("ix_flow_run_began", "flow_run")
    op.create_index("ix_flow_run_start_time", "flow_run", ["start_time", "id"])
    if op.get_context().dialect.name == "postgresql":
        op.execute(NEWEST_FIRST)
