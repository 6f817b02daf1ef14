"""Filters mean the same in SQL, on every database, as when they are evaluated one row after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.core import filters
from eparch.core.filters import Condition, Group, Query
from eparch.core.model import new_id
from eparch.core.records import LogCreate
from eparch.core.states import StateType, state
from eparch.store import deployments, pools, records, runs, where
from eparch.store.database import Database, open_database

from . import making
from .making import NOW

TEXTS = ["a", "A", "ab", "a%", "a_", "%", "_", "\\", "b'", "É", "é", "🦊", "", "abc", "ABC"]
NAMES = [text for text in TEXTS if text] + ["x%yA", "xyzA", "x_yA"]
TIMES = [NOW + timedelta(seconds=n) for n in range(4)]
IDS = [new_id() for _ in range(4)]
Rows = dict[str, dict[UUID, dict[str, Any]]]


def random_rows(rng: random.Random) -> Rows:
    """Rows of every entity, linked at random, with many equal values and nulls."""

    def some(values: list[Any], null: float = 0.3) -> Any:
        return None if rng.random() < null else rng.choice(values)

    def tags() -> list[str]:
        return rng.sample(TEXTS, rng.choice([0, 0, 1, 2, 3]))

    found: Rows = {entity: {} for entity in where.TABLES}
    for _ in range(4):
        pool = making.pool()
        found["work_pools"][pool["id"]] = pool
        for name in rng.sample(NAMES, 3):
            queue = making.queue(pool["id"], name=name, priority=rng.randint(1, 2))
            found["work_queues"][queue["id"]] = queue
    queue_ids = list(found["work_queues"])
    for name in rng.sample(NAMES, 8):
        flow = making.flow(name=name, tags=tags(), created=rng.choice(TIMES), updated=rng.choice(TIMES))
        found["flows"][flow.id] = {n: getattr(flow, n) for n in flow.__struct_fields__}
        for deployment_name in rng.sample(NAMES, rng.randint(0, 3)):
            made = making.deployment(
                flow.id, name=deployment_name, tags=tags(), paused=rng.random() < 0.5,
                concurrency_limit=some([1, 2, 3]), work_queue_id=some(queue_ids), created=rng.choice(TIMES),
            )  # fmt: skip
            found["deployments"][made["id"]] = made
    for _ in range(60):
        run = making.flow_run(
            rng.choice(list(found["flows"])),
            state(rng.choice(list(StateType)), some(NAMES, 0.5), timestamp=NOW),
            name=rng.choice(NAMES), tags=tags(), deployment_id=some(list(found["deployments"])),
            work_queue_id=some(queue_ids), start_time=some(TIMES), end_time=some(TIMES),
            expected_start_time=rng.choice(TIMES), next_scheduled_start_time=some(TIMES),
            flow_version=some(TEXTS), parent_task_run_id=some(IDS),
            created_by=some([{"id": str(i), "type": t} for i in IDS for t in ("USER", "SCHEDULE")]),
        )  # fmt: skip
        run["idempotency_key"] = some([f"{run['id']}", *[f"{t}{run['id']}" for t in TEXTS]])
        found["flow_runs"][run["id"]] = run
    run_ids = list(found["flow_runs"])
    for number in range(60):
        task = making.task_run(
            some(run_ids), state(rng.choice(list(StateType)), timestamp=NOW), name=rng.choice(NAMES),
            tags=tags(), start_time=some(TIMES), end_time=some(TIMES), expected_start_time=rng.choice(TIMES),
            next_scheduled_start_time=some(TIMES), total_run_time=rng.choice([0.0, 1.5]),
            **({"id": IDS[number]} if number < 2 else {}),
        )  # fmt: skip
        found["task_runs"][task["id"]] = task
    task_ids = list(found["task_runs"])
    for _ in range(60):
        line = {
            "id": new_id(), "name": "n", "level": rng.randint(0, 3), "message": rng.choice(TEXTS),
            "timestamp": rng.choice(TIMES), "flow_run_id": some(run_ids[:5]),
            "task_run_id": some(task_ids[:5]),
        }  # fmt: skip
        found["logs"][line["id"]] = line
    return found


@pytest.fixture(scope="module")
def rows() -> Rows:
    return random_rows(random.Random(20260102))


class Filled:
    """A database that has all the rows, and a loop on which it lives."""

    def __init__(self, url: str, rows: Rows) -> None:
        self.runner = asyncio.Runner()
        self.database: Database = self.runner.run(open_database(url))
        self.runner.run(self.fill(rows))

    async def fill(self, rows: Rows) -> None:
        flows = [making.flow(**flow) for flow in rows["flows"].values()]
        others = ("work_pools", "work_queues", "deployments", "flow_runs", "task_runs")
        made = [row for entity in others for row in rows[entity].values()]
        await self.database.write(making.insert, *flows, *made)
        for line in rows["logs"].values():
            fields = {name: value for name, value in line.items() if name != "id"}
            await self.database.write(records.insert_logs, [LogCreate(**fields)], NOW)

    def scan(self, *arguments: Any) -> Any:
        return self.runner.run(self.database.scan(*arguments))

    def close(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    if request.param == "sqlite":
        one = Filled(f"sqlite:///{tmp_path_factory.mktemp('where')}/x.db", rows)
        yield one
        one.close()
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create()
    one = Filled(url, rows)
    yield one
    one.close()
    server.drop(url)


# The straightforward evaluation


def lower(text: str) -> str:
    """Only A to Z have a lower case here."""
    return "".join(c.lower() if c.isascii() else c for c in text)


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "any_": lambda have, want: have in want,
    "not_any_": lambda have, want: have not in want,
    "all_": lambda have, want: set(want) <= set(have),
    "overlaps_": lambda have, want: bool(set(want) & set(have)),
    "like_": lambda have, want: lower(want) in lower(have),
    "query": lambda have, want: lower(want) in lower(have),
    "startswith_": lambda have, want: any(lower(have).startswith(lower(w)) for w in want),
    "before_": lambda have, want: have <= want,
    "le_": lambda have, want: have <= want,
    "after_": lambda have, want: have >= want,
    "ge_": lambda have, want: have >= want,
    "eq_": lambda have, want: have is want,
}


class Evaluation:
    """What the tree of a query says of one row."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def admits(self, query: Query, row: dict[str, Any]) -> bool:
        return self.group(query.entity, query.where, row) and all(
            any(self.group(entity, group, other) for other in self.linked(query.entity, entity, row))
            for entity, group in query.related
        )

    def group(self, entity: str, group: Group, row: dict[str, Any]) -> bool:
        found = [
            self.group(entity, part, row) if isinstance(part, Group) else self.condition(entity, part, row)
            for part in group.parts
        ]
        return all(found) if group.operator == "and_" or not found else any(found)

    def condition(self, entity: str, part: Condition, row: dict[str, Any]) -> bool:
        have = self.value(entity, part.field, row, part.op)
        if part.op == "is_null_":
            return (not have if isinstance(have, list) else have is None) is part.value
        if part.op == "exists_":
            return (have is not None) is part.value
        if have is None:
            return part.op == "not_any_" and not part.value
        if part.field in ("work_queue_name", "flow_or_deployment_name", "parent_flow_run_id"):
            return any(OPERATORS[part.op](one, part.value) for one in have)
        return bool(OPERATORS[part.op](have, part.value))

    def value(self, entity: str, field: str, row: dict[str, Any], op: str = "") -> Any:
        rows = self.rows
        match entity, field:
            case "flows", "deployment":
                return [d for d in rows["deployments"].values() if d["flow_id"] == row["id"]]
            case _, "work_queue_name":
                queue = rows["work_queues"].get(row["work_queue_id"])
                return queue and (queue["name"],)
            case _, "flow_or_deployment_name":
                return (row["name"], rows["flows"][row["flow_id"]]["name"])
            case _, "parent_flow_run_id":
                task = rows["task_runs"].get(row["parent_task_run_id"])
                return task and task["flow_run_id"] and (task["flow_run_id"],)
            case "task_runs", "subflow_runs":
                parents = {r["parent_task_run_id"] for r in rows["flow_runs"].values()}
                return True if row["id"] in parents else None
            case "flow_runs", ("created_by_id" | "created_by_type"):
                author = row["created_by"] or {}
                value = author.get(field.removeprefix("created_by_"))
                return UUID(value) if value and field.endswith("id") else value
            case "logs", "text":
                return row["message"]
            case "flow_runs", "start_time" if op != "is_null_":
                return row["start_time"] or row["expected_start_time"]
            case _:
                return row.get(field)

    def linked(self, entity: str, other: str, row: dict[str, Any]) -> list[dict[str, Any]]:
        middle = where._VIA.get((entity, other))
        if middle is not None:
            return [
                found for one in self.linked(entity, middle, row) for found in self.linked(middle, other, one)
            ]
        own, theirs = where._LINKS[entity, other]
        if row.get(own.name) is None:
            return []
        return [found for found in self.rows[other].values() if found.get(theirs.name) == row[own.name]]


