"""Docstrings: what is said of each parameter.

Owns the three common styles as far as they are simple. Does not own anything else that a docstring holds.
"""

from __future__ import annotations

import re
from typing import Any


def describe(doc: str) -> dict[str, str]:
    """Descriptions by parameter, from a docstring in Google, NumPy or Sphinx style."""
    from inspect import cleandoc

    lines = cleandoc(doc).splitlines()
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        if line.strip() in ("Args:", "Arguments:", "Params:", "Parameters:"):
            body, entry = lines[number + 1 :], re.compile(r"(\s+)\*{0,2}(\w+)(?:\s*\(.*?\))?:\s*(.*)")
        elif (
            line.strip() == "Parameters"
            and lines[number + 1 : number + 2]
            and set(lines[number + 1]) == {"-"}
        ):
            body, entry = lines[number + 2 :], re.compile(r"()(\w+)(?:\s*:.*)?()$")
        elif sphinx := re.fullmatch(r"\s*:param (?:[^:]* )?\*{0,2}(\w+):\s*(.*)", line):
            found[sphinx[1]] = [sphinx[2]]
            continue
        else:
            continue
        _describe_section(body, entry, found)
    return {name: "\n".join(text).strip() for name, text in found.items() if "".join(text).strip()}


def _describe_section(body: list[str], entry: Any, found: dict[str, list[str]]) -> None:
    """Entries of one section into ``found``; deeper lines go on, the next section ends it."""
    indent: str | None = None
    name = ""
    for number, line in enumerate(body):
        match = entry.match(line)
        follows = body[number + 1] if number + 1 < len(body) else ""
        if line.strip() and follows.strip() and set(follows.strip()) == {"-"}:
            return
        if match and (indent is None or match[1] == indent):
            indent, name = match[1], match[2]
            found[name] = [match[3]] if match[3] else []
        elif name and (not line.strip() or line.startswith((indent or "") + " ")):
            found[name].append(line.strip())
        elif line.strip():
            return
