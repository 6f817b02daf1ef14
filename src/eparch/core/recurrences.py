"""RFC 5545 recurrence rules on a wall clock: text to times (row B1).

Owns reading an rrule, and following it without end and without hanging. Does not own time zones: times here
have none, ``schedules`` places them. Whole weeks, months and years are dateutil's; days and shorter are
expanded here, because dateutil walks every second from the start, and may walk for minutes to find nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from heapq import merge
from itertools import product
from typing import Any, NamedTuple

from eparch.core.errors import ScheduleInvalid, did_you_mean

MAX_RRULE = 6500
"""Characters of an rrule: about a year of dates one by one, the limit that Prefect has."""

MAX_RULES = 10
"""RRULE and EXRULE lines of one text."""

MAX_COUNT = 100_000
"""The largest ``COUNT``: a counted rule can only be followed from its start."""

ANCHOR = datetime(2020, 1, 1)  # noqa: DTZ001  # a wall-clock time, read in the zone of the schedule
"""Where a schedule without ``anchor_date`` or ``DTSTART`` starts counting, on the wall clock of its zone.

Prefect anchors an rrule there too. It anchors an interval at the moment when the schedule is made, so whoever
makes a schedule writes that moment into ``anchor_date``.
"""

_END = datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001
_HORIZON = 50
_SKIPS = 100_000
_BARREN = 2_000_000
_EMPTY_DAY = _BARREN // (_HORIZON * 366)

TZID = re.compile(r";TZID=([^:;\s]+)", re.IGNORECASE)
_LINE = re.compile(r"(?:(DTSTART|RRULE|EXRULE|RDATE|EXDATE)((?:;[^:]*)?):)?(.+)", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?Z?)?", re.IGNORECASE)
_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_BY = {
    *("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYDAY", "BYEASTER"),
    *("BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS", "WKST"),
}


class _Rule(NamedTuple):
    """One rule: its ``FREQ`` and parts by name, first time, and limits; all on the wall clock."""

    freq: str
    interval: int
    parts: dict[str, str]
    start: datetime
    limit: int | None
    until: datetime


class Recurrence(NamedTuple):
    """A whole rrule text: its rules, single dates, and what they leave out; wall-clock times."""

    rules: list[_Rule]
    dates: list[datetime]
    without: list[_Rule]
    without_dates: list[datetime]


def parse_rrule(text: str) -> Recurrence:
    """The lines of ``text``: a bare rule, or DTSTART, RRULE, EXRULE, RDATE and EXDATE.

    Every date is on the wall clock of the schedule's zone, also one that ends in ``Z``: Prefect reads and
    writes them so. Without ``DTSTART`` a rule starts at ``ANCHOR``.

    Raises:
        ScheduleInvalid: it cannot be read, or following it would take too long.
    """
    if len(text) > MAX_RRULE:
        raise ScheduleInvalid(
            f"The rrule has {len(text)} characters.",
            why=f"The limit is {MAX_RRULE}.",
            fix="Split the schedule.",
        )
    found: dict[str, list[str]] = {"DTSTART": [], "RRULE": [], "EXRULE": [], "RDATE": [], "EXDATE": []}
    for line in text.split("\n"):
        match = _LINE.fullmatch(line.strip())
        if match:
            found[(match[1] or "RRULE").upper()].append(match[3].upper())
        elif line.strip():
            raise _unreadable(text, f"The line {_short(line)!r} cannot be read.")
    if len(found["DTSTART"]) > 1 and len(set(found["DTSTART"])) > 1:
        raise _unreadable(text, "It has more than one DTSTART.")
    start = _date(found["DTSTART"][0], text) if found["DTSTART"] else ANCHOR
    if start.year < 1900:
        raise _unreadable(text, "DTSTART is before 1900.")
    if not found["RRULE"] and not found["RDATE"]:
        raise _unreadable(text, "It has neither an RRULE nor an RDATE.")
    if len(found["RRULE"]) + len(found["EXRULE"]) > MAX_RULES:
        raise _unreadable(text, f"It has more than {MAX_RULES} rules.")
    return Recurrence(
        rules=[_parse_rule(body, start, text) for body in found["RRULE"]],
        dates=sorted(_date(one, text) for line in found["RDATE"] for one in line.split(",")),
        without=[_parse_rule(body, start, text) for body in found["EXRULE"]],
        without_dates=sorted(_date(one, text) for line in found["EXDATE"] for one in line.split(",")),
    )


def _unreadable(text: str, why: str) -> ScheduleInvalid:
    return ScheduleInvalid(f"The rrule {_short(text)!r} is not valid.", why=why)


def _date(text: str, whole: str) -> datetime:
    match = _DATE.fullmatch(text.strip())
    try:
        if match:
            return datetime.strptime("".join(part or "00" for part in match.groups()), "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        pass
    raise _unreadable(whole, f"{_short(text)!r} is not a date such as 20260131T093000.")


def _parse_rule(body: str, start: datetime, whole: str) -> _Rule:
    pairs = [part.partition("=")[::2] for part in body.strip(";").split(";")]
    parts = dict(pairs)
    if len(parts) < len(pairs):
        raise _unreadable(whole, "A part is given twice.")
    freq, every = parts.pop("FREQ", ""), parts.pop("INTERVAL", "1")
    count, until = parts.pop("COUNT", None), parts.pop("UNTIL", None)
    if freq not in _FREQUENCIES:
        raise _unreadable(whole, f"FREQ must be one of {', '.join(_FREQUENCIES)}.")
    if unknown := next((name for name in parts if name not in _BY), None):
        hint = did_you_mean(unknown, {*_BY, "INTERVAL", "COUNT", "UNTIL"})
        raise _unreadable(whole, f"The part {_short(unknown)!r} is unknown. {hint}".strip())
    if "BYSETPOS" in parts and _FREQUENCIES.index(freq) > 2:
        raise _unreadable(whole, "BYSETPOS needs FREQ=WEEKLY, MONTHLY or YEARLY.")
    rule = _Rule(
        freq=freq,
        interval=_whole_number("INTERVAL", every, 10_000_000, whole),
        parts=parts,
        start=start,
        limit=_whole_number("COUNT", count, MAX_COUNT, whole) if count is not None else None,
        until=_date(until, whole) if until else _END,
    )
    try:
        _follow(freq, parts, start, start)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise _unreadable(whole, str(error) or "It cannot be read.") from None
    return rule


def _whole_number(name: str, text: str, most: int, whole: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise _unreadable(whole, f"{name} is {_short(text)!r}, not a whole number from 1 to {most}.")
    return int(text)


def _follow(freq: str, parts: dict[str, str], start: datetime, until: datetime, interval: int = 1) -> Any:
    """dateutil's rule."""
    from dateutil.rrule import rrulestr

    named = {"FREQ": freq, "INTERVAL": str(interval), **parts}
    rule: Any = rrulestr(";".join(f"{key}={value}" for key, value in named.items()), dtstart=start)
    return rule.replace(until=until)


