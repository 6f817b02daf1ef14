"""Indexes for a million runs.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BEGAN = "coalesce(start_time, expected_start_time)"
SCHEDULED = sa.text("next_scheduled_start_time IS NOT NULL")


def upgrade() -> None:
    """Runs of a flow or a deployment by when they began; what counts and polls read stands in an index."""
    for owner in ("flow_id", "deployment_id"):
        op.drop_index(f"ix_flow_run_{owner}_expected", "flow_run")
        op.execute(
            f"CREATE INDEX ix_flow_run_{owner}_began ON flow_run ({owner}, {BEGAN}, id, expected_start_time)"
        )
    op.create_index(
        "ix_flow_run_flow_id_next",
        "flow_run",
        ["flow_id", "next_scheduled_start_time", "id"],
        sqlite_where=SCHEDULED,
        postgresql_where=SCHEDULED,
    )
    op.create_index("ix_task_run_start_time_state_type", "task_run", ["start_time", "state_type"])
    _again("ix_claim_work_pool_id", "claim", "work_pool_id", "work_queue_id")
    _again("ix_event_occurred", "event", "occurred", "id", "event")


def downgrade() -> None:
    """As it was."""
    _again("ix_event_occurred", "event", "occurred", "id")
    _again("ix_claim_work_pool_id", "claim", "work_pool_id")
    op.drop_index("ix_task_run_start_time_state_type", "task_run")
    op.drop_index("ix_flow_run_flow_id_next", "flow_run")
    for owner in ("flow_id", "deployment_id"):
        op.drop_index(f"ix_flow_run_{owner}_began", "flow_run")
        op.create_index(f"ix_flow_run_{owner}_expected", "flow_run", [owner, "expected_start_time", "id"])


def _again(name: str, table: str, *columns: str) -> None:
    op.drop_index(name, table)
    op.create_index(name, table, list(columns))
