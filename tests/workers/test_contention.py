"""Many takers of one pool over HTTP: Prefect's workers that poll beside ours that claim (rows W15, P15)."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.model import new_id
from eparch.core.pools import ClaimRuns, DueRuns, ShownToken, WorkPoolCreate
from eparch.core.runs import DeploymentFlowRunCreate, SetState, SetStateStatus
from eparch.core.states import StateCreate, StateType

RUNS = 300
WAITING = 200


class Takers:
    """Take until every run was begun; each notes what it began."""

    def __init__(self, url: str, wanted: int) -> None:
        self.url, self.wanted = url, wanted
        self.begun: Counter[UUID] = Counter()
        self.by: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def is_done(self) -> bool:
        with self._lock:
            return len(self.begun) >= self.wanted

    def begin(self, client: Client, who: str, run: UUID, token: int | None) -> None:
        """What a job does: it runs, and it ends."""
        shown = {calls.CLAIM_HEADER: ShownToken(token=token, flow_run_id=run).header} if token else {}
        for type_ in (StateType.RUNNING, StateType.COMPLETED):
            body = SetState(state=StateCreate(type=type_))
            answer = client.send(calls.set_flow_run_state(id=run, body=body, headers=shown))
            assert answer.status is SetStateStatus.ACCEPT, answer
            if type_ is StateType.RUNNING:
                with self._lock:
                    self.begun[run] += 1
                    self.by[who] += 1

    def poll(self, name: str) -> None:
        """As Prefect's worker: due runs first, then Pending, which only one is granted."""
        with Client(self.url) as client:
            while not self.is_done:
                for due in client.send(calls.read_due_runs(name="pool", body=DueRuns(limit=20))):
                    run = due.flow_run.id
                    body = SetState(state=StateCreate(type=StateType.PENDING))
                    answer = client.send(calls.set_flow_run_state(id=run, body=body))
                    if answer.status is SetStateStatus.ACCEPT:
                        self.begin(client, name, run, None)

    def claim(self, name: str) -> None:
        """As our worker."""
        with Client(self.url) as client:
            while not self.is_done:
                body = ClaimRuns(claim_id=new_id(), worker_name=name, limit=7, wait_seconds=0.2)
                for one in client.send(calls.claim_runs(name="pool", body=body)).runs:
                    self.begin(client, name, one.flow_run.id, one.claim.token)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_w15_p15_each_run_is_begun_once_by_pollers_and_claimers(start_server, database, request):
    settings = {}
    if database == "postgresql":
        settings["EPARCH_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with start_server(**settings) as server, Client(server.api_url) as client:
        client.send(calls.create_work_pool(body=WorkPoolCreate(name="pool", type="process")))
        flow = client.send(calls.create_flow(body=FlowCreate(name="flow")))

        def deploy(name: str, limit: int | None) -> UUID:
            body = DeploymentCreate(
                name=name, flow_id=flow.id, work_pool_name="pool", concurrency_limit=limit
            )
            return client.send(calls.create_deployment(body=body)).id

        def make(deployment: UUID) -> UUID:
            body = DeploymentFlowRunCreate()
            return client.send(calls.create_deployment_flow_run(id=deployment, body=body)).id

        full, free = deploy("full", 1), deploy("free", None)
        # One holds the only slot for as long as this takes; the others wait before everybody else.
        holder = make(full)
        body = ClaimRuns(claim_id=new_id(), worker_name="slow", limit=1, lease_seconds=600)
        assert [one.flow_run.id for one in client.send(calls.claim_runs(name="pool", body=body)).runs] == [
            holder
        ]
        for _ in range(WAITING):
            make(full)
        runs = {make(free) for _ in range(RUNS)}
        takers = Takers(server.api_url, RUNS)
        with ThreadPoolExecutor(5) as threads:
            working = [threads.submit(takers.poll, f"stock {n}") for n in range(2)]
            working += [threads.submit(takers.claim, f"ours {n}") for n in range(3)]
            for one in working:
                one.result(120)
        assert set(takers.begun) == runs
        assert set(takers.begun.values()) == {1}
        assert {who.split()[0] for who in takers.by} == {"stock", "ours"}
        pool = client.send(calls.read_work_pool(name="pool"))
        assert pool.active_slots == 1
