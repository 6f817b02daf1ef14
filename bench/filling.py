"""A database as it looks after a long time: made-up rows for a new, empty schema, in either dialect.

Rows are plain tuples in the order of ``COLUMNS``; ids grow with time as UUIDv7 do. The numbers of rows are a
``Size``. Loading takes the indexes away and makes them again, which is how a million rows load in minutes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

Row = tuple[Any, ...]

STATES = (
    ("COMPLETED", "Completed", 860),
    ("FAILED", "Failed", 70),
    ("CRASHED", "Crashed", 20),
    ("CANCELLED", "Cancelled", 20),
    ("SCHEDULED", "Scheduled", 25),
    ("RUNNING", "Running", 5),
)
"""Type and name of the state that flow runs are in, and how many of a thousand are."""

SPAN = timedelta(days=90)
"""How far back the oldest run is."""

POLICY = '{"max_retries":0,"retry_delay_seconds":0,"retries":0,"retry_delay":0}'
SCHEDULE = '{"interval":3600.0,"anchor_date":"2026-01-01T00:00:00Z","timezone":"UTC"}'

COLUMNS = {
    "flow": "id created updated name tags labels",
    "work_pool": "id created updated name type base_job_template is_paused storage_configuration",
    "work_queue": "id created updated name is_paused priority work_pool_id",
    "deployment": "id created updated name flow_id paused job_variables parameters enforce_parameter_schema "
    "tags labels work_queue_id entrypoint",
    "deployment_schedule": "id created updated deployment_id schedule active parameters scheduled_until",
    "flow_run": "id created updated name flow_id state_id state_type state_name state_timestamp "
    "state_details deployment_id parameters context empirical_policy tags labels run_count "
    "expected_start_time next_scheduled_start_time start_time end_time total_run_time auto_scheduled "
    "work_queue_id fencing_token",
    "flow_run_state": "id flow_run_id type name timestamp state_details",
    "claim": "flow_run_id claim_id token worker_name work_pool_id work_queue_id claimed_at lease_until",
    "task_run": "id created updated name flow_run_id task_key dynamic_key empirical_policy tags labels "
    "task_inputs state_id state_type state_name state_timestamp state_details run_count "
    "expected_start_time start_time end_time total_run_time",
    "task_run_state": "id task_run_id type name timestamp state_details",
    "log": "id created name level message timestamp flow_run_id",
    "log_tally": "flow_run_id begun level lines",
    "event": "id occurred received event resource_id resource related payload",
}


@dataclass(frozen=True)
class Size:
    """How much there is. ``task_runs`` have three states each."""

    flow_runs: int = 1_000_000
    task_runs: int = 3_333_334
    deployments: int = 5_000
    logs: int = 1_000_000
    events: int = 1_000_000
    flows: int = 50
    queues: int = 100
    tasks_of_last: int = 10_000
    """Task runs of the last flow run."""

    @property
    def tasks_each(self) -> int:
        """Task runs of every other flow run that has any."""
        return 10


@dataclass(frozen=True)
class Encoding:
    """How a dialect's driver takes an id (a number of 128 bits) and a time (microseconds since 1970)."""

    id: Callable[[int], Any]
    time: Callable[[int], Any]


