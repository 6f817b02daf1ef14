"""What to say about text that is no YAML.

Owns one message for each mistake that people really make (real-files 2.8). Does not read files.
"""

from __future__ import annotations

import re
from typing import Any

from eparch.core.errors import SourceError

_MERGE = re.compile(r"^(<{7}( |$)|={7}$|>{7}( |$)|\|{7}( |$))", re.MULTILINE)
_UNQUOTED = re.compile(r"(?:^|[:\-,\[]\s+|\[)(?P<braces>\{\{[^{}]*\}\}\S*)")
_KEY = re.compile(r"\s*(- +)?[^\s:]+")
_TYPOGRAPHIC = {
    "“": 'a typographic quote; write "',
    "”": 'a typographic quote; write "',
    "„": 'a typographic quote; write "',
    "‘": "a typographic quote; write '",
    "’": "a typographic quote; write '",
    "：": "a wide colon; write ': '",
    "–": "a dash; write '-'",
    "—": "a dash; write '-'",
    "‐": "a typographic hyphen; write '-'",
    "‑": "a typographic hyphen; write '-'",
    "−": "a minus sign; write '-'",
    "\u00a0": "a no-break space; write a space",
    "，": "a wide comma; write ','",
}


def unquoted_placeholder(node: Any, text: str) -> str:
    """The placeholder that was meant by a flow mapping whose only key is a mapping; empty if none was."""
    if not node.flow_style or len(node.value) != 1:
        return ""
    key, value = node.value[0]
    if isinstance(key.value, str) or str(key.tag) != "tag:yaml.org,2002:map" or value.value not in ("", None):
        return ""
    return text[node.start_mark.index : node.end_mark.index]


def explain(text: str, file: str, error: Any) -> SourceError:
    """The error to show instead of ``error``, a ``MarkedYAMLError`` of ruamel."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    lines = text.split("\n")
    merge = _MERGE.search(text)
    if merge:
        line = text.count("\n", 0, merge.start())
        return SourceError(
            "There is a mark of an unfinished merge",
            file=file,
            line=line + 1,
            column=1,
            fix="resolve the conflict and remove the lines with <<<<<<<, ======= and >>>>>>>",
        )
    for near in _near(error, line, lines):
        found = _in_line(lines[near])
        if found is not None:
            at, message, why, fix = found
            return SourceError(message, file=file, line=near + 1, column=at + 1, why=why, fix=fix)
    opened = _opened(error, line)
    if opened is not None:
        mark, message, why, fix = opened
        return SourceError(message, file=file, line=mark.line + 1, column=mark.column + 1, why=why, fix=fix)
    message, why, fix = _by_problem(error, line, column, lines)
    if message.startswith("This line"):
        column = len(lines[line]) - len(lines[line].lstrip())
    return SourceError(message, file=file, line=line + 1, column=column + 1, why=why, fix=fix)


def _near(error: Any, line: int, lines: list[str]) -> list[int]:
    """The lines to blame, the likeliest first."""
    context = error.context_mark
    simple_key = context is not None and "simple key" in str(error.context)
    candidates = [*([context.line] if simple_key else []), line, line - 1]
    return [near for near in dict.fromkeys(candidates) if 0 <= near < len(lines)]


def _in_line(line: str) -> tuple[int, str, str, str] | None:
    """A mistake that one line shows by itself: column, message, why, fix."""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return (
            indent.index("\t"),
            "A tab stands where spaces must",
            "YAML indents with spaces only",
            "use spaces",
        )
    if '"""' in line:
        fix = "write '|' after the ':' and the text on the next lines, indented"
        return line.index('"""'), '\'"""\' is Python, not YAML', "", fix
    unquoted = _UNQUOTED.search(line)
    if unquoted and not _is_quoted(line[: unquoted.start("braces")]):
        why = "without quotes YAML reads '{' as the start of a mapping"
        fix = f'write "{unquoted["braces"]}"'
        return unquoted.start("braces"), "A placeholder must be quoted", why, fix
    for at, character in enumerate(line):
        if character in _TYPOGRAPHIC:
            return at, f"'{character}' is {_TYPOGRAPHIC[character]}", "", ""
    return None


