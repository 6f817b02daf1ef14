"""A server that asks for a secret: the command line, a worker and a run with it, and without it."""

from __future__ import annotations

import pytest

from eparch import settings
from eparch.client.http import connect
from eparch.core import calls

SECRET = "admin:geheim geheim"

FLOWS = """
from eparch import flow, task


@task
def double(number: int) -> int:
    return 2 * number


@flow(log_prints=True)
def numbers() -> int:
    print(f"twice 21 is {double.submit(21).result()}")
    return 1
"""

PROJECT = """
deployments:
  - name: numbers
    entrypoint: flows.py:numbers
    work_pool:
      name: local
"""


@pytest.fixture
def guarded(start_server, environ, tmp_path):
    """A server that asks for the secret; the environment points at it and says nothing of the secret."""
    with start_server(EPARCH_SERVER_AUTH_STRING=SECRET) as server:
        environ.setenv("EPARCH_API_URL", server.api_url)
        yield server
        assert "geheim" not in server.log()


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "flows.py").write_text(FLOWS)
    (folder / "prefect.yaml").write_text(PROJECT)
    return folder


def test_with_the_secret_all_of_the_main_job_works(guarded, environ, eparch, project):
    environ.setenv("EPARCH_AUTH_STRING", SECRET)
    environ.chdir(project)
    eparch("work-pool", "create", "local", "--type", "process")
    eparch("deploy", "--all")
    made = eparch("deployment", "run", "numbers/numbers", "-o", "json").json()
    done = eparch("worker", "start", "--pool", "local", "--run-once", timeout=120)
    run = eparch("flow-run", "inspect", made["id"], "-o", "json").json()
    assert run["state_name"] == "Completed", done
    logs = eparch("flow-run", "logs", made["id"]).out
    assert "twice 21 is 42" in logs
    with connect(settings.load()) as client:
        body = {"flow_runs": {"id": {"any_": [made["id"]]}}}
        (task,) = client.send(calls.read_task_runs(body=body))
    assert task.state_name == "Completed"  # told over the socket, which asks for the secret too
    assert "geheim" not in done.out + done.err + logs


@pytest.mark.parametrize("given", [None, "admin:other", ""])
def test_without_it_one_clear_error_is_told(guarded, environ, eparch, given):
    if given is not None:
        environ.setenv("EPARCH_AUTH_STRING", given)
    for command in (["work-pool", "ls"], ["worker", "start", "--pool", "local"]):
        done = eparch(*command, code=None)
        assert done.code not in (0, 1), done
        assert "EPARCH_AUTH_STRING" in done.err, done
        assert "Traceback" not in done.err
        assert len(done.err.splitlines()) <= 4
