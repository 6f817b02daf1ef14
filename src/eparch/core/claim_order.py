"""Who is served before whom when a worker claims: the line of due runs, and what is left for a run (P15).

Pure: the line and the free slots come in. The claim itself is in ``orchestration.claims``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

LONGEST_LINE = 1000
"""Runs that stand ahead are counted up to here."""

LimitOf = Literal["work_pool", "work_queue", "deployment"]
"""What has a limit that a claim keeps."""


class Candidate(msgspec.Struct, frozen=True):
    """A due run as a claim finds it."""

    id: UUID
    queue_id: UUID
    name: str
    due: datetime
    deployment_id: UUID | None = None
    slots_free: int | None = None
    """Of its deployment's limit; None: it has none."""


class Place(msgspec.Struct, frozen=True):
    """Where a run stands in line."""

    ahead: list[Candidate]
    """Those that a claim would take before it."""
    stopped: LimitOf | None = None
    """Whose free slots they take."""
    found: bool = True
    """False: the line is longer than was looked at."""


UNBOUNDED = 2**31


def place_of(
    run_id: UUID,
    line: Sequence[Candidate],
    pool_free: int,
    queues_free: Mapping[UUID, int],
) -> Place:
    """Where ``run_id`` stands when one worker takes all that it may, as a claim does (row P15).

    ``line``: the due runs of its queue and of those that are more urgent, in the order of a claim.
    """
    ahead: list[Candidate] = []
    slots: dict[UUID, int] = {}
    left_of = dict(queues_free)
    for one in line:
        queue_free = left_of.get(one.queue_id, UNBOUNDED)
        left = _slots_left(one, slots)
        if one.id == run_id:
            return Place(ahead, _stop(pool_free, queue_free, left))
        # Whoever meets a full deployment waits, or is cancelled: nobody behind it waits for that.
        if min(pool_free, queue_free) <= 0 or (left is not None and left <= 0):
            continue
        if one.deployment_id is not None and left is not None:
            slots[one.deployment_id] = left - 1
        ahead.append(one)
        pool_free, left_of[one.queue_id] = pool_free - 1, queue_free - 1
    return Place(ahead, _stop(pool_free, UNBOUNDED, None), found=False)


def _slots_left(one: Candidate, slots: Mapping[UUID, int]) -> int | None:
    if one.deployment_id is None or one.slots_free is None:
        return None
    return slots.get(one.deployment_id, one.slots_free)


def _stop(pool_free: int, queue_free: int, slots_left: int | None) -> LimitOf | None:
    if pool_free <= 0:
        return "work_pool"
    if queue_free <= 0:
        return "work_queue"
    return "deployment" if slots_left is not None and slots_left <= 0 else None
