"""Flows, deployments and schedules: made, replaced, changed, checked (wire 4.4, P5, P9, D14, D15)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World

from eparch.core.deployments import (
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    FlowCreate,
)
from eparch.core.errors import Conflict, Invalid, NotFound
from eparch.core.model import new_id
from eparch.orchestration import deployments
from eparch.store import deployments as stored
from eparch.store import tables as t
from eparch.store.rows import id_of

pytestmark = pytest.mark.anyio

TEMPLATE: dict[str, Any] = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "cpu": "{{ cpu }}"},
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "env": {"type": "object"},
            "cpu": {"type": "integer", "minimum": 1},
        },
        "required": ["command"],
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
HOUR = {"interval": 3600.0}
DAY = {"cron": "0 9 * * *"}


async def slugs(world: World, deployment_id: UUID) -> dict[str | None, UUID]:
    found = await world.database.read(stored.read_schedules, deployment_id)
    return {schedule.slug: schedule.id for schedule in found}


def a_schedule(slug: str | None = None, schedule: Any = None, **more: Any) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(schedule=schedule or HOUR, slug=slug, **more)


async def update(world: World, deployment_id: UUID, **fields: Any) -> None:
    patch = DeploymentUpdate(**fields)
    await world.database.write(deployments.update_deployment, deployment_id, patch, world.now)


async def test_a_flow_is_made_once_also_at_once(world: World) -> None:
    body = FlowCreate(name="f", tags=["a"])
    answers = await asyncio.gather(
        *(world.database.write(deployments.create_flow, body, world.now) for _ in range(5))
    )
    assert sum(fresh for _, fresh in answers) == 1
    assert len({str(found["id"]) for found, _ in answers}) == 1


async def test_a_deployment_is_made_and_then_replaced(world: World) -> None:
    await world.pool()
    made, fresh = await world.deploy(name="d", tags=["a"], parameters={"n": 1}, description="x")
    world.pass_seconds(1)
    again, fresh_again = await world.deploy(name="d", tags=["b"])
    assert (fresh, fresh_again) == (True, False)
    assert again["id"] == made["id"]
    value = await world.database.read(stored.deployment_value, id_of(made["id"]), world.now)
    assert value is not None
    assert (value.tags, value.parameters, value.description) == (["b"], {}, "x")
    assert value.created != value.updated
    assert value.work_pool_name == "pool"
    other, fresh_other = await world.deploy(name="d", flow_id=await world.flow("other"))
    assert fresh_other
    assert other["id"] != made["id"]


async def test_a_deployment_made_at_once_is_one(world: World) -> None:
    await world.pool()
    flow = await world.flow("f")
    answers = await asyncio.gather(
        *(world.deploy(name="d", flow_id=flow, schedules=[a_schedule("s")]) for _ in range(4))
    )
    assert sum(fresh for _, fresh in answers) == 1
    assert len(await slugs(world, id_of(answers[0][0]["id"]))) == 1


async def test_what_a_deployment_stands_on_must_be_there(world: World) -> None:
    with pytest.raises(NotFound):
        await world.deploy("nowhere")
    with pytest.raises(NotFound):
        await world.deploy(None, flow_id=new_id())
    with pytest.raises(NotFound):
        await update(world, new_id(), paused=True)
    with pytest.raises(NotFound):
        await world.database.write(deployments.delete_deployment, new_id(), world.now)


async def test_a_queue_that_a_deployment_names_is_made(world: World) -> None:
    await world.pool()
    made, _ = await world.deploy(work_queue_name="fresh")
    assert made["work_queue_name"] == "fresh"
    await update(world, id_of(made["id"]), work_queue_name="fresher")
    value = await world.database.read(stored.deployment_value, id_of(made["id"]), world.now)
    assert value is not None
    assert (value.work_pool_name, value.work_queue_name) == ("pool", "fresher")


# What must fit


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"comand": "x"}, "comand"),
        ({"cpu": "two"}, "cpu"),
        ({"cpu": 0}, "cpu"),
        ({"env": "A=1"}, "env"),
    ],
)
async def test_p5_job_variables_that_do_not_fit_are_refused_everywhere(
    world: World, given: dict[str, Any], said: str
) -> None:
    await world.pool(base_job_template=TEMPLATE)
    with pytest.raises(Conflict, match=said):
        await world.deploy(job_variables=given)
    assert await world.select(sa.select(t.deployment.c.id)) == []
    deployment = await world.deployment(job_variables={"command": "x"})
    with pytest.raises(Conflict, match=said):
        await update(world, deployment, job_variables=given)
    with pytest.raises(Conflict, match=said):
        await world.run(deployment, job_variables=given)
    assert await world.select(sa.select(t.flow_run.c.id)) == []
    await world.run(deployment, job_variables={"cpu": 2, "env": {"A": "1"}})


async def test_p5_every_mistake_is_named_with_the_nearest_name(world: World) -> None:
    await world.pool(base_job_template=TEMPLATE)
    with pytest.raises(Conflict) as caught:
        await world.deploy(job_variables={"comand": "x", "cpu": 0})
    assert "'comand'" in str(caught.value)
    assert "'cpu'" in str(caught.value)
    assert "command" in caught.value.fix


async def test_p9_what_a_run_must_have_may_be_missing_from_a_deployment(world: World) -> None:
    await world.pool(base_job_template=TEMPLATE)
    deployment = await world.deployment(job_variables={"cpu": 2})
    with pytest.raises(Conflict, match="command"):
        await world.run(deployment)
    await world.run(deployment, job_variables={"command": "x"})


async def test_parameters_that_do_not_fit_are_refused(world: World) -> None:
    await world.pool()
    with pytest.raises(Conflict, match="n"):
        await world.deploy(parameter_openapi_schema=SCHEMA, parameters={"n": "many"})
    deployment = await world.deployment(parameter_openapi_schema=SCHEMA)
    with pytest.raises(Conflict):
        await update(world, deployment, parameters={"n": "many"})
    with pytest.raises(Conflict):
        await world.run(deployment, parameters={"n": "many"})
    with pytest.raises(Conflict):
        await world.run(deployment)
    await world.run(deployment, parameters={"n": "many"}, enforce_parameter_schema=False)
    run = await world.run(deployment, parameters={"n": 3})
    assert (await world.read(run))["parameters"] == {"n": 3}


# Schedules


async def test_d15_schedules_that_stay_keep_their_ids(world: World) -> None:
    await world.pool()
    first = [a_schedule("a"), a_schedule("b", DAY), a_schedule(None, {"cron": "5 5 * * *"})]
    made, _ = await world.deploy(name="d", schedules=first)
    deployment = id_of(made["id"])
    before = await slugs(world, deployment)
    await world.deploy(name="d", schedules=[a_schedule("c"), a_schedule("a", DAY), first[2]])
    after = await slugs(world, deployment)
    assert set(after) == {"a", "c", None}
    assert (after["a"], after[None]) == (before["a"], before[None])
    found = await world.database.read(stored.read_schedules, deployment)
    assert next(s for s in found if s.slug == "a").schedule["cron"] == "0 9 * * *"


async def test_a_slug_names_one_schedule(world: World) -> None:
    await world.pool()
    with pytest.raises(Conflict, match="'a'"):
        await world.deploy(schedules=[a_schedule("a"), a_schedule("a", DAY)])
    made, _ = await world.deploy(schedules=[a_schedule("a"), a_schedule("b")])
    deployment = id_of(made["id"])
    for bodies in ([a_schedule("a")], [a_schedule("x"), a_schedule("x")]):
        with pytest.raises(Conflict):
            await world.database.write(deployments.create_schedules, deployment, bodies, world.now)
    ids = await slugs(world, deployment)
    patch = DeploymentScheduleUpdate(slug="b")
    with pytest.raises(Conflict):
        await world.database.write(deployments.update_schedule, deployment, ids["a"], patch, world.now)
    await world.database.write(deployments.update_schedule, deployment, ids["b"], patch, world.now)
    assert await slugs(world, deployment) == ids


@pytest.mark.parametrize(
    "bad", [{}, {"cron": "61 * * * *"}, {"cron": "* * * * *", "interval": 5}, {"interval": 0}]
)
async def test_a_schedule_that_cannot_be_used_is_refused_whole(world: World, bad: dict[str, Any]) -> None:
    await world.pool()
    with pytest.raises(Invalid):
        await world.deploy(schedules=[a_schedule("ok"), DeploymentScheduleCreate(schedule=bad)])
    assert await world.select(sa.select(t.deployment.c.id)) == []
    made, _ = await world.deploy(schedules=[a_schedule("ok")])
    deployment = id_of(made["id"])
    ids = await slugs(world, deployment)
    patch = DeploymentScheduleUpdate(schedule=bad)
    with pytest.raises(Invalid):
        await world.database.write(deployments.update_schedule, deployment, ids["ok"], patch, world.now)
    with pytest.raises(Invalid):
        await update(world, deployment, schedules=[DeploymentScheduleUpdate(schedule=bad)])
    assert await slugs(world, deployment) == ids


async def test_d14_an_update_names_a_schedule_by_its_slug(world: World) -> None:
    await world.pool()
    made, _ = await world.deploy(
        schedules=[a_schedule("a", active=False, parameters={"n": 1}), a_schedule("b")]
    )
    deployment = id_of(made["id"])
    before = await slugs(world, deployment)
    await update(world, deployment, description="no word of schedules")
    assert await slugs(world, deployment) == before
    await update(world, deployment, schedules=[DeploymentScheduleUpdate(slug="a", max_scheduled_runs=7)])
    assert await slugs(world, deployment) == {"a": before["a"]}
    found = (await world.database.read(stored.read_schedules, deployment))[0]
    assert (found.active, found.parameters, found.max_scheduled_runs) == (False, {"n": 1}, 7)
    await update(world, deployment, schedules=[])
    assert await slugs(world, deployment) == {}


async def test_a_schedule_belongs_to_its_deployment(world: World) -> None:
    await world.pool()
    made, _ = await world.deploy(schedules=[a_schedule("a")])
    other = await world.deployment()
    one = (await slugs(world, id_of(made["id"])))["a"]
    with pytest.raises(NotFound):
        await world.database.write(deployments.delete_schedule, other, one, world.now)
    patch = DeploymentScheduleUpdate(active=False)
    with pytest.raises(NotFound):
        await world.database.write(deployments.update_schedule, other, one, patch, world.now)
    with pytest.raises(NotFound):
        await world.database.write(deployments.create_schedules, new_id(), [a_schedule()], world.now)


async def test_a_deleted_deployment_leaves_what_has_begun(world: World) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=1)
    run = await world.run(deployment)
    token = (await world.claim())[run]
    await world.database.write(deployments.delete_deployment, deployment, world.now)
    assert (await world.read(run))["deployment_id"] is None
    await world.go(run, S.RUNNING, S.COMPLETED, token=token)
    assert await world.claims() == {}


async def test_a_raised_limit_is_told_to_who_waits(world: World) -> None:
    pool = await world.pool()
    deployment = await world.deployment(concurrency_limit=1)
    world.notes.clear()
    await update(world, deployment, concurrency_limit=2)
    said = [(note.topic, note.value) for note in world.notes]
    assert ("work", pool) in said
    assert ("schedules", deployment) in said
