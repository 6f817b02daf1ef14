"""Deploying from Python: the same plan, all or nothing, with the names that people know (row D23)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.errors import Conflict, EparchError, NotFound, Usage
from eparch.core.pools import WorkPoolCreate
from eparch.core.templates import placeholders
from eparch.sdk import session as sessions
from eparch.sdk.automations import DeploymentEventTrigger
from eparch.sdk.code_storage import GitRepository, LocalStorage, RemoteStorage, storage_of
from eparch.sdk.deploying import DockerImage, _name_and_tag, deploy, schedules_of
from eparch.sdk.flow import Flow, flow
from eparch.sdk.schedules import Cron, Interval, RRule
from eparch.sdk.session import Session
from eparch.settings import load

FLOWS = '''
from prefect import flow

@flow(name="{name}")
def report(day: str = "today", pages: int = 1):
    """Reports on a day."""
    return pages
'''


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    """A client of the server."""
    with Client(server.api_url) as opened:
        yield opened


@pytest.fixture
def project(server: Any, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with a flow in it, which this process can deploy to the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sessions, "_current", Session(load(server.env, tmp_path), client))
    if not client.send(calls.read_work_pools(body={"work_pools": {"name": {"any_": ["python"]}}})):
        client.send(calls.create_work_pool(body=WorkPoolCreate(name="python", type="process")))
    (tmp_path / "code").mkdir()
    name = tmp_path.name.replace("_", "-")
    (tmp_path / "code" / "flows.py").write_text(FLOWS.format(name=name).replace("prefect", "eparch"))
    return lambda: Flow.from_source(str(tmp_path / "code"), "flows.py:report")


def test_d23_a_flow_of_a_folder_is_deployed_and_a_second_time_nothing_changes(
    project: Any, client: Any, tmp_path: Path
) -> None:
    one = project()
    id_ = one.deploy(
        "nightly",
        work_pool_name="python",
        cron="0 3 * * *",
        parameters={"pages": 2},
        tags=["a"],
        job_variables={"env": {"A": "1"}},
        concurrency_limit=2,
        triggers=[
            DeploymentEventTrigger(expect={"order.placed"}, name="orders", parameters={"pages": 3}),
        ],
    )
    made = client.send(calls.read_deployment(id=id_))
    assert made.entrypoint == "flows.py:report"
    folder = str((tmp_path / "code").resolve())
    assert made.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": folder}}]
    assert (made.parameters, made.tags, made.concurrency_limit) == ({"pages": 2}, ["a"], 2)
    assert set(made.parameter_openapi_schema["properties"]) == {"day", "pages"}
    assert made.description == "Reports on a day."
    assert made.schedules[0].schedule["cron"] == "0 3 * * *"
    resource = f"prefect.deployment.{id_}"
    (automation,) = client.send(calls.read_related_automations(resource_id=resource))
    assert (automation.name, automation.trigger.expect) == ("orders", ["order.placed"])
    assert automation.actions[0].parameters == {"pages": 3}
    versions = client.send(calls.read_deployment_versions(id=id_))
    again = one.deploy("nightly", work_pool_name="python", parameters={"pages": 2}, tags=["a"],
                       job_variables={"env": {"A": "1"}}, concurrency_limit=2)  # fmt: skip
    assert again == id_
    assert client.send(calls.read_deployment_versions(id=id_)) == versions
    assert client.send(calls.read_deployment(id=id_)).schedules == made.schedules


def test_d23_several_are_deployed_all_or_none(project: Any, client: Any) -> None:
    one = project()
    good = one.to_deployment("good", schedules=[Cron("0 1 * * *", slug="x"), Interval(timedelta(hours=1))])
    bad = one.to_deployment("bad", parameters={"pages": "many"})
    with pytest.raises(Conflict) as caught:
        deploy(good, bad, work_pool_name="python")
    assert f"{one.name}/bad" in caught.value.message
    with pytest.raises(NotFound):
        client.send(calls.read_deployment_by_name(flow_name=one.name, deployment_name="good"))
    ids = deploy(good, one.to_deployment("other"), work_pool_name="python", print_next_steps_message=False)
    assert [client.send(calls.read_deployment(id=id_)).name for id_ in ids] == ["good", "other"]


@pytest.mark.anyio
async def test_d23_it_can_be_awaited(project: Any, client: Any, tmp_path: Path) -> None:
    one = await project()
    id_ = await one.deploy("awaited", work_pool_name="python")
    assert client.send(calls.read_deployment(id=id_)).name == "awaited"


def test_a_pool_that_is_not_there_suggests_the_nearest(project: Any) -> None:
    with pytest.raises(NotFound) as caught:
        project().deploy("x", work_pool_name="pyhton")
    assert "python" in caught.value.fix
    with pytest.raises(Usage, match="no work pool"):
        project().deploy("x")
    with pytest.raises(Usage):
        deploy()


def test_a_script_of_prefect_deploys_unmodified_where_prefect_is_not_installed(
    server: Any, client: Any, tmp_path: Path
) -> None:
    """As Prefect's documentation writes it; ``prefect`` is this product."""
    (tmp_path / "hello.py").write_text(
        "from prefect import flow\nfrom prefect.schedules import Cron\n\n"
        "@flow(log_prints=True)\ndef hello_script(name: str = 'world'):\n    print(name)\n\n"
        "if __name__ == '__main__':\n"
        "    print(hello_script.deploy(name='documented', work_pool_name='scripts',\n"
        "        schedules=[Cron('0 9 * * *', timezone='America/New_York')]))\n"
    )
    client.send(calls.create_work_pool(body=WorkPoolCreate(name="scripts", type="process")))
    hook = "from eparch.sdk import compat; compat.install(); compat.run_script('hello.py')"
    command, options = [sys.executable, "-c", hook], {"cwd": tmp_path, "env": server.env, "timeout": 120}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    made = client.send(calls.read_deployment_by_name(flow_name="hello-script", deployment_name="documented"))
    assert str(made.id) == done.stdout.strip()
    assert made.entrypoint == "hello.py:hello_script"
    assert made.schedules[0].schedule["timezone"] == "America/New_York"
    assert "eparch worker start --pool scripts" in done.stderr


