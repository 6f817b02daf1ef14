"""Which files are left out: patterns as ``.gitignore`` has them (gitignore(5)).

Owns what a pattern means. Who reads the file and walks the folder is its caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Ignored = Callable[[str, bool], bool]
"""Whether the path, with ``/`` and relative to the folder of the patterns, is left out; and if it is a
directory. What is below a directory that is left out is not asked for.
"""


def read_ignored(text: str) -> Ignored:
    """The rule that the lines of ``text`` make; the last pattern that fits decides."""
    rules = [rule for line in text.splitlines() if (rule := _read(line)) is not None]

    def ignored(path: str, is_directory: bool) -> bool:
        left_out = False
        for pattern, directories_only, keeps in rules:
            if (is_directory or not directories_only) and pattern.fullmatch(path):
                left_out = not keeps
        return left_out

    return ignored


def _read(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    """The pattern of a line, whether it is for directories only, whether it keeps what it fits."""
    text = line if line.endswith("\\ ") else line.rstrip()
    if not text or text.startswith("#"):
        return None
    keeps, text = text.startswith("!"), text.removeprefix("!")
    directories_only, text = text.endswith("/"), text.rstrip("/")
    if not text:
        return None
    anchored, text = "/" in text, text.lstrip("/")
    try:
        return re.compile(("" if anchored else "(?:.*/)?") + _regex(text), re.DOTALL), directories_only, keeps
    except re.error:
        return None


def _regex(pattern: str) -> str:
    parts, at = [], 0
    while at < len(pattern):
        rest = pattern[at:]
        bracket = re.match(r"\[([!^]?)(\]?(?:\\.|[^\]/\\])*)\]", rest)
        if rest.startswith("**/") and (at == 0 or pattern[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif rest == "**" and (at == 0 or pattern[at - 1] == "/"):
            parts.append(".*")
            at += 2
        elif rest[0] == "*":
            parts.append("[^/]*")
            at += 1
        elif rest[0] == "?":
            parts.append("[^/]")
            at += 1
        elif bracket:
            inner = bracket[2].replace("[", "\\[")
            parts.append(f"(?!/)[{'^' if bracket[1] else ''}{inner}]")
            at += bracket.end()
        elif rest[0] == "\\" and len(rest) > 1:
            parts.append(re.escape(rest[1]))
            at += 2
        else:
            parts.append(re.escape(rest[0]))
            at += 1
    return "".join(parts)
