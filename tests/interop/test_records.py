"""Prefect's own client, unmodified: variables, artifacts, and a pause with input, against our server."""

from __future__ import annotations

from bench.targets import Session

CODE = """
import threading, time
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.variables import Variable


class Order(RunInput):
    count: int


def person(run_id):
    with get_client(sync_client=True) as client:
        while not client.filter_flow_run_input(run_id, "paused-1-schema", 1, set()):
            time.sleep(0.05)
    resume_flow_run(run_id, run_input={"count": 3})


@flow
def asks():
    create_markdown_artifact("# first", key="interop-report")
    create_markdown_artifact("# second", key="interop-report")
    update_progress_artifact(create_progress_artifact(10.0, key="interop-progress"), 60.0)
    threading.Thread(target=person, args=(flow_run.id,), daemon=True).start()
    return pause_flow_run(wait_for_input=Order, poll_interval=1, timeout=30).count


Variable.set("interop_sdk", {"a": [1]})
assert Variable.get("interop_sdk") == {"a": [1]}
print("told", asks())
"""


def test_its_variables(server: Session, stock: Session) -> None:
    stock.run("variable", "set", "interop_cli", '"value"')
    assert server.call("GET", "/variables/name/interop_cli")["value"] == "value"
    assert "value" in stock.run("variable", "get", "interop_cli").stdout
    assert "interop_cli" in stock.run("variable", "ls").stdout
    stock.run("--no-prompt", "variable", "unset", "interop_cli")
    assert "interop_cli" not in stock.run("variable", "ls").stdout


def test_its_artifacts_and_a_pause_with_input(server: Session, stock: Session) -> None:
    assert "told 3" in stock.run_python(CODE)
    assert server.call("GET", "/artifacts/interop-progress/latest")["data"] == 60.0
    assert "interop-report" in stock.run("artifact", "ls").stdout
    assert "# second" in stock.run("artifact", "inspect", "interop-report").stdout
