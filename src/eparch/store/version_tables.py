"""Versions of deployments, who owns them, and plans that were applied. Part of ``tables``."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Document, Id, Text, Time, metadata, where_known

deployment_head = sa.Table(
    "deployment_head",
    metadata,
    sa.Column("deployment_id", Id, sa.ForeignKey("deployment.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("project", Text),
    sa.Column("applied", Document),
    where_known("ix_deployment_head_project", "project", "deployment_id"),
)
"""The newest version of each deployment, the project that owns it, and what its file said last.

Not columns of ``deployment``: what every run reads stays as narrow as it is.
"""

deployment_version = sa.Table(
    "deployment_version",
    metadata,
    sa.Column("deployment_id", Id, sa.ForeignKey("deployment.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("created", Time, nullable=False),
    sa.Column("origin", Document, nullable=False),
    sa.Column("content", Document, nullable=False),
)
"""What a deployment was, from its first version that is kept to the newest."""

applied_plan = sa.Table(
    "applied_plan",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("created", Time, nullable=False),
    sa.Column("answer", Document, nullable=False),
    sa.Index("ix_applied_plan_created", "created"),
)
"""Answers to the last requests that applied plans, so that a repeated one is answered and not applied."""
