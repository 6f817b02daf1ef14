"""Making and changing work pools and queues."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.errors import Conflict, Forbidden, Invalid, NotFound
from eparch.core.filters import Query
from eparch.core.job_templates import Severity, check_template
from eparch.core.model import changes, new_id
from eparch.core.pools import (
    DEFAULT_QUEUE,
    Heartbeat,
    PoolStatus,
    WorkPoolCreate,
    WorkPoolUpdate,
    WorkQueueCreate,
    WorkQueueUpdate,
)
from eparch.core.queue_status import DEFAULT_POOL
from eparch.core.worker_instances import MISSED, within_bounds
from eparch.orchestration import announcing
from eparch.store import claims, pools, rows, worker_instances
from eparch.store.statement import Note, Steps


def create_pool(body: WorkPoolCreate, now: datetime) -> Steps[dict[str, Any]]:
    """Make the pool and its default queue.

    Raises:
        Conflict: there is one of this name.
        Forbidden: the name is reserved.
        Invalid: the base job template is not valid (row P2).
    """
    if body.name.lower().startswith("prefect"):
        raise Forbidden("Work pools starting with 'Prefect' are reserved for internal use.")
    if (yield from claims.read_pool(body.name)) is not None:
        raise Conflict("A work pool with this name already exists.")
    _check_template(body.base_job_template)
    pool_id, queue_id = new_id(), new_id()
    columns = {name: getattr(body, name) for name in body.__struct_fields__}
    yield from pools.insert_pool(
        {**columns, "id": pool_id, "created": now, "updated": now, "default_queue_id": queue_id}
    )
    yield from new_queue(pool_id, DEFAULT_QUEUE, now, queue_id=queue_id)
    made = yield from pools.read_pool(body.name, now)
    assert made is not None
    yield from announcing.pool_changed("created", made, now)
    return made


def _check_template(template: dict[str, Any]) -> None:
    if not template:
        return
    for key in ("job_configuration", "variables"):
        if key not in template:
            raise Invalid(
                "The `base_job_template` must contain both a `job_configuration` key and a `variables` key."
            )
    errors = [p.text for p in check_template(template) if p.severity is Severity.ERROR]
    if errors:
        raise Invalid(f"The base job template is not valid: {'. '.join(errors)}.")


def update_pool(name: str, patch: WorkPoolUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names.

    Raises:
        NotFound: there is no such pool.
        Invalid: the base job template is not valid.
    """
    pool = yield from claims.read_pool(name)
    if pool is None:
        raise NotFound(f'Work pool "{name}" not found.')
    given = changes(patch)
    nullable = ("description", "concurrency_limit")
    columns = {key: value for key, value in given.items() if value is not None or key in nullable}
    if "base_job_template" in columns:
        _check_template(columns["base_job_template"])
    before = yield from pools.read_pool(name, now)
    yield from pools.write_pool(pool[0], {**columns, "updated": now})
    after = yield from pools.read_pool(name, now)
    assert before is not None
    assert after is not None
    yield from announcing.pool_updated(before, after, now)
    yield Note("work", pool[0])
    yield Note("pool", pool[0])


def delete_pool(name: str, now: datetime) -> Steps[None]:
    """Delete the pool with its queues.

    Raises:
        NotFound: there is no such pool.
    """
    pool = yield from pools.read_pool(name, now)
    if pool is None:
        raise NotFound(f'Work pool "{name}" not found.')
    pool_id = rows.id_of(pool["id"])
    for queue_id, _, _ in (yield from pools.queue_priorities(pool_id)):
        queue = yield from pools.read_queue(queue_id, now)
        if queue is not None:
            yield from announcing.queue_changed("deleted", queue, now)
    yield from announcing.pool_changed("deleted", pool, now)
    yield from pools.delete_pool(pool_id)
    yield Note("pool", pool_id)


