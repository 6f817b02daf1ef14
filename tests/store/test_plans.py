"""No hot statement scans or sorts a big table: checked on the plans of both databases at 100,000 runs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eparch.core import filters
from eparch.core.event_pages import Countable
from eparch.core.events import EventFilter, NameFilter, OccurredFilter
from eparch.core.filters import Condition, Group, Query
from eparch.core.model import new_id
from eparch.core.states import State, StateType
from eparch.store import (
    claims,
    concurrency,
    deployments,
    event_pages,
    explaining,
    graphs,
    heartbeats,
    log_pages,
    postgres,
    queue_status,
    readiness,
    records,
    rows,
    runs,
    sqlite,
    tallies,
    where,
)
from eparch.store import tables as t
from eparch.store.database import open_database
from eparch.store.statement import Bound, insert

from . import making
from .making import NOW

RUNS = 100_000
FLOW, DEPLOYMENT, POOL, QUEUE = (UUID(int=n) for n in range(1, 5))
BIG = ("flow_run", "flow_run_state", "task_run", "task_run_state", "log", "event")
"""Tables that grow with every run."""

_KINDS = [StateType.COMPLETED] * 17 + [StateType.FAILED, StateType.SCHEDULED, StateType.RUNNING]


def flow_runs() -> Iterator[dict[str, Any]]:
    """Runs as a server has them that is a year old: most are over, some wait, a few are paused."""
    for number in range(RUNS):
        kind = _KINDS[number % len(_KINDS)] if number % 5000 else StateType.PAUSED
        when = NOW + timedelta(seconds=number)
        state = State(type=kind, name=kind.value.capitalize(), timestamp=when)
        waits = kind is StateType.SCHEDULED
        yield making.flow_run(
            FLOW, state, name=f"run-{number % 1000}", deployment_id=DEPLOYMENT if number % 100 == 0 else None,
            work_queue_id=QUEUE if number % 2 else None, expected_start_time=when,
            start_time=None if waits else when, end_time=when if kind is StateType.COMPLETED else None,
            next_scheduled_start_time=when if waits else None, idempotency_key=str(number),
            parent_task_run_id=new_id() if number % 10 == 0 else None,
        )  # fmt: skip


def filled(run_ids: list[UUID]) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """``(table, rows)``, in an order that keys allow."""
    flow = making.flow(id=FLOW)
    yield t.flow, [{name: getattr(flow, name) for name in flow.__struct_fields__}]
    yield t.work_pool, [making.pool(id=POOL)]
    yield t.work_queue, [making.queue(POOL, id=QUEUE)]
    yield t.deployment, [making.deployment(FLOW, id=DEPLOYMENT, concurrency_limit=5)]
    made = list(flow_runs())
    run_ids += [run["id"] for run in made]
    yield t.flow_run, made
    state = State(type=StateType.COMPLETED, name="Completed", timestamp=NOW)
    several = [run_ids[n // 10] for n in range(20_000)]
    tasks = [
        making.task_run(
            run_id, state, name=f"t-{n % 100}", dynamic_key=str(n), total_run_time=float(n),
            expected_start_time=NOW + timedelta(seconds=n),
            end_time=NOW + timedelta(seconds=n) if n % 2 else None,
        )
        for n, run_id in enumerate(several)
    ]  # fmt: skip
    yield t.task_run, tasks
    history = [
        rows.history_columns(
            State(type=StateType.RUNNING, name="Running", timestamp=NOW), "task_run", task["id"]
        )
        for task in tasks
    ]
    yield t.task_run_state, history
    begun = State(type=StateType.RUNNING, name="Running", timestamp=NOW)
    yield (
        t.flow_run_state,
        [
            rows.history_columns(msgspec.structs.replace(begun, id=new_id()), "flow_run", run_id)
            for run_id in run_ids[:20_000]
        ],
    )
    yield t.log, [
        {
            "id": new_id(), "created": NOW, "name": "n", "level": 20, "message": "m" * 40,
            "timestamp": NOW + timedelta(seconds=n), "flow_run_id": run_id,
            "task_run_id": tasks[n]["id"] if n % 2 else None,
        }
        for n, run_id in enumerate(several)
    ]  # fmt: skip
    yield t.event, [
        {
            "id": new_id(), "occurred": NOW + timedelta(seconds=n), "received": NOW, "event": "e",
            "resource_id": f"r.{run_id}", "resource": {}, "related": [], "payload": {},
        }
        for n, run_id in enumerate(several)
    ]  # fmt: skip
    yield (
        t.claim,
        [
            {name: getattr(claim, name) for name in claim.__struct_fields__}
            for claim in (
                making.claim(
                    run_id, work_pool_id=QUEUE if n % 10 else POOL, work_queue_id=QUEUE, lease_until=NOW
                )
                for n, run_id in enumerate(run_ids[:5000])
            )
        ],
    )


class Sqlite:
    """Plans of SQLite, on a file without statistics, as a server has it."""

    def __init__(self, path: Path) -> None:
        asyncio.run(_make(f"sqlite:///{path}"))
        self.connection = sqlite3.connect(path)
        self.run_ids: list[UUID] = []
        self.connection.execute("PRAGMA synchronous=OFF")
        for table, made in filled(self.run_ids):
            prepared = insert(table, frozenset(made[0])).prepare(sqlite.DIALECT)
            self.connection.executemany(prepared.sql, [prepared.arguments(row) for row in made])
        self.connection.commit()

    def plan(self, bound: Bound) -> str:
        prepared = bound.statement.prepare(sqlite.DIALECT)
        given = prepared.arguments(bound.values)
        return "\n".join(
            row[3] for row in self.connection.execute("EXPLAIN QUERY PLAN " + prepared.sql, given)
        )

    def scans(self, bound: Bound) -> list[str]:
        """Lines of the plan that read a whole big table, with an index or without."""
        return re.findall(rf"^SCAN (?:{'|'.join(BIG)})\b(?!.* USING).*", self.plan(bound), re.MULTILINE)

    def sorts(self, bound: Bound) -> bool:
        return "USE TEMP B-TREE FOR" in self.plan(bound)

    def reads_by_id(self, bound: Bound) -> bool:
        """An index finds what rows are wanted, and only those are read."""
        return bool(re.search(r"SEARCH \w+ USING INDEX sqlite_autoindex_\w+ \(id=\?\)", self.plan(bound)))

    def close(self) -> None:
        self.connection.close()


class Postgres:
    """Plans of PostgreSQL with its defaults, after ANALYZE."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.run_ids: list[UUID] = []
        self.runner.run(self._fill(url))

    async def _fill(self, url: str) -> None:
        import asyncpg

        await _make(url)
        self.connection = await asyncpg.connect(url)
        for table, made in filled(self.run_ids):
            prepared = insert(table, frozenset(made[0])).prepare(postgres.DIALECT)
            columns = [column.name for column in table.columns if column.name in made[0]]
            await self.connection.copy_records_to_table(
                table.name, records=[prepared.arguments(row) for row in made], columns=columns
            )
        await self.connection.execute("VACUUM ANALYZE")

    def plan(self, bound: Bound) -> str:
        prepared = bound.statement.prepare(postgres.DIALECT)
        given = prepared.arguments(bound.values)
        found = self.runner.run(self.connection.fetch("EXPLAIN " + prepared.sql, *given))
        return "\n".join(row[0] for row in found)

    def scans(self, bound: Bound) -> list[str]:
        return re.findall(rf"^.*Seq Scan on (?:{'|'.join(BIG)})\b.*", self.plan(bound), re.MULTILINE)

    def reads_by_id(self, bound: Bound) -> bool:
        """Rows are read for the ids of a page that has its limit already."""
        return bool(re.search(r"Limit.*Index Scan using pk_", self.plan(bound), re.DOTALL))

    def sorts(self, bound: Bound) -> bool:
        """A sort of groups of equal keys, which are few, is not meant."""
        return bool(re.search(r"^\W*Sort\b", self.plan(bound), re.MULTILINE))

    def close(self) -> None:
        self.runner.run(self.connection.close())
        self.runner.close()