def test_a_flow_that_no_worker_could_load_is_refused() -> None:
    @flow
    def inner() -> None:
        pass

    with pytest.raises(Usage, match="in no file"):
        inner.to_deployment("x")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"cron": "0 3 * * *"}, [{"cron": "0 3 * * *", "day_or": True}]),
        ({"interval": 60}, [{"interval": 60.0}]),
        ({"interval": timedelta(minutes=2)}, [{"interval": 120.0}]),
        ({"cron": ["0 1 * * *"]}, [{"cron": "0 1 * * *", "day_or": True}]),
        ({"schedule": {"rrule": "FREQ=DAILY"}}, [{"rrule": "FREQ=DAILY"}]),
        ({"schedules": []}, []),
        ({"schedules": [RRule("FREQ=DAILY", slug="d")]}, [{"rrule": "FREQ=DAILY"}]),
    ],
)  # fmt: skip
def test_schedules_in_every_way_that_people_write_them(given: Any, found: Any) -> None:
    all_ = dict.fromkeys(("interval", "cron", "rrule", "schedule", "schedules"))
    schedules = schedules_of(**{**all_, **given})
    assert schedules is not None
    assert [one.schedule for one in schedules] == found


@pytest.mark.parametrize(
    "given",
    [
        {"cron": "x"},
        {"cron": "0 1 * * *", "interval": 5},
        {"schedule": {}},
        {"schedules": [{"cron": "* * *"}]},
    ],
)
def test_what_is_no_schedule_is_refused(given: Any) -> None:
    all_ = dict.fromkeys(("interval", "cron", "rrule", "schedule", "schedules"))
    with pytest.raises(EparchError):
        schedules_of(**{**all_, **given})
    assert schedules_of(**all_) is None


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("https://github.com/org/repo.git", GitRepository),
        ("https://github.com/org/repo", GitRepository),
        ("git@github.com:org/repo.git", GitRepository),
        ("s3://bucket/flows", RemoteStorage),
        ("code", LocalStorage),
        (Path("code"), LocalStorage),
    ],
)
def test_where_code_can_be_kept(source: Any, kind: type) -> None:
    assert isinstance(storage_of(source), kind)
    with pytest.raises(Usage):
        storage_of(7)


def test_credentials_are_stored_as_a_reference_and_never_in_clear() -> None:
    class Saved:
        _block_document_name = "github"

        @staticmethod
        def get_block_type_slug() -> str:
            return "secret"

    step = GitRepository("https://x/y.git", credentials={"access_token": Saved()}, branch="main").pull_step()
    assert step["prefect.deployments.steps.git_clone"]["branch"] == "main"
    assert [one.key for one in placeholders(step)] == ["secret.github"]
    for open_ in ({"access_token": "ghp_x"}, "ghp_x"):
        with pytest.raises(Usage, match="not saved"):
            GitRepository("https://x/y.git", credentials=open_).pull_step()


@pytest.mark.parametrize(
    ("name", "tag", "found"),
    [
        ("app", None, ("app", None)),
        ("app:1", None, ("app", "1")),
        ("host:5000/app", None, ("host:5000/app", None)),
        ("host:5000/app:1", "2", ("host:5000/app", "2")),
    ],
)
def test_the_port_of_a_registry_is_no_tag(name: str, tag: str | None, found: Any) -> None:
    assert _name_and_tag(DockerImage(name, tag)) == found