def new_queue(
    pool_id: UUID, name: str, now: datetime, *, queue_id: UUID | None = None, **fields: Any
) -> Steps[UUID]:
    """Make a queue of the pool; without a priority it comes after the others."""
    queue_id = queue_id or new_id()
    known = yield from pools.queue_priorities(pool_id)
    priority = fields.pop("priority", None) or max((p for _, _, p in known), default=0) + 1
    columns = {"description": "", "is_paused": False, **fields}
    yield from pools.insert_queue(
        {
            **columns,
            "id": queue_id,
            "created": now,
            "updated": now,
            "name": name,
            "work_pool_id": pool_id,
            "priority": priority,
        }
    )
    made = yield from pools.read_queue(queue_id, now)
    assert made is not None
    yield from announcing.queue_changed("created", made, now)
    return queue_id


def create_queue(pool_name: str, body: WorkQueueCreate, now: datetime) -> Steps[dict[str, Any]]:
    """Make a queue of the pool; others of the same priority move down.

    Raises:
        NotFound: there is no such pool.
        Conflict: the pool has a queue of this name.
    """
    pool = yield from claims.read_pool(pool_name)
    if pool is None:
        raise NotFound(f'Work pool "{pool_name}" not found.')
    yield from claims.lock_pool(pool[0])
    known = yield from pools.queue_priorities(pool[0])
    if any(name == body.name for _, name, _ in known):
        raise Conflict("A work queue with this name already exists in this work pool.")
    yield from _make_room(known, body.priority, now)
    fields = {name: getattr(body, name) for name in body.__struct_fields__ if name != "name"}
    queue_id = yield from new_queue(pool[0], body.name, now, **fields)
    yield Note("work", pool[0])
    made = yield from pools.read_queue(queue_id, now)
    assert made is not None
    return made


def _make_room(
    known: list[tuple[UUID, str, int]], priority: int | None, now: datetime, *, of: UUID | None = None
) -> Steps[None]:
    """Move the queues at ``priority`` down, as far as they touch each other (row P15: numbers are unique)."""
    place = priority
    for queue_id, _, own in sorted(known, key=lambda queue: queue[2]):
        if place is None or queue_id == of or own < place:
            continue
        if own > place:
            return
        place += 1
        yield from pools.write_queue(queue_id, {"priority": place, "updated": now})


