"""Metrics as Prometheus reads them (text format 0.0.4). Owns the text, not what is measured."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

MEDIA = "text/plain; version=0.0.4; charset=utf-8"

MAX_LABEL = 500
"""Characters of the value of a label."""


class Family(NamedTuple):
    """One metric: a value for each combination of labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    samples: tuple[tuple[tuple[Any, ...], float], ...] = ()
    kind: str = "gauge"


def expose(families: Iterable[Family]) -> str:
    """The page that is scraped."""
    lines = []
    for family in families:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        for values, number in family.samples:
            pairs = ",".join(
                f'{name}="{_label(value)}"' for name, value in zip(family.labels, values, strict=True)
            )
            lines.append(f"{family.name}{{{pairs}}} {number:g}" if pairs else f"{family.name} {number:.15g}")
    return "\n".join(lines) + "\n"


def _label(value: Any) -> str:
    if value is None:
        return "null"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return text[:MAX_LABEL].replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
