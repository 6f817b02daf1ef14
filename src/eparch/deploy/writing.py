"""Values as YAML that people would write: block style, quotes only where they are needed.

Owns the text of what is new, and where a new deployment stands in a file. What people wrote is never written
again: it stays as it is, comments and all.
"""

from __future__ import annotations

import json
import re
from typing import Any

from eparch.core.errors import SourceError, SourceErrors
from eparch.core.model import Json
from eparch.deploy.grammar import WORDS
from eparch.deploy.source import Document, dump, editable, parse
from eparch.deploy.text_edits import STEP, Lines, apply_edits

_PLAIN = re.compile(r"[A-Za-z_./][\w./@+-]*(:[\w./@+-]+)*( [\w./@+-]+)*", re.ASCII)
_RESERVED = {*WORDS, "y", "n", "null", "nan", "inf", ".nan", ".inf", "."}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def write_mapping(values: dict[str, Any], column: int = 0) -> list[str]:
    """The lines of a mapping whose keys stand at ``column``."""
    lines = []
    for key, value in values.items():
        lines += _entry(f"{' ' * column}{_scalar(key)}:", value, column)
    return lines


def write_item(values: dict[str, Any], column: int = 0) -> list[str]:
    """The lines of a list's item, a mapping that has keys; its dash stands at ``column``."""
    first, *rest = write_mapping(values, column + STEP)
    return [f"{' ' * column}- {first[column + STEP :]}", *rest]


def _entry(head: str, value: Any, column: int) -> list[str]:
    if isinstance(value, dict) and value:
        return [f"{head}\n", *write_mapping(value, column + STEP)]
    if isinstance(value, list) and value:
        lines = [f"{head}\n"]
        for item in value:
            if isinstance(item, dict) and item:
                lines += write_item(item, column + STEP)
            else:
                lines.append(f"{' ' * (column + STEP)}- {_scalar(item)}\n")
        return lines
    return [f"{head} {_scalar(value)}\n"]


def _scalar(value: Json) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def add_deployment(text: str, deployment: dict[str, Json], file: str = "prefect.yaml") -> str:
    """``text``, a project's file, with ``deployment`` as the last one; everything else stays as it is.

    Raises:
        SourceErrors: the file cannot be read, or nothing can be added to it.
    """
    document = parse(text, file)
    wanted = _expected(document, deployment)
    ends = "\r\n" if "\r\n" in text else "\n"
    for change in (_as_text, _as_data):
        changed = change(document, deployment)
        if changed is None:
            continue
        changed = changed.replace("\r\n", "\n").replace("\n", ends)
        try:
            if parse(changed, file).data == wanted:
                return changed
        except SourceErrors:
            continue
    why = "'deployments:' is written in a way that nothing can be added to"
    raise SourceErrors([document.error(("deployments",), "The deployment cannot be added", why=why,
                                       fix="write it as a list, an item a line")])  # fmt: skip


def _expected(document: Document, deployment: dict[str, Json]) -> Json:
    data = document.data if document.data is not None else {}
    there = data.get("deployments") or [] if isinstance(data, dict) else None
    if not isinstance(there, list):
        raise SourceErrors([SourceError("This is not a project file", file=document.file)])
    return {**data, "deployments": [*there, deployment]}


def _as_text(document: Document, deployment: dict[str, Json]) -> str | None:
    found = Lines(document)
    lines = found.lines if document.text else []
    data = document.data or {}
    if "deployments" not in data:
        gap = ["\n"] if lines and lines[-1].strip() else []
        return apply_edits([*lines, *gap, "deployments:\n", *write_item(deployment, STEP)], [])
    place = found.entry(("deployments",))
    if place is None:
        return None
    first, last = place
    if not data["deployments"]:
        head, _, comment = found.lines[first].rstrip().partition("#")
        if last - first != 1 or not re.fullmatch(r"deployments:\s*(\[\s*\]|null|~)?\s*", head):
            return None
        comment = f"  #{comment}" if comment else ""
        new = [f"deployments:{comment}\n", *write_item(deployment, STEP)]
        return apply_edits(found.lines, [(first, last, new)])
    dashes = [line for line in found.lines[first + 1 : last] if line.lstrip(" ").startswith(("- ", "-\n"))]
    if not dashes:
        return None
    column = len(dashes[0]) - len(dashes[0].lstrip(" "))
    gap = ["\n"] if any(not line.strip() for line in found.lines[first + 1 : last]) else []
    return apply_edits(found.lines, [(last, last, [*gap, *write_item(deployment, column)])])


def _as_data(document: Document, deployment: dict[str, Json]) -> str | None:
    data = editable(document)
    if not data:
        return None
    if not data.get("deployments"):
        data["deployments"] = []
    data["deployments"].append(deployment)
    return dump(data)
