"""Instances of workers, and what they said. Part of ``tables``."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Document, Flag, Id, Text, Time, metadata

worker_instance = sa.Table(
    "worker_instance",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("created", Time, nullable=False),
    sa.Column("work_pool_id", Id, sa.ForeignKey("work_pool.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("started_at", Time, nullable=False),
    sa.Column("seen_at", Time, nullable=False),
    sa.Column("last_polled_at", Time),
    sa.Column("last_heartbeat_at", Time),
    sa.Column("stopped_at", Time),
    sa.Column("heartbeat_interval_seconds", sa.Double),
    sa.Column("poll_interval_seconds", sa.Double),
    sa.Column("worker_order", Text, nullable=False, server_default="work"),
    sa.Column("draining", Flag, nullable=False),
    sa.Column("about", Document, nullable=False),
    sa.Index("ix_worker_instance_seen_at", "work_pool_id", "seen_at", "id"),
)
"""Processes that serve or served a pool; ``seen_at`` is the last time that anything was heard of one."""

worker_log = sa.Table(
    "worker_log",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("instance_id", Id, sa.ForeignKey("worker_instance.id", ondelete="CASCADE"), nullable=False),
    sa.Column("timestamp", Time, nullable=False),
    sa.Column("level", sa.BigInteger, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Index("ix_worker_log_instance_id", "instance_id", "id"),
)
"""The last lines of each instance; ids grow in the order in which they came."""
