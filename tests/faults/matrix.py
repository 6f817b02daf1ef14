"""The fault matrix: every step crossed with every fault; who was started twice, lost, stuck, leaked, left.

``python -m tests.faults.matrix --seconds 600`` tries what a seed chooses and writes docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from tests.faults.proxy import Step
from tests.faults.rig import LEASE, Rig, eventually, postgres

from eparch.version import __version__

CLAIM = r"^POST /api/work_pools/[^/]+/claim"
STATE = r"^POST /api/flow_runs/[^/]+/set_state"

STEPS = (
    Step("claim is asked", CLAIM),
    Step("claimed, answer under way", CLAIM, r'"token"', answered=True),
    Step("started, handle not stored", r"^PATCH /api/flow_runs/", "infrastructure_pid"),
    Step("handle stored", r"^PATCH /api/flow_runs/", answered=True),
    Step("process is pending", STATE, r'"RUNNING"'),
    Step("running is answered", STATE, r'"RUNNING"', answered=True),
    Step("finish is proposed", STATE, r'"COMPLETED"'),
    Step("finish is answered", STATE, r'"COMPLETED"', answered=True),
)

USER_CODE = "user code runs"

HEADING = "## The fault matrix"
"""Before it in docs/reliability.md stands what was written by hand."""

BOUND = 12 * LEASE
"""Seconds after which a run that has not ended counts as stuck."""


@dataclass
class Counts:
    """What came of one cell of the matrix."""

    trials: int = 0
    runs: int = 0
    starts: int = 0
    crashed: int = 0
    twice: int = 0
    """Runs whose user code began more often than their policy says, or beside another attempt."""
    lost: int = 0
    stuck: int = 0
    leaked: int = 0
    orphans: int = 0
    slowest: float = 0.0
    """Seconds from the fault until every run had ended."""
    seeds: list[int] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """Everything that should be 0."""
        return self.twice + self.lost + self.stuck + self.leaked + self.orphans


Fault = Callable[[Rig, random.Random], None]


def _later(rig: Rig, roll: random.Random) -> None:
    time.sleep(roll.uniform(0, 2 * LEASE / 3))


def kill_workers(rig: Rig, roll: random.Random) -> None:
    """All workers of the pool; two new ones come."""
    rig.kill_workers()
    _later(rig, roll)
    rig.start_worker()
    rig.start_worker()


def kill_jobs(rig: Rig, roll: random.Random) -> None:
    """Whatever job runs now."""
    rig.kill(rig.jobs())


def kill_holders(rig: Rig, roll: random.Random) -> None:
    """Whatever holds a job now."""
    rig.kill(rig.holders())


def kill_all(rig: Rig, roll: random.Random) -> None:
    """Workers, holders and jobs, as when the machine goes."""
    rig.kill_workers()
    rig.kill(rig.holders())
    rig.kill(rig.jobs())
    _later(rig, roll)
    rig.start_worker()
    rig.start_worker()


def kill_server(rig: Rig, roll: random.Random) -> None:
    """And start it again."""
    rig.kill_server()
    _later(rig, roll)
    rig.start_server()


def cut(rig: Rig, roll: random.Random) -> None:
    """Every connection is refused for a while."""
    rig.proxy.cut()
    _later(rig, roll)
    rig.proxy.mend()


def blackhole(rig: Rig, roll: random.Random) -> None:
    """Nothing passes for a while, nothing is refused."""
    rig.proxy.blackhole()
    _later(rig, roll)
    rig.proxy.mend()


def cut_long(rig: Rig, roll: random.Random) -> None:
    """For longer than a lease."""
    rig.proxy.cut()
    time.sleep(LEASE * roll.uniform(1.5, 2.5))
    rig.proxy.mend()


def lose(rig: Rig, roll: random.Random) -> None:
    """Only this one request or answer."""


FAULTS: dict[str, Fault] = {
    "kill -9 workers": kill_workers,
    "kill -9 job": kill_jobs,
    "kill -9 holder": kill_holders,
    "kill -9 worker, holder, job": kill_all,
    "kill -9 server": kill_server,
    "network cut": cut,
    "network blackhole": blackhole,
    "network cut > lease": cut_long,
    "message lost": lose,
}


def cells() -> list[tuple[str, str]]:
    """Every step with every fault."""
    return [
        (step, fault)
        for step in (*(one.name for one in STEPS), USER_CODE)
        for fault in FAULTS
        if not (step == USER_CODE and fault == "message lost")
    ]


def try_one(rig: Rig, step: str, fault: str, seed: int, counts: Counts) -> None:
    """Some runs, one fault, and the count of what came of it."""
    roll = random.Random(seed)
    if step == USER_CODE:
        before = len(rig.starts.read_text().splitlines())
        runs = [rig.make(roll.choice(["plain", "again"])) for _ in range(3)]
        eventually(lambda: len(rig.starts.read_text().splitlines()) > before, BOUND)
    else:
        seen = next(one for one in STEPS if one.name == step)
        rig.proxy.arm(seen, lambda: None, lose=fault == "message lost")
        if fault != "message lost":
            hold = rig.proxy
            hold.arm(seen, hold.blackhole)
        runs = [rig.make(roll.choice(["plain", "again"])) for _ in range(3)]
        rig.proxy.reached.wait(LEASE * 2)
    began = time.monotonic()
    try:
        # What is held at the step goes on, or not, only once the fault is there.
        if fault not in ("network blackhole", "message lost") and step != USER_CODE:
            _at_step(rig, fault, roll)
        else:
            FAULTS[fault](rig, roll)
    finally:
        rig.proxy.disarm()
        rig.proxy.mend()
    _count(rig, runs, began, seed, counts)


def _at_step(rig: Rig, fault: str, roll: random.Random) -> None:
    if fault in ("kill -9 job", "kill -9 holder"):
        FAULTS[fault](rig, roll)
        rig.proxy.mend()
    elif fault == "kill -9 server":
        rig.kill_server()
        rig.proxy.mend()
        _later(rig, roll)
        rig.start_server()
    else:
        rig.kill_workers() if fault.startswith("kill") else None
        if fault == "kill -9 worker, holder, job":
            rig.kill(rig.holders())
            rig.kill(rig.jobs())
        if fault.startswith("kill"):
            rig.proxy.mend()
            _later(rig, roll)
            rig.start_worker()
            rig.start_worker()
        else:
            FAULTS[fault](rig, roll)


def _count(rig: Rig, runs: list[UUID], began: float, seed: int, counts: Counts) -> None:
    ended = eventually(lambda: all(rig.is_over(run) for run in runs), BOUND)
    counts.slowest = max(counts.slowest, time.monotonic() - began)
    counts.trials += 1
    counts.runs += len(runs)
    wrong = counts.wrong
    starts, beside = rig.noted("start"), rig.noted("beside")
    for run in runs:
        found = rig.read(run)
        assert found is not None
        state = found.state
        assert state is not None
        again = found.deployment_id == rig.deployments["again"]
        most = 1 + int(float(found.labels.get("eparch.crash-retries", 0))) if again else 1
        counts.starts += starts[run]
        counts.crashed += state.is_crashed()
        counts.twice += starts[run] > most or beside[run] > 0
        counts.stuck += not state.is_final()
        counts.lost += state.is_final() and not (state.is_completed() or state.is_crashed())
        counts.lost += state.is_completed() and starts[run] == 0
    if ended:
        counts.orphans += not eventually(lambda: not rig.jobs() and not rig.holders(), 2 * LEASE + 5)
        counts.leaked += not eventually(lambda: rig.held_slots() == 0, 2 * LEASE)
    if counts.wrong > wrong:
        counts.seeds.append(seed)
        _tell(rig, runs)


def _tell(rig: Rig, runs: list[UUID]) -> None:
    starts, beside = rig.noted("start"), rig.noted("beside")
    for run in runs:
        found = rig.read(run)
        state = found.state if found else None
        said = (state.name, state.message) if state else None
        print("  run", run, said, "starts", starts[run], "beside", beside[run], file=sys.stderr)
    print("  jobs", rig.jobs(), "holders", rig.holders(), "slots", rig.held_slots(), file=sys.stderr)


def deal(seed: int, databases: list[str], chosen: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Each cell on one of the databases, as the seed says: what there is time for."""
    dealt = random.Random(seed).sample(chosen, len(chosen))
    return {name: dealt[number :: len(databases)] for number, name in enumerate(databases)}


