"""Limits: Prefect's command line and its ``concurrency()``, unmodified, against our server (row B4)."""

from __future__ import annotations

import json

from bench.targets import Session

CODE = """
import threading

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency, rate_limit


def held(name):
    with get_client(sync_client=True) as client:
        return client.request("GET", "/v2/concurrency_limits/{id_or_name}", path_params={"id_or_name": name})


def active(name):
    return held(name).json()["active_slots"]


at_once = []
running = set()


@task(tags=["limited"])
def work(number):
    running.add(number)
    at_once.append(len(running))
    running.discard(number)
    return number


@flow
def main():
    with concurrency("sdk", occupy=1, timeout_seconds=20):
        assert active("sdk") == 1
        try:
            with concurrency("sdk", timeout_seconds=0.2):
                raise AssertionError("two at once")
        except TimeoutError:
            pass
    assert active("sdk") == 0
    rate_limit("rate", occupy=2)
    assert active("rate") == 2
    assert sum(f.result() for f in work.map([1, 2])) == 3
    assert max(at_once) == 1


if __name__ == "__main__":
    main()
"""


def test_its_cli_manages_named_limits(server: Session, stock: Session) -> None:
    stock.run("gcl", "create", "sdk", "--limit", "3", "--active-slots", "1")
    assert "sdk" in stock.run("gcl", "ls").stdout
    stock.run("gcl", "update", "sdk", "--limit", "1", "--active-slots", "0")
    shown = json.loads(stock.run("gcl", "inspect", "sdk", "-o", "json").stdout)
    assert (shown["limit"], shown["active_slots"], shown["active"]) == (1, 0, True)
    stock.run("gcl", "create", "rate", "--limit", "2", "--slot-decay-per-second", "0.0001")
    stock.run("concurrency-limit", "create", "limited", "1")
    stock.run_python(CODE)
    stock.run("gcl", "delete", "sdk")
    assert server.call("POST", "/concurrency_limits/filter", {})[0]["active_slots"] == []
    assert "limited" in stock.run("concurrency-limit", "inspect", "limited").stdout
    stock.run("concurrency-limit", "delete", "limited")
    assert [one["name"] for one in server.call("POST", "/v2/concurrency_limits/filter", {})] == ["rate"]


READ_LIMITED = """
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate

with get_client(sync_client=True) as client:
    deployment = client.read_deployment_by_name("limited/one")
    assert deployment.concurrency_options.collision_strategy == "ENQUEUE"
    options = deployment.concurrency_options
    update = DeploymentUpdate(description="read", concurrency_options=options)
    client.update_deployment(deployment.id, update)
    taken = client.increment_concurrency_slots_with_lease(
        names=["there is no such limit"], slots=1, mode="concurrency", lease_duration=60
    ).json()
    assert taken["limits"] == []
    client.renew_concurrency_lease(lease_id=taken["lease_id"], lease_duration=60)
"""


def test_b4_its_client_reads_a_deployment_that_cancels_running_ones(server: Session, stock: Session) -> None:
    flow = server.call("POST", "/flows/", {"name": "limited"})["id"]
    options = {"collision_strategy": "CANCEL_RUNNING"}
    body = {"name": "one", "flow_id": flow, "concurrency_limit": 1, "concurrency_options": options}
    made = server.call("POST", "/deployments/", body)
    assert made["concurrency_options"]["collision_strategy"] == "CANCEL_RUNNING"
    assert "ENQUEUE" in stock.run("deployment", "inspect", "limited/one").stdout
    assert "limited/one" in stock.run("deployment", "ls").stdout
    stock.run_python(READ_LIMITED)
    shown = server.call("GET", f"/deployments/{made['id']}")
    assert shown["description"] == "read"
    assert shown["concurrency_options"]["collision_strategy"] == "CANCEL_RUNNING"
