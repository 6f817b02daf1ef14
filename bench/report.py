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

SCALE = "scale-"
"""Begins the target of readings of a filled database; the rest is its kind."""

Book = dict[str, dict[str, Any]]


def load() -> Book:
    """What was measured before: the fields of a reading by target and key, its circumstances as ``about``."""
    return json.loads(READINGS.read_text()) if READINGS.exists() else {}


def record(book: Book, target: str, about: Mapping[str, Any], key: str, reading: Reading) -> None:
    """Put one reading into ``book``."""
    book.setdefault(target, {})[key] = {**asdict(reading), "about": dict(about)}


def save(book: Book) -> None:
    """Keep ``book`` and print it to the page."""
    READINGS.parent.mkdir(exist_ok=True)
    READINGS.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(make_page(book))


def make_rows(book: Book) -> list[Row]:
    """The budget table filled with what ``book`` holds."""

    def find(target: str, key: str) -> Reading | None:
        found = book.get(target, {}).get(key)
        return Reading(found["value"], found["failures"], found["note"]) if found else None

    return [replace(row, prefect=find("prefect", row.key), eparch=find("eparch", row.key)) for row in BUDGETS]


def tell_circumstances(target: str, readings: Mapping[str, Any]) -> list[str]:
    """One line for each version, day and machine that a target's rows were measured with."""
    groups: dict[str, list[str]] = {}
    for key, found in sorted(readings.items()):
        about = found["about"]
        hint = " Preliminary: others used the machine." if about["preliminary"] else ""
        line = f"- {target} {about['version']}, {about['date']}, on {about['machine']}.{hint}"
        groups.setdefault(line, []).append(key)
    if len(groups) == 1:
        return list(groups)
    return [f"{line} Rows: {', '.join(keys)}." for line, keys in groups.items()]


def tell_scale(book: Book) -> list[str]:
    """A table of the readings of each kind of database that was filled; none when none was."""
    lines: list[str] = []
    for target in sorted(name for name in book if name.startswith(SCALE)):
        readings = book[target]
        about = next(iter(readings.values()))["about"]
        size = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in about["size"].items())
        hint = " Preliminary: others used the machine." if about["preliminary"] else ""
        lines += [
            "",
            f"### {target.removeprefix(SCALE)}",
            "",
            f"{about['date']}, on {about['machine']}.{hint} Rows: {size}.",
            "",
            "| asked | median, ms | p99, ms | budget, ms | kept |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, found in sorted(readings.items()):
            kept = found["p99"] <= found["budget"] and not found["failures"]
            lines.append(
                f"| {name} | {found['median']:.1f} | {found['p99']:.1f} | {found['budget']:.0f} |"
                f" {'yes' if kept else 'no'} |"
            )
    how = "Two connections ask one question again and again; the first answers do not count."
    return ["", "## Scale", "", how, *lines] if lines else []


def make_page(book: Book) -> str:
    """The whole page."""
    lines = [
        "# Benchmarks",
        "",
        "Printed by `make bench`; do not edit. A ratio says how many times better Eparch is.",
        "",
    ]
    targets = sorted(target for target in book if not target.startswith(SCALE))
    lines += [line for target in targets for line in tell_circumstances(target, book[target])]
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
    return "\n".join([*lines, *tell_scale(book)]) + "\n"
