"""The first schema, as it was: a later change of ``tables`` is a revision of its own.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Uuid(), "postgresql")
TIME = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(sa.JSON(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
FLAG = sa.Boolean()


def upgrade() -> None:
    _make_artifact()
    _make_event()
    _make_flow()
    _make_log()
    _make_service()
    _make_work_pool()
    _make_work_queue()
    _make_worker()
    _make_deployment()
    _make_deployment_schedule()
    _make_flow_run()
    _index_flow_run()
    _make_claim()
    _make_flow_run_state()
    _make_task_run()
    _make_task_run_state()


def downgrade() -> None:
    for table in (
        "task_run_state",
        "task_run",
        "flow_run_state",
        "claim",
        "flow_run",
        "deployment_schedule",
        "deployment",
        "worker",
        "work_queue",
        "work_pool",
        "service",
        "log",
        "flow",
        "event",
        "artifact",
    ):
        op.drop_table(table)


def _index_where(name: str, table: str, columns: list[str], condition: str) -> None:
    text = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=text, postgresql_where=text)


def _make_artifact() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("key", TEXT),
        sa.Column("type", TEXT),
        sa.Column("description", TEXT),
        sa.Column("data", DOCUMENT),
        sa.Column("metadata_", DOCUMENT),
        sa.Column("flow_run_id", ID),
        sa.Column("task_run_id", ID),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
    )
    op.create_index("ix_artifact_created", "artifact", ["created", "id"])
    op.create_index("ix_artifact_flow_run_id", "artifact", ["flow_run_id"])
    op.create_index("ix_artifact_key", "artifact", ["key", "id"])
    op.create_index("ix_artifact_task_run_id", "artifact", ["task_run_id"])
    op.create_index("ix_artifact_updated", "artifact", ["updated", "id"])
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "ix_artifact_key_desc", "artifact", [sa.text("key DESC NULLS LAST"), sa.text("id DESC")]
        )


def _make_event() -> None:
    op.create_table(
        "event",
        sa.Column("id", ID, nullable=False),
        sa.Column("occurred", TIME, nullable=False),
        sa.Column("received", TIME, nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("resource", DOCUMENT, nullable=False),
        sa.Column("related", DOCUMENT, nullable=False),
        sa.Column("payload", DOCUMENT, nullable=False),
        sa.Column("follows", ID),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_occurred", "event", ["occurred", "id"])
    op.create_index("ix_event_resource_id_occurred", "event", ["resource_id", "occurred"])


def _make_flow() -> None:
    op.create_table(
        "flow",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("labels", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_flow"),
        sa.UniqueConstraint("name", name="uq_flow_name"),
    )
    op.create_index("ix_flow_created", "flow", ["created", "id"])
    op.create_index("ix_flow_updated", "flow", ["updated", "id"])


def _make_log() -> None:
    op.create_table(
        "log",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("level", sa.BigInteger(), nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("flow_run_id", ID),
        sa.Column("task_run_id", ID),
        sa.PrimaryKeyConstraint("id", name="pk_log"),
    )
    op.create_index("ix_log_flow_run_id_timestamp", "log", ["flow_run_id", "timestamp", "id"])
    _index_where(
        "ix_log_task_run_id_timestamp", "log", ["task_run_id", "timestamp", "id"], "task_run_id IS NOT NULL"
    )
    op.create_index("ix_log_timestamp", "log", ["timestamp", "id"])


def _make_service() -> None:
    op.create_table(
        "service",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("holder", ID),
        sa.Column("lease_until", TIME),
        sa.PrimaryKeyConstraint("name", name="pk_service"),
    )


def _make_work_pool() -> None:
    op.create_table(
        "work_pool",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("base_job_template", DOCUMENT, nullable=False),
        sa.Column("is_paused", FLAG, nullable=False),
        sa.Column("concurrency_limit", sa.BigInteger()),
        sa.Column("default_queue_id", ID),
        sa.Column("storage_configuration", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_work_pool"),
        sa.UniqueConstraint("name", name="uq_work_pool_name"),
    )


def _make_work_queue() -> None:
    op.create_table(
        "work_queue",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT),
        sa.Column("is_paused", FLAG, nullable=False),
        sa.Column("concurrency_limit", sa.BigInteger()),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("work_pool_id", ID, nullable=False),
        sa.Column("filter", DOCUMENT),
        sa.Column("last_polled", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_work_queue"),
        sa.ForeignKeyConstraint(
            ["work_pool_id"], ["work_pool.id"], name="fk_work_queue_work_pool_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("work_pool_id", "name", name="uq_work_queue_work_pool_id_name"),
    )
    op.create_index("ix_work_queue_name", "work_queue", ["name"])


def _make_worker() -> None:
    op.create_table(
        "worker",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("work_pool_id", ID, nullable=False),
        sa.Column("last_heartbeat_time", TIME),
        sa.Column("heartbeat_interval_seconds", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_worker"),
        sa.ForeignKeyConstraint(
            ["work_pool_id"], ["work_pool.id"], name="fk_worker_work_pool_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("work_pool_id", "name", name="uq_worker_work_pool_id_name"),
    )


def _make_deployment() -> None:
    op.create_table(
        "deployment",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("flow_id", ID, nullable=False),
        sa.Column("version", TEXT),
        sa.Column("description", TEXT),
        sa.Column("paused", FLAG, nullable=False),
        sa.Column("concurrency_limit", sa.BigInteger()),
        sa.Column("concurrency_options", DOCUMENT),
        sa.Column("job_variables", DOCUMENT, nullable=False),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("parameter_openapi_schema", DOCUMENT),
        sa.Column("enforce_parameter_schema", FLAG, nullable=False),
        sa.Column("pull_steps", DOCUMENT),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("labels", DOCUMENT, nullable=False),
        sa.Column("work_queue_id", ID),
        sa.Column("last_polled", TIME),
        sa.Column("path", TEXT),
        sa.Column("entrypoint", TEXT),
        sa.Column("storage_document_id", ID),
        sa.Column("infrastructure_document_id", ID),
        sa.Column("version_info", DOCUMENT),
        sa.Column("created_by", DOCUMENT),
        sa.Column("updated_by", DOCUMENT),
        sa.PrimaryKeyConstraint("id", name="pk_deployment"),
        sa.ForeignKeyConstraint(["flow_id"], ["flow.id"], name="fk_deployment_flow_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["work_queue_id"], ["work_queue.id"], name="fk_deployment_work_queue_id", ondelete="SET NULL"
        ),
        sa.UniqueConstraint("flow_id", "name", name="uq_deployment_flow_id_name"),
    )
    op.create_index("ix_deployment_created", "deployment", ["created", "id"])
    op.create_index("ix_deployment_name", "deployment", ["name", "id"])
    op.create_index("ix_deployment_updated", "deployment", ["updated", "id"])
    op.create_index("ix_deployment_work_queue_id", "deployment", ["work_queue_id"])


def _make_deployment_schedule() -> None:
    op.create_table(
        "deployment_schedule",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("deployment_id", ID, nullable=False),
        sa.Column("schedule", DOCUMENT, nullable=False),
        sa.Column("active", FLAG, nullable=False),
        sa.Column("max_scheduled_runs", sa.BigInteger()),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("slug", TEXT),
        sa.Column("scheduled_until", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_deployment_schedule"),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.id"],
            name="fk_deployment_schedule_deployment_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_deployment_schedule_active_scheduled_until", "deployment_schedule", ["active", "scheduled_until"]
    )
    op.create_index("ix_deployment_schedule_deployment_id", "deployment_schedule", ["deployment_id"])


def _make_flow_run() -> None:
    op.create_table(
        "flow_run",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("flow_id", ID, nullable=False),
        sa.Column("state_id", ID),
        sa.Column("state_type", TEXT),
        sa.Column("state_name", TEXT),
        sa.Column("state_timestamp", TIME),
        sa.Column("state_message", TEXT),
        sa.Column("state_details", DOCUMENT),
        sa.Column("state_data", DOCUMENT),
        sa.Column("deployment_id", ID),
        sa.Column("deployment_version", TEXT),
        sa.Column("flow_version", TEXT),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("context", DOCUMENT, nullable=False),
        sa.Column("idempotency_key", TEXT),
        sa.Column("empirical_policy", DOCUMENT, nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("labels", DOCUMENT, nullable=False),
        sa.Column("parent_task_run_id", ID),
        sa.Column("run_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("expected_start_time", TIME, nullable=False),
        sa.Column("next_scheduled_start_time", TIME),
        sa.Column("start_time", TIME),
        sa.Column("end_time", TIME),
        sa.Column("total_run_time", sa.Double(), nullable=False, server_default="0"),
        sa.Column("auto_scheduled", FLAG, nullable=False),
        sa.Column("infrastructure_document_id", ID),
        sa.Column("infrastructure_pid", TEXT),
        sa.Column("created_by", DOCUMENT),
        sa.Column("work_queue_id", ID),
        sa.Column("job_variables", DOCUMENT),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("schedule_id", ID),
        sa.Column("in_process_retry", FLAG, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name="pk_flow_run"),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name="fk_flow_run_deployment_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["flow_id"], ["flow.id"], name="fk_flow_run_flow_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["work_queue_id"], ["work_queue.id"], name="fk_flow_run_work_queue_id", ondelete="SET NULL"
        ),
        sa.UniqueConstraint("flow_id", "idempotency_key", name="uq_flow_run_flow_id_idempotency_key"),
    )


def _index_flow_run() -> None:
    op.create_index(
        "ix_flow_run_deployment_id_expected", "flow_run", ["deployment_id", "expected_start_time", "id"]
    )
    _index_where(
        "ix_flow_run_deployment_id_next",
        "flow_run",
        ["deployment_id", "next_scheduled_start_time"],
        "next_scheduled_start_time IS NOT NULL",
    )
    op.create_index("ix_flow_run_expected_start_time", "flow_run", ["expected_start_time", "id"])
    op.create_index("ix_flow_run_flow_id_expected", "flow_run", ["flow_id", "expected_start_time", "id"])
    op.create_index("ix_flow_run_name", "flow_run", ["name", "id"])
    op.create_index("ix_flow_run_next_scheduled_start_time", "flow_run", ["next_scheduled_start_time", "id"])
    _index_where(
        "ix_flow_run_parent_task_run_id", "flow_run", ["parent_task_run_id"], "parent_task_run_id IS NOT NULL"
    )
    op.create_index("ix_flow_run_start_time", "flow_run", ["start_time", "id"])
    op.create_index(
        "ix_flow_run_state_type_expected_start_time", "flow_run", ["state_type", "expected_start_time", "id"]
    )
    op.create_index("ix_flow_run_state_type_id", "flow_run", ["state_type", "id"])
    op.create_index(
        "ix_flow_run_work_queue_id", "flow_run", ["work_queue_id", "next_scheduled_start_time", "id"]
    )
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "ix_flow_run_end_time_desc", "flow_run", [sa.text("end_time DESC NULLS LAST"), sa.text("id DESC")]
        )
        op.create_index(
            "ix_flow_run_start_time_desc",
            "flow_run",
            [sa.text("start_time DESC NULLS LAST"), sa.text("id DESC")],
        )
    else:
        op.create_index("ix_flow_run_end_time", "flow_run", ["end_time", "id"])


def _make_claim() -> None:
    op.create_table(
        "claim",
        sa.Column("flow_run_id", ID, nullable=False),
        sa.Column("claim_id", ID, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("worker_name", TEXT),
        sa.Column("work_pool_id", ID),
        sa.Column("work_queue_id", ID),
        sa.Column("slot_id", ID),
        sa.Column("slot_of", ID),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("lease_until", TIME),
        sa.PrimaryKeyConstraint("flow_run_id", name="pk_claim"),
        sa.ForeignKeyConstraint(
            ["flow_run_id"], ["flow_run.id"], name="fk_claim_flow_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_claim_claim_id", "claim", ["claim_id"])
    op.create_index("ix_claim_lease_until", "claim", ["lease_until"])
    op.create_index("ix_claim_slot_id", "claim", ["slot_id"])
    op.create_index("ix_claim_slot_of", "claim", ["slot_of"])
    op.create_index("ix_claim_work_pool_id", "claim", ["work_pool_id"])
    op.create_index("ix_claim_work_queue_id", "claim", ["work_queue_id"])


def _make_flow_run_state() -> None:
    op.create_table(
        "flow_run_state",
        sa.Column("id", ID, nullable=False),
        sa.Column("flow_run_id", ID, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("message", TEXT),
        sa.Column("state_details", DOCUMENT, nullable=False),
        sa.Column("data", DOCUMENT),
        sa.PrimaryKeyConstraint("id", name="pk_flow_run_state"),
        sa.ForeignKeyConstraint(
            ["flow_run_id"], ["flow_run.id"], name="fk_flow_run_state_flow_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_flow_run_state_flow_run_id_timestamp", "flow_run_state", ["flow_run_id", "timestamp"])


def _make_task_run() -> None:
    op.create_table(
        "task_run",
        sa.Column("id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("flow_run_id", ID),
        sa.Column("task_key", TEXT, nullable=False),
        sa.Column("dynamic_key", TEXT, nullable=False),
        sa.Column("cache_key", TEXT),
        sa.Column("cache_expiration", TIME),
        sa.Column("task_version", TEXT),
        sa.Column("empirical_policy", DOCUMENT, nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("labels", DOCUMENT, nullable=False),
        sa.Column("task_inputs", DOCUMENT, nullable=False),
        sa.Column("state_id", ID),
        sa.Column("state_type", TEXT),
        sa.Column("state_name", TEXT),
        sa.Column("state_timestamp", TIME),
        sa.Column("state_message", TEXT),
        sa.Column("state_details", DOCUMENT),
        sa.Column("state_data", DOCUMENT),
        sa.Column("run_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("expected_start_time", TIME, nullable=False),
        sa.Column("next_scheduled_start_time", TIME),
        sa.Column("start_time", TIME),
        sa.Column("end_time", TIME),
        sa.Column("total_run_time", sa.Double(), nullable=False, server_default="0"),
        sa.Column("flow_run_run_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_task_run"),
        sa.ForeignKeyConstraint(
            ["flow_run_id"], ["flow_run.id"], name="fk_task_run_flow_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_task_run_expected_start_time", "task_run", ["expected_start_time", "id"])
    op.create_index(
        "ix_task_run_flow_run_id_task_key_dynamic_key", "task_run", ["flow_run_id", "task_key", "dynamic_key"]
    )
    op.create_index("ix_task_run_name", "task_run", ["name", "id"])
    op.create_index("ix_task_run_next_scheduled_start_time", "task_run", ["next_scheduled_start_time", "id"])
    op.create_index("ix_task_run_total_run_time", "task_run", ["total_run_time", "id"])
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "ix_task_run_end_time_desc", "task_run", [sa.text("end_time DESC NULLS LAST"), sa.text("id DESC")]
        )
    else:
        op.create_index("ix_task_run_end_time", "task_run", ["end_time", "id"])


def _make_task_run_state() -> None:
    op.create_table(
        "task_run_state",
        sa.Column("id", ID, nullable=False),
        sa.Column("task_run_id", ID, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("message", TEXT),
        sa.Column("state_details", DOCUMENT, nullable=False),
        sa.Column("data", DOCUMENT),
        sa.PrimaryKeyConstraint("id", name="pk_task_run_state"),
        sa.ForeignKeyConstraint(
            ["task_run_id"], ["task_run.id"], name="fk_task_run_state_task_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_task_run_state_task_run_id_timestamp", "task_run_state", ["task_run_id", "timestamp"])
