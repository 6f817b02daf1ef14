"""Named limits of concurrency: values, and the rules for who gets a slot (wire 4.5, row B4).

A limit counts slots that a lease holds, until it is given back or lapses, and undated slots, which were taken
without a lease and go when they are given back or decay (a rate limit). Owns no clock, no storage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from eparch.core.errors import Invalid
from eparch.core.model import Body, Name, Patch, Record, Value

Mode = Literal["concurrency", "rate_limit"]

MOST = 2**31 - 1
"""Slots of a limit."""

TAG_PREFIX = "tag:"
"""The limit on a tag of task runs is called ``tag:<tag>``."""

TAG_WAIT_SECONDS = 10.0
"""How long who wants a slot of a tag waits at most before asking again; Prefect's default."""

WAIT_SECONDS = 30.0
"""The same for other limits without decay; Prefect's default."""

LONGEST_WAIT_SECONDS = 86_400.0

FIRST_OCCUPANCY_SECONDS = 2.0
"""How long a slot is taken to be held before anybody has held one."""

SHORTEST_OCCUPANCY_SECONDS = 0.1

EVER = timedelta(days=36_500)
"""The lease of a holder that cannot renew it; what ends is the run that holds it."""

Slots = Annotated[int, Meta(ge=0, le=MOST)]
Taken = Annotated[int, Meta(gt=0, le=MOST)]
Seconds = Annotated[float, Meta(ge=60, le=86_400)]
Names = Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=1_000)]
Tag = Annotated[str, Meta(min_length=1, max_length=250, pattern=r"^[^/%&><\x00]+$")]


class ConcurrencyLimit(Record, frozen=True, kw_only=True):
    """A named limit with slots (wire: ``GlobalConcurrencyLimitResponse``)."""

    active: bool = True
    name: str
    limit: int
    active_slots: int = 0
    slot_decay_per_second: float = 2.0


class NewConcurrencyLimit(ConcurrencyLimit, frozen=True, kw_only=True):
    """A limit as its creation is answered (wire: ``ConcurrencyLimitV2``)."""

    denied_slots: int = 0
    avg_slot_occupancy_seconds: float = FIRST_OCCUPANCY_SECONDS


class ConcurrencyLimitCreate(Body, frozen=True, kw_only=True):
    """``POST /v2/concurrency_limits/``."""

    name: Name
    limit: Slots
    active: bool = True
    active_slots: Slots = 0
    denied_slots: Slots = 0
    slot_decay_per_second: Annotated[float, Meta(ge=0)] = 0.0


class ConcurrencyLimitUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /v2/concurrency_limits/{id_or_name}``; null changes nothing."""

    name: Name | UnsetType | None = UNSET
    limit: Slots | UnsetType | None = UNSET
    active: bool | UnsetType | None = UNSET
    active_slots: Slots | UnsetType | None = UNSET
    denied_slots: Slots | UnsetType | None = UNSET
    slot_decay_per_second: Annotated[float, Meta(ge=0)] | UnsetType | None = UNSET


class TagLimit(Record, frozen=True, kw_only=True):
    """The limit on a tag of task runs, with the ids of who holds a slot (wire: ``ConcurrencyLimit``)."""

    tag: str
    concurrency_limit: int
    active_slots: list[UUID] = []


class TagLimitCreate(Body, frozen=True, kw_only=True):
    """``POST /concurrency_limits/``: makes the limit on a tag, or changes it."""

    tag: Tag
    concurrency_limit: Slots


class LimitPage(Body, frozen=True, kw_only=True):
    """Which limits, in the order of their names."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class Holder(Body, frozen=True, kw_only=True):
    """Who holds a lease: when it ends, the slots are free."""

    type: Literal["flow_run", "task_run", "deployment"]
    id: UUID


# What old clients send besides (``strict``, ``create_if_missing``) is passed over, as Prefect does.


