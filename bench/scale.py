"""``python -m bench.scale``: a million flow runs, and how long every list, count and claim takes.

Made for each database with ``bench.filling``, asked over HTTP with the load generator on two connections:
the generator shares the machine's two cores with the server and the database, so more would only wait in
line. Budgets are of the 99th percentile in milliseconds. The table goes to ``docs/benchmarks.md`` through
``docs/benchmarks.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench import footprint, report
from bench.api import port
from bench.filling import SQLITE, Rows, Size, fill_postgres, fill_sqlite
from bench.load import Outcome, Plan, drive
from bench.targets import Session, find_target, postgres

LIST_BUDGET, CLAIM_BUDGET = 100.0, 20.0
"""Milliseconds, 99th percentile."""

GRAPH_BUDGET = 1000.0
"""Of the graph of 10,000 task runs, which is an answer of megabytes."""

CONNECTIONS = 2


@dataclass(frozen=True)
class Question:
    """One request that is asked again and again; ``{id}`` in its path is each of ``ids`` in turn."""

    name: str
    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    budget: float = LIST_BUDGET
    count: int = 1_000_000


def post(name: str, path: str, **body: Any) -> Question:
    """A question that is put with POST."""
    return Question(name, "POST", path, body)


def ask_lists(rows: Rows) -> Iterator[Question]:
    """Pages of flow runs, as people and tools ask for them."""
    runs = "/flow_runs/filter"
    for sort in (
        "START_TIME_DESC",
        "START_TIME_ASC",
        "EXPECTED_START_TIME_DESC",
        "END_TIME_DESC",
        "NAME_ASC",
    ):
        yield post(f"50 flow runs, {sort}", runs, sort=sort, limit=50)
    yield post("50 flow runs after 20,000 others", runs, sort="START_TIME_DESC", limit=50, offset=20_000)
    yield post(
        "a page of 50, with the number of pages", "/flow_runs/paginate", sort="START_TIME_DESC", limit=50
    )
    last = "START_TIME_DESC"
    failed = {"state": {"type": {"any_": ["FAILED", "CRASHED"]}}}
    yield post("50 that failed", runs, flow_runs=failed, sort=last, limit=50)
    deployment = {"deployment_id": {"any_": [str(rows.ref(4, 77))]}}
    yield post("50 of a deployment", runs, flow_runs=deployment, sort=last, limit=50)
    yield post("50 of a flow", runs, flows={"id": {"any_": [str(rows.ref(1, 7))]}}, sort=last, limit=50)
    tag = {"tags": {"all_": ["team-7"]}}
    yield post("50 with a tag", runs, flow_runs=tag, sort=last, limit=50)
    yield post("50 of a pool", runs, work_pools={"name": {"any_": ["pool-3"]}}, sort=last, limit=50)
    yield post("50 whose name is like 'run-9'", runs, flow_runs={"name": {"like_": "run-9"}}, limit=50)
    since = (rows_now(rows) - timedelta(days=1)).isoformat()
    day = {"start_time": {"after_": since}}
    yield post("200 of the last day", runs, flow_runs=day, sort=last, limit=200)


def ask_counts(rows: Rows) -> Iterator[Question]:
    """Counts and histories."""
    now = rows_now(rows)
    yield post("count of all flow runs", "/flow_runs/count")
    failed = {"state": {"type": {"any_": ["FAILED"]}}}
    yield post("count of those that failed", "/flow_runs/count", flow_runs=failed)
    week = {"start_time": {"after_": (now - timedelta(days=7)).isoformat()}}
    yield post("count of the last week", "/flow_runs/count", flow_runs=week)
    yield post("average lateness of the last week", "/flow_runs/lateness", flow_runs=week)
    bounds = {"history_start": (now - timedelta(days=7)).isoformat(), "history_end": now.isoformat()}
    yield post("history of a week by the hour", "/flow_runs/history", history_interval_seconds=3600, **bounds)
    yield post("count of all task runs", "/task_runs/count")
    yield post(
        "task runs of a day, counted for the dashboard", "/ui/task_runs/dashboard/counts",
        task_runs={"start_time": {"after_": (now - timedelta(days=1)).isoformat()}},
    )  # fmt: skip


def ask_others(rows: Rows) -> Iterator[Question]:
    """Everything else that lists."""
    yield post("200 deployments", "/deployments/filter", limit=200)
    yield post("a page of deployments", "/deployments/paginate", limit=50, page=50)
    yield post("count of deployments", "/deployments/count")
    yield post("50 flows", "/flows/filter", limit=50)
    flows = [str(rows.ref(1, n)) for n in range(20)]
    yield post("the next runs of 20 flows", "/ui/flows/next-runs", flow_ids=flows)
    yield post("work pools", "/work_pools/filter", limit=200)
    run, last = str(rows.run_id(rows.run_with_tasks(-1))), str(rows.run_id(rows.size.flow_runs - 1))
    of_run = {"flow_runs": {"id": {"any_": [run]}}}
    yield post(
        "task runs of a flow run", "/task_runs/filter", sort="EXPECTED_START_TIME_ASC", limit=200, **of_run
    )
    of_last = {"flow_runs": {"id": {"any_": [last]}}}
    for sort in ("EXPECTED_START_TIME_ASC", "END_TIME_DESC"):
        yield post(f"200 of a run's 10,000 task runs, {sort}", "/task_runs/filter", sort=sort, limit=200,
                   **of_last)  # fmt: skip
    yield Question("the graph of 10,000 task runs", "GET", f"/flow_runs/{last}/graph-v2", budget=GRAPH_BUDGET)
    yield post("200 task runs, the newest", "/task_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=200)
    logged = {"logs": {"flow_run_id": {"any_": [last]}}}
    for skipped in (0, 200_000, 999_800):
        name = f"200 log lines after {skipped:,}"
        yield post(name, "/logs/filter", sort="TIMESTAMP_ASC", limit=200, offset=skipped, **logged)
    filter_ = {"event": {"prefix": ["prefix.", "prefect.flow-run."]}, "order": "DESC"}
    yield post("50 events", "/events/filter", filter=filter_, limit=50)
    month = (rows_now(rows) - timedelta(days=30)).isoformat()
    filter_ = {"event": {"prefix": ["prefect."]}, "occurred": {"since": month}}
    for by in ("event", "day"):
        yield post(f"events of a month by {by}", f"/events/count-by/{by}", filter=filter_)
    yield Question("states of a run", "GET", f"/flow_run_states/?flow_run_id={run}")


def ask_claims(rows: Rows) -> Iterator[Question]:
    """What workers ask; the last one takes the runs that it is given."""
    pools = tuple(f"pool-{n}" for n in range(rows.size.queues // 5))
    now = datetime.now(UTC).isoformat()
    poll = {"work_queue_names": [], "limit": 10, "scheduled_before": now}
    yield Question("a poll for 10 due runs", "POST", "/work_pools/{id}/get_scheduled_flow_runs", poll, pools,
                   CLAIM_BUDGET)  # fmt: skip
    claim = {"claim_id": "{unique}", "worker_name": "scale", "limit": 1, "lease_seconds": 3600}
    yield Question("a claim of one run", "POST", "/work_pools/{id}/claim", claim, pools, CLAIM_BUDGET, 800)


def rows_now(rows: Rows) -> datetime:
    """When the newest run was made."""
    return datetime.fromtimestamp(rows.now / 1e6, UTC)


def put(session: Session, question: Question, seconds: float) -> Outcome:
    """Ask on two connections; the first answers, which fill caches, do not count."""
    steps = ((question.method, question.path, json.dumps(question.body) if question.body else ""),)
    drive(Plan(port(session), steps, connections=CONNECTIONS, seconds=0.5, count=16, ids=question.ids))
    plan = Plan(port(session), steps, CONNECTIONS, seconds, question.count, question.ids)
    return drive(plan)


def walk(session: Session) -> Outcome:
    """All flow runs in pages of 200, one after another, as an exporter reads them; times are of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port(session), timeout=60)
    taken: list[float] = []
    failures: Counter[str] = Counter()
    begun = time.perf_counter()
    for number in itertools.count():
        body = json.dumps({"limit": 200, "offset": number * 200, "sort": "START_TIME_DESC"})
        start = time.perf_counter()
        connection.request("POST", "/api/flow_runs/filter", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        taken.append((time.perf_counter() - start) * 1000)
        if answer.status != 200:
            failures[str(answer.status)] += 1
        if data == b"[]" or failures:
            break
    connection.close()
    p99 = sorted(taken)[len(taken) * 99 // 100]
    return Outcome(len(taken), time.perf_counter() - begun, dict(failures), statistics.median(taken), p99)


@dataclass(frozen=True)
class Place:
    """Where a database is, or will be: its kind, what is in it, and the folder."""

    kind: str
    size: Size
    now: datetime
    home: Path
    kept: bool = False
    """The folder stays when everything is asked."""
    full: bool = False
    """It was filled before."""

    @property
    def mark(self) -> Path:
        """Says that the database is filled, and with what."""
        return self.home / "filled.json"


@contextlib.contextmanager
def prepared(kind: str, size: Size, folder: Path | None) -> Iterator[Place]:
    """A place for the database: one of its own for the length of the block, or one in ``folder``.

    What is in ``folder`` is used again when it has the right size, and made anew when it has not.
    """
    now = datetime.now(UTC)
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="eparch-scale-", ignore_cleanup_errors=True) as home:
            yield Place(kind, size, now, Path(home))
        return
    place = Place(kind, size, now, folder.absolute() / kind, kept=True)
    with contextlib.suppress(OSError, ValueError, KeyError):
        found = json.loads(place.mark.read_text())
        if found["size"] == asdict(size):
            yield replace(place, now=datetime.fromisoformat(found["now"]), full=True)
            return
    shutil.rmtree(place.home, ignore_errors=True)
    place.home.mkdir(parents=True)
    yield place


@contextlib.contextmanager
def filled(place: Place) -> Iterator[Session]:
    """A server on a filled database."""
    begun = time.perf_counter()

    def tell(what: str) -> None:
        print(
            f"  {place.kind}: {what} after {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True
        )

    home, is_postgres = place.home, place.kind == "postgres"
    session = Session(find_target("eparch"), home)
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{home}/scale.db"
        if is_postgres:
            url = stack.enter_context(postgres(home, keep=place.kept))
        upgrade = ("server", "database", "upgrade", "-y")
        session.run(*upgrade, env={"EPARCH_DATABASE_URL": url}, timeout=600)
        if not place.full:
            fill = fill_postgres if is_postgres else fill_sqlite
            fill(url.removeprefix("sqlite:///"), place.size, place.now, tell)
            place.mark.write_text(json.dumps({"size": asdict(place.size), "now": place.now.isoformat()}))
        stack.enter_context(session.serve(url))
        tell("the server is up")
        yield session


def measure(
    place: Place, seconds: float, keep: Callable[[str, str, Outcome, float], None], only: str = ""
) -> None:
    """Ask everything on one database, or what has ``only`` in its name."""
    kind, rows = place.kind, Rows(place.size, SQLITE, place.now)
    walked = "200 flow runs, page after page to the last"
    with filled(place) as session:
        if only in walked:
            keep(kind, walked, walk(session), LIST_BUDGET)
        for ask in (ask_lists, ask_counts, ask_others, ask_claims):
            for question in ask(rows):
                if only in question.name:
                    keep(kind, question.name, put(session, question, seconds), question.budget)


def main(arguments: list[str] | None = None) -> int:
    """Fill, ask, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), action="append")
    parser.add_argument("--share", type=float, default=1.0, help="a smaller database: 0.01 is a hundredth")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each question is asked")
    parser.add_argument("--preliminary", action="store_true", help="others use the machine: say so")
    parser.add_argument("--folder", type=Path, help="keep the filled databases there, and use them again")
    parser.add_argument("--only", default="", help="what has this in its name; implies --dry")
    parser.add_argument("--dry", action="store_true", help="print, keep nothing")
    asked = parser.parse_args(arguments)
    whole = asdict(Size())
    size = Size(
        **{k: v if k in ("flows", "queues") else max(int(v * asked.share), 1) for k, v in whole.items()}
    )
    book = report.load()
    version = footprint.describe_machine()

    def keep(kind: str, name: str, outcome: Outcome, budget: float) -> None:
        wrong = f"  failed: {outcome.failures} {outcome.example}" if outcome.failures else ""
        mark = "" if outcome.p99 <= budget and not outcome.failures else "  OVER"
        print(
            f"{kind:8} {name:48} median {outcome.median:8.1f} ms  p99 {outcome.p99:8.1f} ms  "
            f"{outcome.rate:7.0f}/s{mark}{wrong}",
            flush=True,
        )
        found = {"median": outcome.median, "p99": outcome.p99, "budget": budget, "failures": outcome.failures}
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        about = {"date": date, "machine": version, "size": asdict(size), "preliminary": asked.preliminary}
        book.setdefault(f"{report.SCALE}{kind}", {})[name] = {**found, "about": about}

    for kind in asked.database or ("sqlite", "postgres"):
        book.pop(f"{report.SCALE}{kind}", None)
        with prepared(kind, size, asked.folder) as place:
            measure(place, asked.seconds, keep, asked.only)
        if not (asked.dry or asked.only):
            report.save(book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
