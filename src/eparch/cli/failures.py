"""How an error is told: what happened, why, what to do; on stderr, in three lines or as JSON.

Owns the exit code of every error, ours and click's. Nothing here has a traceback.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from eparch.core.errors import EXIT, EparchError, SourceError, SourceErrors, Usage, nearest


def tell(error: Exception, *, as_json: bool) -> int:
    """Print ``error`` and return its exit code."""
    from eparch.core.model import encode

    code, facts = facts_of(error)
    if as_json:
        sys.stderr.write(encode({"error": facts}).decode() + "\n")
    else:
        sys.stderr.write("\n".join(lines_of(facts)) + "\n")
    sys.stderr.flush()
    return code


def facts_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """Exit code and what there is to say."""
    error = known(error)
    code = nearest(EXIT, error, 1)
    facts: dict[str, Any] = {"type": type(error).__name__, "message": error.message}
    facts |= {name: text for name in ("why", "fix") if (text := getattr(error, name))}
    if isinstance(error, SourceError) and error.position:
        facts |= {"file": error.file, "line": error.line, "column": error.column}
    if isinstance(error, SourceErrors):
        facts["errors"] = [facts_of(one)[1] for one in error.errors]
    facts["exit_code"] = code
    return code, facts


def lines_of(facts: dict[str, Any]) -> list[str]:
    """The lines that a person reads."""
    if facts.get("errors"):
        return [line for one in facts["errors"] for line in lines_of(one)]
    place = ":".join(str(facts[key]) for key in ("file", "line", "column") if facts.get(key))
    first = f"{place}: {facts['message']}" if place else facts["message"]
    lines = [f"error: {first}"]
    lines += [f"  {word}: {facts[key]}" for key, word in (("why", "why"), ("fix", "do")) if facts.get(key)]
    return lines


def known(error: Exception) -> EparchError:
    """``error`` as one of ours."""
    if isinstance(error, EparchError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        return EparchError(f"{error.strerror or error}{place}", why=type(error).__name__)
    name = type(error).__name__
    return EparchError(
        f"This is a mistake in Eparch: {name}: {error}".strip(),
        fix="Run it again with --debug and report what it prints.",
    )


def _usage(error: click.ClickException) -> Usage:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "eparch"
    possible = getattr(error, "possibilities", None) or []
    if isinstance(error, click.NoSuchOption | click.NoSuchCommand):
        message = error.message
    else:
        message = error.format_message()
    fix = f"Did you mean {possible[0]!r}?" if possible else f"See: {path} --help"
    return Usage(" ".join(message.split()), fix=fix)