def run_matrix(
    seconds: float, seed: int, chosen: Mapping[str, list[tuple[str, str]]], rounds: int = 10**9
) -> dict[tuple[str, str, str], Counts]:
    """Try the cells of each database in an order that the seed gives until the time is over, on all of them
    at once.
    """
    found: dict[tuple[str, str, str], Counts] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eparch-faults-")))
        rigs = {}
        for database in chosen:
            url = f"sqlite:///{folder / 'faults.db'}"
            if database == "postgresql":
                url = stack.enter_context(postgres(folder))
            rigs[database] = Rig(folder / database, url)
            stack.callback(rigs[database].close)
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(len(rigs)) as threads:
            for done in [
                threads.submit(_try_many, rig, name, end, seed, list(chosen[name]), found, rounds)
                for name, rig in rigs.items()
            ]:
                done.result()
    return found


def _try_many(
    rig: Rig, database: str, end: float, seed: int, chosen: list[tuple[str, str]],
    found: dict[tuple[str, str, str], Counts], rounds: int,
) -> None:  # fmt: skip
    number = seed
    while time.monotonic() < end and number < seed + rounds * len(chosen):
        random.Random(f"{database} {number}").shuffle(chosen)
        for step, fault in chosen:
            if time.monotonic() >= end:
                break
            number += 1
            counts = found.setdefault((database, step, fault), Counts())
            began = time.monotonic()
            try_one(rig, step, fault, number, counts)
            mark = "ok" if not counts.wrong else f"WRONG {asdict(counts)}"
            took = time.monotonic() - began
            print(f"{number} {database}: {step} / {fault}: {took:.1f} s, {mark}", flush=True)


