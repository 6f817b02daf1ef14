"""Limits of concurrency: who takes slots, who gives them back, and what a run that ends leaves behind.

The rules are in ``core.concurrency``; here they are applied to limits that are locked, in one transaction.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eparch.core import concurrency as core
from eparch.core.concurrency import (
    Book,
    ConcurrencyLimit,
    ConcurrencyLimitCreate,
    ConcurrencyLimitUpdate,
    Holder,
    Lease,
    LimitName,
    NewConcurrencyLimit,
    TagLimit,
    TagLimitCreate,
    admits,
    decayed,
    tag_of,
)
from eparch.core.decisions import TagsEffect, TagSlots
from eparch.core.errors import Conflict, Gone, Invalid, NotFound
from eparch.core.model import changes, new_id
from eparch.store import claims, concurrency, runs
from eparch.store.concurrency import Held
from eparch.store.statement import Steps

NO_LIMIT = "Concurrency Limit not found"
NO_TAG_LIMIT = "Concurrency limit not found"
NO_LEASE = "Lease not found - it may have expired or been revoked"


class Denied(msgspec.Struct, frozen=True):
    """There was no slot. It is an outcome and no error: that somebody was denied is written down."""

    retry_after: float | None = None
    """Seconds; None when waiting does not help."""
    message: str = "Locked"


# Limits


def create_limit(body: ConcurrencyLimitCreate, now: datetime) -> Steps[NewConcurrencyLimit]:
    """Make a limit.

    Raises:
        Conflict: there is one of that name.
    """
    yield from _check_free(body.name, None, now)
    columns = {
        **msgspec.structs.asdict(body),
        "id": new_id(),
        "created": now,
        "updated": now,
        "avg_slot_occupancy_seconds": core.FIRST_OCCUPANCY_SECONDS,
    }
    yield from concurrency.insert_limit({**columns, "decayed_at": now})
    return NewConcurrencyLimit(**columns)


def key_of(id_or_name: str) -> UUID | str:
    """What a path names: an id where it can be one."""
    try:
        return UUID(id_or_name)
    except ValueError:
        return id_or_name


def _check_free(name: str, own: UUID | None, now: datetime) -> Steps[None]:
    row = yield from concurrency.read_limit(name, now)
    if row is not None and row["id"] != own:
        raise Conflict(
            f"There is a concurrency limit called {name!r} already.", fix="Change that one, or choose a name."
        )


def _shown(row: dict[str, Any], now: datetime) -> ConcurrencyLimit:
    held = decayed(concurrency.book_of(row), now).held
    fields = {name: row[name] for name in ConcurrencyLimit.__struct_fields__}
    return ConcurrencyLimit(**{**fields, "active_slots": held})


def _row(key: UUID | str, now: datetime, message: str = NO_LIMIT) -> Steps[dict[str, Any]]:
    row = yield from concurrency.read_limit(key, now)
    if row is None:
        raise NotFound(message)
    return row


def read_limit(id_or_name: str, now: datetime) -> Steps[ConcurrencyLimit]:
    """The limit as it stands now.

    Raises:
        NotFound: there is none.
    """
    return _shown((yield from _row(key_of(id_or_name), now)), now)


def read_limits(limit: int, offset: int, now: datetime) -> Steps[list[ConcurrencyLimit]]:
    """A page of limits in the order of their names."""
    return [_shown(row, now) for row in (yield from concurrency.read_limits(limit, offset, now))]


def update_limit(id_or_name: str, patch: ConcurrencyLimitUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names; null changes nothing.

    ``active_slots`` is how many are taken from now on: the oldest leases end where they hold more.

    Raises:
        NotFound: there is no such limit.
        Conflict: another has the name.
    """
    row = yield from _row(key_of(id_or_name), now)
    books = yield from concurrency.lock_ids([row["id"]], now)
    if not books:
        raise NotFound(NO_LIMIT)
    book = decayed(books[0], now)
    given = {name: value for name, value in changes(patch).items() if value is not None}
    if "name" in given:
        yield from _check_free(given["name"], book.id, now)
    columns = {"active_slots": book.undated, "denied_slots": book.denied, "decayed_at": book.decayed_at}
    if "active_slots" in given:
        leased = yield from _keep(book, given["active_slots"], now)
        given["active_slots"] -= leased
    yield from concurrency.write_limit(book.id, {**columns, **given, "updated": now})


