"""Indexes for large databases; lines of log are counted by ten seconds.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")

BEGAN = "coalesce(start_time, expected_start_time)"
COUNT_LINES = {
    "sqlite": "INSERT INTO log_tally (flow_run_id, begun, level, lines) SELECT flow_run_id, "
    "timestamp - (timestamp % 10000000 + 10000000) % 10000000, level, count(*) "
    "FROM log WHERE flow_run_id IS NOT NULL GROUP BY 1, 2, 3",
    "postgresql": "INSERT INTO log_tally (flow_run_id, begun, level, lines) SELECT flow_run_id, "
    "to_timestamp(floor(extract(epoch FROM timestamp) / 10) * 10), level, count(*) "
    "FROM log WHERE flow_run_id IS NOT NULL GROUP BY 1, 2, 3",
}


def upgrade() -> None:
    """What histories and counts read stands in an index; far pages of a log find where they begin."""
    _again(
        "ix_flow_run_expected_start_time",
        "expected_start_time, id, state_type, state_name, start_time, total_run_time, state_timestamp",
    )
    _again("ix_flow_run_began", f"{BEGAN}, id, expected_start_time, start_time, state_type")
    op.execute(
        "CREATE INDEX ix_flow_run_work_queue_id_began ON flow_run "
        f"(work_queue_id, {BEGAN}, id, expected_start_time)"
    )
    op.create_index("ix_event_event_occurred", "event", ["event", "occurred", "id"])
    op.create_table(
        "log_tally",
        sa.Column("flow_run_id", ID, nullable=False),
        sa.Column("begun", TIME, nullable=False),
        sa.Column("level", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("flow_run_id", "begun", "level", name="pk_log_tally"),
    )
    op.execute(COUNT_LINES[context.get_context().dialect.name])
    op.create_table(
        "position_shift",
        sa.Column("one", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shift", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one", name="pk_position_shift"),
    )
    op.execute("INSERT INTO position_shift (one, shift) VALUES (1, 0)")


def downgrade() -> None:
    """As it was."""
    op.drop_table("position_shift")
    op.drop_table("log_tally")
    op.drop_index("ix_event_event_occurred", "event")
    op.drop_index("ix_flow_run_work_queue_id_began", "flow_run")
    _again("ix_flow_run_began", f"{BEGAN}, id")
    _again("ix_flow_run_expected_start_time", "expected_start_time, id")


def _again(name: str, columns: str) -> None:
    op.drop_index(name, "flow_run")
    op.execute(f"CREATE INDEX {name} ON flow_run ({columns})")
