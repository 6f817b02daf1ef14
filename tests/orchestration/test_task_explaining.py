"""Why a task run waits: what is named is what keeps it, and gone it is free (pain 4, rows B4, B10)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from tests.orchestration.test_recorder import an_event
from tests.orchestration.test_task_queues import delay, join, take
from tests.orchestration.world import S, World, a_state

from eparch.core import task_blockers as b
from eparch.core.concurrency import TagLimitCreate
from eparch.core.errors import NotFound
from eparch.core.model import decode, encode, new_id
from eparch.core.runs import SetState, StateAnswer, TaskRunPolicy
from eparch.core.task_blockers import TaskExplanation
from eparch.orchestration import concurrency, recorder, transition
from eparch.orchestration.task_explaining import explain_task

pytestmark = pytest.mark.anyio


async def why(world: World, run: UUID) -> TaskExplanation:
    """The explanation, as a client gets it."""
    found = await world.database.read(explain_task, run, world.now)
    return decode(encode(found), TaskExplanation)


def kinds(found: TaskExplanation) -> list[str]:
    return [type(reason.blocker).__name__ for reason in found.reasons]


async def limit(world: World, tag: str, slots: int) -> None:
    body = TagLimitCreate(tag=tag, concurrency_limit=slots)
    await world.database.write(concurrency.set_tag_limit, body, world.now)


async def propose(world: World, run: UUID, type_: S, **details: object) -> StateAnswer:
    body = SetState(state=a_state(type_, **details))
    answered = await world.database.write(transition.set_task_run_state, run, body, world.now)
    return answered.answer


async def running_flow(world: World) -> UUID:
    flow_run = await world.ad_hoc()
    await world.go(flow_run, S.RUNNING)
    return flow_run


async def test_there_is_no_such_task_run(memory: World) -> None:
    with pytest.raises(NotFound):
        await why(memory, new_id())


async def test_b4_a_full_tag_is_named_with_its_holders_and_gone_it_blocks_nobody(
    world: World,
) -> None:
    await limit(world, "database", 1)
    flow_run = await running_flow(world)
    first = await world.dummy_task(flow_run, name="first", tags=["database"])
    second = await world.dummy_task(flow_run, name="second", tags=["other", "database"])
    assert (kinds(await why(world, second)), (await why(world, second)).summary) == ([], b.FREE)
    assert (await propose(world, first, S.RUNNING)).status == "ACCEPT"
    world.pass_seconds(180)
    assert (await propose(world, second, S.RUNNING)).status == "WAIT"
    found = await why(world, second)
    assert kinds(found) == ["TagLimitFull"]
    assert found.waiting
    assert found.summary == "The only slot of the tag 'database' is taken, by 'first' for 3 min."
    full = found.reasons[0].blocker
    assert isinstance(full, b.TagLimitFull)
    assert [one.holder_id for one in full.holders] == [first]
    assert found.reasons[0].todo[1] == "eparch concurrency-limit create database 2"
    # Its holder is not blocked by what it holds itself, and what ends gives room.
    assert kinds(await why(world, first)) == ["TaskRuns"]
    await propose(world, first, S.COMPLETED)
    assert kinds(await why(world, second)) == []
    assert (await propose(world, second, S.RUNNING)).status == "ACCEPT"
    await limit(world, "never", 0)
    third = await world.dummy_task(flow_run, tags=["never"])
    assert "is 0, so none of its task runs may begin" in (await why(world, third)).summary


async def test_its_flow_run_has_to_run(memory: World) -> None:
    flow_run = await running_flow(memory)
    task = await memory.dummy_task(flow_run)
    timeout = memory.now + timedelta(hours=1)
    await memory.set(flow_run, S.PAUSED, pause_timeout=timeout)
    found = await why(memory, task)
    assert kinds(found) == ["FlowRunWaits"]
    assert "is Paused until somebody resumes it; it fails at 2026-03-02 13:00:00 UTC" in found.summary
    assert found.reasons[0].todo == [f"eparch flow-run resume {flow_run}"]
    await memory.set(flow_run, S.RUNNING, force=True)
    assert kinds(await why(memory, task)) == []
    await memory.set(flow_run, S.CANCELLING)
    assert (await why(memory, task)).summary.endswith("was asked to stop, so it begins no more tasks.")
    await memory.set(flow_run, S.CANCELLED, force=True)
    found = await why(memory, task)
    assert (kinds(found), found.waiting) == (["FlowRunOver"], False)
    assert "ended as Cancelled just now, so nobody begins it any more" in found.summary
    waiting = await memory.dummy_task(await memory.ad_hoc())
    assert "does not run: it is" in (await why(memory, waiting)).summary


async def test_b2_a_failed_attempt_waits_for_its_time(memory: World) -> None:
    flow_run = await running_flow(memory)
    policy = TaskRunPolicy(retries=2, retry_delay=60)
    task = await memory.dummy_task(flow_run, empirical_policy=policy)
    await propose(memory, task, S.RUNNING)
    found = await why(memory, task)
    assert (kinds(found), found.waiting) == (["TaskRuns"], False)
    assert (await propose(memory, task, S.FAILED)).status == "REJECT"
    found = await why(memory, task)
    assert kinds(found) == ["RetryWaits"]
    assert found.not_before == memory.now + timedelta(seconds=60)
    memory.pass_seconds(61)
    assert kinds(await why(memory, task)) == []
    await propose(memory, task, S.COMPLETED, message="42 rows")
    found = await why(memory, task)
    assert (kinds(found), found.waiting) == (["TaskEnded"], False)
    assert found.summary == "It does not wait: it ended as Completed just now: 42 rows"


async def test_what_it_builds_on_has_to_be_over(memory: World) -> None:
    flow_run = await running_flow(memory)
    first = await memory.dummy_task(flow_run, name="extract")
    inputs = [{"input_type": "task_run", "id": str(first)}, {"input_type": "task_run", "id": "nonsense"}]
    parent = [{"input_type": "task_run", "id": str(new_id())}]
    second = await memory.dummy_task(flow_run, task_inputs={"rows": inputs, "__parents__": parent})
    await propose(memory, first, S.RUNNING)
    found = await why(memory, second)
    assert kinds(found) == ["UpstreamRuns"]
    assert found.summary == "It builds on 1 task run not over yet: 'extract' (Running)."
    assert found.reasons[0].todo == [f"eparch task-run explain {first}"]
    await propose(memory, first, S.COMPLETED)
    assert kinds(await why(memory, second)) == []


async def test_b10_a_background_task_needs_a_task_worker_that_is_free(world: World) -> None:
    first, second = await delay(world), await delay(world)
    later = await delay(world, scheduled_time=world.now + timedelta(hours=1))
    found = await why(world, first)
    assert (kinds(found), found.summary) == (["NoTaskWorker"], "No task worker serves the task 'work'.")
    assert kinds(await why(world, later)) == ["ScheduledLater", "NoTaskWorker"]
    worker = await join(world, "host-1")
    found = await why(world, second)
    assert kinds(found) == ["TaskWorkersBusy"]
    assert found.summary.endswith("its task is served by 'host-1', 1 task run before it.")
    assert kinds(await why(world, later)) == ["ScheduledLater"]
    handed = await take(world, worker)
    assert handed is not None
    assert handed.id == first
    found = await why(world, first)
    assert kinds(found) == ["HandedOut"]
    assert "unless it is heard of before, another one gets it at" in found.summary
    assert (await why(world, second)).summary.endswith("its task is served by 'host-1'.")
    begun = an_event(first, None, "RUNNING", world.now, dynamic_key=str(first))
    await world.database.write(recorder.record, [begun], world.now)
    assert kinds(await why(world, first)) == ["TaskRuns"]
