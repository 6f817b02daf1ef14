"""A run that crashed is started again as often as its deployment says (rows B2, W17; ADR 10)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from tests.orchestration.world import S, World

from eparch.core.crash_retries import COUNT, DELAY, DONE
from eparch.orchestration.watchdog import Watchdog
from eparch.store.rows import value_of

pytestmark = pytest.mark.anyio


async def running(world: World, **fields: Any) -> tuple[UUID, int]:
    await world.pool()
    deployment = await world.deployment(labels={COUNT: 1, DELAY: 5}, **fields)
    run = await world.run(deployment, parameters={"n": 3})
    token = (await world.claim())[run]
    await world.go(run, S.RUNNING, token=token)
    return run, token


async def test_b2_a_crash_is_retried_once_with_the_same_parameters_and_a_new_token(world: World) -> None:
    run, token = await running(world, parameters={"n": 1})
    answer = await world.set(run, S.CRASHED, message="killed", token=token)
    assert answer.status == "REJECT"
    row = await world.read(run)
    assert (row["state_name"], row["infrastructure_pid"]) == ("AwaitingRetry", None)
    assert value_of(row["labels"])[DONE] == 1
    assert await world.claims() == {}
    assert await world.claim() == {}
    world.pass_seconds(5)
    again = (await world.claim())[run]
    assert again > token
    assert (await world.set(run, S.RUNNING, token=token)).status == "ABORT"
    await world.go(run, S.RUNNING, token=again)
    assert value_of((await world.read(run))["parameters"]) == {"n": 3}
    await world.go(run, S.CRASHED, token=again)
    assert await world.claims() == {}


async def test_b2_a_lapsed_claim_is_retried_and_the_slot_is_not_leaked(world: World) -> None:
    run, _ = await running(world, concurrency_limit=1)
    world.pass_seconds(31)
    await Watchdog().run_once(world.database, world.now)
    assert await world.state(run) == "AwaitingRetry"
    world.pass_seconds(5)
    other = await world.claim()
    assert list(other) == [run]
    await world.go(run, S.RUNNING, token=other[run])
    world.pass_seconds(31)
    await Watchdog().run_once(world.database, world.now)
    assert await world.state(run) == "Crashed"
    assert await world.claims() == {}


async def test_b7_a_run_that_waits_for_its_retry_is_cancelled_at_once(world: World) -> None:
    run, token = await running(world)
    await world.set(run, S.CRASHED, token=token)
    await world.set(run, S.CANCELLING)
    assert await world.state(run) == "Cancelled"


async def test_b2_a_failure_is_no_crash(world: World) -> None:
    run, token = await running(world)
    await world.go(run, S.FAILED, token=token)
    assert await world.state(run) == "Failed"
