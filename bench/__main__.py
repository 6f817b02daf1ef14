"""``python -m bench``: measure, keep the readings, print the table.

A row that cannot be measured is reported and left out; the exit code is then 1.
Missed budgets are no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench import api, footprint, report, runs
from bench.rows import BUDGETS, Reading, render, tell
from bench.targets import Session, find_target, postgres


@dataclass(frozen=True)
class Measure:
    """How a row is measured: ``needs`` names the server that it shares with its neighbours, or is empty."""

    key: str
    needs: str
    measure: Callable[[Session], Reading]


MEASURES = (
    Measure("create-8", "api", partial(api.measure_create, connections=8)),
    Measure("create-200", "api", partial(api.measure_create, connections=200)),
    Measure("cycle-8", "api", partial(api.measure_cycle, connections=8)),
    Measure("cycle-200", "api", partial(api.measure_cycle, connections=200)),
    Measure("read", "api", api.measure_read),
    Measure("list", "api", api.measure_list),
    Measure("logs", "api", api.measure_logs),
    Measure("postgres-create", "postgres", api.measure_create),
    Measure("postgres-cycle", "postgres", api.measure_cycle),
    Measure("tasks-called", "tasks", partial(runs.measure_tasks, way="called")),
    Measure("tasks-mapped", "tasks", partial(runs.measure_tasks, way="mapped")),
    Measure("flows", "tasks", runs.measure_flows),
    Measure("deploy-30", "deploy", runs.measure_deploy),
    Measure("deploy-1000", "deploy", partial(runs.measure_deploy, deployments=1000)),
    Measure("plan-1000", "deploy", runs.measure_plan),
    Measure("start-warm", "workers", partial(runs.measure_start, part=0.5)),
    Measure("start-warm-p99", "workers", partial(runs.measure_start, part=0.99)),
    Measure("start-many", "workers", partial(runs.measure_many, part=0.5)),
    Measure("start-many-p99", "workers", partial(runs.measure_many, part=0.99)),
    Measure("start-cold", "workers", runs.measure_cold),
    Measure("version", "", footprint.measure_version),
    Measure("import", "", footprint.measure_import),
    Measure("server-start", "", footprint.measure_server_start),
    Measure("server-memory", "", footprint.measure_server_memory),
    Measure("size", "", footprint.measure_size),
    Measure("packages", "", footprint.measure_packages),
)


@contextlib.contextmanager
def open_session(target: str, needs: str, home: Path) -> Iterator[Session]:
    """A session in a new folder under ``home`` with the server that ``needs`` names."""
    folder = home / (needs or "bare")
    folder.mkdir()
    session = Session(find_target(target), folder)
    with contextlib.ExitStack() as stack:
        if needs:
            database = stack.enter_context(postgres(folder)) if needs == "postgres" else ""
            stack.enter_context(session.serve(database))
        yield session


def measure_target(target: str, chosen: list[Measure], keep: Callable[[str, Reading], None]) -> list[str]:
    """Measure every row in ``chosen`` for one target and hand it to ``keep``; what could not be measured."""
    failed: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="eb-"))
    try:
        for needs in dict.fromkeys(measure.needs for measure in chosen):
            group = [measure for measure in chosen if measure.needs == needs]
            try:
                with open_session(target, needs, home) as session:
                    failed += [f"{target}: {problem}" for problem in measure_group(session, group, keep)]
            except Exception as error:
                failed.append(f"{target}: server for {needs or 'nothing'}: {error}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return failed


def measure_group(session: Session, group: list[Measure], keep: Callable[[str, Reading], None]) -> list[str]:
    """Measure the rows that share ``session``; what went wrong, as lines."""
    failed = []
    units = {row.key: row.unit for row in BUDGETS}
    for measure in group:
        try:
            reading = measure.measure(session)
        except Exception as error:
            failed.append(f"{measure.key}: {type(error).__name__}: {error}")
            print(f"  {session.target.name:8} {measure.key:16} not measured: {error}", file=sys.stderr)
            continue
        keep(measure.key, reading)
        print(
            f"  {session.target.name:8} {measure.key:16} {tell(reading, units[measure.key])}", file=sys.stderr
        )
    return failed


def describe(target: str, preliminary: bool) -> dict[str, Any]:
    """What stands beside the readings of a target."""
    session = Session(find_target(target), Path.cwd())
    version = session.run("--version").stdout.strip().split()[-1]
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return {
        "version": version, "date": date, "machine": footprint.describe_machine(), "preliminary": preliminary
    }  # fmt: skip


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--target", choices=("eparch", "prefect"), action="append", help="only this product")
    parser.add_argument(
        "--eparch-only", action="store_true", help="keep Prefect's readings of docs/benchmarks.json"
    )
    parser.add_argument(
        "--only", metavar="KEY", action="append", help="rows whose key starts with KEY; repeatable"
    )
    parser.add_argument(
        "--preliminary", action="store_true", help="mark the readings: others use the machine"
    )
    parser.add_argument("--dry", action="store_true", help="print the table, keep nothing")
    parser.add_argument("--list", action="store_true", help="print the keys")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for."""
    asked = parse(arguments)
    if asked.list:
        print("\n".join(f"{row.key:16} {row.name}" for row in BUDGETS))
        return 0
    chosen = [m for m in MEASURES if not asked.only or any(m.key.startswith(key) for key in asked.only)]
    if not chosen:
        print(f"No row starts with {', '.join(asked.only)}: see --list.", file=sys.stderr)
        return 2
    targets = ["eparch"] if asked.eparch_only else asked.target or ["prefect", "eparch"]
    book = report.load()
    failed: list[str] = []
    for target in targets:
        about = describe(target, asked.preliminary)

        def keep(key: str, reading: Reading, target: str = target, about: dict[str, Any] = about) -> None:
            report.record(book, target, about, key, reading)
            if not asked.dry:
                report.save(book)  # at once: who interrupts keeps what was measured

        failed += measure_target(target, chosen, keep)
    keys = {measure.key for measure in chosen}
    print("\n".join(render([row for row in report.make_rows(book) if row.key in keys])))
    for line in failed:
        print(f"not measured: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
