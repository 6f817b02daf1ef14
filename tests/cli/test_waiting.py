"""Acceptance: why runs wait, who holds slots, what comes next, as a person sees it (pain 4, P16, P17)."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.concurrency import ConcurrencyLimitCreate, Holder, LeaseSlots, TagLimitCreate, TakeSlots
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.pools import ClaimRuns, ShownToken, WorkPoolCreate
from eparch.core.records import LogCreate
from eparch.core.runs import DeploymentFlowRunCreate, SetState, TaskRunCreate
from eparch.core.states import StateCreate, StateDetails, StateType


class Scene:
    def __init__(self, client):
        self.client = client
        self.pool = f"pool-{uuid4().hex[:8]}"
        client.send(calls.create_work_pool(body=WorkPoolCreate(name=self.pool, type="process")))
        flow = client.send(calls.create_flow(body=FlowCreate(name=f"flow-{uuid4().hex[:8]}")))
        new = DeploymentCreate(name="nightly", flow_id=flow.id, work_pool_name=self.pool, concurrency_limit=1)
        self.deployment = client.send(calls.create_deployment(body=new)).id

    def run(self, name, seconds=-1):
        when = datetime.now(UTC) + timedelta(seconds=seconds)
        state = StateCreate(type=StateType.SCHEDULED, state_details=StateDetails(scheduled_time=when))
        body = DeploymentFlowRunCreate(name=name, state=state)
        return self.client.send(calls.create_deployment_flow_run(id=self.deployment, body=body)).id

    def claim(self, limit=1):
        body = ClaimRuns(claim_id=uuid4(), worker_name="w1", limit=limit)
        return self.client.send(calls.claim_runs(name=self.pool, body=body)).runs


@pytest.fixture
def scene(client):
    return Scene(client)


def test_pain4_explain_answers_first_and_then_says_what_to_do(run, client, scene):
    first, name = scene.run("x", -10), f"run-{uuid4().hex[:8]}"
    second = scene.run(name)
    run("work-pool", "pause", scene.pool, code=0)
    lines = run("flow-run", "explain", name, code=0).out.splitlines()
    assert lines[:2] == [
        f"The work pool '{scene.pool}' is paused.",
        f"  do: eparch work-pool resume {scene.pool}",
    ]
    assert "It waits for this as well:" in lines
    assert f"- No worker of the work pool '{scene.pool}' is online: there has never been one." in lines
    assert f"run    {name} ({second})" in lines
    # What it says to do is what helps.
    run(*lines[1].split()[2:], code=0)
    scene.claim()
    out = run("flow-run", "explain", second, code=0).out
    assert out.startswith("The only slot of the deployment 'nightly' is taken, by 'x' (Pending) for ")
    assert f"held by x ({first}), Pending for " in out
    assert ", worker w1, lease for " in out
    found = run("flow-run", "explain", second, "-o", "json", code=0).json()
    assert found["reasons"][0]["blocker"]["type"] == "limit_full"
    assert run("flow-run", "explain", second, "-o", "name", code=0).out.strip() == str(second)
    later = scene.run("later", 90_000)
    out = run("flow-run", "explain", later, code=0).out
    assert out.startswith("It is scheduled for 20")
    assert "(in 1 d " in out
    assert "start  not before 20" in out
    assert "Did you mean" in run("flow-run", "explain", name + "x", code=3).err


def test_what_a_state_says_cannot_write_to_the_terminal(run, client, scene):
    id_ = scene.run("x")
    state = StateCreate(type=StateType.CRASHED, message="bad\x1b[2Jend\nnext" + "y" * 5000)
    client.send(calls.set_flow_run_state(id=id_, body=SetState(state=state, force=True)))
    first = run("flow-run", "explain", id_, code=0).out.splitlines()[0]
    assert "bad\\x1b[2Jend\\nnext" in first
    assert len(first) < 700


def test_p16_slots_say_who_since_when_and_until_when(run, client, scene):
    first = scene.run("holder")
    done = run("work-pool", "slots", scene.pool, code=0)
    assert (done.out, done.err) == ("", "0 slots are held; there is no limit.\n")
    scene.claim()
    run("work-pool", "set-concurrency-limit", scene.pool, 2, code=0)
    done = run("work-pool", "slots", scene.pool, code=0)
    titles, row = done.out.splitlines()
    assert titles.split("  ")[0] == "RUN"
    assert "unless renewed" in row
    assert "w1" in row
    assert done.err == "1 of 2 slots are held.\n"
    (held,) = run("work-queue", "slots", "default", "-p", scene.pool, "-o", "json", code=0).json()
    assert (held["flow_run_id"], held["worker_name"]) == (str(first), "w1")
    assert held["since"] < held["lease_until"]


def test_p17_preview_and_read_runs_show_what_comes(run, client, scene):
    now, later = scene.run("due"), scene.run("later", 5400)
    shown = run("work-pool", "preview", scene.pool, "-o", "name", code=0).out.split()
    assert shown == [str(now)]
    shown = run("work-queue", "preview", "default", "-p", scene.pool, "-h", 2, "-o", "name", code=0).out
    assert shown.split() == [str(now), str(later)]
    shown = run("work-queue", "read-runs", "default", "-p", scene.pool, "--limit", 1, "-o", "name", code=0)
    assert shown.out.split() == [str(now)]
    run("work-queue", "pause", "default", "-p", scene.pool, code=0)
    done = run("work-queue", "read-runs", "default", "-p", scene.pool, code=0)
    assert done.err == "No run waits in the queue 'default', or its limits are full.\n"


def test_holders_of_a_named_limit(run, client, scene):
    id_, name = scene.run("holder"), f"db-{uuid4().hex[:8]}"
    client.send(calls.create_concurrency_limit(body=ConcurrencyLimitCreate(name=name, limit=3)))
    holder = Holder(type="flow_run", id=id_)
    client.send(calls.lease_slots(body=LeaseSlots(slots=1, names=[name], holder=holder)))
    client.send(calls.take_slots(body=TakeSlots(slots=1, names=[name])))
    done = run("gcl", "holders", name, code=0)
    assert done.out.splitlines()[1].split()[:3] == ["holder", "flow_run", "1"]
    assert done.err == "2 of 3 slots are taken, 1 of them without a lease.\n"


def test_pain4_a_task_run_is_explained_listed_and_its_log_read(run, client, scene):
    tag, name = f"db-{uuid4().hex[:8]}", f"task-{uuid4().hex[:8]}"
    client.send(calls.create_tag_limit(body=TagLimitCreate(tag=tag, concurrency_limit=1)))
    flow_run = scene.run("around")
    (claimed,) = scene.claim()
    token = ShownToken(token=claimed.claim.token, flow_run_id=flow_run).header
    begun = SetState(state=StateCreate(type=StateType.RUNNING))
    client.send(calls.set_flow_run_state(id=flow_run, body=begun, headers={calls.CLAIM_HEADER: token}))

    def task(of):
        body = TaskRunCreate(flow_run_id=flow_run, task_key=of, dynamic_key="0", name=of, tags=[tag])
        return client.send(calls.create_task_run(body=body)).id

    first, second = task("holder"), task(name)
    assert run("task-run", "explain", second, code=0).out.startswith("Nothing that the server knows of keeps")
    body = SetState(state=StateCreate(type=StateType.RUNNING))
    client.send(calls.set_task_run_state(id=first, body=body))
    lines = run("task-run", "explain", name, code=0).out.splitlines()
    assert lines[0].startswith(f"The only slot of the tag '{tag}' is taken, by 'holder' for ")
    assert lines[1] == f"  do: eparch concurrency-limit inspect {tag}"
    assert lines[3].startswith(f"  held by holder ({first}), for ")
    assert f"run    {name} ({second})" in lines
    found = run("task-run", "explain", second, "-o", "json", code=0).json()
    assert found["reasons"][0]["blocker"]["type"] == "tag_limit_full"
    # What it says to do is what helps.
    run(*lines[2].split()[1:], code=0)
    assert run("task-run", "explain", second, "-o", "json", code=0).json()["reasons"] == []
    assert "Did you mean" in run("task-run", "explain", name + "x", code=3).err
    assert "There is no task run" in run("task-run", "inspect", uuid4(), code=3).err
    assert run("task-run", "inspect", second, "-o", "json", code=0).json()["name"] == name
    listed = run("task-run", "ls", "--flow-run", flow_run, "--tag", tag, "-o", "name", code=0).out.split()
    assert listed == [str(second), str(first)]
    running = run("task-run", "ls", "--state", "running", "--state-type", "running", "--tag", tag, code=0).out
    assert [line.split()[1] for line in running.splitlines()] == ["NAME", "holder"]
    now = datetime.now(UTC)
    said = [
        LogCreate(name="x", level=level, message=f"said {level}", timestamp=now, task_run_id=second)
        for level in (20, 30, 40)
    ]
    client.send(calls.create_logs(body=said))
    told = run("task-run", "logs", second, "--level", 30, code=0).out
    assert ("said 20" in told, "said 30" in told, "said 40" in told) == (False, True, True)
    assert len(run("task-run", "logs", second, "--tail", "-n", 2, code=0).out.splitlines()) == 2