def test_the_evaluation_itself(rows: Rows) -> None:
    evaluation = Evaluation(rows)
    like = Group("and_", (Condition("name", "like_", "x%"),))
    named = {r["name"] for r in rows["flow_runs"].values() if evaluation.group("flow_runs", like, r)}
    assert named == {"x%yA"}


# Queries


def values_of(entity: str, field: str, op: str, rows: Rows) -> st.SearchStrategy[Any]:
    """Values for ``field``, most of which some row has."""
    if field in (
        "tags",
        "name",
        "flow_version",
        "message",
        "text",
        "flow_or_deployment_name",
        "work_queue_name",
        "state_name",
    ):
        one: st.SearchStrategy[Any] = st.sampled_from([*TEXTS, *NAMES])
    elif field in ("state_type",):
        one = st.sampled_from(list(StateType))
    elif field == "idempotency_key":
        one = st.sampled_from(
            [r["idempotency_key"] for r in rows["flow_runs"].values() if r["idempotency_key"]]
        )
    elif field == "created_by_type":
        one = st.sampled_from(["USER", "SCHEDULE", "OTHER"])
    elif field in ("level", "concurrency_limit"):
        one = st.integers(0, 4)
    elif op in ("before_", "after_"):
        one = st.sampled_from([*TIMES, NOW - timedelta(days=1)])
    elif field == "type":
        one = st.just("process")
    else:
        kind = {"id": entity, "parent_flow_run_id": "flow_runs"}.get(field)
        kind = kind or (f"{field.removesuffix('_id')}s" if field.endswith("_id") else None)
        kind = kind if kind in rows else None
        one = st.sampled_from([*(list(rows[kind])[:6] if kind else []), *IDS])
    listed = op in ("any_", "not_any_", "all_", "overlaps_", "startswith_")
    return st.lists(one, max_size=3, unique=True) if listed else one