def _rule_walls(rule: _Rule, after: datetime) -> Iterator[datetime]:
    """The times of one rule from ``after`` on, or from its start if it counts; fifty empty years end it."""
    seek = rule.start if rule.limit else max(after, rule.start)
    walls = _day_walls(rule, seek) if _FREQUENCIES.index(rule.freq) > 2 else _week_walls(rule, seek)
    left = rule.limit
    for wall in walls:
        if wall > rule.until:
            return
        if wall < seek:
            continue
        yield wall
        left = left - 1 if left else None
        if left == 0:
            return


def _week_walls(rule: _Rule, seek: datetime) -> Iterator[datetime]:
    """Times of a rule of weeks, months or years."""
    years = _HORIZON + (rule.interval if rule.freq == "YEARLY" else 0)
    start = rule.start
    if rule.freq == "WEEKLY":
        # Moved by whole periods, which changes none of the later times.
        period = timedelta(weeks=rule.interval)
        start += max((seek - start) // period - 1, 0) * period
    found = True
    while found and seek <= rule.until:
        end = min(rule.until, _END, datetime(min(seek.year + years, 9999), 12, 31, 23, 59, 59))  # noqa: DTZ001
        found = False
        for wall in _follow(rule.freq, rule.parts, start, end, rule.interval).xafter(seek, inc=True):
            found = True
            yield wall
        if end >= _END:
            return
        seek = end + timedelta(seconds=1)


def _day_walls(rule: _Rule, seek: datetime) -> Iterator[datetime]:
    """Times of a rule of days or shorter: the days that fit, and on each the times that fit."""
    level = _FREQUENCIES.index(rule.freq) - 3
    clock = [
        _times(rule, name, index, level) for index, name in enumerate(("BYHOUR", "BYMINUTE", "BYSECOND"))
    ]
    seconds = (86400, 3600, 60, 1)[level]
    origin = (rule.start.hour * 3600 + rule.start.minute * 60 + rule.start.second) // seconds * seconds
    barren = 0
    for day in _days(rule, seek):
        barren += _EMPTY_DAY
        passed = (day - rule.start.date()).days * 86400 - origin
        if -passed % (rule.interval * seconds) < 86400:
            for hour, minute, second in product(*clock):
                wall = datetime.combine(day, time(hour, minute, second))
                gone = passed + hour * 3600 + minute * 60 + second
                if wall < seek or gone // seconds % rule.interval:
                    barren += 1
                else:
                    barren = 0
                    yield wall
        if barren > _BARREN:
            return


def _times(rule: _Rule, name: str, index: int, level: int) -> list[int]:
    """The hours, minutes or seconds that fit: those given, all if FREQ is as fine, else that of the start."""
    most = (24, 60, 60)[index]
    if name in rule.parts:
        return sorted({int(text) for text in rule.parts[name].split(",") if 0 <= int(text) < most})
    return (
        list(range(most))
        if index < level
        else [(rule.start.hour, rule.start.minute, rule.start.second)[index]]
    )


def _days(rule: _Rule, seek: datetime) -> Iterator[date]:
    """The days that fit the parts about days; asked as a yearly rule, that is fastest."""
    parts = {key: value for key, value in rule.parts.items() if key not in ("BYHOUR", "BYMINUTE", "BYSECOND")}
    days = re.sub(r"[+-]?[0-9]+(?=[A-Z])", "", parts.pop("BYDAY", "MO,TU,WE,TH,FR,SA,SU"))
    first = datetime(seek.year, 1, 1)  # noqa: DTZ001
    yearly = _Rule("YEARLY", 1, {**parts, "BYDAY": days}, first, None, rule.until)
    for wall in _week_walls(yearly, seek.replace(hour=0, minute=0, second=0)):
        yield wall.date()


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def walls(recurrence: Recurrence, after: datetime) -> Iterator[datetime]:
    """The times of all rules and dates that are not left out, from ``after`` on, in order."""
    gone = merge(*(_rule_walls(rule, after) for rule in recurrence.without), recurrence.without_dates)
    left_out = next(gone, None)
    skipped = 0
    for wall in merge(*(_rule_walls(rule, after) for rule in recurrence.rules), recurrence.dates):
        if wall < after:
            continue
        while left_out is not None and left_out < wall:
            left_out = next(gone, None)
        if wall != left_out:
            skipped = 0
            yield wall
        elif (skipped := skipped + 1) > _SKIPS:
            return
