"""A plan is applied whole or not at all, once, and not when it is stale (rows D12, D13, D15, D16, ADR 12)."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.orchestration.world import START, Broken, S, World

from eparch.core.automation_actions import RunDeployment
from eparch.core.automations import AutomationCreate, AutomationPatch, EventTrigger
from eparch.core.deploy_plans import (
    Applied,
    DeployPlan,
    PlannedDeployment,
    PlannedQueue,
    SeenAutomation,
    SeenDeployment,
    SeenPool,
    Standing,
    StandingQuery,
)
from eparch.core.deployment_versions import (
    VERSION_LABEL,
    Content,
    ContentSchedule,
    Origin,
    Source,
    content_of,
    differences,
)
from eparch.core.deployments import DeploymentScheduleUpdate, DeploymentUpdate, PlanRuns
from eparch.core.errors import Conflict, EparchError, Invalid, NotFound
from eparch.core.model import encode, new_id
from eparch.core.pools import WorkPoolCreate, WorkPoolUpdate
from eparch.orchestration import applying, automation_changes, claims, deployments, pools, scheduler
from eparch.store import automations, deployment_versions
from eparch.store import tables as t
from eparch.store.database import Database, open_database
from eparch.store.statement import Bound, Steps

pytestmark = pytest.mark.anyio

HOUR = {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
CRON = {"cron": "0 9 * * *", "timezone": "UTC", "day_or": True}
PROJECT = "shop at somewhere"
TABLES = (
    t.flow, t.deployment, t.deployment_schedule, t.work_pool, t.work_queue, t.automation, t.event,
    t.deployment_head, t.deployment_version, t.applied_plan, t.flow_run,
)  # fmt: skip


def planned(name: str, number: int | None = None, **fields: Any) -> PlannedDeployment:
    own = {key: fields.pop(key) for key in list(fields) if key in PlannedDeployment.__struct_fields__}
    return PlannedDeployment(
        **{"id": new_id(), "flow_name": "flow", "name": name, "number": number, **own},
        content=Content(**{"entrypoint": "f.py:flow", **fields}),
    )


async def apply(world: World, plan: DeployPlan | None = None, **fields: Any) -> Applied:
    plan = plan or DeployPlan(request_id=new_id(), **fields)
    return await world.database.write(applying.apply_plan, plan, 50, world.now)


async def standing(world: World, *names: str, project: str | None = None) -> dict[str, Standing]:
    query = StandingQuery(deployments=[("flow", name) for name in names], project=project)
    found = await world.database.read(applying.read_standing, query, world.now)
    return {one.deployment.name: one for one in found.deployments}


async def rows_of_all(world: World) -> dict[str, list[Any]]:
    return {table.name: sorted(await world.select(sa.select(*table.columns)), key=repr) for table in TABLES}


def again(found: Standing, **fields: Any) -> PlannedDeployment:
    """A plan that changes these fields of what is there."""
    content = msgspec.structs.replace(content_of(found.deployment), **fields)
    return PlannedDeployment(
        id=found.deployment.id, flow_name=found.flow_name, name=found.deployment.name,
        number=found.number, content=content,
    )  # fmt: skip


async def test_a_plan_makes_flows_pools_queues_deployments_schedules_and_automations(world: World) -> None:
    one = planned(
        "a",
        schedules=[ContentSchedule(schedule=CRON, slug="daily")],
        work_pool_name="new",
        work_queue_name="high",
        concurrency_limit=3,
        tags=["x"],
        applied={"tags": ["x"]},
    )
    two = planned("b", flow_name="other", automations=[])
    fired = AutomationCreate(
        name="fires",
        trigger=EventTrigger(posture="Reactive", expect=["order.placed"]),
        actions=[RunDeployment(deployment_id=two.id)],
    )
    two = msgspec.structs.replace(two, automations=[fired])
    made = await apply(
        world, project=PROJECT, origin=Origin(source=Source.DEPLOY, author="ada", commit="c0ffee"),
        pools=[WorkPoolCreate(name="new", type="process")], queues=[PlannedQueue(pool="new", name="low")],
        deployments=[one, two],
    )  # fmt: skip
    assert [(d.id, d.name, d.number, d.created) for d in made.deployments] == [
        (one.id, "a", 1, True), (two.id, "b", 1, True),
    ]  # fmt: skip
    found = await standing(world, "a", project=PROJECT)
    assert set(found) == {"a", "b"}
    first = found["a"]
    assert differences(one.content, msgspec.structs.replace(content_of(first.deployment), labels={})) == {}
    assert (first.number, first.project, first.applied) == (1, PROJECT, {"tags": ["x"]})
    assert first.changed is not None
    assert (first.changed.origin.author, first.changed.origin.commit) == ("ada", "c0ffee")
    assert [automation.name for automation in found["b"].automations] == ["fires"]
    assert found["b"].automations[0].actions == [RunDeployment(deployment_id=two.id)]
    queues = {row["name"] for row in await world.select(sa.select(*t.work_queue.columns))}
    assert queues == {"default", "high", "low"}
    events = [row["event"] for row in await world.select(sa.select(*t.event.columns))]
    assert events.count("prefect.deployment.created") == 2
    assert {"prefect.work-pool.created", "prefect.automation.created"} <= set(events)
    assert any(note.topic == "schedules" and note.value == one.id for note in world.notes)


async def test_a_repeated_request_is_answered_and_not_applied_again(world: World) -> None:
    plan = DeployPlan(request_id=new_id(), deployments=[planned("a")])
    first = await apply(world, plan)
    before = await rows_of_all(world)
    world.pass_seconds(5)
    assert await apply(world, plan) == first
    assert await rows_of_all(world) == before
    both = await asyncio.gather(*(apply(world, msgspec.structs.replace(plan)) for _ in range(4)))
    assert all(answer == first for answer in both)


async def _seen_things(world: World) -> dict[str, Any]:
    """A pool, and deployments ``kept``, ``changed`` and ``gone``, the second with an automation."""
    await world.pool("pool")
    ids = {name: new_id() for name in ("kept", "changed", "gone")}
    fired = AutomationCreate(
        name="fires", trigger=EventTrigger(posture="Reactive", expect=["x"]),
        actions=[RunDeployment(deployment_id=ids["changed"])],
    )  # fmt: skip
    await apply(
        world,
        project=PROJECT,
        deployments=[
            planned(
                name, id=id_, work_pool_name="pool", schedules=[ContentSchedule(schedule=HOUR)],
                automations=[fired] if name == "changed" else None,
            )
            for name, id_ in ids.items()
        ],
    )  # fmt: skip
    found = await standing(world, project=PROJECT)
    [automation] = found["changed"].automations
    (pool,) = await world.select(sa.select(t.work_pool.c.updated))
    plan = DeployPlan(
        request_id=new_id(),
        project=PROJECT,
        deployments=[
            msgspec.structs.replace(
                again(found["changed"], tags=["new"]), automations=[],
                seen_automations=[SeenAutomation(id=automation.id, updated=automation.updated)],
            ),
            planned("fresh", work_pool_name="pool"),
        ],
        deletions=[SeenDeployment(id=ids["gone"], number=1)],
        unchanged=[SeenDeployment(id=ids["kept"], number=1)],
        seen_pools=[SeenPool(name="pool", updated=pool["updated"])],
    )  # fmt: skip
    return {"plan": plan, "ids": ids, "found": found, "automation": automation}


async def test_d13_a_plan_changes_deletes_and_leaves_alone(world: World) -> None:
    seen = await _seen_things(world)
    world.pass_seconds(1)
    await apply(world, seen["plan"])
    found = await standing(world, project=PROJECT)
    assert {name: one.number for name, one in found.items()} == {"kept": 1, "changed": 2, "fresh": 1}
    assert found["changed"].deployment.tags == ["new"]
    assert found["changed"].automations == []
    kept = seen["found"]["kept"]
    assert found["kept"] == kept
    told = await world.select(sa.select(t.event.c.event, t.event.c.resource_id))
    gone = f"prefect.deployment.{seen['ids']['gone']}"
    assert {"event": "prefect.deployment.deleted", "resource_id": gone} in told


async def _patch(world: World, seen: dict[str, Any], name: str) -> str:
    patch = DeploymentUpdate(description="by hand")
    await world.database.write(deployments.update_deployment, seen["ids"][name], patch, world.now)
    return f"'flow/{name}' was changed"


async def _patch_schedule(world: World, seen: dict[str, Any], name: str) -> str:
    schedule = seen["found"][name].deployment.schedules[0].id
    patch = DeploymentScheduleUpdate(active=False)
    await world.database.write(deployments.update_schedule, seen["ids"][name], schedule, patch, world.now)
    return f"'flow/{name}' was changed"


async def _delete(world: World, seen: dict[str, Any], name: str) -> str:
    await world.database.write(deployments.delete_deployment, seen["ids"][name], world.now)
    return "was deleted"


async def _make(world: World, seen: dict[str, Any], name: str) -> str:
    await world.deploy(None, name="fresh")
    return "'flow/fresh' was made"


async def _change_pool(world: World, seen: dict[str, Any], name: str) -> str:
    await world.database.write(pools.update_pool, "pool", WorkPoolUpdate(description="x"), world.now)
    return "the work pool 'pool' was changed"


async def _change_automation(world: World, seen: dict[str, Any], name: str) -> str:
    off = AutomationPatch(enabled=False)
    await world.database.write(automation_changes.enable_automation, seen["automation"].id, off, world.now)
    return "the automation 'fires' was changed"


@pytest.mark.parametrize(
    ("interfere", "name"),
    [
        (_patch, "changed"), (_patch, "kept"), (_patch, "gone"),
        (_patch_schedule, "changed"), (_patch_schedule, "kept"),
        (_delete, "changed"), (_delete, "kept"), (_delete, "gone"),
        (_make, ""), (_change_pool, ""), (_change_automation, ""),
    ],
)  # fmt: skip
async def test_a_plan_that_somebody_made_stale_is_refused_and_the_change_is_named(
    memory: World, interfere: Any, name: str
) -> None:
    world = memory
    seen = await _seen_things(world)
    world.pass_seconds(1)
    said = await interfere(world, seen, name)
    before = await rows_of_all(world)
    with pytest.raises(Conflict) as caught:
        await apply(world, seen["plan"])
    assert said in caught.value.message
    assert await rows_of_all(world) == before


async def test_of_two_plans_at_once_one_is_applied_and_the_other_is_told(world: World) -> None:
    seen = await _seen_things(world)
    other = msgspec.structs.replace(seen["plan"], request_id=new_id())
    answers = await asyncio.gather(apply(world, seen["plan"]), apply(world, other), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Applied", "Conflict"]


async def test_of_two_plans_that_make_the_same_one_is_applied(world: World) -> None:
    await world.pool("pool")
    plans = [DeployPlan(request_id=new_id(), deployments=[planned("a"), planned("b")]) for _ in range(2)]
    answers = await asyncio.gather(*(apply(world, plan) for plan in plans), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Applied", "Conflict"]


@pytest.mark.parametrize(
    ("fields", "kind", "word"),
    [
        ({"work_pool_name": "nowhere"}, NotFound, "nowhere"),
        ({"schedules": [ContentSchedule(schedule={"cron": "what"})]}, Invalid, "what"),
        ({"schedules": [ContentSchedule(schedule=CRON, slug="s")] * 2}, Conflict, "slug 's'"),
        (
            {"parameters": {"n": "x"}, "parameter_openapi_schema": {
                "type": "object", "properties": {"n": {"type": "integer"}}}},
            Conflict, "flow/bad",
        ),
        ({"work_pool_name": "pool", "job_variables": {"nope": 1}}, Conflict, "nope"),
    ],
)  # fmt: skip
async def test_d11_one_bad_deployment_and_nothing_of_the_plan_is_there(
    memory: World, fields: Any, kind: type[EparchError], word: str
) -> None:
    world = memory
    template = {
        "job_configuration": {"cpu": "{{ cpu }}"},
        "variables": {"type": "object", "properties": {"cpu": {"type": "integer"}}},
    }
    await world.pool("pool", base_job_template=template)
    before = await rows_of_all(world)
    with pytest.raises(kind) as caught:
        await apply(world, deployments=[planned("good"), planned("bad", **fields)])
    assert word in caught.value.message
    assert await rows_of_all(world) == before


def _broken_at(step: int, plan: DeployPlan, world: World) -> Steps[Applied]:
    """The same operation, which breaks before its ``step``-th statement."""
    steps = applying.apply_plan(plan, 50, world.now)
    try:
        request, ran = next(steps), 0
        while True:
            if isinstance(request, Bound):
                ran += 1
                if ran == step:
                    raise Broken
            request = steps.send((yield request))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def test_broken_at_any_statement_a_plan_leaves_nothing(world: World) -> None:
    seen = await _seen_things(world)
    before = await rows_of_all(world)
    step = 1
    while True:
        try:
            await world.database.write(_broken_at, step, seen["plan"], world)
            break
        except Broken:
            assert await rows_of_all(world) == before, step
        step += 1
    assert step > 20
    assert await rows_of_all(world) != before


async def test_d15_only_runs_of_a_schedule_that_changed_are_replaced(world: World) -> None:
    stays, goes = ContentSchedule(schedule=HOUR, slug="stays"), ContentSchedule(schedule=HOUR, slug="goes")
    one = planned("a", schedules=[stays, goes])
    await apply(world, deployments=[one])
    world.pass_seconds(1)
    await world.database.write(scheduler.plan_runs, one.id, PlanRuns(max_runs=4), world.now)
    late = await world.run(one.id, -60)

    async def runs() -> dict[UUID, UUID]:
        found = await world.select(sa.select(t.flow_run.c.id, t.flow_run.c.schedule_id))
        return {row["id"]: row["schedule_id"] for row in found}

    before = await runs()
    assert {stays.id, goes.id} <= set(before.values())
    found = (await standing(world, "a"))["a"]
    schedules = [
        msgspec.structs.replace(schedule, schedule=CRON) if schedule.slug == "goes" else schedule
        for schedule in content_of(found.deployment).schedules
    ]
    await apply(world, deployments=[again(found, schedules=schedules)])
    after = await runs()
    assert {id_ for id_, of in before.items() if of == stays.id} <= set(after)
    assert goes.id not in after.values()
    assert late in after
    assert await world.state(late) == "Scheduled"


async def test_d16_automations_are_replaced_at_once(memory: World) -> None:
    world = memory
    seen = await _seen_things(world)
    plan = seen["plan"]
    changed = plan.deployments[0]
    anew = AutomationCreate(
        name="anew", trigger=EventTrigger(posture="Reactive", expect=["y"]),
        actions=[RunDeployment(deployment_id=changed.id)],
    )  # fmt: skip
    one = msgspec.structs.replace(changed, automations=[anew])
    await apply(world, msgspec.structs.replace(plan, deployments=[one]))
    owned = await world.database.read(automations.owned_by, f"prefect.deployment.{changed.id}")
    assert [automation.name for automation in owned] == ["anew"]


async def test_every_change_makes_a_version_and_nothing_else_does(world: World) -> None:
    await world.pool("pool")
    id_ = await world.deployment("pool", name="d", schedules=[HOUR])

    async def versions() -> list[tuple[int, str]]:
        found = await world.database.read(deployment_versions.read_versions, id_, 100)
        return [(one.number, one.origin.source.value) for one in reversed(found)]

    async def update(**fields: Any) -> None:
        patch = DeploymentUpdate(**fields)
        await world.database.write(deployments.update_deployment, id_, patch, world.now)

    assert await versions() == [(1, "api")]
    await update(tags=["x"])
    await update(tags=["x"])
    await update(paused=True)
    assert len(await versions()) == 3
    schedule = (await standing(world, "d"))["d"].deployment.schedules[0].id
    off = DeploymentScheduleUpdate(active=False)
    await world.database.write(deployments.update_schedule, id_, schedule, off, world.now)
    await world.database.write(deployments.delete_schedule, id_, schedule, world.now)
    assert len(await versions()) == 5
    two = await world.database.read(deployment_versions.read_version, id_, 2)
    assert two is not None
    assert (two.content.tags, two.content.paused, len(two.content.schedules)) == (["x"], False, 1)
    run = await world.run(id_)
    await world.go(run, S.PENDING, S.RUNNING)
    assert len(await versions()) == 5


async def test_what_was_before_versions_were_kept_is_the_first_one(world: World) -> None:
    id_ = await world.deployment(None, name="d", description="old")
    await world.database.write(_forget_versions, id_)
    patch = DeploymentUpdate(description="new")
    await world.database.write(deployments.update_deployment, id_, patch, world.now)
    one = await world.database.read(deployment_versions.read_version, id_, 1)
    two = await world.database.read(deployment_versions.read_version, id_, 2)
    assert one is not None
    assert two is not None
    assert (one.content.description, one.origin.source) == ("old", Source.UNKNOWN)
    assert (two.content.description, two.origin.source) == ("new", Source.API)


def _forget_versions(id_: UUID) -> Steps[None]:
    from eparch.store.statement import delete

    yield delete(t.deployment_version, "deployment_id")(key=id_)
    yield delete(t.deployment_head, "deployment_id")(key=id_)


async def test_only_the_last_versions_are_kept(memory: World) -> None:
    world = memory
    one = planned("d")
    await apply(world, deployments=[one])
    for number in range(1, 8):
        found = (await standing(world, "d"))["d"]
        plan = DeployPlan(request_id=new_id(), deployments=[again(found, description=str(number))])
        await world.database.write(applying.apply_plan, plan, 3, world.now)
    left = await world.database.read(deployment_versions.read_versions, one.id, 100)
    assert [version.number for version in left] == [8, 7, 6]


async def test_a_run_of_a_version_has_its_parameters_and_its_job_and_no_others(world: World) -> None:
    await world.pool("pool", base_job_template={"job_configuration": {}, "variables": {}})
    one = planned("d", parameters={"old": 1}, tags=["a"], work_pool_name="pool", job_variables={"x": 1})
    await apply(world, deployments=[one])
    found = (await standing(world, "d"))["d"]
    changed = again(found, parameters={"new": 2}, tags=["b"], job_variables={"x": 2}, entrypoint="new.py:f")
    await apply(world, deployments=[changed])
    past = await world.run(one.id, parameters={"own": 3}, labels={VERSION_LABEL: 1})
    newest = await world.run(one.id)
    rows = [await world.read(run) for run in (past, newest)]
    assert [row["parameters"] for row in rows] == [{"old": 1, "own": 3}, {"new": 2}]
    assert [row["tags"] for row in rows] == [["a"], ["b"]]
    work = await world.database.write(claims.claim, "pool", world.request(), world.now)
    jobs = {run.flow_run.id: run.deployment for run in work.runs}
    entrypoints = {id_: (job.entrypoint, job.job_variables) for id_, job in jobs.items() if job is not None}
    assert entrypoints == {past: ("f.py:flow", {"x": 1}), newest: ("new.py:f", {"x": 2})}
    with pytest.raises(NotFound):
        await world.run(one.id, labels={VERSION_LABEL: 9})


_CONTENT = st.builds(
    Content,
    version=st.none() | st.sampled_from("12"),
    paused=st.booleans(),
    schedules=st.lists(st.sampled_from([CRON, HOUR]), max_size=2).map(
        lambda found: [ContentSchedule(schedule=one, slug=f"s{at}") for at, one in enumerate(found)]
    ),
    concurrency_limit=st.none() | st.integers(1, 3),
    parameters=st.dictionaries(st.sampled_from("ab"), st.integers(0, 2)),
    tags=st.lists(st.sampled_from("xy"), unique=True),
    work_pool_name=st.sampled_from([None, "pool"]),
    job_variables=st.dictionaries(st.sampled_from("ab"), st.text("z", max_size=2)),
    pull_steps=st.none() | st.just([]),
    entrypoint=st.sampled_from(["a.py:f", "b.py:f"]),
)


@given(rounds=st.lists(st.dictionaries(st.sampled_from("abc"), _CONTENT), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_there_after_a_plan_is_what_the_plan_says(memory: World, rounds: Any) -> None:
    """Any plans one after the other; names that a round leaves out are deleted."""
    world = memory
    project = str(new_id())
    template = {"job_configuration": {}, "variables": {}}
    if not await world.select(sa.select(t.work_pool.c.id)):
        await world.pool("pool", base_job_template=template)
    for wanted in rounds:
        prefix = project[-12:]
        known = await standing(world, project=project)
        changes = []
        for name, content in wanted.items():
            found = known.get(prefix + name)
            changes.append(
                PlannedDeployment(
                    id=found.deployment.id if found else new_id(), flow_name="flow", name=prefix + name,
                    number=found.number if found else None, content=content,
                )
            )  # fmt: skip
        gone = [
            SeenDeployment(id=one.deployment.id, number=one.number)
            for name, one in known.items()
            if name.removeprefix(prefix) not in wanted
        ]
        await apply(world, project=project, deployments=changes, deletions=gone)
        after = await standing(world, project=project)
        assert {name.removeprefix(prefix) for name in after} == set(wanted)
        for name, content in wanted.items():
            is_ = content_of(after[prefix + name].deployment)
            found = differences(content, is_)
            found.pop("labels")
            if content.work_pool_name:
                assert found.pop("work_queue_name") == [None, "default"]
            assert found == {}
            assert sorted(s.id for s in content.schedules) == [s.id for s in is_.schedules]


@pytest.mark.parametrize("database_url", ["file", "postgresql"], indirect=True)
async def test_killed_at_any_point_a_plan_is_there_whole_or_not_at_all(
    database_url: str, tmp_path: Path
) -> None:
    """``kill -9`` of the process that applies."""
    database = await open_database(database_url)
    seen = await _seen_things(World(database))
    count = await _statements(database, seen["plan"])
    before = await rows_of_all(World(database))
    await database.close()
    points = sorted({*range(1, count, max(1, count // 7)), count})
    ended = await _kill(database_url, seen["plan"], [*map(str, points)], tmp_path)
    assert set(ended) == {-signal.SIGKILL}
    database = await open_database(database_url)
    assert await rows_of_all(World(database)) == before
    await database.close()
    assert await _kill(database_url, seen["plan"], ["end"], tmp_path) == [-signal.SIGKILL]
    database = await open_database(database_url)
    world = World(database)
    found = await standing(world, project=PROJECT)
    assert {name: one.number for name, one in found.items()} == {"kept": 1, "changed": 2, "fresh": 1}
    after = await rows_of_all(world)
    answer = await apply(world, seen["plan"])  # the client asks again, as it got no answer
    assert [one.name for one in answer.deployments] == ["changed", "fresh"]
    assert await rows_of_all(world) == after
    await database.close()


async def _statements(database: Database, plan: DeployPlan) -> int:
    """How many statements the plan is; it is not applied."""
    ran: list[int] = []
    with pytest.raises(Broken):
        await database.write(_counted, plan, ran)
    return len(ran)


def _counted(plan: DeployPlan, ran: list[int]) -> Steps[None]:
    ran.clear()
    steps = applying.apply_plan(plan, 50, START)
    try:
        request = next(steps)
        while True:
            if isinstance(request, Bound):
                ran.append(1)
            request = steps.send((yield request))
    except StopIteration:
        raise Broken from None


async def _kill(url: str, plan: DeployPlan, points: list[str], folder: Path) -> list[int]:
    file = folder / "plan.json"
    file.write_bytes(encode(plan))
    command = [sys.executable, "-m", "tests.orchestration.killing", url, str(file), ",".join(points)]
    root = Path(__file__).resolve().parents[2]
    done = await anyio.run_process(command, cwd=root, check=False)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(points), done.stderr.decode()
    return [int(line.split()[1]) for line in lines]
