"""The schema: every table, column and index, for SQLite and PostgreSQL alike.

The current state of a run stands in the run's own row, so that reading a run is reading one row;
its history stands in ``*_state`` tables that only grow. A claim is a row of its own: it exists exactly
while its run may have infrastructure, and every slot is counted from it, so a slot cannot outlive its run.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from eparch.store.automation_tables import automation as automation
from eparch.store.automation_tables import automation_action as automation_action
from eparch.store.automation_tables import automation_bucket as automation_bucket
from eparch.store.automation_tables import automation_cursor as automation_cursor
from eparch.store.automation_tables import automation_firing as automation_firing
from eparch.store.automation_tables import automation_resource as automation_resource
from eparch.store.block_tables import block_document as block_document
from eparch.store.block_tables import block_document_reference as block_document_reference
from eparch.store.block_tables import block_schema as block_schema
from eparch.store.block_tables import block_type as block_type
from eparch.store.block_tables import default_storage as default_storage
from eparch.store.columns import Document, Flag, Id, Text, Time, metadata, record, where_known
from eparch.store.log_tables import log_tally as log_tally
from eparch.store.position_tables import position_shift as position_shift
from eparch.store.readiness_tables import ready_resource as ready_resource
from eparch.store.schedule_tables import backfill as backfill
from eparch.store.schedule_tables import backfill_date as backfill_date
from eparch.store.schedule_tables import service_level as service_level
from eparch.store.schedule_tables import service_level_breach as service_level_breach
from eparch.store.task_tables import task_queue as task_queue
from eparch.store.task_tables import task_worker as task_worker
from eparch.store.version_tables import applied_plan as applied_plan
from eparch.store.version_tables import deployment_head as deployment_head
from eparch.store.version_tables import deployment_version as deployment_version
from eparch.store.worker_tables import worker_instance as worker_instance
from eparch.store.worker_tables import worker_log as worker_log

__all__ = ["Document", "Flag", "Id", "Text", "Time", "metadata"]


def _state_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("state_id", Id),
        sa.Column("state_type", Text),
        sa.Column("state_name", Text),
        sa.Column("state_timestamp", Time),
        sa.Column("state_message", Text),
        sa.Column("state_details", Document),
        sa.Column("state_data", Document),
    )


def _times() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("run_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("expected_start_time", Time, nullable=False),
        sa.Column("next_scheduled_start_time", Time),
        sa.Column("start_time", Time),
        sa.Column("end_time", Time),
        sa.Column("total_run_time", sa.Double, nullable=False, server_default="0"),
    )


def _history(table: str, parent: str) -> sa.Table:
    return sa.Table(
        table,
        metadata,
        sa.Column("id", Id, primary_key=True),
        sa.Column(f"{parent}_id", Id, sa.ForeignKey(f"{parent}.id", ondelete="CASCADE"), nullable=False),
        sa.Column("type", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("timestamp", Time, nullable=False),
        sa.Column("message", Text),
        sa.Column("state_details", Document, nullable=False),
        sa.Column("data", Document),
        sa.Index(f"ix_{table}_{parent}_id_timestamp", f"{parent}_id", "timestamp"),
    )


def _newest_first(table: sa.Table, *columns: str) -> None:
    """Index the order "descending, null last", which on SQLite is the plain order read backwards."""
    for name in columns:
        key, tie = table.c[name].desc().nulls_last(), table.c.id.desc()
        sa.Index(f"ix_{table.name}_{name}_desc", key, tie).ddl_if(dialect="postgresql")


def _still_scheduled(name: str, *columns: str) -> sa.Index:
    """Index the runs that wait for their time: they are few, whatever the number of those that are over."""
    text = sa.text("next_scheduled_start_time IS NOT NULL")
    return sa.Index(name, *columns, sqlite_where=text, postgresql_where=text)


flow = sa.Table(
    "flow",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False, unique=True),
        sa.Column("tags", Document, nullable=False),
        sa.Column("labels", Document, nullable=False),
    ),
    sa.Index("ix_flow_created", "created", "id"),
    sa.Index("ix_flow_updated", "updated", "id"),
)

work_pool = sa.Table(
    "work_pool",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False, unique=True),
        sa.Column("description", Text),
        sa.Column("type", Text, nullable=False),
        sa.Column("base_job_template", Document, nullable=False),
        sa.Column("is_paused", Flag, nullable=False),
        sa.Column("concurrency_limit", sa.BigInteger),
        sa.Column("default_queue_id", Id),
        sa.Column("storage_configuration", Document, nullable=False),
    ),
)

work_queue = sa.Table(
    "work_queue",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("description", Text),
        sa.Column("is_paused", Flag, nullable=False),
        sa.Column("concurrency_limit", sa.BigInteger),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("work_pool_id", Id, sa.ForeignKey("work_pool.id", ondelete="CASCADE"), nullable=False),
        sa.Column("filter", Document),
        sa.Column("last_polled", Time),
    ),
    sa.UniqueConstraint("work_pool_id", "name"),
    sa.Index("ix_work_queue_name", "name"),
)

worker = sa.Table(
    "worker",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("work_pool_id", Id, sa.ForeignKey("work_pool.id", ondelete="CASCADE"), nullable=False),
        sa.Column("last_heartbeat_time", Time),
        sa.Column("heartbeat_interval_seconds", sa.BigInteger),
    ),
    sa.UniqueConstraint("work_pool_id", "name"),
)

deployment = sa.Table(
    "deployment",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("flow_id", Id, sa.ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
        sa.Column("version", Text),
        sa.Column("description", Text),
        sa.Column("paused", Flag, nullable=False),
        sa.Column("concurrency_limit", sa.BigInteger),
        sa.Column("concurrency_options", Document),
        sa.Column("job_variables", Document, nullable=False),
        sa.Column("parameters", Document, nullable=False),
        sa.Column("parameter_openapi_schema", Document),
        sa.Column("enforce_parameter_schema", Flag, nullable=False),
        sa.Column("pull_steps", Document),
        sa.Column("tags", Document, nullable=False),
        sa.Column("labels", Document, nullable=False),
        sa.Column("work_queue_id", Id, sa.ForeignKey("work_queue.id", ondelete="SET NULL")),
        sa.Column("last_polled", Time),
        sa.Column("path", Text),
        sa.Column("entrypoint", Text),
        sa.Column("storage_document_id", Id),
        sa.Column("infrastructure_document_id", Id),
        sa.Column("version_info", Document),
        sa.Column("created_by", Document),
        sa.Column("updated_by", Document),
    ),
    sa.UniqueConstraint("flow_id", "name"),
    sa.Index("ix_deployment_name", "name", "id"),
    sa.Index("ix_deployment_created", "created", "id"),
    sa.Index("ix_deployment_updated", "updated", "id"),
    sa.Index("ix_deployment_work_queue_id", "work_queue_id"),
)

deployment_schedule = sa.Table(
    "deployment_schedule",
    metadata,
    *record(
        sa.Column("deployment_id", Id, sa.ForeignKey("deployment.id", ondelete="CASCADE"), nullable=False),
        sa.Column("schedule", Document, nullable=False),
        sa.Column("active", Flag, nullable=False),
        sa.Column("max_scheduled_runs", sa.BigInteger),
        sa.Column("parameters", Document, nullable=False),
        sa.Column("slug", Text),
        sa.Column("scheduled_until", Time),
        sa.Column("missed_runs", Document),
        sa.Column("overlap", Text),
        sa.Column("decided_until", Time),
    ),
    sa.Index("ix_deployment_schedule_deployment_id", "deployment_id"),
    sa.Index("ix_deployment_schedule_active_scheduled_until", "active", "scheduled_until"),
)

flow_run = sa.Table(
    "flow_run",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("flow_id", Id, sa.ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
        *_state_columns(),
        sa.Column("deployment_id", Id, sa.ForeignKey("deployment.id", ondelete="SET NULL")),
        sa.Column("deployment_version", Text),
        sa.Column("flow_version", Text),
        sa.Column("parameters", Document, nullable=False),
        sa.Column("context", Document, nullable=False),
        sa.Column("idempotency_key", Text),
        sa.Column("empirical_policy", Document, nullable=False),
        sa.Column("tags", Document, nullable=False),
        sa.Column("labels", Document, nullable=False),
        sa.Column("parent_task_run_id", Id),
        *_times(),
        sa.Column("auto_scheduled", Flag, nullable=False),
        sa.Column("infrastructure_document_id", Id),
        sa.Column("infrastructure_pid", Text),
        sa.Column("created_by", Document),
        sa.Column("work_queue_id", Id, sa.ForeignKey("work_queue.id", ondelete="SET NULL")),
        sa.Column("job_variables", Document),
        sa.Column("fencing_token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("schedule_id", Id),
        sa.Column("in_process_retry", Flag, nullable=False, server_default=sa.false()),
    ),
    sa.UniqueConstraint("flow_id", "idempotency_key"),
    sa.Index("ix_flow_run_name", "name", "id"),
    # What a history counts stands in the index, so that it reads no rows.
    sa.Index(
        "ix_flow_run_expected_start_time",
        "expected_start_time",
        "id",
        "state_type",
        "state_name",
        "start_time",
        "total_run_time",
        "state_timestamp",
    ),
    sa.Index("ix_flow_run_next_scheduled_start_time", "next_scheduled_start_time", "id"),
    sa.Index("ix_flow_run_state_type_expected_start_time", "state_type", "expected_start_time", "id"),
    _still_scheduled("ix_flow_run_deployment_id_next", "deployment_id", "next_scheduled_start_time"),
    _still_scheduled("ix_flow_run_flow_id_next", "flow_id", "next_scheduled_start_time", "id"),
    where_known("ix_flow_run_parent_task_run_id", "parent_task_run_id"),
    sa.Index("ix_flow_run_work_queue_id", "work_queue_id", "next_scheduled_start_time", "id"),
    sa.Index("ix_flow_run_state_type_id", "state_type", "id"),
)
began = sa.func.coalesce(flow_run.c.start_time, flow_run.c.expected_start_time)
"""When a flow run began or, as long as it has not, should begin (``START_TIME_*``)."""

sa.Index(
    "ix_flow_run_began",
    began,
    flow_run.c.id,
    flow_run.c.expected_start_time,
    flow_run.c.start_time,
    flow_run.c.state_type,
)
for _name in ("flow_id", "deployment_id", "work_queue_id"):
    # With the time expected at the end, the index sorts a flow's runs by it without reading them.
    sa.Index(
        f"ix_flow_run_{_name}_began", flow_run.c[_name], began, flow_run.c.id, flow_run.c.expected_start_time
    )

flow_run_state = _history("flow_run_state", "flow_run")

claim = sa.Table(
    "claim",
    metadata,
    sa.Column("flow_run_id", Id, sa.ForeignKey("flow_run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("claim_id", Id, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("worker_name", Text),
    sa.Column("work_pool_id", Id),
    sa.Column("work_queue_id", Id),
    sa.Column("slot_id", Id),
    sa.Column("slot_of", Id),
    sa.Column("claimed_at", Time, nullable=False),
    sa.Column("lease_until", Time),
    sa.Column("slot_until", Time),
    sa.Index("ix_claim_claim_id", "claim_id"),
    sa.Index("ix_claim_work_pool_id", "work_pool_id", "work_queue_id"),
    sa.Index("ix_claim_work_queue_id", "work_queue_id"),
    sa.Index("ix_claim_slot_of", "slot_of"),
    sa.Index("ix_claim_slot_id", "slot_id"),
    sa.Index("ix_claim_lease_until", "lease_until"),
    sa.Index(
        "ix_claim_slot_until",
        "slot_until",
        sqlite_where=sa.text("slot_until IS NOT NULL"),
        postgresql_where=sa.text("slot_until IS NOT NULL"),
    ),
)

task_run = sa.Table(
    "task_run",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False),
        sa.Column("flow_run_id", Id, sa.ForeignKey("flow_run.id", ondelete="CASCADE")),
        sa.Column("task_key", Text, nullable=False),
        sa.Column("dynamic_key", Text, nullable=False),
        sa.Column("cache_key", Text),
        sa.Column("cache_expiration", Time),
        sa.Column("task_version", Text),
        sa.Column("empirical_policy", Document, nullable=False),
        sa.Column("tags", Document, nullable=False),
        sa.Column("labels", Document, nullable=False),
        sa.Column("task_inputs", Document, nullable=False),
        *_state_columns(),
        *_times(),
        sa.Column("flow_run_run_count", sa.BigInteger, nullable=False, server_default="0"),
    ),
    sa.Index("ix_task_run_flow_run_id_task_key_dynamic_key", "flow_run_id", "task_key", "dynamic_key"),
    sa.Index("ix_task_run_name", "name", "id"),
    sa.Index("ix_task_run_expected_start_time", "expected_start_time", "id"),
    sa.Index("ix_task_run_next_scheduled_start_time", "next_scheduled_start_time", "id"),
    sa.Index("ix_task_run_total_run_time", "total_run_time", "id"),
    sa.Index("ix_task_run_start_time_state_type", "start_time", "state_type"),
)
task_run_state = _history("task_run_state", "task_run")

log = sa.Table(
    "log",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("created", Time, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("level", sa.BigInteger, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("timestamp", Time, nullable=False),
    sa.Column("flow_run_id", Id),
    sa.Column("task_run_id", Id),
    sa.Column("position", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_log_position", "position", "id"),
    sa.Index("ix_log_flow_run_id_timestamp", "flow_run_id", "timestamp", "id"),
    where_known("ix_log_task_run_id_timestamp", "task_run_id", "timestamp", "id"),
    sa.Index("ix_log_timestamp", "timestamp", "id"),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("occurred", Time, nullable=False),
    sa.Column("received", Time, nullable=False),
    sa.Column("event", Text, nullable=False),
    sa.Column("resource_id", Text, nullable=False),
    sa.Column("resource", Document, nullable=False),
    sa.Column("related", Document, nullable=False),
    sa.Column("payload", Document, nullable=False),
    sa.Column("follows", Id),
    sa.Column("position", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_event_position", "position", "id"),
    sa.Index("ix_event_occurred", "occurred", "id", "event"),
    sa.Index("ix_event_event_occurred", "event", "occurred", "id"),
    sa.Index("ix_event_resource_id_occurred", "resource_id", "occurred"),
)

artifact = sa.Table(
    "artifact",
    metadata,
    *record(
        sa.Column("key", Text),
        sa.Column("type", Text),
        sa.Column("description", Text),
        sa.Column("data", Document),
        sa.Column("metadata_", Document),
        sa.Column("flow_run_id", Id),
        sa.Column("task_run_id", Id),
    ),
    sa.Index("ix_artifact_key", "key", "id"),
    sa.Index("ix_artifact_created", "created", "id"),
    sa.Index("ix_artifact_updated", "updated", "id"),
    sa.Index("ix_artifact_flow_run_id", "flow_run_id"),
    sa.Index("ix_artifact_task_run_id", "task_run_id"),
)

concurrency_limit = sa.Table(
    "concurrency_limit",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False, unique=True),
        sa.Column("limit", sa.BigInteger, nullable=False),
        sa.Column("active", Flag, nullable=False),
        sa.Column("active_slots", sa.BigInteger, nullable=False),
        sa.Column("denied_slots", sa.BigInteger, nullable=False),
        sa.Column("slot_decay_per_second", sa.Double, nullable=False),
        sa.Column("avg_slot_occupancy_seconds", sa.Double, nullable=False),
        sa.Column("decayed_at", Time, nullable=False),
    ),
    sa.Index("ix_concurrency_limit_created", "created", "id"),
)
"""A named limit. ``active_slots`` counts only what was taken without a lease, as it was at ``decayed_at``."""

concurrency_slot = sa.Table(
    "concurrency_slot",
    metadata,
    sa.Column("lease_id", Id, primary_key=True),
    sa.Column("limit_id", Id, sa.ForeignKey("concurrency_limit.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("slots", sa.BigInteger, nullable=False),
    sa.Column("holder_type", Text),
    sa.Column("holder_id", Id),
    sa.Column("created", Time, nullable=False),
    sa.Column("expires", Time, nullable=False),
    sa.Index("ix_concurrency_slot_limit_id", "limit_id"),
    sa.Index("ix_concurrency_slot_expires", "expires"),
    sa.Index("ix_concurrency_slot_holder_id", "holder_id"),
)
"""Slots that a lease holds of a limit, until it expires."""

variable = sa.Table(
    "variable",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False, unique=True),
        sa.Column("value", Document),
        sa.Column("tags", Document, nullable=False),
    ),
    sa.Index("ix_variable_created", "created", "id"),
    sa.Index("ix_variable_updated", "updated", "id"),
)

flow_run_input = sa.Table(
    "flow_run_input",
    metadata,
    *record(
        sa.Column("flow_run_id", Id, sa.ForeignKey("flow_run.id", ondelete="CASCADE"), nullable=False),
        sa.Column("key", Text, nullable=False),
        sa.Column("value", Text, nullable=False),
        sa.Column("sender", Text),
    ),
    sa.UniqueConstraint("flow_run_id", "key"),
)

saved_search = sa.Table(
    "saved_search",
    metadata,
    *record(
        sa.Column("name", Text, nullable=False, unique=True),
        sa.Column("filters", Document, nullable=False),
    ),
)

service = sa.Table(
    "service",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("holder", Id),
    sa.Column("lease_until", Time),
)
"""Which server does a duty that only one may do at a time."""

for _table in (flow_run, task_run):
    _newest_first(_table, "end_time")
    sa.Index(f"ix_{_table.name}_end_time", _table.c.end_time, _table.c.id).ddl_if(dialect="sqlite")
_newest_first(artifact, "key")
