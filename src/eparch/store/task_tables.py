"""The queue of background tasks and who serves it. Part of ``tables``."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Document, Flag, Id, Text, Time, metadata, where_known

task_queue = sa.Table(
    "task_queue",
    metadata,
    sa.Column("task_run_id", Id, sa.ForeignKey("task_run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("task_key", Text, nullable=False),
    sa.Column("due", Time, nullable=False),
    sa.Column("parameters_id", Id),
    sa.Column("lost", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("holder", Id),
    sa.Column("acknowledged", Flag, nullable=False, server_default=sa.false()),
    sa.Column("lease_until", Time),
    sa.Index(
        "ix_task_queue_waiting",
        "task_key",
        "due",
        "task_run_id",
        sqlite_where=sa.text("holder IS NULL"),
        postgresql_where=sa.text("holder IS NULL"),
    ),
    where_known("ix_task_queue_holder", "holder"),
    where_known("ix_task_queue_lease_until", "lease_until"),
)
"""Task runs that wait for a task worker, and those that one has and has not ended.

``holder`` is the connection that has it, ``lost`` how many task workers were lost while they ran it.
"""

task_worker = sa.Table(
    "task_worker",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("client_id", Text, nullable=False),
    sa.Column("task_keys", Document, nullable=False),
    sa.Column("seen", Time, nullable=False),
)
"""Connections of task workers, on whatever server; one that was not seen for a lease is over."""
