"""How a plan is shown and agreed to (moonshot 1): what is to be done, field by field, and the job of it.

Owns the words and the colours. What differs is decided in ``deploy.plan``; secrets are masked there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from eparch.cli.output import printable

if TYPE_CHECKING:
    from eparch.cli.session import Session
    from eparch.deploy.request import Deployed, DeployResult

_SIGNS = {"create": ("+", "32"), "change": ("~", "33"), "delete": ("-", "31"), "unchanged": ("=", "2")}
_MOST = 200
"""Characters of a value; the rest is in ``-o json``."""


def plan_lines(deployments: Sequence[Deployed], *, colored: bool) -> list[str]:
    """A plan, a line for each thing that is to be done."""
    lines = []
    for one in deployments:
        sign, color = _SIGNS.get(one.action, ("?", ""))
        lines.append(_painted(f"{sign} {one.name}  {one.action}", color, colored))
        lines += [_painted(f"    {text}", paint, colored) for text, paint in _details(one)]
    return lines


def _details(one: Deployed) -> Iterator[tuple[str, str]]:
    for name, (was, will) in one.changes.items():
        yield from _field(name, was, will)
    for text in one.drift:
        yield f"! {text}", "35"
    if one.drift and one.changed_by:
        yield f"! last changed by {one.changed_by}", "35"
    for use in one.uses:
        if use.state != "there":
            yield f"{use.kind} {use.name}: {use.state}", "31" if use.state == "missing" else "36"
    changed = [value for value in one.job if value.differs]
    if changed:
        yield "job:", ""
    for value in changed:
        if not value.before_from:
            yield f"  + {value.key}: {_text(value.after)} ({value.after_from})", "32"
        elif not value.after_from:
            yield f"  - {value.key}: {_text(value.before)} ({value.before_from})", "31"
        else:
            before, after = f"{_text(value.before)} ({value.before_from})", f"{_text(value.after)}"
            yield f"  ~ {value.key}: {before} -> {after} ({value.after_from})", "33"


def _field(name: str, was: Any, will: Any) -> Iterator[tuple[str, str]]:
    """One line for a value; for lists of schedules and triggers one for each that comes or goes."""
    if name in ("schedules", "triggers") and isinstance(was, list) and isinstance(will, list):
        yield f"{name}:", ""
        for item in was:
            if item not in will:
                yield f"  - {_text(item)}", "31"
        for item in will:
            if item not in was:
                yield f"  + {_text(item)}", "32"
        return
    if isinstance(was, dict) and isinstance(will, dict) and (was or will):
        for key in dict.fromkeys([*was, *will]):
            if key not in was:
                yield f"+ {name}.{key}: {_text(will[key])}", "32"
            elif key not in will:
                yield f"- {name}.{key}: {_text(was[key])}", "31"
            elif was[key] != will[key]:
                yield f"~ {name}.{key}: {_text(was[key])} -> {_text(will[key])}", "33"
        return
    yield f"~ {name}: {_text(was)} -> {_text(will)}", "33"


def _text(value: Any) -> str:
    import msgspec

    text = printable(msgspec.json.encode(value).decode())
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."


def _painted(text: str, color: str, colored: bool) -> str:
    return f"\x1b[{color}m{text}\x1b[0m" if colored and color else text


def summary(deployments: Sequence[Deployed]) -> str:
    """``Plan: 1 to create, 2 to change, 0 to delete, 5 unchanged.``"""
    counts = Counter(one.action for one in deployments)
    todo = ", ".join(f"{counts[word]} to {word}" for word in ("create", "change", "delete"))
    return f"Plan: {todo}, {counts['unchanged']} unchanged."


def show_plan(session: Session, result: DeployResult) -> None:
    """Print a plan on stdout: for people line by line, for programs all that is known."""
    from eparch.cli.output import write

    if session.output.is_table:
        for line in plan_lines(result.deployments, colored=session.output.colored):
            write(line)
    else:
        session.output.rows(result.deployments, [])
    for hint in result.hints:
        session.note(hint)
    session.note(summary(result.deployments))


def agree(session: Session, yes: bool) -> Any:
    """Shows a plan on stderr and, where somebody can say no, asks before it is applied."""

    def review(result: DeployResult) -> None:
        for line in plan_lines(result.deployments, colored=session.output.colored):
            session.note(line)
        session.note(summary(result.deployments))
        if session.interactive:
            session.confirm("Apply this plan?", yes=yes)

    return review
