"""Values as people write them on the command line: pairs, JSON, spans of time, moments, schedules.

Pure but for files and stdin that an argument names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from eparch.core.errors import SourceError, Usage
from eparch.core.model import decode

MAX_FILE = 10_000_000
"""Bytes of a file that an argument names."""

_UNITS = {
    "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600,
    "d": 86400, "day": 86400, "w": 604800, "week": 604800,
}  # fmt: skip
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*(?:,|and)?", re.IGNORECASE)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%I:%M%p", "%I%p", "%I:%M %p", "%I %p")


def read_pairs(pairs: Iterable[str], option: str, *, json: bool = True) -> dict[str, Any]:
    """``key=value`` pairs; with ``json`` a value that is JSON is read as such, else it is a text.

    Raises:
        Usage: one has no ``=`` or no key.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip():
            raise Usage(
                f"{option} takes key=value, not {pair!r}.", fix=f"Write {option} {pair or 'key'}=value."
            )
        found[key.strip()] = _value(text) if json else text
    return found


def _value(text: str) -> Any:
    try:
        return decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return text


def read_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object given as text, as ``-`` (stdin) or as ``@FILE``.

    Raises:
        Usage: it is no JSON object.
        SourceError: the file cannot be read.
    """
    if text == "-":
        text = sys.stdin.read(MAX_FILE)
    elif text.startswith("@"):
        text = read_file(Path(text[1:]))
    try:
        found: Any = decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Usage(f"{option} is not JSON.", why=str(error)) from error
    if not isinstance(found, dict):
        raise Usage(f"{option} has to be a JSON object.", why=f"It is {type(found).__name__}.")
    return found


def read_job_variables(words: Iterable[str]) -> dict[str, Any]:
    """Each word is ``key=value`` or a JSON object; ``env.NAME=...`` is always a text.

    Raises:
        Usage: a word is neither.
    """
    found: dict[str, Any] = {}
    for word in words:
        if word.lstrip().startswith("{"):
            found |= read_object(word, "--job-variable")
        else:
            found |= read_pairs([word], "--job-variable", json=not word.startswith("env."))
    return found


def read_specs(words: Iterable[str], option: str, key: str) -> tuple[dict[str, Any], ...]:
    """Mappings given as JSON, or in files of YAML or JSON: one, a list, or the list below ``key``.

    Raises:
        Usage: a word is neither.
        SourceErrors: a file cannot be read, or is no YAML.
    """
    found: list[dict[str, Any]] = []
    for word in words:
        if word.endswith((".yaml", ".yml", ".json")):
            from eparch.deploy.source import load

            data: Any = load(Path(word)).data
        else:
            try:
                data = decode(word)
            except (msgspec.MsgspecError, UnicodeError) as error:
                raise Usage(
                    f"{option} is not JSON.", why=str(error), fix="Give JSON, or a .yaml or .json file."
                ) from error
        inner = data.get(key, data) if isinstance(data, dict) else data
        items = inner if isinstance(inner, list) else [inner]
        for item in items:
            if not isinstance(item, dict):
                raise Usage(f"{option} takes a mapping, or a list of them.", why=f"There is {item!r:.60}.")
            found.append(item)
    return tuple(found)


def read_object_file(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        SourceError: it cannot be read, or holds no JSON object.
    """
    try:
        found: Any = decode(read_file(path))
    except msgspec.MsgspecError as error:
        raise SourceError("The file is not JSON.", file=str(path), why=str(error)) from error
    if not isinstance(found, dict):
        raise SourceError("The file has to hold a JSON object.", file=str(path))
    return found


def read_file(path: Path) -> str:
    """The text of a file.

    Raises:
        SourceError: it cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise SourceError("The file is too large.", file=str(path), why=f"More than {MAX_FILE} bytes.")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SourceError("The file cannot be read.", file=str(path), why=why) from error


def read_span(text: str) -> timedelta:
    """A length of time: ``90``, ``5m``, ``in 2 hours``, ``1 day and 3 hours``; bare numbers are seconds.

    Raises:
        Usage: it is none, or longer than a hundred years.
    """
    rest = text.strip().lower().removeprefix("in ").strip()
    seconds, position = 0.0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        unit = (part[2] or "s") if part else ""
        unit = unit if unit in _UNITS else unit.removesuffix("s")
        if part is None or unit not in _UNITS:
            seconds = -1
            break
        seconds, position = seconds + float(part[1]) * _UNITS[unit], part.end()
    if not rest or not 0 <= seconds <= 100 * 365 * 86400:
        raise Usage(
            f"{text!r} is not a length of time.", fix="Write it as 30s, 5m, 2h, 1d or 'in 5 minutes'."
        )
    return timedelta(seconds=seconds)


def read_moment(text: str, now: datetime) -> datetime:
    """A moment: ISO 8601, ``2026-08-01 17:30``, or a time of this day such as ``5:30pm``.

    Without a zone it is that of this machine; a time of day that is over is that of tomorrow.

    Raises:
        Usage: it is none.
    """
    rest = text.strip().removeprefix("at ").strip()
    try:
        moment = datetime.fromisoformat(rest)
        return (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    local = now.astimezone()
    for form in _CLOCKS:
        try:
            clock = datetime.strptime(rest.upper(), form)  # noqa: DTZ007 - only hour and minute are taken
        except ValueError:
            continue
        moment = local.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
        return (moment if moment > local else moment + timedelta(days=1)).astimezone(UTC)
    raise Usage(f"{text!r} is not a moment.", fix="Write it as '2026-08-01 17:30' or '5:30pm'.")


def read_schedule(
    *,
    cron: str | None,
    interval: str | None,
    rrule: str | None,
    anchor_date: str | None,
    timezone: str | None,
    day_or: bool = True,
) -> dict[str, Any] | None:
    """The one schedule that the options describe, as the wire has it; None when there is none.

    Raises:
        Usage: there are several, or an option does not belong to the kind.
        ScheduleInvalid: it cannot be used, or would never run.
    """
    from eparch.core.deployments import schedule_of
    from eparch.core.schedules import check
    from eparch.deploy.schedules import parse_interval

    kinds = {"--cron": cron, "--interval": interval, "--rrule": rrule}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise Usage(f"{' and '.join(given)} cannot be used together.", fix="Give one of them.")
    if not given:
        if anchor_date or timezone:
            raise Usage("There is no schedule.", fix="Give --cron, --interval or --rrule.")
        return None
    if anchor_date and interval is None:
        raise Usage("--anchor-date belongs to --interval.", fix="Leave it out, or give --interval.")
    fields: dict[str, Any] = {"timezone": timezone} if timezone else {}
    if cron is not None:
        fields |= {"cron": cron, "day_or": day_or}
    elif interval is not None:
        anchor = read_moment(anchor_date, datetime.now(UTC)) if anchor_date else None
        fields |= {"interval": parse_interval(interval)}
        fields |= {"anchor_date": anchor.isoformat()} if anchor else {}
    else:
        fields |= {"rrule": rrule}
    check(schedule_of(fields))
    return fields
