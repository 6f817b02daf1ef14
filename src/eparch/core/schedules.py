"""When a schedule runs: the three kinds of schedule as lazy streams of moments (row B1).

Owns the rules of cron, interval and rrule in a time zone, and what makes a schedule unusable. Does not own
which of those moments become runs that exist already, nor what happens to missed or overlapping runs.

Local times that a clock change skips or repeats:

- *cron at fixed times* (minute and hour do not start with ``*``): a skipped time runs once, at the moment the
  clock jumps; a repeated time runs once, the first time.
- *cron with a ``*`` in minute or hour*: every real moment whose wall clock matches, so each real hour runs.
- *interval of 24 h or more*, *rrule*: wall clock; a skipped time is read with the offset before the jump
  (RFC 5545, 3.3.5), a repeated time is the first.
- *interval under 24 h*: equal spacing in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heappop, heappush
from itertools import islice
from typing import NamedTuple

from eparch.core.deployments import CronSchedule, IntervalSchedule, RRuleSchedule, Schedule
from eparch.core.errors import ScheduleInvalid, did_you_mean
from eparch.core.model import utc
from eparch.core.recurrences import ANCHOR, MAX_RRULE, TZID, Recurrence, parse_rrule, walls

MAX_CRON = 1000
"""Characters of a cron expression."""

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_LONGEST = timedelta(days=36525)


def occurrences(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The moments at which ``schedule`` runs, from ``after`` on and including it: UTC, in order, each once.

    Lazy and without end, except for a rule with ``COUNT`` or ``UNTIL`` and at the end of the calendar.

    Raises:
        ScheduleInvalid: the schedule cannot be used.
        ValueError: ``after`` has no zone.
    """
    start = utc(after)
    if start.microsecond and not isinstance(schedule, IntervalSchedule):
        start = start.replace(microsecond=0) + _SECOND
    zone = _zone(_zone_name(schedule))
    if isinstance(schedule, CronSchedule):
        stream = _cron_moments(_parse_cron(schedule.cron, day_or=schedule.day_or), zone, start)
    elif isinstance(schedule, IntervalSchedule):
        stream = _interval_moments(schedule, zone, start)
    else:
        stream = _rrule_moments(parse_rrule(schedule.rrule), zone, start)
    return _rising(stream, start)


def upcoming(
    schedule: Schedule,
    now: datetime,
    *,
    max_runs: int = 100,
    max_days: int = 100,
    min_runs: int = 3,
    min_time: timedelta = timedelta(hours=1),
) -> list[datetime]:
    """The moments to plan ahead of ``now`` (wire 4.4, row B1).

    Enough to have ``min_runs`` and to reach ``now + min_time``; never more than ``max_runs``, never
    further than ``max_days``.

    Raises:
        ScheduleInvalid: the schedule cannot be used.
    """
    last = now + timedelta(days=max_days)
    planned: list[datetime] = []
    for moment in islice(occurrences(schedule, now), max_runs):
        if moment > last:
            break
        planned.append(moment)
        if len(planned) >= min_runs and moment >= now + min_time:
            break
    return planned


def check(schedule: Schedule) -> None:
    """Refuse a schedule that cannot be used, or that could never run.

    Raises:
        ScheduleInvalid: with what is wrong, and where it is known what to do.
    """
    century = datetime(1900 if isinstance(schedule, RRuleSchedule) else 2000, 1, 1, tzinfo=UTC)
    if next(occurrences(schedule, century), None) is None:
        text = schedule.cron if isinstance(schedule, CronSchedule) else getattr(schedule, "rrule", "")
        raise ScheduleInvalid(
            f"The schedule {_short(text)!r} never runs.", why="No date matches all of its fields."
        )


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _rising(moments: Iterator[datetime], start: datetime) -> Iterator[datetime]:
    """``moments`` from ``start`` on, each only once; the end of the calendar ends it."""
    last: datetime | None = None
    try:
        for moment in moments:
            if moment >= start and (last is None or moment > last):
                last = moment
                yield moment
    except OverflowError:
        return


# Clock changes.


class LocalTime(NamedTuple):
    """A moment on the clock of its schedule, and what a change of that clock does to it."""

    moment: datetime
    local: datetime
    mark: str = ""


