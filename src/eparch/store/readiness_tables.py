"""Which pools, queues and deployments were last told to be ready."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Id, Text, metadata

ready_resource = sa.Table(
    "ready_resource",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", Text, nullable=False),
)
"""A row for each one that an event said to be ready, and none since that it is not; ``kind`` as in events."""