def conditions(entity: str, rows: Rows) -> st.SearchStrategy[Condition]:
    """Any condition that the wire's table of fields admits for ``entity``."""
    known: list[tuple[str, str, Any]] = []
    for field, operators in filters.FIELDS[entity].items():
        for op, kind in operators.items():
            if isinstance(kind, dict):
                known += [(f"{field}_{op}", inner, inner_kind) for inner, inner_kind in kind.items()]
            elif op in ("id_", "type_"):
                known.append((f"{field}_{op.rstrip('_')}", "any_", kind))
            elif field == "tags" and op == "any_":
                known.append((field, "overlaps_", kind))
            else:
                known.append((field, op, kind))

    def condition(chosen: tuple[str, str, Any]) -> st.SearchStrategy[Condition]:
        field, op, kind = chosen
        value = st.booleans() if kind is bool else values_of(entity, field, op, rows)
        return value.map(lambda v: Condition(field, op, v))

    return st.sampled_from(known).flatmap(condition)


def groups(entity: str, rows: Rows, most: int = 3) -> st.SearchStrategy[Group]:
    one = conditions(entity, rows)
    group = st.builds(
        Group, st.sampled_from(["and_", "or_"]), st.lists(one, min_size=1, max_size=3).map(tuple)
    )
    part = st.one_of(one, group)
    return st.builds(Group, st.sampled_from(["and_", "or_"]), st.lists(part, max_size=most).map(tuple))