def local_times(schedule: Schedule, moments: Iterable[datetime]) -> Iterator[LocalTime]:
    """``moments`` of ``schedule`` as people read them; marked where the clock changes (row B1).

    *shifted*: its own time is skipped by the clock; *repeated*: the clock shows this time twice; *skipped*
    and *clock change*: between it and the one before it the clock was put forward or back.
    """
    zone = _zone(_zone_name(schedule))
    last: timedelta | None = None
    for moment in moments:
        offset = _offset(moment, zone)
        yield LocalTime(moment, moment.astimezone(zone), _mark(schedule, moment, zone, last))
        last = offset


def _mark(schedule: Schedule, moment: datetime, zone: tzinfo, last: timedelta | None) -> str:
    wall, offset = _wall(moment, zone), _offset(moment, zone)
    twice = _every(wall, zone)
    if len(twice) == 2:
        return f"repeated, {'first' if twice[0] == moment else 'second'} time"
    before = _offset(moment - _DAY, zone)
    if offset > before and _is_shifted(schedule, wall, (moment + before).replace(tzinfo=None), zone):
        return "shifted"
    if last is not None and offset != last:
        return "skipped" if offset > last else "clock change"
    return ""


def _is_shifted(schedule: Schedule, wall: datetime, nominal: datetime, zone: tzinfo) -> bool:
    """Whether a schedule that goes by the clock runs at ``wall`` because its own time is skipped."""
    if isinstance(schedule, CronSchedule):
        cron = _parse_cron(schedule.cron, day_or=schedule.day_or)
        return cron.fixed and next(_cron_walls(cron, wall - _SECOND), None) != wall
    if isinstance(schedule, IntervalSchedule) and timedelta(seconds=schedule.interval) < _DAY:
        return False
    return not _every(nominal, zone)


# Time zones.


def _zone_name(schedule: Schedule) -> str:
    name = schedule.timezone or "UTC"
    if isinstance(schedule, RRuleSchedule):
        inner = TZID.search(schedule.rrule[: MAX_RRULE + 1])
        if inner and name == "UTC":
            return inner.group(1)
        if inner and inner.group(1) != name:
            raise ScheduleInvalid(
                f"The rrule is in the zone {inner.group(1)!r} and the schedule in {name!r}.",
                fix="Name one zone: leave TZID or `timezone` out.",
            )
    return name


