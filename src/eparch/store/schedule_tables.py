"""Backfills and the service levels of deployments. Part of ``tables``."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Document, Flag, Id, Text, Time, metadata, record

backfill = sa.Table(
    "backfill",
    metadata,
    *record(
        sa.Column("deployment_id", Id, sa.ForeignKey("deployment.id", ondelete="CASCADE"), nullable=False),
        sa.Column("status", Text, nullable=False),
        sa.Column("spec", Document, nullable=False),
        sa.Column("series", Text, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
    ),
    sa.Index("ix_backfill_deployment_id", "deployment_id", "id"),
    sa.Index("ix_backfill_status", "status", "id"),
)
"""Runs of a deployment for times that are past (row B16)."""

backfill_date = sa.Table(
    "backfill_date",
    metadata,
    sa.Column("backfill_id", Id, sa.ForeignKey("backfill.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("logical_date", Time, nullable=False),
    sa.Column("series", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("flow_run_id", Id),
    sa.Index("ix_backfill_date_status", "backfill_id", "status", "position"),
    sa.Index("ix_backfill_date_series", "series", "logical_date"),
)
"""What became of each time; ``series`` tells runs of the same deployment and parameters."""

service_level = sa.Table(
    "service_level",
    metadata,
    *record(
        sa.Column("deployment_id", Id, sa.ForeignKey("deployment.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("type", Text, nullable=False),
        sa.Column("severity", Text, nullable=False),
        sa.Column("enabled", Flag, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("checked", Time, nullable=False),
    ),
    sa.UniqueConstraint("deployment_id", "name"),
)
"""What the runs of a deployment are to keep to (row D17); ``checked`` is up to when they were looked at."""

service_level_breach = sa.Table(
    "service_level_breach",
    metadata,
    sa.Column(
        "service_level_id", Id, sa.ForeignKey("service_level.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("subject", Text, primary_key=True),
    sa.Column("occurred", Time, nullable=False),
    sa.Index("ix_service_level_breach_occurred", "occurred"),
)
"""Breaches that were told, each once."""