async def _make(url: str) -> None:
    database = await open_database(url)
    await database.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def planner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if request.param == "sqlite":
        found: Any = Sqlite(tmp_path_factory.mktemp("plans") / "big.db")
        yield found
        found.close()
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create()
    found = Postgres(url)
    yield found
    found.close()
    server.drop(url)


LATER = NOW + timedelta(days=400)


def events_of(given: dict[str, Any], *, by: Countable | None = None) -> Bound:
    """The page of events, or the count, that a filter on the wire asks for."""
    wanted = msgspec.convert(given, EventFilter)
    wanted = msgspec.structs.replace(wanted, occurred=OccurredFilter(since=NOW, until=LATER))
    narrowed = event_pages.narrow(wanted)
    values = {"since": NOW, "until": LATER, "limit": 100, **narrowed.values}
    if by is None:
        return event_pages._page(True, narrowed.parts)(**values, after_time=LATER, after_id=event_pages.LAST)
    return event_pages._counted(by, True, narrowed.parts)(**values, start=NOW, length=3_600_000_000)


STATEMENTS: dict[str, Any] = {
    "decision": lambda ids: runs._DECISION(id=ids[7]),
    "lock": lambda ids: runs._LOCK_RUN(id=ids[7]),
    "read": lambda ids: runs._FLOW_RUN(id=ids[7]),
    "value": lambda ids: runs._FLOW_RUN_VALUE(id=ids[7]),
    "by key": lambda ids: runs._BY_KEY(flow_id=FLOW, idempotency_key="77"),
    "task by key": lambda ids: runs._TASK_RUN_BY_KEY(flow_run_id=ids[7], task_key="load", dynamic_key="77"),
    "due": lambda ids: claims._DUE(work_queue_id=QUEUE, before=LATER, limit=10),
    "line": lambda ids: explaining._LINE(work_queue_id=QUEUE, before=LATER, limit=1000),
    "stands": lambda ids: explaining._STANDS(id=ids[7], before=LATER),
    "holders of a pool": lambda ids: explaining._HOLDERS_OF["work_pool"](key=POOL, limit=10, offset=0),
    "holders of a queue": lambda ids: explaining._HOLDERS_OF["work_queue"](key=QUEUE, limit=10, offset=0),
    "holders of a deployment": lambda ids: explaining._HOLDERS_OF["deployment"](
        key=DEPLOYMENT, limit=10, offset=0
    ),
    "due later": lambda ids: claims._DUE_AFTER(work_queue_id=QUEUE, before=NOW, after=NOW, limit=10),
    "next due": lambda ids: claims._NEXT(queues=[QUEUE]),
    "lapsed": lambda ids: claims._LAPSED(before=LATER, limit=10),
    "held": lambda ids: claims._HELD(work_pool_id=POOL),
    "slots": lambda ids: runs._SLOTS(slot_of=DEPLOYMENT),
    "above": lambda ids: runs._ENCLOSING(task_run_id=ids[7]),
    "to cancel": lambda ids: claims._TO_CANCEL(ids=ids[:3]),
    "overdue": lambda ids: runs._OVERDUE(before=NOW, limit=10),
    "paused": lambda ids: runs._IN_STATE_SINCE(state_type="PAUSED", before=NOW, after_id=ids[0], limit=10),
    "open subflows": lambda ids: runs._OPEN_SUBFLOWS(flow_run_id=ids[7]),
    "some of a flow": lambda ids: runs._SOME_OF_FLOW(flow_id=FLOW, limit=10),
    "detach": lambda ids: runs._DETACH(deployment_id=DEPLOYMENT, limit=10),
    "inside": lambda ids: concurrency._INSIDE(run_id=ids[7]),
    "release": lambda ids: concurrency._RELEASE(ids=ids[7:8], holders=ids[7:8]),
    "holders of slots": lambda ids: claims._HOLDERS(slot_of=DEPLOYMENT),
    "who waits for a slot": lambda ids: claims._WAITING(deployment_id=DEPLOYMENT),
    "forget": lambda ids: runs._FORGET_SCHEDULED(deployment_id=DEPLOYMENT, after=NOW),
    "forget one": lambda ids: runs._FORGET_SCHEDULE(deployment_id=DEPLOYMENT, after=NOW, schedule_id=ids[0]),
    "to schedule": lambda ids: deployments._TO_SCHEDULE(before=NOW, limit=10),
    "deployment": lambda ids: deployments._DEPLOYMENT(id=DEPLOYMENT),
    "known events": lambda ids: records._KNOWN(ids=ids[:50]),
    "known runs": lambda ids: runs._FLOW_RUNS_KNOWN(ids=ids[:50]),
    "known tasks": lambda ids: runs._TASK_STATES_KNOWN(ids=ids[:50]),
    "task rows": lambda ids: runs._TASK_ROWS(ids=ids[:50]),
    "histories": lambda ids: runs._TASK_HISTORIES(ids=ids[:50]),
    "next run of a flow": lambda ids: tallies._NEXT_RUN(flow_id=FLOW),
    "tasks by run": lambda ids: tallies._TASKS_BY_RUN(ids=ids[:50]),
    "named task": lambda ids: tallies._TASK_RUN_NAMED(id=ids[7]),
    "graph": lambda ids: graphs._PARTS(flow_run_id=ids[7], since=NOW),
    "graph states": lambda ids: graphs._STATES(flow_run_id=ids[7]),
    "dependencies": lambda ids: graphs._DEPENDENCIES(flow_run_id=ids[7]),
    "queues with due runs": lambda ids: claims._WITH_DUE(queues=[QUEUE], before=LATER),
    "due runs to read": lambda ids: runs._FLOW_RUNS_OF(ids=ids[:10]),
    "without a lease": lambda ids: heartbeats._UNLEASED(before=NOW, after_id=ids[0], limit=10),
    "heard": lambda ids: heartbeats._HEARD(resource_id=f"prefect.flow-run.{ids[7]}"),
    "last line": lambda ids: heartbeats._LAST_LINE(flow_run_id=ids[7]),
    "span of a line": lambda ids: log_pages._span_of(True, frozenset({"ge_"}))(
        flow_run_id=ids[7], skipped=9000, at_least=20
    ),
    "names of events": lambda ids: event_pages._SOME_NAMES(),
    "late runs": lambda ids: queue_status._LATE(work_queue_id=QUEUE),
    "holders": lambda ids: queue_status._HOLDERS(work_queue_id=QUEUE, limit=10, offset=0),
    "log file": lambda ids: records._RUN_LOG(flow_run_id=ids[7], after_time=NOW, after_id=ids[0], limit=10),
    "event page": lambda ids: event_pages._page(True, ())(
        since=NOW, until=LATER, after_time=LATER, after_id=ids[0], limit=100
    ),
    "events of a resource": lambda ids: events_of({"resource": {"id": [f"r.{ids[7]}"]}}),
    "events of ids": lambda ids: events_of({"id": {"id": [str(ids[7])]}}),
    **{
        f"{kind} {ready}": lambda ids, one=statement: one(since=NOW, limit=10)
        for (kind, ready), statement in readiness._CHANGED.items()
    },
    **{f"gone {kind}": lambda ids, one=one: one(limit=10) for kind, one in readiness._ORPHANS.items()},
    "natural keys": lambda ids: runs._BY_NATURAL_KEYS(
        flow_run_id=ids[7], task_key="load", dynamic_keys=["70", "71"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_hot_statement_uses_an_index(planner: Any, name: str) -> None:
    bound = STATEMENTS[name](planner.run_ids)
    assert planner.scans(bound) == [], planner.plan(bound)


@pytest.mark.parametrize("name", ["due", "overdue", "paused", "lapsed", "event page", "next run of a flow"])
def test_the_oldest_are_found_without_a_sort(planner: Any, name: str) -> None:
    bound = STATEMENTS[name](planner.run_ids)
    assert not planner.sorts(bound), planner.plan(bound)


SORTS = [(entity, sort) for entity in ("flow_runs", "task_runs", "logs") for sort in filters.SORTS[entity]]
SELECTS = {"flow_runs": rows.FLOW_RUNS, "task_runs": rows.TASK_RUNS, "logs": records.LOGS}


def listed(entity: str, sort: str, parts: Sequence[Any] = (), related: Any = ()) -> Bound:
    return where.bind(SELECTS[entity], Query(entity, Group("and_", tuple(parts)), related, sort, 50, 0))


@pytest.mark.parametrize(("entity", "sort"), SORTS)
def test_a_page_in_any_order_is_read_from_an_index(planner: Any, entity: str, sort: str) -> None:
    bound = listed(entity, sort)
    assert planner.scans(bound) == [], planner.plan(bound)
    assert not planner.sorts(bound), planner.plan(bound)


FILTERED: dict[str, Any] = {
    "runs by id": lambda ids: listed("flow_runs", "ID_DESC", [Condition("id", "any_", ids[:20])]),
    "runs of a deployment": lambda ids: listed(
        "flow_runs", "EXPECTED_START_TIME_DESC", [Condition("deployment_id", "any_", [DEPLOYMENT])]
    ),
    "runs of a flow": lambda ids: listed(
        "flow_runs",
        "START_TIME_DESC",
        related=(("flows", Group("and_", (Condition("id", "any_", [FLOW]),))),),
    ),
    "over, by start": lambda ids: listed(
        "flow_runs", "START_TIME_DESC", [Condition("state_type", "any_", ["COMPLETED", "FAILED"])]
    ),
    "children": lambda ids: listed(
        "flow_runs", "ID_DESC", [Condition("parent_task_run_id", "any_", ids[:1])]
    ),
    "running": lambda ids: listed("flow_runs", "ID_DESC", [Condition("state_type", "any_", ["RUNNING"])]),
    "over": lambda ids: listed(
        "flow_runs", "EXPECTED_START_TIME_DESC", [Condition("state_type", "any_", ["COMPLETED"])]
    ),
    "recent": lambda ids: listed(
        "flow_runs", "EXPECTED_START_TIME_ASC", [Condition("expected_start_time", "after_", LATER)]
    ),
    "begun or to begin": lambda ids: listed(
        "flow_runs", "START_TIME_DESC", [Condition("start_time", "after_", LATER)]
    ),
    "tasks of a run": lambda ids: listed(
        "task_runs", "ID_DESC", [Condition("flow_run_id", "any_", ids[7:8])]
    ),
    "logs of a run": lambda ids: listed(
        "logs", "TIMESTAMP_ASC", [Condition("flow_run_id", "any_", ids[7:8])]
    ),
    "logs of a run, by level": lambda ids: listed(
        "logs", "TIMESTAMP_DESC", [Condition("flow_run_id", "any_", ids[7:8]), Condition("level", "ge_", 20)]
    ),
    "logs of a task": lambda ids: listed(
        "logs", "TIMESTAMP_ASC", [Condition("task_run_id", "any_", ids[7:8])]
    ),
    "logs of runs": lambda ids: listed(
        "logs", "TIMESTAMP_ASC", [Condition("flow_run_id", "any_", ids[5:8])]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERED)
def test_a_filtered_page_uses_an_index(planner: Any, name: str) -> None:
    bound = FILTERED[name](planner.run_ids)
    assert planner.scans(bound) == [], planner.plan(bound)


MANY = ("over, by start", "runs of a flow", "logs of a run", "logs of a task")


@pytest.mark.parametrize("name", MANY)
def test_a_page_of_many_rows_is_not_sorted(planner: Any, name: str) -> None:
    bound = FILTERED[name](planner.run_ids)
    assert not planner.sorts(bound), planner.plan(bound)


def far(entity: str, sort: str, parts: Sequence[Any] = ()) -> Bound:
    query = Query(entity, Group("and_", tuple(parts)), (), sort, 50, 9000)
    return where.bind(SELECTS[entity], query)


FOUND_FIRST: dict[str, Any] = {
    "a far page of runs": lambda ids: far("flow_runs", "EXPECTED_START_TIME_ASC"),
    "a far page of a log": lambda ids: far(
        "logs", "TIMESTAMP_ASC", [Condition("flow_run_id", "any_", ids[7:8])]
    ),
    "running, when expected": lambda ids: listed(
        "flow_runs", "EXPECTED_START_TIME_DESC", [Condition("state_type", "any_", ["RUNNING"])]
    ),
    "over, when expected": lambda ids: FILTERED["over"](ids),
    "recent, when expected": lambda ids: FILTERED["recent"](ids),
    "runs of a flow, when expected": lambda ids: listed(
        "flow_runs",
        "EXPECTED_START_TIME_DESC",
        related=(("flows", Group("and_", (Condition("id", "any_", [FLOW]),))),),
    ),
    "runs of a pool": lambda ids: listed(
        "flow_runs",
        "START_TIME_DESC",
        related=(("work_pools", Group("and_", (Condition("name", "any_", ["pool"]),))),),
    ),
    "runs of a deployment, when expected": lambda ids: FILTERED["runs of a deployment"](ids),
}


@pytest.mark.parametrize("name", FOUND_FIRST)
def test_a_page_is_found_before_its_rows_are_read(planner: Any, name: str) -> None:
    bound = FOUND_FIRST[name](planner.run_ids)
    assert planner.scans(bound) == [], planner.plan(bound)
    assert planner.reads_by_id(bound), planner.plan(bound)


SPAN = {"now": LATER, "start": NOW, "end": NOW + timedelta(hours=1), "length": 60_000_000}


def tallied(select: Any, entity: str, parts: Sequence[Any] = (), related: Any = (), **values: Any) -> Bound:
    return where.bind_all(select, Query(entity, Group("and_", tuple(parts)), related), **values)


OF_FLOW = (("flows", Group("and_", (Condition("id", "any_", [DEPLOYMENT]),))),)
COUNTED: dict[str, Any] = {
    "history": lambda ids: tallied(tallies._HISTORIES["flow_runs"], "flow_runs", **SPAN),
    "history of tasks": lambda ids: tallied(tallies._HISTORIES["task_runs"], "task_runs", **SPAN),
    "lateness of a flow": lambda ids: tallied(
        tallies._AVERAGE_LATENESS, "flow_runs", related=OF_FLOW, now=LATER
    ),
    "runs of a flow": lambda ids: where.bind_count(Query("flow_runs", related=OF_FLOW)),
    "runs that run": lambda ids: where.bind_count(
        Query(
            "flow_runs",
            Group("and_", (Condition("state_type", "any_", ["RUNNING"]),)),
            sort="EXPECTED_START_TIME_DESC",
        )
    ),
    "tasks of a run": lambda ids: where.bind_count(
        Query("task_runs", Group("and_", (Condition("flow_run_id", "any_", ids[7:8]),)))
    ),
    "states of the tasks of a run": lambda ids: tallied(
        tallies._BY_STATE, "task_runs", [Condition("flow_run_id", "any_", ids[7:8])]
    ),
    "task runs since": lambda ids: tallied(
        tallies._OUTCOMES, "task_runs", start=NOW, end=LATER, length=60_000_000
    ),
    "ids to delete": lambda ids: where.ids_of(
        Query("flow_runs", Group("and_", (Condition("id", "any_", ids[:3]),)), limit=50)
    ),
}


NAMED = event_pages.narrow(EventFilter(event=NameFilter(prefix=["e"])))
COVERED: dict[str, Any] = {
    "held": lambda ids: claims._HELD(work_pool_id=POOL),
    "task runs since": COUNTED["task runs since"],
    "history": COUNTED["history"],
    "lateness since": lambda ids: tallied(
        tallies._AVERAGE_LATENESS, "flow_runs", [Condition("start_time", "after_", LATER)], now=LATER
    ),
    "events by name, each": lambda ids: event_pages._by_name(NAMED.parts)(
        since=NOW, until=LATER, **NAMED.values
    ),
    "events by time, each": lambda ids: event_pages._by_interval(NAMED.parts)(
        since=NOW, until=LATER, start=NOW, length=3_600_000_000, last=10, **NAMED.values
    ),
    "total of events": lambda ids: event_pages._total(NAMED.parts)(
        since=NOW, until=NOW + timedelta(seconds=500), limit=10_000, **NAMED.values
    ),
    "events by name": lambda ids: events_of({"event": {"prefix": ["e"]}}, by=Countable.EVENT),
    "events by time": lambda ids: events_of({"event": {"exclude_name": ["f"]}}, by=Countable.TIME),
}


@pytest.mark.parametrize("name", COVERED)
def test_a_count_is_read_from_an_index_alone(planner: Any, name: str) -> None:
    bound = COVERED[name](planner.run_ids)
    assert re.search("USING COVERING INDEX|Index Only Scan", planner.plan(bound)), planner.plan(bound)


@pytest.mark.parametrize("name", COUNTED)
def test_a_count_reads_only_what_it_counts(planner: Any, name: str) -> None:
    bound = COUNTED[name](planner.run_ids)
    assert planner.scans(bound) == [], planner.plan(bound)