def _zone(name: str) -> tzinfo:
    """The zone called ``name`` (IANA).

    Raises:
        ScheduleInvalid: there is none.
    """
    from zoneinfo import ZoneInfo, available_timezones

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = available_timezones()
        hint = (
            did_you_mean(_short(name), known) or "Use a name of the IANA database, such as 'Europe/Berlin'."
        )
        raise ScheduleInvalid(
            f"There is no time zone {_short(name)!r}.",
            why="" if known else "This machine has no database of time zones.",
            fix=hint if known else "Install the system's package tzdata, or: pip install tzdata",
        ) from None


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _first(wall: datetime, zone: tzinfo) -> datetime:
    """The moment of a wall-clock time: the first if it repeats, with the offset before if it is skipped."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _every(wall: datetime, zone: tzinfo) -> list[datetime]:
    """All real moments at which the clock shows ``wall``: none, one or two."""
    first, second = _first(wall, zone), wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return [first]
    return [first, second] if first < second else []


def _jump_end(wall: datetime, zone: tzinfo) -> datetime:
    """The moment at which the clock jumps over ``wall``."""
    early, late = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), _first(wall, zone)
    before = _offset(early, zone)
    while late - early > _SECOND:
        middle = early + (late - early) // _SECOND // 2 * _SECOND
        if _offset(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late


def _in_order(
    walls: Iterator[datetime], zone: tzinfo, place: Callable[[datetime, list[datetime]], list[datetime]]
) -> Iterator[datetime]:
    """The moments of rising wall-clock times, in the order of time.

    ``place`` turns a wall-clock time and its real moments (none, one or two) into the moments to run at. A
    moment is held back until no later wall-clock time can come before it.
    """
    if zone is UTC:
        yield from (wall.replace(tzinfo=UTC) for wall in walls)
        return
    waiting: list[datetime] = []
    for wall in walls:
        real = _every(wall, zone)
        for moment in place(wall, real):
            heappush(waiting, moment)
        while waiting and real and waiting[0] <= real[0]:
            yield heappop(waiting)
    while waiting:
        yield heappop(waiting)


# Cron.

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS),
    _Field("second", 0, 59),
)
_DAY_OF_MONTH, _DAY_OF_WEEK = _FIELDS[2], _FIELDS[4]
_ITEM = re.compile(r"(?:(\*|\?)|([A-Z]{3}|[0-9]{1,4})(?:-([A-Z]{3}|[0-9]{1,4}))?)(?:/([0-9]{1,4}))?")
_NTH = re.compile(r"([A-Z]{3}|[0-9])#([1-5])")
_LAST = re.compile(r"L([A-Z]{3}|[0-9])|([0-9])L")


class _Cron(NamedTuple):
    """``text`` for cronsim, seconds first; whether both days must match; whether the time is fixed."""

    text: str
    both_days: bool
    fixed: bool


def _parse_cron(expression: str, *, day_or: bool) -> _Cron:
    """The fields of ``expression`` written out.

    Five fields, or six with the seconds *last*: that is croniter's order, so it is what people who come from
    Prefect wrote; cronsim wants them first. With both days given either is enough, unless ``day_or`` is
    false; see ``_is_open`` for what is given.
    """
    text = _NICKNAMES.get(expression.strip().lower(), expression)
    parts = text.upper().split()
    if len(expression) > MAX_CRON:
        raise ScheduleInvalid(f"The cron expression is longer than {MAX_CRON} characters.")
    if text.lstrip().startswith("@"):
        raise ScheduleInvalid(
            f"The cron expression {_short(expression)!r} is not known.",
            fix=did_you_mean(text.strip().lower(), _NICKNAMES) or f"Known are {', '.join(_NICKNAMES)}.",
        )
    if len(parts) not in (5, 6):
        raise ScheduleInvalid(
            f"The cron expression {_short(expression)!r} has {len(parts)} fields instead of 5.",
            fix="Write minute, hour, day of month, month, day of week, and if you need them seconds, last.",
        )
    minute, hour, day, month, weekday, second = (
        _write_field(part, field, expression) for part, field in zip([*parts, "0"][:6], _FIELDS, strict=True)
    )
    return _Cron(
        text=" ".join((second, minute, hour, day, month, weekday)),
        both_days=not day_or or _is_open(parts[2], day, parts[4]) or _is_open(parts[4], weekday, parts[2]),
        fixed=not (parts[0].startswith("*") or parts[1].startswith("*")),
    )


def _is_open(written: str, plain: str, other: str) -> bool:
    """Whether a day field counts as not given, as croniter reads it.

    A bare star is not given. Another way to write every day, such as ``1-7``, is given, and so allows every
    day; but beside a field with a star in it, it is not.
    """
    return written in ("*", "?") or (plain == "*" and "*" in other)


def _write_field(text: str, field: _Field, expression: str) -> str:
    """One field as a plain list, ``*`` if it allows everything."""

    def refuse(why: str) -> ScheduleInvalid:
        return ScheduleInvalid(
            f"The {field.name} {_short(text)!r} of the cron expression {_short(expression)!r} is not valid.",
            why=why,
        )

    numbers: set[int] = set()
    special: set[str] = set()
    for item in text.split(","):
        if field is _DAY_OF_MONTH and item in ("L", "LW"):
            special.add(item)
        elif field is _DAY_OF_WEEK and (nth := _NTH.fullmatch(item)):
            special.add(f"{_number(nth[1], field, refuse) % 7}#{nth[2]}")
        elif field is _DAY_OF_WEEK and (last := _LAST.fullmatch(item)):
            special.add(f"{_number(last[1] or last[2], field, refuse) % 7}L")
        else:
            numbers.update(_numbers(item, field, refuse))
    if len(numbers) == field.high - field.low + 1:
        return "*"
    return ",".join([*map(str, sorted(numbers)), *sorted(special)])


def _numbers(item: str, field: _Field, refuse: Callable[[str], ScheduleInvalid]) -> Iterable[int]:
    """What one item of a list stands for: ``*``, ``a``, ``a-b``, ``a/n``, ``a-b/n``; ranges may wrap."""
    match = _ITEM.fullmatch(item)
    if match is None:
        if re.match(r"[HR](\b|\()", item):
            raise refuse("Random (R) and hashed (H) times are not supported: a schedule must be repeatable.")
        raise refuse(f"{item!r} cannot be read." if item else "An item of the list is empty.")
    star, first, last, step = match.groups()
    if star == "?" and field not in (_DAY_OF_MONTH, _DAY_OF_WEEK):
        raise refuse("A '?' can stand for a day only.")
    low = field.low if star else _number(first, field, refuse)
    high = field.high if star or (step and not last) else _number(last or first, field, refuse)
    if step is not None and int(step) == 0:
        raise refuse("A step cannot be 0.")
    if high < low and low == 7:
        low = 0
    wrapped = [*range(low, field.high + 1), *range(field.low, high + 1)]
    chosen = (wrapped if high < low else range(low, high + 1))[:: int(step or 1)]
    return {number % 7 for number in chosen} if field is _DAY_OF_WEEK else chosen


def _number(text: str, field: _Field, refuse: Callable[[str], ScheduleInvalid]) -> int:
    """A number or a name of ``field``; a week's day 7 is Sunday, kept so that ``5-7`` is a range."""
    if text in field.names:
        return field.names.index(text) + field.low
    if not text.isdigit():
        raise refuse(f"{text!r} is not a name. {did_you_mean(text, field.names)}".strip())
    high = 7 if field is _DAY_OF_WEEK else field.high
    if not field.low <= int(text) <= high:
        raise refuse(f"{int(text)} is not between {field.low} and {high}.")
    return int(text)