class TakeSlots(Body, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """``POST /v2/concurrency_limits/increment``. ``create_if_missing`` is deprecated and does nothing."""

    slots: Taken
    names: Names
    mode: Mode = "concurrency"
    create_if_missing: bool | None = None


class LeaseSlots(Body, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """``POST /v2/concurrency_limits/increment-with-lease``; ``lease_duration`` is in seconds."""

    slots: Taken
    names: Names
    mode: Mode = "concurrency"
    lease_duration: Seconds = 300.0
    holder: Holder | None = None


class ReturnSlots(Body, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """``POST /v2/concurrency_limits/decrement``."""

    slots: Taken
    names: Names
    occupancy_seconds: Annotated[float, Meta(gt=0)] | None = None
    create_if_missing: bool | None = None


class EndLease(Body, frozen=True, kw_only=True):
    """``POST /v2/concurrency_limits/decrement-with-lease``."""

    lease_id: UUID


class RenewLease(Body, frozen=True, kw_only=True):
    """How long a concurrency lease is to hold, in seconds."""

    lease_duration: Seconds = 300.0


class TagSlotsOf(Body, frozen=True, kw_only=True):
    """A slot of each of these tags, for a task run: ``/concurrency_limits/increment`` and ``/decrement``."""

    names: Names
    task_run_id: UUID


class ResetTag(Body, frozen=True, kw_only=True):
    """``POST /concurrency_limits/tag/{tag}/reset``: who holds a slot from now on; nobody if not said."""

    slot_override: Annotated[list[UUID], Meta(max_length=10_000)] | None = None


class LimitName(Value, frozen=True, kw_only=True):
    """A limit in the answer to who takes slots (wire: ``MinimalConcurrencyLimitResponse``)."""

    id: UUID
    name: str
    limit: int


_OF_NOTHING = UUID("00000000-0000-8000-8000-000000000000")


def lease_of_nothing(number: int) -> UUID:
    """The id of a lease that holds no slot, as none of its limits exist; ``number`` is random.

    It is known by its form, so that it can be renewed without being stored: Prefect's ``concurrency()``
    renews the lease of a limit that does not exist.
    """
    return UUID(int=_OF_NOTHING.int | (number & (2**48 - 1)))


def holds_nothing(lease_id: UUID) -> bool:
    """Whether the lease is one of ``lease_of_nothing``."""
    return lease_id.int >> 48 == _OF_NOTHING.int >> 48


class Lease(Value, frozen=True, kw_only=True):
    """Slots that are held until the lease ends (wire: ``ConcurrencyLimitWithLeaseResponse``)."""

    lease_id: UUID
    limits: list[LimitName]


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a limit when slots are taken or given back."""

    id: UUID
    name: str
    limit: int
    active: bool
    undated: int
    """Slots taken without a lease, as they were at ``decayed_at``."""
    denied: int
    decay: float
    """Slots a second."""
    occupancy: float
    """Seconds for which a slot is held, on average."""
    decayed_at: datetime
    leased: int = 0
    """Slots that leases hold."""

    @property
    def held(self) -> int:
        """Slots that are not free."""
        return self.undated + self.leased

    @property
    def free(self) -> int:
        """Slots that may be taken; none when the limit was lowered below what is held."""
        return max(self.limit - self.held, 0)


def longest_wait(name: str) -> float:
    """Seconds after which who wants a slot of a limit without decay asks again at the latest."""
    return TAG_WAIT_SECONDS if name.startswith(TAG_PREFIX) else WAIT_SECONDS


def _rate(book: Book) -> float:
    """Slots that decay in a second: of a rate limit as it says, else only denied ones, as slots get free."""
    if book.decay > 0:
        return book.decay
    return 1.0 / max(SHORTEST_OCCUPANCY_SECONDS, min(book.occupancy, longest_wait(book.name)))


def decayed(book: Book, now: datetime) -> Book:
    """``book`` at ``now``. Only whole slots decay; what is left of one counts on, however often one looks."""
    most = max(book.denied, book.undated if book.decay > 0 else 0)
    elapsed = max((now - book.decayed_at).total_seconds(), 0.0)
    rate = _rate(book)
    gone = math.floor(min(elapsed * rate, float(most)))
    if gone == most:
        moment = max(now, book.decayed_at)
    else:
        moment = book.decayed_at + timedelta(seconds=gone / rate if gone else 0.0)
    return msgspec.structs.replace(
        book,
        undated=max(book.undated - gone, 0) if book.decay > 0 else book.undated,
        denied=max(book.denied - gone, 0),
        decayed_at=moment,
    )


def admits(books: Sequence[Book], slots: int, mode: Mode) -> bool:
    """Whether ``slots`` of each of these limits are free; limits that are not active let everybody through.

    Raises:
        Invalid: more are wanted than a limit has, or a rate limit is wanted where nothing decays.
    """
    active = [book for book in books if book.active]
    if any(book.limit < slots for book in active):
        raise Invalid("Slots requested is greater than the limit")
    if mode == "rate_limit":
        lasting = [book.name for book in active if book.decay <= 0]
        if lasting:
            raise Invalid(
                "Only concurrency limits with slot decay can be used for rate limiting. The following limits "
                f"do not have a decay configured: {','.join(lasting)!r}"
            )
    return all(book.free >= slots for book in active)


def retry_after(books: Sequence[Book], slots: int, roll: float) -> float:
    """Seconds after which who was denied ``slots`` may ask again; ``roll`` is random in [0, 1).

    The more were denied before, the longer, so that those who wait do not come all at once.
    """
    found = 0.0
    for book in books:
        if not book.active:
            continue
        if book.decay > 0:
            wait = (slots + book.denied) / book.decay
        else:
            most = longest_wait(book.name)
            each = min(book.occupancy, most)
            wait = min(each * (slots + book.denied) / max(book.limit, 1), most)
        found = max(found, wait)
    return jittered(min(found, LONGEST_WAIT_SECONDS), roll)


def jittered(average: float, roll: float) -> float:
    """A wait of about ``average``: exponential, between 0.75 and 1.3 of it, so that not all come at once."""
    most = 1.3
    least = math.log2(2**most / (2**most - 1))
    low, high = 1 - math.exp(-least), 1 - math.exp(-most)
    return -math.log(1 - (low + (high - low) * roll)) * average


def denied(book: Book, slots: int) -> Book:
    """``book`` after somebody was denied ``slots``."""
    return msgspec.structs.replace(book, denied=min(book.denied + slots, MOST)) if book.active else book


def taken(book: Book, slots: int) -> Book:
    """``book`` after ``slots`` were taken without a lease."""
    return msgspec.structs.replace(book, undated=book.undated + slots) if book.active else book


def given_back(book: Book, slots: int) -> Book:
    """``book`` after ``slots`` that no lease held were given back; never less than none."""
    return msgspec.structs.replace(book, undated=max(book.undated - slots, 0)) if book.active else book


def occupied(book: Book, seconds: float, slots: int) -> Book:
    """``book`` after ``slots`` were held for ``seconds``: the average follows the last holders."""
    each = max(seconds / max(slots, 1), SHORTEST_OCCUPANCY_SECONDS)
    weight = 2 * max(book.limit, 1)
    return msgspec.structs.replace(book, occupancy=book.occupancy + (each - book.occupancy) / weight)


def tag_of(name: str) -> str | None:
    """The tag that the limit ``name`` is about; None when it is about none."""
    return name.removeprefix(TAG_PREFIX) if name.startswith(TAG_PREFIX) else None
