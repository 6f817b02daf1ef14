"""Where measurements are kept: ``docs/benchmarks.json``, from which ``docs/benchmarks.md`` is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from bench.rows import BUDGETS, Reading, Row, render
from bench.stock import ROOT

READINGS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"

Book = dict[str, dict[str, Any]]


def load() -> Book:
    """What was measured before, by target: what ``record`` was told about it, and ``readings`` by key."""
    return json.loads(READINGS.read_text()) if READINGS.exists() else {}


def record(
    book: Book, target: str, about: Mapping[str, Any], key: str, reading: Reading, *, save: bool
) -> None:
    """Put one reading into ``book`` and, with ``save``, save it at once: who interrupts keeps it."""
    readings = book.get(target, {}).get("readings", {})
    book[target] = {**about, "readings": {**readings, key: asdict(reading)}}
    if not save:
        return
    READINGS.parent.mkdir(exist_ok=True)
    READINGS.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n")


def make_rows(book: Book) -> list[Row]:
    """The budget table filled with what ``book`` holds."""

    def find(target: str, key: str) -> Reading | None:
        found = book.get(target, {}).get("readings", {}).get(key)
        return Reading(**found) if found else None

    return [replace(row, prefect=find("prefect", row.key), eparch=find("eparch", row.key)) for row in BUDGETS]


def make_page(book: Book) -> str:
    """The whole page."""
    lines = [
        "# Benchmarks",
        "",
        "Printed by `make bench`; do not edit. A ratio says how many times better Eparch is.",
        "",
    ]
    for target, about in sorted(book.items()):
        hint = " **Preliminary: the machine was in use by others.**" if about.get("preliminary") else ""
        lines.append(f"- {target} {about['version']}, {about['date']}, on {about['machine']}.{hint}")
    lines += ["", *render(make_rows(book)), "", "## Notes", ""]
    for row in make_rows(book):
        for name, reading in (("Prefect", row.prefect), ("Eparch", row.eparch)):
            if reading and reading.note:
                lines.append(f"- {row.name}, {name}: {reading.note.splitlines()[0][:160]}")
    lines += [
        "",
        "How: each server in turn, with its defaults, a new home and an embedded SQLite file (PostgreSQL",
        "where it says so), on the same machine as the load generator, a process of its own with keep-alive",
        "connections. Only conversations whose every answer was 2xx count. Start latency is from the request",
        "that creates the run to the start time on the run. Sizes are without pip and setuptools.",
    ]
    return "\n".join(lines) + "\n"


def write_page(book: Book) -> None:
    """Print ``book`` to the page."""
    PAGE.write_text(make_page(book))