def _cron_walls(cron: _Cron, after: datetime) -> Iterator[datetime]:
    """Wall-clock times after ``after`` that match; ends if fifty years hold none."""
    from cronsim import CronSim, CronSimError

    try:
        times = CronSim(cron.text, after)
    except CronSimError:
        return  # only a day that none of the months has is left to be refused
    times.day_and = cron.both_days
    yield from times


def _cron_moments(cron: _Cron, zone: tzinfo, start: datetime) -> Iterator[datetime]:
    """The moments of a cron; cronsim sees wall-clock times only, the zone's clock changes are ours.

    cronsim's own way through a clock change goes wrong where the clock jumps by half an hour.
    """
    before = start - _SECOND
    if cron.fixed:
        walls = _cron_walls(cron, _wall(before, zone))
        return _in_order(walls, zone, lambda wall, real: real[:1] or [_jump_end(wall, zone)])
    # In the first of two equal hours, times that are past on the wall clock will come again.
    again = max(_offset(before, zone) - _offset(start + _DAY, zone), timedelta())
    walls = _cron_walls(cron, _wall(before, zone) - again)
    return _in_order(walls, zone, lambda _, real: real)


# Interval.


def _interval_moments(schedule: IntervalSchedule, zone: tzinfo, start: datetime) -> Iterator[datetime]:
    seconds, anchor = schedule.interval, schedule.anchor_date
    if not 0 < seconds <= _LONGEST.total_seconds() or not timedelta(seconds=seconds):
        raise ScheduleInvalid(
            f"An interval of {seconds} seconds cannot be used.",
            fix="Give seconds above 0 and below a hundred years.",
        )
    if anchor is not None and not 1900 <= anchor.year < 9000:
        raise ScheduleInvalid(
            f"The anchor date {anchor.isoformat()} cannot be used.", fix="Give one from 1900 on."
        )
    first = _first(ANCHOR, zone) if anchor is None else utc(anchor)
    step = timedelta(seconds=seconds)
    if step < _DAY:
        return _count_from(first, step, -((first - start) // step))
    wall = _wall(first, zone)
    # A day earlier, because the clock may have moved since.
    walls = _count_from(wall, step, (_wall(start, zone) - _DAY - wall) // step)
    return _in_order(walls, zone, lambda moment, real: real[:1] or [_first(moment, zone)])


def _count_from(anchor: datetime, step: timedelta, steps: int) -> Iterator[datetime]:
    while True:
        yield anchor + steps * step
        steps += 1


# Rrule.


def _rrule_moments(recurrence: Recurrence, zone: tzinfo, start: datetime) -> Iterator[datetime]:
    # After the clock jumped, times that it skipped are still to come.
    jump = max(_offset(start, zone) - _offset(start - _DAY, zone), timedelta())
    times = walls(recurrence, _wall(start, zone) - jump)
    return _in_order(times, zone, lambda wall, real: real[:1] or [_first(wall, zone)])