TAKES = {
    "flow_runs": filters.READ_FLOW_RUNS,
    "task_runs": filters.READ_TASK_RUNS,
    "deployments": filters.READ_DEPLOYMENTS,
    "flows": filters.READ_FLOWS,
    "logs": filters.READ_LOGS,
    "work_queues": filters.READ_WORK_QUEUES,
    "work_pools": filters.READ_WORK_POOLS,
}


@st.composite
def queries(draw: st.DrawFn, entity: str, rows: Rows) -> Query:
    others = [filters._ALIASES.get(name, name) for name in TAKES[entity].takes]
    chosen = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    related = tuple(
        (other, group)
        for other in sorted(set(chosen) - {entity})
        if (group := draw(groups(other, rows, 2))).parts
    )
    return Query(
        entity,
        draw(groups(entity, rows)),
        related,
        draw(st.sampled_from(filters.SORTS[entity])),
        draw(st.sampled_from([200, 200, 3, 1, 0])),
        draw(st.sampled_from([0, 0, 1, 5, 1000])),
    )


def expected(query: Query, rows: Rows) -> list[dict[str, Any]]:
    """The rows of ``query``, ordered, its page aside."""
    evaluation = Evaluation(rows)
    found = [row for row in rows[query.entity].values() if evaluation.admits(query, row)]
    name, _, direction = query.sort.rpartition("_")
    field = "total_run_time" if name == "DURATION" else name.lower()
    found.sort(key=lambda row: row["id"], reverse=direction == "DESC")
    keys = {row["id"]: evaluation.value(query.entity, field, row) for row in found}
    known = [row for row in found if keys[row["id"]] is not None]
    known.sort(key=lambda row: _comparable(keys[row["id"]]), reverse=direction == "DESC")
    return known + [row for row in found if keys[row["id"]] is None]


def _comparable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


READERS: dict[str, tuple[Any, bool]] = {
    "flow_runs": (runs.read_flow_runs, True),
    "task_runs": (runs.read_task_runs, True),
    "deployments": (deployments.read_deployments, True),
    "flows": (deployments.read_flows, False),
    "logs": (records.read_logs, False),
    "work_queues": (pools.read_queues, True),
    "work_pools": (pools.read_pools, True),
}


@pytest.mark.parametrize("entity", READERS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_query_finds_what_the_evaluation_finds(
    filled: Filled, rows: Rows, entity: str, data: st.DataObject
) -> None:
    query = data.draw(queries(entity, rows))
    reader, needs_now = READERS[entity]
    page = filled.scan(reader, query, *([NOW] if needs_now else []))
    everything = expected(query, rows)
    wanted = everything[query.offset :][: query.limit]
    assert filled.scan(runs.count, query) == len(everything)
    if entity == "logs":  # their ids are made by the store
        assert [row["timestamp"] for row in page] == [row["timestamp"] for row in wanted]
        assert len(wanted) < len(everything) or texts(page) == texts(wanted)
    else:
        assert [str(row["id"]) for row in page] == [str(row["id"]) for row in wanted]


def texts(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(f"{line['timestamp']} {line['level']} {line['message']}" for line in lines)