def _revision() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "no checkout"


def table(found: dict[tuple[str, str, str], Counts], seconds: float, seed: int) -> str:
    """The second part of docs/reliability.md."""
    every = list(found.values())
    sums = {
        name: sum(getattr(one, name) for one in every)
        for name in ("trials", "runs", "starts", "crashed", "twice", "lost", "stuck", "leaked", "orphans")
    }
    slowest = max((one.slowest for one in every), default=0.0)
    covered = len({(step, fault) for _, step, fault in found})
    lines = [
        HEADING,
        "",
        "Printed by `make faults`. Real workers, jobs and a real server; between them a proxy at which each",
        "step is seen. At the step something is killed (`kill -9`) or cut off, with two workers on one pool",
        "and three runs under way; some deployments allow two retries after a crash. User code notes its own",
        f"start in a file. Leases are {LEASE:g} s here, 24 s unless set: recovery scales with them.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, Eparch {__version__} ({_revision()}), "
        f"Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {platform.system()}; {seconds:.0f} s, seeds from {seed}.",
        "",
        "| trials | cells | runs | starts | Crashed | twice | lost | stuck | leaked slots | orphans |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        "| {trials} | {covered} of {cells} | {runs} | {starts} | {crashed} | {twice} | {lost} | {stuck} "
        "| {leaked} | {orphans} |".format(covered=covered, cells=len(cells()), **sums),
        "",
        f"The slowest recovery, from the fault until every run had ended: {slowest:.1f} s.",
        "",
        "| database | step | fault | trials | runs | starts | Crashed | wrong | slowest, s |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (database, step, fault), one in sorted(found.items()):
        lines.append(
            f"| {database} | {step} | {fault} | {one.trials} | {one.runs} | {one.starts} | {one.crashed} "
            f"| {one.wrong}{' seeds ' + str(one.seeds) if one.seeds else ''} | {one.slowest:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run it large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--only", default="", help="words of a step or fault")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    chosen = [cell for cell in cells() if given.only in " / ".join(cell)]
    found = run_matrix(given.seconds, given.seed, dict.fromkeys(given.databases.split(","), chosen))
    text = table(found, given.seconds, given.seed)
    if given.write is not None:
        before = given.write.read_text().partition(HEADING)[0] if given.write.exists() else ""
        given.write.write_text(before + text)
    print(text)
    print(json.dumps({"wrong": sum(one.wrong for one in found.values())}))
    return 1 if any(one.wrong for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