def _keep(book: Book, most: int, now: datetime) -> Steps[int]:
    """End the oldest leases of the limit until they hold at most ``most`` slots; how many they hold then."""
    leased, ended = book.leased, []
    for held in (yield from concurrency.leases_of_limits([book.id], now)) if leased > most else ():
        if leased <= most:
            break
        leased -= held.slots
        ended.append(held.lease_id)
    if ended:
        yield from concurrency.delete_slots(book.id, ended)
    return leased


def delete_limit(id_or_name: str, now: datetime) -> Steps[None]:
    """Delete the limit.

    Raises:
        NotFound: there is none.
    """
    row = yield from _row(key_of(id_or_name), now)
    yield from concurrency.delete_limit(row["id"])


# Slots


def _told(books: Sequence[Book]) -> list[LimitName]:
    return [LimitName(id=book.id, name=book.name, limit=book.limit) for book in books]


def _books(names: Sequence[str], now: datetime) -> Steps[list[Book]]:
    return [decayed(book, now) for book in (yield from concurrency.lock(sorted(set(names)), now))]


def _deny(books: Sequence[Book], slots: int, now: datetime) -> Steps[Denied]:
    after = core.retry_after(books, slots, random.random())  # noqa: S311 - spreads load, hides nothing
    for book in books:
        yield from concurrency.write_book(core.denied(book, slots), now)
    return Denied(after)


def take_slots(
    names: Sequence[str], slots: int, mode: core.Mode, now: datetime
) -> Steps[list[LimitName] | Denied]:
    """Take slots of every limit named, or of none; limits that do not exist are passed over.

    Raises:
        Invalid: more are wanted than a limit has, or a rate limit where nothing decays.
    """
    books = yield from _books(names, now)
    if not admits(books, slots, mode):
        return (yield from _deny(books, slots, now))
    for book in books:
        yield from concurrency.write_book(core.taken(book, slots), now)
    return _told(books)


def lease_slots(
    names: Sequence[str], slots: int, mode: core.Mode, seconds: float, holder: Holder | None, now: datetime
) -> Steps[Lease | Denied]:
    """Take slots that are free again when the lease ends. Those of a rate limit decay and are not held.

    Raises:
        Invalid: more are wanted than a limit has, or a rate limit where nothing decays.
    """
    books = yield from _books(names, now)
    if not admits(books, slots, mode):
        return (yield from _deny(books, slots, now))
    lease_id = new_id() if books else core.lease_of_nothing(random.getrandbits(48))
    held = slots if mode == "concurrency" else 0
    for book in books:
        after = book if held else core.taken(book, slots)
        yield from concurrency.write_book(after, now)
    rows = [(book.id, held if book.active else 0) for book in books]
    if rows:
        yield from concurrency.insert_lease(lease_id, rows, holder, now + timedelta(seconds=seconds), now)
    return Lease(lease_id=lease_id, limits=_told(books))


def return_slots(
    names: Sequence[str], slots: int, seconds: float | None, now: datetime
) -> Steps[list[LimitName]]:
    """Give back slots that were taken without a lease; ``seconds`` is for how long they were held."""
    books = yield from _books(names, now)
    for book in books:
        after = core.given_back(book, slots)
        if seconds is not None and book.active:
            after = core.occupied(after, seconds, slots)
        yield from concurrency.write_book(after, now)
    return _told(books)


def end_lease(lease_id: UUID, now: datetime) -> Steps[None]:
    """Free what the lease holds; one that is gone holds nothing, which is as good."""
    held = yield from concurrency.read_lease(lease_id)
    if held:
        yield from _free(held, now)


def _free(held: Sequence[Held], now: datetime) -> Steps[None]:
    """End the leases that hold these slots, and learn from how long they were held."""
    books = yield from concurrency.lock_ids(list({one.limit_id for one in held}), now)
    for lease_id in {one.lease_id for one in held}:
        if not (yield from concurrency.delete_lease(lease_id)):
            continue
        by_limit = {one.limit_id: one for one in held if one.lease_id == lease_id and one.slots}
        books = [_learnt(book, by_limit.get(book.id), now) for book in books]
    for book in books:
        yield from concurrency.write_book(decayed(book, now), now)