def _text_id(number: int) -> str:
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _utc(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


SQLITE = Encoding(_text_id, int)
POSTGRES = Encoding(lambda number: UUID(int=number), _utc)


def make_id(kind: int, time: int, number: int) -> int:
    """The id of the ``number``-th row of a ``kind``, made at ``time`` (microseconds): a UUIDv7."""
    return (time // 1000) << 80 | 7 << 76 | (kind & 0xFFF) << 64 | 2 << 62 | number


class Rows:
    """The rows of every table, in an order in which they can be loaded."""

    def __init__(self, size: Size, encoding: Encoding, now: datetime) -> None:
        """``now`` is when the newest run ended."""
        self.size, self.id, self.time = size, encoding.id, encoding.time
        self.now = int(now.timestamp() * 1e6)
        self.begin = self.now - int(SPAN.total_seconds() * 1e6)
        self.states = tuple((kind, name) for kind, name, share in STATES for _ in range(share))

    def tables(self) -> Iterator[tuple[str, Iterable[Row]]]:
        """Each table with its rows."""
        yield "flow", self.flows()
        yield "work_pool", self.pools()
        yield "work_queue", self.queues()
        yield "deployment", self.deployments()
        yield "deployment_schedule", self.schedules()
        yield "flow_run", self.flow_runs()
        yield "flow_run_state", self.flow_run_states()
        yield "claim", self.claims()
        yield "task_run", self.task_runs()
        yield "task_run_state", self.task_run_states()
        yield "log", self.logs()
        yield "log_tally", self.log_tallies()
        yield "event", self.events()

    def ref(self, kind: int, number: int) -> Any:
        """The id of a row that was there from the beginning: a flow, pool, queue or deployment."""
        return self.id(make_id(kind, self.begin, number))

    def flows(self) -> Iterator[Row]:
        """The flows."""
        at = self.time(self.begin)
        for n in range(self.size.flows):
            yield self.ref(1, n), at, at, f"flow-{n}", '["scale"]', "{}"

    def pools(self) -> Iterator[Row]:
        """One pool for five queues."""
        at = self.time(self.begin)
        for n in range(self.size.queues // 5):
            template = '{"job_configuration":{},"variables":{}}'
            yield self.ref(2, n), at, at, f"pool-{n}", "process", template, False, "{}"

    def queues(self) -> Iterator[Row]:
        """The queues."""
        at = self.time(self.begin)
        for n in range(self.size.queues):
            yield self.ref(3, n), at, at, f"queue-{n}", False, n % 5 + 1, self.ref(2, n // 5)

    def deployments(self) -> Iterator[Row]:
        """The deployments, spread over flows and queues."""
        at = self.time(self.begin)
        for n in range(self.size.deployments):
            flow, queue = self.ref(1, n % self.size.flows), self.ref(3, n % self.size.queues)
            tags = f'["team-{n % 20}"]'
            yield (
                self.ref(4, n), at, at, f"deployment-{n}", flow, False, "{}", "{}", True, tags, "{}", queue,
                "flows.py:main",
            )  # fmt: skip

    def schedules(self) -> Iterator[Row]:
        """Every fifth deployment runs each hour and has been scheduled for a day."""
        at, until = self.time(self.begin), self.time(self.now + 86_400_000_000)
        for n in range(0, self.size.deployments, 5):
            yield self.ref(5, n), at, at, self.ref(4, n), SCHEDULE, True, "{}", until

    def run_time(self, n: int) -> int:
        """When the ``n``-th flow run was made."""
        return self.begin + (self.now - self.begin) * n // self.size.flow_runs

    def run_id(self, n: int) -> Any:
        """The id of the ``n``-th flow run."""
        return self.id(make_id(6, self.run_time(n), n))

    def state_of(self, n: int) -> tuple[str, str]:
        """Type and name of the state that the ``n``-th flow run is in; only the newest are still open."""
        kind, name = self.states[n * 7919 % 1000]
        if kind in ("SCHEDULED", "RUNNING") and n < self.size.flow_runs * 9 // 10:
            return "COMPLETED", "Completed"
        return kind, name

    def flow_runs(self) -> Iterator[Row]:
        """The runs: most are over, a few run, of those that are scheduled half are due."""
        for n in range(self.size.flow_runs):
            made = self.run_time(n)
            kind, name = self.state_of(n)
            deployment = n * 31 % self.size.deployments
            flow, queue = deployment % self.size.flows, deployment % self.size.queues
            at, seconds = self.time(made), n % 600
            expected, start, end = (
                at,
                self.time(made + 1_000_000),
                self.time(made + (1 + seconds) * 1_000_000),
            )
            following = None
            if kind == "SCHEDULED":
                due = self.now + (n % 1000 - 500) * 60_000_000
                expected = following = self.time(due)
                start = end = None
            elif kind == "RUNNING":
                end = None
            yield (
                self.run_id(n), at, at, f"run-{n}", self.ref(1, flow),
                self.id(make_id(9, made, n)), kind, name, at, "{}",
                self.ref(4, deployment), f'{{"number":{n}}}', "{}", POLICY,
                f'["team-{deployment % 20}"]', "{}", 1, expected, following, start, end,
                float(seconds if end else 0), False, self.ref(3, queue), 1 if kind == "RUNNING" else 0,
            )  # fmt: skip

    def flow_run_states(self) -> Iterator[Row]:
        """Scheduled, running, and the state that each run is in."""
        for n in range(self.size.flow_runs):
            made, run, (kind, name) = self.run_time(n), self.run_id(n), self.state_of(n)
            at = self.time(made)
            if kind != "SCHEDULED":
                yield self.id(make_id(7, made, n)), run, "SCHEDULED", "Scheduled", at, "{}"
            if kind not in ("SCHEDULED", "RUNNING"):
                yield self.id(make_id(8, made, n)), run, "RUNNING", "Running", at, "{}"
            yield self.id(make_id(9, made, n)), run, kind, name, at, "{}"

    def claims(self) -> Iterator[Row]:
        """A claim for every run that runs."""
        until = self.time(self.now + 10 * 86_400_000_000)
        for n in range(self.size.flow_runs * 9 // 10, self.size.flow_runs):
            if self.state_of(n)[0] == "RUNNING":
                queue = n * 31 % self.size.deployments % self.size.queues
                at, worker = self.time(self.run_time(n)), f"worker-{queue}"
                pool = self.ref(2, queue // 5)
                yield self.run_id(n), self.ref(10, n), 1, worker, pool, self.ref(3, queue), at, until

    def task_runs(self) -> Iterator[Row]:
        """Ten in each of the runs that have any, spread evenly, and many in the last one."""
        for n, run, made in self._tasks():
            at, end = self.time(made), self.time(made + 500_000)
            yield (
                self.id(make_id(11, made, n)), at, at, f"task-{n}", self.run_id(run), f"task-{n % 10}",
                str(n), POLICY, "[]", "{}", "{}", self.id(make_id(14, made, n)), "COMPLETED", "Completed",
                end, "{}", 1, at, at, end, 0.5,
            )  # fmt: skip

    def task_run_states(self) -> Iterator[Row]:
        """Three of each task run."""
        steps = ((12, "PENDING", "Pending"), (13, "RUNNING", "Running"), (14, "COMPLETED", "Completed"))
        for n, _, made in self._tasks():
            task = self.id(make_id(11, made, n))
            for offset, (kind, state, name) in enumerate(steps):
                at = self.time(made + offset * 250_000)
                yield self.id(make_id(kind, made, n)), task, state, name, at, "{}"

    def _tasks(self) -> Iterator[tuple[int, int, int]]:
        """Number, flow run and time of each task run."""
        each, spread = self.size.tasks_each, self._spread()
        for n in range(spread):
            run = self.run_with_tasks(n // each)
            yield n, run, self.run_time(run) + n % each * 1_000_000
        last = self.size.flow_runs - 1
        for n in range(spread, self.size.task_runs):
            yield n, last, self.run_time(last) + (n - spread) * 1000

    def _spread(self) -> int:
        """Task runs of all flow runs but the last."""
        return max(self.size.task_runs - self.size.tasks_of_last, 0)

    def run_with_tasks(self, number: int) -> int:
        """Which flow run is the ``number``-th that has task runs."""
        groups = max(-(-self._spread() // self.size.tasks_each), 1)
        return number % groups * self.size.flow_runs // groups

    def logs(self) -> Iterator[Row]:
        """All lines are of the last run, a millisecond apart."""
        run = self.run_id(self.size.flow_runs - 1)
        first = self.now - self.size.logs * 1000
        for n in range(self.size.logs):
            made = first + n * 1000
            at, message = self.time(made), f"line {n}: what a step of a flow has to say"
            yield self.id(make_id(15, made, n)), at, "prefect.flow_runs", 20, message, at, run

    def log_tallies(self) -> Iterator[Row]:
        """The lines of each ten seconds, counted as the server counts them."""
        first, span = self.now - self.size.logs * 1000, 10_000_000
        counted = Counter((first + n * 1000) // span for n in range(self.size.logs))
        run = self.run_id(self.size.flow_runs - 1)
        for number, lines in counted.items():
            yield run, self.time(number * span), 20, lines

    def events(self) -> Iterator[Row]:
        """The last states of the newest runs."""
        first = max(self.size.flow_runs - self.size.events, 0)
        for n in range(first, self.size.flow_runs):
            made, (_, name) = self.run_time(n), self.state_of(n)
            at, resource = self.time(made), f"prefect.flow-run.{_text_id(make_id(6, made, n))}"
            labels = f'{{"prefect.resource.id":"{resource}"}}'
            yield (
                self.id(make_id(16, made, n)), at, at, f"prefect.flow-run.{name}", resource, labels,
                "[]", "{}",
            )  # fmt: skip


def fill_sqlite(path: str, size: Size, now: datetime, tell: Callable[[str], None]) -> None:
    """Load everything into the SQLite file at ``path``, whose schema is there and empty."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        indexes = connection.execute(found).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"')
        for table, rows in Rows(size, SQLITE, now).tables():
            names = COLUMNS[table].split()
            marks = ", ".join("?" * len(names))
            connection.execute("BEGIN")
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)
            connection.execute("COMMIT")
            tell(table)
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        tell("indexes")


def fill_postgres(url: str, size: Size, now: datetime, tell: Callable[[str], None]) -> None:
    """Load everything into the PostgreSQL database at ``url`` (of a superuser), whose schema is there."""
    asyncio.run(_fill_postgres(url.replace("+asyncpg", ""), size, now, tell))


async def _fill_postgres(url: str, size: Size, now: datetime, tell: Callable[[str], None]) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, command_timeout=3600)
    try:
        await connection.execute("SET session_replication_role = replica; SET maintenance_work_mem = '512MB'")
        found = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
            " AND indexname LIKE 'ix_%'"
        )
        for index in found:
            await connection.execute(f'DROP INDEX "{index["indexname"]}"')
        for table, rows in Rows(size, POSTGRES, now).tables():
            await connection.copy_records_to_table(table, records=rows, columns=COLUMNS[table].split())
            tell(table)
        for index in found:
            await connection.execute(index["indexdef"])
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")  # else it is written while questions are asked
        tell("indexes")
    finally:
        await connection.close()
