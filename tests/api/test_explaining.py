"""Why a run waits and who holds slots, over HTTP with a real store of each kind."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls

from .application import DATABASES, Client, started


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


def test_pain4_the_blocker_is_told_with_its_type_words_and_what_to_do(ask: Client) -> None:
    pool = ask(calls.create_work_pool(body={"name": f"pool {uuid4().hex[:8]}", "type": "process"}))
    flow = ask(calls.create_flow(body={"name": f"flow-{uuid4().hex[:8]}"}))
    body = {"name": "d", "flow_id": flow["id"], "work_pool_name": pool["name"], "concurrency_limit": 1}
    deployment = ask(calls.create_deployment(body=body))
    first, second = (ask(calls.create_deployment_flow_run(id=deployment["id"], body={})) for _ in "ab")
    ask(calls.update_work_pool(name=pool["name"], body={"is_paused": True}))
    found = ask(calls.explain_flow_run(id=first["id"]))
    assert (found["flow_run_id"], found["waiting"]) == (first["id"], True)
    reason = found["reasons"][0]
    assert reason["blocker"] == {"type": "work_pool_paused", "work_pool_name": pool["name"]}
    assert found["summary"] == reason["says"] == f"The work pool '{pool['name']}' is paused."
    assert reason["todo"] == [f"eparch work-pool resume '{pool['name']}'"]
    ask(calls.update_work_pool(name=pool["name"], body={"is_paused": False}))
    claim = {"claim_id": str(uuid4()), "worker_name": "w", "limit": 1}
    ask(calls.claim_runs(name=pool["name"], body=claim))
    found = ask(calls.explain_flow_run(id=second["id"]))
    (full,) = [one["blocker"] for one in found["reasons"]]
    assert (full["type"], full["of"], full["limit"], full["strategy"]) == (
        "limit_full",
        "deployment",
        1,
        "ENQUEUE",
    )
    places = (
        calls.read_work_pool_holders(name=pool["name"], body={}),
        calls.read_work_queue_holders(id=deployment["work_queue_id"], body={"limit": 5}),
        calls.read_deployment_holders(id=deployment["id"], body={}),
    )
    for call in places:
        assert ask(call) == full["holders"]
    assert [one["flow_run_id"] for one in full["holders"]] == [first["id"]]
    assert ask(calls.read_work_pool_holders(name=pool["name"], body={"offset": 1})) == []


def test_holders_of_a_named_limit(ask: Client) -> None:
    name, run = f"db-{uuid4().hex[:8]}", str(uuid4())
    ask(calls.create_concurrency_limit(body={"name": name, "limit": 3}))
    wanted = {"names": [name], "slots": 2, "holder": {"type": "flow_run", "id": run}}
    lease: Any = ask(calls.lease_slots(body=wanted))
    (held,) = ask(calls.read_concurrency_limit_holders(id_or_name=name, body={}))
    assert (held["lease_id"], held["holder_id"], held["slots"]) == (lease["lease_id"], run, 2)
    assert held["since"] < held["lease_until"]


@pytest.mark.parametrize(
    "call",
    [
        calls.explain_flow_run(id=uuid4()),
        calls.explain_task_run(id=uuid4()),
        calls.read_work_pool_holders(name="nowhere", body={}),
        calls.read_work_queue_holders(id=uuid4(), body={}),
        calls.read_deployment_holders(id=uuid4(), body={}),
        calls.read_concurrency_limit_holders(id_or_name="nothing", body={}),
    ],
)
def test_what_is_not_there_is_not_found(ask: Client, call: Any) -> None:
    ask(call, 404)


@pytest.mark.parametrize("page", [{"limit": -1}, {"limit": 10**9}, {"offset": 2**40}, {"more": 1}])
def test_a_page_has_bounds(ask: Client, page: dict[str, int]) -> None:
    ask(calls.read_work_pool_holders(name="nowhere", body=page), 422)