def _learnt(book: Book, held: Held | None, now: datetime) -> Book:
    if held is None:
        return book
    return core.occupied(book, (now - held.created).total_seconds(), held.slots)


def renew_lease(lease_id: UUID, seconds: float, now: datetime) -> Steps[None]:
    """Keep the slots of a lease: of named limits, or the one that a run has of its deployment's limit.

    Raises:
        Gone: nobody holds it any more.
    """
    until = now + timedelta(seconds=seconds)
    if core.holds_nothing(lease_id):
        return
    if (yield from concurrency.renew_lease(lease_id, until, now)):
        return
    if (yield from claims.renew_slot(lease_id, until)):
        return
    # The slot of a run whose worker or process renews the claim lasts as long as that.
    if not (yield from runs.lease_exists(lease_id)):
        raise Gone(NO_LEASE)


# Limits on tags


def _tag_limit(row: dict[str, Any], holders: dict[UUID, list[UUID]]) -> TagLimit:
    return TagLimit(
        id=row["id"],
        created=row["created"],
        updated=row["updated"],
        tag=tag_of(row["name"]) or "",
        concurrency_limit=row["limit"],
        active_slots=holders.get(row["id"], []),
    )


def _tag_row(key: UUID | str, now: datetime) -> Steps[dict[str, Any]]:
    row = yield from _row(key if isinstance(key, UUID) else core.TAG_PREFIX + key, now, NO_TAG_LIMIT)
    if tag_of(row["name"]) is None:
        raise NotFound(NO_TAG_LIMIT)
    return row


def set_tag_limit(body: TagLimitCreate, now: datetime) -> Steps[tuple[TagLimit, bool]]:
    """Make the limit on a tag, or change it; whether it is new."""
    name = core.TAG_PREFIX + body.tag
    row = yield from concurrency.read_limit(name, now)
    if row is None:
        yield from create_limit(ConcurrencyLimitCreate(name=name, limit=body.concurrency_limit), now)
    else:
        yield from concurrency.write_limit(row["id"], {"limit": body.concurrency_limit, "updated": now})
    return (yield from read_tag_limit(body.tag, now)), row is None


def read_tag_limit(key: UUID | str, now: datetime) -> Steps[TagLimit]:
    """The limit on the tag ``key``, or the one with that id, and the task runs that hold its slots.

    Raises:
        NotFound: there is none.
    """
    row = yield from _tag_row(key, now)
    return _tag_limit(row, (yield from concurrency.holders([row["id"]], now)))


def read_tag_limits(limit: int, offset: int, now: datetime) -> Steps[list[TagLimit]]:
    """A page of limits on tags, in the order of the tags."""
    rows = yield from concurrency.read_limits(limit, offset, now, tags=True)
    holders = yield from concurrency.holders([row["id"] for row in rows], now)
    return [_tag_limit(row, holders) for row in rows]


def delete_tag_limit(key: UUID | str, now: datetime) -> Steps[None]:
    """Delete the limit on the tag ``key``, or the one with that id.

    Raises:
        NotFound: there is none.
    """
    row = yield from _tag_row(key, now)
    yield from concurrency.delete_limit(row["id"])


def reset_tag_limit(tag: str, task_runs: Sequence[UUID], now: datetime) -> Steps[None]:
    """Free all slots of a tag; from now on ``task_runs`` hold one each.

    Raises:
        NotFound: the tag has no limit.
        Invalid: these are more than the limit has.
    """
    row = yield from _tag_row(tag, now)
    books = yield from concurrency.lock_ids([row["id"]], now)
    if not books:
        raise NotFound(NO_TAG_LIMIT)
    book = decayed(books[0], now)
    kept = dict.fromkeys(task_runs)
    if len(kept) > book.limit:
        raise Invalid("Slots requested is greater than the limit")
    yield from _keep(book, 0, now)
    yield from concurrency.write_book(msgspec.structs.replace(book, undated=0), now)
    for run_id in kept:
        yield from _hold([book], run_id, now)