def _is_quoted(before: str) -> bool:
    return "#" in before or before.count('"') % 2 == 1 or before.count("'") % 2 == 1


def _opened(error: Any, line: int) -> tuple[Any, str, str, str] | None:
    """What began at one place and went wrong at another: the place to blame, message, why, fix."""
    context, problem, start = str(error.context or ""), str(error.problem or ""), error.context_mark
    if start is None:
        return None
    if "escape" in problem or "expected escape sequence" in problem:
        why = r"in double quotes '\' begins an escape, as in '\n'"
        return (
            error.problem_mark,
            "A backslash stands in double quotes",
            why,
            r"use single quotes, or write '\\'",
        )
    if "quoted scalar" in context:
        return start, "A quote is not closed", "", "close it"
    if "parsing a flow" in context and problem.startswith("expected ','"):
        bracket = "[" if "sequence" in context else "{"
        return start, f"The '{bracket}' is not closed", f"line {line + 1} still belongs to it", "close it"
    if "could not find expected ':'" in problem:
        fix = "write 'key: value', or '- ' before an item of a list"
        return start, "This line has no ':'", "", fix
    return None


def _by_problem(error: Any, line: int, column: int, lines: list[str]) -> tuple[str, str, str]:
    """Message, why and fix by what the parser met."""
    problem = str(error.problem or "")
    if "another document" in problem:
        return "The file has a second document", "only one is read", "remove the line '---' and what follows"
    if "undefined alias" in problem:
        name = problem.rpartition(" ")[2].strip("'")
        return f"The alias '*{name}' has no anchor '&{name}' above it", "", "define it under 'definitions:'"
    written = lines[line] if line < len(lines) else ""
    indented = len(written) - len(written.lstrip())
    if column == indented and ("block end" in problem or "not allowed here" in problem):
        return _misaligned(line, indented, lines)
    if "found '<scalar>'" in problem and written[:column].rstrip().endswith(("'", '"')):
        fix = "quote the whole text; a quote within is written twice: 'it''s'"
        return "Text stands after a closing quote", "", fix
    if "sequence entries are not allowed" in problem:
        return "A '- ' stands behind a key", "", "begin the list on the next line, or quote the text"
    if "mapping values are not allowed" in problem:
        if line and _KEY.fullmatch(written[:column]):
            return _misaligned(line, indented, lines)
        return "A ':' stands within a text", "YAML reads ': ' as the end of a key", "quote the text"
    if "%" in problem or "cannot start any token" in problem:
        start = written[column : column + 1]
        return f"A text cannot start with '{start}' here", "", "quote the text"
    if "stream end" in problem:
        return "The file ends within a value", "a bracket, brace or quote is not closed", "close it"
    return "The file is not valid YAML", " ".join(filter(None, [str(error.context or ""), problem])), ""


def _misaligned(line: int, indented: int, lines: list[str]) -> tuple[str, str, str]:
    """The message for a line that begins where no list or mapping begins."""
    above = []
    for earlier in reversed(lines[:line]):
        text = earlier.lstrip()
        if text and not text.startswith("#"):
            above.append(len(earlier) - len(text))
            if text.startswith("- "):
                above.append(len(earlier) - len(text) + 2 + len(text[2:]) - len(text[2:].lstrip()))
            if not above[-1]:
                break
    nearest = min(above, key=lambda column: (abs(column - indented), -column), default=0)
    previous = lines[line - 1].strip()
    if nearest == indented and ":" not in previous and not previous.startswith("- "):
        return "The line above has no ':'", "", "write 'key: value'"
    if nearest == indented:
        why = "a list and the keys of a mapping stand at the same column"
        return "This line does not belong to the ones above", why, "indent one of the two"
    why = f"it starts in column {indented + 1}, the lines above in column {nearest + 1}"
    return "This line is not aligned with the ones above", why, "align it"