def update_queue(pool_name: str, queue_name: str, patch: WorkQueueUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names.

    Raises:
        NotFound: there is no such queue.
        Invalid: the default queue would get another name.
        Conflict: the pool has another queue of that name.
    """
    queue = yield from pools.read_queue_by_name(pool_name, queue_name, now)
    if queue is None:
        raise NotFound(f"Work pool queue '{pool_name}/{queue_name}' not found.")
    given = changes(patch)
    if given.get("name") not in (None, queue_name) and queue_name == DEFAULT_QUEUE:
        raise Invalid("The default queue keeps its name.")
    nullable = ("description", "concurrency_limit", "filter")
    columns = {key: value for key, value in given.items() if value is not None or key in nullable}
    pool_id, queue_id = rows.id_of(queue["work_pool_id"]), rows.id_of(queue["id"])
    yield from claims.lock_pool(pool_id)
    known = yield from pools.queue_priorities(pool_id)
    if any(name == columns.get("name") and id_ != queue_id for id_, name, _ in known):
        raise Conflict(f"The work pool '{pool_name}' has a queue called '{columns['name']}' already.")
    if columns.get("priority") not in (None, queue["priority"]):
        yield from _make_room(known, columns["priority"], now, of=queue_id)
    yield from pools.write_queue(queue_id, {**columns, "updated": now})
    after = yield from pools.read_queue(queue_id, now)
    assert after is not None
    yield from announcing.queue_updated(queue, after, now)
    yield Note("work", pool_id)


def queue_place(
    queue_id: UUID, now: datetime, message: str = "work queue not found"
) -> Steps[tuple[str, str]]:
    """The names of the queue's pool and of the queue.

    Raises:
        NotFound: there is no such queue; ``message`` is what the wire says then.
    """
    queue = yield from pools.read_queue(queue_id, now)
    if queue is None:
        raise NotFound(message)
    return queue["work_pool_name"], queue["name"]


def update_queue_by_id(queue_id: UUID, patch: WorkQueueUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names; see ``update_queue``."""
    pool_name, name = yield from queue_place(queue_id, now, f"Work Queue {queue_id} not found")
    yield from update_queue(pool_name, name, patch, now)


def delete_queue_by_id(queue_id: UUID, now: datetime) -> Steps[None]:
    """Delete the queue; see ``delete_queue``."""
    pool_name, name = yield from queue_place(queue_id, now)
    yield from delete_queue(pool_name, name, now)


def create_default_pool_queue(body: WorkQueueCreate, now: datetime) -> Steps[dict[str, Any]]:
    """Make a queue without a pool, as agents had them: it comes into the default pool, which is made for it.

    Raises:
        Conflict: there is one of this name.
    """
    if (yield from claims.read_pool(DEFAULT_POOL)) is None:
        yield from create_pool(WorkPoolCreate(name=DEFAULT_POOL), now)
    made = yield from create_queue(DEFAULT_POOL, body, now)
    return made


def delete_queue(pool_name: str, queue_name: str, now: datetime) -> Steps[None]:
    """Delete the queue.

    Raises:
        NotFound: there is no such queue.
        Conflict: it is the pool's default queue.
    """
    queue = yield from pools.read_queue_by_name(pool_name, queue_name, now)
    if queue is None:
        raise NotFound(f"Work pool queue '{pool_name}/{queue_name}' not found.")
    if queue_name == DEFAULT_QUEUE:
        raise Conflict("The default queue of a work pool cannot be deleted.")
    yield from announcing.queue_changed("deleted", queue, now)
    yield from pools.delete_queue(rows.id_of(queue["id"]))


def read_queues(pool_name: str, query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """A page of the pool's queues.

    Raises:
        NotFound: there is no such pool.
    """
    pool = yield from claims.read_pool(pool_name)
    if pool is None:
        raise NotFound(f'Work pool "{pool_name}" not found.')
    found = yield from pools.read_queues(query, now, pool[0])
    return found


def heartbeat(pool_name: str, body: Heartbeat, now: datetime) -> Steps[None]:
    """The worker is alive.

    Raises:
        NotFound: there is no such pool.
    """
    before = yield from pools.read_pool(pool_name, now)
    if before is None:
        raise NotFound(f'Work pool "{pool_name}" not found.')
    pool_id = rows.id_of(before["id"])
    yield from pools.heartbeat(pool_id, body.name, within_bounds(body.heartbeat_interval_seconds), now)
    if before["status"] is PoolStatus.NOT_READY:
        after = yield from pools.read_pool(pool_name, now)
        assert after is not None
        yield from announcing.pool_updated(before, after, now)


def delete_worker(pool_name: str, worker_name: str) -> Steps[None]:
    """Forget the worker; one that lives is there again with its next heartbeat.

    Raises:
        NotFound: there is no such pool or worker.
    """
    pool = yield from claims.read_pool(pool_name)
    if pool is None:
        raise NotFound(f'Work pool "{pool_name}" not found.')
    yield from worker_instances.forget_named(pool[0], worker_name)
    if not (yield from pools.delete_worker(pool[0], worker_name)):
        raise NotFound("Worker not found.")


def read_workers(
    pool_name: str, query: Query, now: datetime, missed: float = MISSED
) -> Steps[list[dict[str, Any]]]:
    """A page of the pool's workers; ``missed`` heartbeats in a row are as good as none (row W13).

    Raises:
        NotFound: there is no such pool.
    """
    pool = yield from claims.read_pool(pool_name)
    if pool is None:
        raise NotFound(f'Work pool "{pool_name}" not found.')
    found = yield from pools.read_workers(query, now, pool[0], missed)
    return found
