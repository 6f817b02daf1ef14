"""Tables of automations: what they are, what their triggers have seen, and what is to be done.

``automation_action`` is an outbox: a row is written in the transaction in which its automation fires, so an
action is there exactly when the firing is. Whoever carries actions out takes rows from it.
"""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Document, Flag, Id, Text, Time, metadata, record, where_known

automation = sa.Table(
    "automation",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("description", Text, nullable=False),
        sa.Column("enabled", Flag, nullable=False),
        sa.Column("tags", Document, nullable=False),
        sa.Column("trigger", Document, nullable=False),
        sa.Column("actions", Document, nullable=False),
        sa.Column("actions_on_trigger", Document, nullable=False),
        sa.Column("actions_on_resolve", Document, nullable=False),
        sa.Column("after_position", sa.BigInteger, nullable=False),
        sa.Column("after_id", Id, nullable=False),
    ),
    sa.Index("ix_automation_name", "name", "id"),
    sa.Index("ix_automation_created", "created", "id"),
    sa.Index("ix_automation_updated", "updated", "id"),
)
"""It sees the events that come after the place ``(after_position, after_id)``, where it was enabled."""


def _of_automation() -> sa.Column[object]:
    return sa.Column(
        "automation_id", Id, sa.ForeignKey("automation.id", ondelete="CASCADE"), primary_key=True
    )


automation_resource = sa.Table(
    "automation_resource",
    metadata,
    _of_automation(),
    sa.Column("resource_id", Text, primary_key=True),
    sa.Column("owned", Flag, nullable=False),
    sa.Index("ix_automation_resource_resource_id", "resource_id"),
)
"""What an automation acts on, or goes with: an owned one is deleted with its resource."""

automation_bucket = sa.Table(
    "automation_bucket",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("automation_id", Id, sa.ForeignKey("automation.id", ondelete="CASCADE"), nullable=False),
    sa.Column("trigger_id", Id, nullable=False),
    sa.Column("key", Document, nullable=False),
    sa.Column("state", Document, nullable=False),
    sa.Column("due", Time),
    sa.Index("ix_automation_bucket_automation_id", "automation_id"),
    where_known("ix_automation_bucket_due", "due", "id"),
)
"""What a trigger has seen for one value of its ``for_each``; the id is made of trigger and key.

``state`` is a value of ``core.triggers``; at ``due`` something happens to it without an event.
"""

automation_firing = sa.Table(
    "automation_firing",
    metadata,
    _of_automation(),
    sa.Column("trigger_id", Id, primary_key=True),
    sa.Column("triggered", Time, nullable=False),
    sa.Column("firing", Document, nullable=False),
)
"""The last firing of a trigger inside of another one that has not fired yet."""

automation_cursor = sa.Table(
    "automation_cursor",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("event_id", Id, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
"""How far events were decided on, and how often automations changed. Each decision locks its one row."""

automation_action = sa.Table(
    "automation_action",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("created", Time, nullable=False),
    sa.Column("automation_id", Id, nullable=False),
    sa.Column("automation_name", Text, nullable=False),
    sa.Column("automation", Document, nullable=False),
    sa.Column("action_index", sa.BigInteger, nullable=False),
    sa.Column("action", Document, nullable=False),
    sa.Column("firing", Document, nullable=False),
    sa.Column("triggering_event", Document),
    sa.Column("triggered_event_id", Id),
    sa.Column("status", Text, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("next_attempt", Time, nullable=False),
    sa.Column("claimed_by", Id),
    sa.Column("lease_until", Time),
    sa.Column("error", Text),
    sa.Index("ix_automation_action_status_next_attempt", "status", "next_attempt", "id"),
    sa.Index("ix_automation_action_automation_id", "automation_id", "created"),
)
"""Actions to carry out: ``status`` is pending, running (until ``lease_until``), done or failed.

``automation`` and ``firing`` are as they were; ``core.automations.TriggeredAction`` says what the rest is.
"""
