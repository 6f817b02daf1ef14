"""A small world for tests: a database, a clock that stands until it is moved, and short verbs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from msgspec.structs import asdict

from eparch.core.deployments import DeploymentCreate, DeploymentScheduleCreate, FlowCreate
from eparch.core.model import new_id
from eparch.core.pools import ClaimRuns, ClaimServed, WorkPoolCreate, WorkQueueCreate
from eparch.core.runs import (
    DeploymentFlowRunCreate,
    FlowRunCreate,
    FlowRunPolicy,
    SetState,
    StateAnswer,
    TaskRunCreate,
)
from eparch.core.states import State, StateCreate, StateDetails, StateType
from eparch.orchestration import claims, creation, deployments, pools, transition
from eparch.store import runs
from eparch.store import tables as t
from eparch.store.database import Database
from eparch.store.rows import id_of
from eparch.store.statement import Note, Statement, Steps

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

S = StateType


def a_state(type_: StateType, name: str | None = None, **more: Any) -> StateCreate:
    """A proposal; ``message`` and ``data`` are its own, the rest goes into its details."""
    own = {key: more.pop(key) for key in ("message", "data") if key in more}
    return StateCreate(type=type_, name=name, state_details=StateDetails(**more), **own)


class Broken(Exception):
    """Raised in the middle of a transaction, to see that nothing of it stays."""


def select(query: Any, values: dict[str, Any]) -> Steps[list[dict[str, Any]]]:
    """Run ``query``; its rows by name."""
    found = yield Statement(query)(**values)
    keys = [str(column.key) for column in query.selected_columns]
    return [dict(zip(keys, row, strict=True)) for row in found]


class World:
    """Verbs over one database at ``now``."""

    def __init__(self, database: Database, now: datetime = START) -> None:
        self.database = database
        self.now = now
        self.notes: list[Note] = []
        self._names = 0
        database.on_notes = self.notes.extend

    def pass_seconds(self, seconds: float) -> datetime:
        """Let time go by."""
        self.now += timedelta(seconds=seconds)
        return self.now

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    # Making

    async def flow(self, name: str | None = None, **fields: Any) -> UUID:
        """The id of a flow."""
        body = FlowCreate(name=name or self._name("flow"), **fields)
        found, _ = await self.database.write(deployments.create_flow, body, self.now)
        return id_of(found["id"])

    async def pool(self, name: str = "pool", **fields: Any) -> UUID:
        """The id of a pool."""
        body = WorkPoolCreate(name=name, **{"type": "process", **fields})
        made = await self.database.write(pools.create_pool, body, self.now)
        return id_of(made["id"])

    async def queue(self, name: str, pool: str = "pool", **fields: Any) -> UUID:
        """The id of a queue."""
        body = WorkQueueCreate(name=name, **fields)
        made = await self.database.write(pools.create_queue, pool, body, self.now)
        return id_of(made["id"])

    async def deployment(self, pool: str | None = "pool", **fields: Any) -> UUID:
        """The id of a deployment."""
        made, _ = await self.deploy(pool, **fields)
        return id_of(made["id"])

    async def deploy(self, pool: str | None = "pool", **fields: Any) -> tuple[dict[str, Any], bool]:
        """Make or replace a deployment."""
        flow_id = fields.pop("flow_id", None) or await self.flow("flow")
        schedules = [
            s if isinstance(s, DeploymentScheduleCreate) else DeploymentScheduleCreate(schedule=s)
            for s in fields.pop("schedules", [])
        ]
        name = fields.pop("name", None) or self._name("deployment")
        body = DeploymentCreate(
            name=name, flow_id=flow_id, work_pool_name=pool, schedules=schedules, **fields
        )
        return await self.database.write(deployments.create_deployment, body, self.now)

    async def run(
        self, deployment_id: UUID, due_in: float = 0, *, state: StateCreate | None = None, **fields: Any
    ) -> UUID:
        """The id of a run of the deployment that is due in so many seconds."""
        when = self.now + timedelta(seconds=due_in)
        body = DeploymentFlowRunCreate(state=state or a_state(S.SCHEDULED, scheduled_time=when), **fields)
        made = await self.database.write(
            creation.create_deployment_run, deployment_id, body, self.now, new_name=self._name("run")
        )
        return id_of(made.run["id"])

    async def ad_hoc(self, flow_id: UUID | None = None, **fields: Any) -> UUID:
        """The id of a run without a deployment."""
        body = FlowRunCreate(flow_id=flow_id or await self.flow("flow"), **fields)
        made = await self.database.write(creation.create_flow_run, body, self.now, new_name=self._name("run"))
        return id_of(made.run["id"])

    async def dummy_task(self, flow_run_id: UUID | None, **fields: Any) -> UUID:
        """The id of a task run that is made over REST, as for a subflow."""
        body = TaskRunCreate(flow_run_id=flow_run_id, task_key=self._name("task"), dynamic_key="0", **fields)
        made = await self.database.write(creation.create_task_run, body, self.now)
        return id_of(made.run["id"])

    # Moving

    async def set(
        self,
        run_id: UUID,
        type_: StateType,
        name: str | None = None,
        *,
        token: int | None = None,
        stock: tuple[int, int, int] | None = None,
        force: bool = False,
        **more: Any,
    ) -> StateAnswer:
        """Propose a state a moment later; the answer."""
        self.pass_seconds(0.001)
        body = SetState(state=a_state(type_, name, **more), force=force)
        answered = await self.database.write(
            transition.set_flow_run_state, run_id, body, self.now, token=token, stock=stock
        )
        return answered.answer

    async def go(self, run_id: UUID, *types: StateType, token: int | None = None) -> None:
        """Propose states that must all be accepted."""
        for type_ in types:
            answer = await self.set(run_id, type_, token=token)
            assert answer.status == "ACCEPT", (type_, answer)

    def request(self, limit: int = 10, **fields: Any) -> ClaimRuns:
        """What a worker asks."""
        asked = {"claim_id": new_id(), "worker_name": "worker", "limit": limit, "lease_seconds": 30.0}
        return ClaimRuns(**{**asked, **fields})

    def serving(self, deployment_ids: Sequence[UUID], limit: int = 10, **fields: Any) -> ClaimServed:
        """What a process asks that serves deployments."""
        asked = asdict(self.request(limit, **fields))
        return ClaimServed(**asked, deployment_ids=list(deployment_ids))

    async def claim(self, limit: int = 10, pool: str = "pool", **fields: Any) -> dict[UUID, int]:
        """Claim; the token of each run that was taken, in the order in which they were taken."""
        work = await self.database.write(claims.claim, pool, self.request(limit, **fields), self.now)
        return {one.flow_run.id: one.claim.token for one in work.runs}

    async def due(self, limit: int = 10, pool: str = "pool", names: Sequence[str] = ()) -> list[UUID]:
        """What a stock worker's poll is answered."""
        found = await self.database.write(claims.due_runs, pool, names, self.now, self.now, limit)
        return [id_of(one["flow_run"]["id"]) for one in found]  # type: ignore[index]

    # Looking

    async def select(self, query: Any, **values: Any) -> list[dict[str, Any]]:
        """Rows by name."""
        return await self.database.read(select, query, values)

    async def read(self, run_id: UUID) -> dict[str, Any]:
        """The columns of a flow run."""
        return (await self.select(sa.select(*t.flow_run.columns).where(_is(t.flow_run.c.id, run_id))))[0]

    async def state(self, run_id: UUID) -> str:
        """The name of the run's state."""
        return str((await self.read(run_id))["state_name"])

    async def history(self, run_id: UUID) -> list[dict[str, Any]]:
        """The run's states, oldest first."""
        query = sa.select(*t.flow_run_state.columns).where(_is(t.flow_run_state.c.flow_run_id, run_id))
        return await self.select(query.order_by(t.flow_run_state.c.timestamp))

    async def claims(self) -> dict[UUID, dict[str, Any]]:
        """Claims by their run."""
        return {row["flow_run_id"]: row for row in await self.select(sa.select(*t.claim.columns))}

    async def events(self, run_id: UUID) -> list[dict[str, Any]]:
        """The events about a flow run, in the order of the states."""
        query = sa.select(*t.event.columns).where(
            t.event.c.resource_id == sa.literal(f"prefect.flow-run.{run_id}", literal_execute=True)
        )
        found = {row["id"]: row for row in await self.select(query)}
        return [found.pop(row["id"]) for row in await self.history(run_id)] + list(found.values())

    async def task_run(self, run_id: UUID) -> dict[str, Any] | None:
        """A task run as the wire answers it."""
        return await self.database.read(runs.read_task_run, run_id, self.now)


async def traces(world: World, run_id: UUID) -> tuple[Any, ...]:
    """Everything that a transition may have written: row, history, events, claims."""
    row = await world.read(run_id)
    return row, await world.history(run_id), await world.events(run_id), await world.claims()


def _is(column: Any, value: UUID) -> Any:
    return column == sa.bindparam(None, value, type_=column.type)


async def gather(*calls: Any) -> list[Any]:
    """All at once."""
    return list(await asyncio.gather(*calls))


__all__ = ["START", "Broken", "FlowRunPolicy", "S", "State", "World", "a_state", "gather", "select", "traces"]
