"""`run_deployment` on a real server, with a real worker and with a test that plays one (row B10)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from eparch import arun_deployment, flow, run_deployment, task
from eparch.client import following
from eparch.client.http import connect
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.errors import NotFound, Unreachable, Usage
from eparch.core.pools import WorkPoolCreate
from eparch.core.runs import FlowRun, SetState
from eparch.core.states import StateCreate, StateType
from eparch.sdk import session as sessions
from eparch.sdk import watching
from eparch.sdk.logs import configure
from eparch.sdk.session import Session
from eparch.settings import load
from eparch.workers.process import ProcessInfrastructure

SECONDS = 60.0
CHILD = """
from eparch import flow

@flow(persist_result=True)
def child(number: int = 0):
    if number < 0:
        raise ValueError("on purpose")
    return 2 * number
"""


class Place:
    """A deployment ``child/<name>`` in a pool of its own."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.folder = folder
        self.env = {**server.env, "EPARCH_HOME": str(folder / "home")}
        self.session = sessions.use(Session(settings := load(self.env, folder), connect(settings)))
        configure(self.session)
        (folder / "child.py").write_text(CHILD)
        self.own = f"own-{uuid4().hex[:8]}"
        self.name = f"child/{self.own}"
        template = ProcessInfrastructure.base_job_template
        self.send(calls.create_work_pool(
            body=WorkPoolCreate(name=self.own, type="process", base_job_template=template)
        ))  # fmt: skip
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
        self.deployment = self.send(calls.create_deployment(body=DeploymentCreate(
            name=self.own, flow_id=self.session.flow_id("child"), entrypoint="child.py:child",
            work_pool_name=self.own, pull_steps=[step], enforce_parameter_schema=False,
        )))  # fmt: skip

    def send(self, call: Any) -> Any:
        return self.session.client.send(call)

    def runs(self) -> list[FlowRun]:
        body = {"deployments": {"id": {"any_": [str(self.deployment.id)]}}}
        found: list[FlowRun] = self.send(calls.read_flow_runs(body=body))
        return found

    def end(self, run_id: UUID, type_: StateType = StateType.COMPLETED) -> None:
        self.send(
            calls.set_flow_run_state(id=run_id, body=SetState(state=StateCreate(type=type_), force=True))
        )

    def play(self, *types: StateType) -> threading.Thread:
        """A worker that lets the next runs end so, one after another."""

        def work() -> None:
            over: set[UUID] = set()
            for type_ in types:
                run = wait_for(lambda: [run for run in self.runs() if run.id not in over])[0]
                over.add(run.id)
                self.end(run.id, type_)

        thread = threading.Thread(target=work)
        thread.start()
        return thread


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture
def place(server: Any, tmp_path: Path) -> Iterator[Place]:
    before = sessions._current
    yield Place(server, tmp_path)
    sessions.leave()
    if before is not None:
        sessions.use(before)


def test_b10_a_worker_runs_it_and_a_caller_that_is_tried_again_gets_the_same_runs(place: Place) -> None:
    command = [sys.executable, "-m", "eparch", "worker", "start", "--pool", place.own]
    with (place.folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, env=place.env, cwd=place.folder, stdout=log, stderr=log)
    seen: list[list[UUID]] = []

    @flow(retries=1)
    def parent() -> list[int]:
        made = [run_deployment(place.name, parameters={"number": number}) for number in (1, 2, 1)]
        seen.append([run.id for run in made])
        if len(seen) == 1:
            raise ValueError("the first attempt fails")
        return [run.state.result() for run in made]

    try:
        assert parent() == [2, 4, 2]
        assert len(set(seen[0])) == 3
        assert seen[0] == seen[1]
        assert len(place.runs()) == 3
        failed = run_deployment(place.name, parameters={"number": -1}, timeout=SECONDS)
        assert failed.state.is_failed()
        assert failed.parent_task_run_id is None
    finally:
        worker.terminate()
        worker.wait(SECONDS)


def test_b10_a_run_that_failed_is_made_again_when_its_caller_is_tried_again(place: Place) -> None:
    played = place.play(StateType.FAILED, StateType.COMPLETED)
    seen: list[FlowRun] = []

    @flow(retries=1)
    def parent() -> None:
        seen.append(run_deployment(place.name))
        state = seen[-1].state
        assert state is not None
        if not state.is_completed():
            raise ValueError(state.name)

    parent()
    played.join(SECONDS)
    first, second = seen
    assert first.id != second.id
    assert second.state is not None
    assert second.state.is_completed()
    # One task run of the caller's stands for both.
    assert first.parent_task_run_id == second.parent_task_run_id is not None
    stands = place.send(calls.read_task_run(id=second.parent_task_run_id))
    assert stands.flow_run_id is not None
    assert stands.name == f"{place.name}-0"