def take_tags(tags: Sequence[str], run_id: UUID, now: datetime) -> Steps[list[LimitName] | Denied]:
    """Let a task run hold a slot of each tag that has a limit, until it ends; one that it holds is kept."""
    books = yield from _tag_books(tags, now)
    stand = yield from _stand(books, run_id, now)
    if stand is not None and stand.zero is not None:
        return Denied(
            message=f'The concurrency limit on tag "{stand.zero}" is 0 and will deadlock if the task tries '
            "to run again."
        )
    if stand is not None and stand.full:
        message = f"Concurrency limit for the {stand.full[0]} tag has been reached"
        return Denied(core.TAG_WAIT_SECONDS, message)
    yield from _hold(books, run_id, now)
    return _tags_told([book for book in books if book.active])


def return_tags(tags: Sequence[str], run_id: UUID, now: datetime) -> Steps[list[LimitName]]:
    """Free the slots of these tags that the task run holds."""
    books = yield from _tag_books(tags, now)
    ids = {book.id for book in books}
    held = [one for one in (yield from concurrency.leases_of_holder(run_id, now)) if one.limit_id in ids]
    for one in held:
        yield from concurrency.delete_slots(one.limit_id, [one.lease_id])
    return _told(books)


def _tags_told(books: Sequence[Book]) -> list[LimitName]:
    return [LimitName(id=book.id, name=tag_of(book.name) or "", limit=book.limit) for book in books]


def _tag_books(tags: Sequence[str], now: datetime) -> Steps[list[Book]]:
    return (yield from _books([core.TAG_PREFIX + tag for tag in tags], now))


def _stand(books: Sequence[Book], run_id: UUID, now: datetime) -> Steps[TagSlots | None]:
    """How the limits stand for a task run: what it holds is free for it. None without an active one."""
    active = [book for book in books if book.active]
    if not active:
        return None
    zero = [tag_of(book.name) for book in active if book.limit == 0]
    full = tuple(tag_of(book.name) or "" for book in (yield from _without_room(active, run_id, now)))
    return TagSlots(zero=zero[0] if zero else None, full=full, wait_seconds=core.TAG_WAIT_SECONDS)


def _without_room(active: Sequence[Book], run_id: UUID, now: datetime) -> Steps[list[Book]]:
    held = {one.limit_id for one in (yield from concurrency.leases_of_holder(run_id, now)) if one.slots}
    return [book for book in active if book.free == 0 and book.id not in held]


def full_tags(tags: Sequence[str], run_id: UUID, now: datetime) -> Steps[list[Book]]:
    """The limits on these tags that have no room for the task run; they are only looked at."""
    names = sorted({core.TAG_PREFIX + tag for tag in tags})
    books = [decayed(book, now) for book in (yield from concurrency.read_books(names, now)) if book.active]
    return (yield from _without_room(books, run_id, now)) if books else []


def _hold(books: Sequence[Book], run_id: UUID, now: datetime) -> Steps[None]:
    held = {one.limit_id for one in (yield from concurrency.leases_of_holder(run_id, now)) if one.slots}
    wanted = [(book.id, 1) for book in books if book.active and book.id not in held]
    if wanted:
        holder = Holder(type="task_run", id=run_id)
        yield from concurrency.insert_lease(new_id(), wanted, holder, now + core.EVER, now)


# What transitions ask (wire 4.1, SecureTaskConcurrencySlots)


def tag_slots(tags: Sequence[str], run_id: UUID, now: datetime) -> Steps[TagSlots | None]:
    """How the limits on a task run's tags stand; nobody else takes their slots in this transaction."""
    return (yield from _stand((yield from _tag_books(tags, now)), run_id, now))


def follow_tags(effect: TagsEffect | None, tags: Sequence[str], run_id: UUID, now: datetime) -> Steps[None]:
    """Do what a decision says about the slots of a task run's tags."""
    if effect == "take":
        yield from _hold((yield from _tag_books(tags, now)), run_id, now)
    elif effect == "release":
        yield from return_tags(tags, run_id, now)
