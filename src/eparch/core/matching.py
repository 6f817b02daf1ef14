"""Whether a value passes a filter tree, without a database: for what is shown as it comes.

Owns the operators that lines of log are filtered by; what they mean in SQL is in ``store.where``.
"""

from __future__ import annotations

from typing import Any

from eparch.core.filters import Condition, Group
from eparch.core.records import Log


def admits(group: Group, line: Log) -> bool:
    """Whether ``line`` passes ``group``, which is one on ``logs``."""
    parts = (admits(part, line) if isinstance(part, Group) else _holds(part, line) for part in group.parts)
    return not group.parts or (all(parts) if group.operator == "and_" else any(parts))


def _holds(condition: Condition, line: Log) -> bool:
    if condition.field == "text":
        found = condition.value in f"{line.message} {line.name}".lower()
        return found if condition.op == "query" else not found
    value: Any = getattr(line, condition.field)
    match condition.op:
        case "any_":
            return bool(value in condition.value)
        case "is_null_":
            return (value is None) is condition.value
        case "before_" | "le_":
            return bool(value <= condition.value)
        case "after_" | "ge_":
            return bool(value >= condition.value)
    raise AssertionError(f"no line of log is filtered by {condition.op}")