def test_b10_what_it_asks_for_and_when_it_comes_back(place: Place) -> None:
    run = run_deployment(
        place.deployment.id, parameters={"number": 3}, flow_run_name="mine", tags=["b", "a"], timeout=0,
        idempotency_key="once", job_variables={"env": {"A": "b"}},
    )  # fmt: skip
    assert (run.name, run.parameters, run.tags) == ("mine", {"number": 3}, ["a", "b"])
    assert run.state.is_scheduled()
    assert run.job_variables == {"env": {"A": "b"}}
    again = run_deployment(place.name, idempotency_key="once", timeout=0.2)
    assert again.id == run.id
    assert again.state.is_scheduled()
    assert not watching.FLOW_RUNS._waiting
    place.end(run.id)
    assert run_deployment(place.name, idempotency_key="once").state.is_completed()

    @task(retries=1)
    def apart(attempts: list[int]) -> FlowRun:
        attempts.append(1)
        made: FlowRun = run_deployment(place.name, as_subflow=len(attempts) < 3, timeout=0)
        if len(attempts) < 2:
            raise ValueError("again")
        return made

    attempts: list[int] = []
    before = len(place.runs())
    linked = apart(attempts)
    assert linked.parent_task_run_id is not None
    assert len(place.runs()) == before + 1
    assert apart(attempts).parent_task_run_id is None
    with pytest.raises(NotFound, match="nobody/knows"):
        run_deployment("nobody/knows")
    for wrong in ({"name": "no-slash"}, {"name": place.name, "timeout": -1}):
        with pytest.raises(Usage):
            run_deployment(**wrong)


def test_b10_many_are_awaited_at_once_on_one_socket(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    follow = following.follow

    def noted(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        return follow(*args, **kwargs)

    monkeypatch.setattr(following, "follow", noted)

    async def main() -> list[FlowRun]:
        waiting = asyncio.gather(
            *(arun_deployment(place.name, parameters={"number": n}) for n in range(20)),
        )
        while len(watching.FLOW_RUNS._waiting) < 20:
            await asyncio.sleep(0.01)
        for run in await asyncio.to_thread(place.runs):
            await asyncio.to_thread(place.end, run.id)
        return await asyncio.wait_for(waiting, SECONDS)

    ended = asyncio.run(main())
    assert [run.parameters["number"] for run in ended] == list(range(20))
    assert all(run.state is not None and run.state.is_completed() for run in ended)
    assert opened


def test_b10_where_no_events_are_told_it_looks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def nothing(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        raise Unreachable("no sockets here")

    monkeypatch.setattr(following, "follow", nothing)
    played = place.play(StateType.CANCELLED)
    assert run_deployment(place.name, poll_interval=0.05).state.is_cancelled()
    assert asked.is_set()
    played.join(SECONDS)


def test_b10_with_events_it_does_not_look_again_and_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the start of the wait and the end of the run there is one look, whatever the time is."""
    following_now = threading.Event()
    looks = []
    send = place.session.client.send

    def counted(call: Any) -> Any:
        if call.endpoint is calls.read_flow_runs and threading.current_thread().name == "eparch-watch":
            looks.append(call)
        return send(call)

    follow = following.follow

    def noted(*args: Any, **kwargs: Any) -> Any:
        quiet = 0
        for event in follow(*args, **kwargs):
            quiet += event is None
            if quiet == 5:
                following_now.set()
            yield event

    monkeypatch.setattr(following, "follow", noted)
    monkeypatch.setattr(place.session.client, "send", counted)

    def end() -> None:
        assert following_now.wait(SECONDS)
        place.end(place.runs()[0].id)

    ender = threading.Thread(target=end)
    ender.start()
    assert run_deployment(place.name, poll_interval=0.01).state.is_completed()
    ender.join(SECONDS)
    assert 2 <= len(looks) <= 4


def test_a_flow_is_made_for_names(place: Place) -> None:
    """A deployment is found by name where names have signs that a path has."""
    made = place.send(calls.create_flow(body=FlowCreate(name="a flow: more?")))
    body = DeploymentCreate(name="x y?z", flow_id=made.id, entrypoint="child.py:child")
    place.send(calls.create_deployment(body=body))
    assert run_deployment("a flow: more?/x y?z", timeout=0).flow_id == made.id
