"""Acceptance: deployments, schedules and runs on the real command line against our server."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.records import LogCreate
from eparch.core.runs import SetState
from eparch.core.states import StateCreate, StateType

SCHEMA = {"type": "object", "properties": {"days": {"type": "integer"}, "name": {"type": "string"}}}


class Made:
    """A pool, a flow and a deployment of it."""

    def __init__(self, client, eparch):
        mark = uuid4().hex[:8]
        self.client = client
        self.pool, self.flow = f"pool-{mark}", f"flow-{mark}"
        self.name = f"{self.flow}/nightly"
        eparch("work-pool", "create", self.pool, "--type", "process")
        flow = client.send(calls.create_flow(body=FlowCreate(name=self.flow)))
        new = DeploymentCreate(
            name="nightly", flow_id=flow.id, work_pool_name=self.pool, parameter_openapi_schema=SCHEMA,
            entrypoint="x.py:f", path=".",
        )  # fmt: skip
        self.id = client.send(calls.create_deployment(body=new)).id

    def set_state(self, run_id, kind, *, message=None, force=False):
        state = StateCreate(type=kind, message=message)
        call = calls.set_flow_run_state(id=run_id, body=SetState(state=state, force=force))
        return self.client.send(call)

    def log(self, run_id, *messages, level=20):
        now = datetime.now(UTC)
        lines = [
            LogCreate(
                name="x",
                level=level,
                message=text,
                timestamp=now + timedelta(milliseconds=n),
                flow_run_id=run_id,
            )
            for n, text in enumerate(messages)
        ]
        self.client.send(calls.create_logs(body=lines))


@pytest.fixture
def made(client, eparch):
    return Made(client, eparch)


@pytest.fixture
def new_run(eparch, made):
    """Makes a run; its id."""

    def maker(*options):
        return eparch("deployment", "run", made.name, *options, "-o", "name").out.strip()

    return maker


def test_deployments_are_listed_and_shown(eparch, made):
    assert eparch("deployment", "ls", made.flow, "-o", "name").out == f"{made.name}\n"
    assert eparch("deployment", "ls", "--flow-name", made.flow, "-o", "json").json()[0]["name"] == "nightly"
    assert made.name in eparch("deployment", "ls", "--by-created").out
    shown = eparch("deployment", "inspect", made.name, "-o", "json").json()
    assert shown["id"] == str(made.id)
    assert eparch("deployment", "inspect", str(made.id), "-o", "name").out == f"{made.name}\n"
    assert made.flow in eparch("flow", "ls", "--all").out


def test_deployment_that_is_not_there_suggests_the_nearest(eparch, made):
    done = eparch("deployment", "run", made.flow + "/nightli", code=3)
    assert f"There is no deployment '{made.flow}/nightli'." in done.err
    assert f"Did you mean '{made.name}'?" in done.err
    assert "Which deployment?" in eparch("deployment", "run", code=2).err
    assert "--id cannot be" in eparch("deployment", "run", "--id", "x", code=2).err


def test_run_prints_the_id_and_takes_everything(eparch, made):
    done = eparch(
        "deployment", "run", made.name, "-p", "days=7", "-p", "name=007x", "--params", '{"days": 1}',
        "--job-variable", "env={\"A\": \"1\"}", "--tag", "a", "--tag", "b", "--flow-run-name", "mine",
        "--start-in", "in 2 hours",
    )  # fmt: skip
    found = eparch("flow-run", "inspect", done.out.strip(), "-o", "json").json()
    assert found["parameters"] == {"days": 7, "name": "007x"}
    assert found["job_variables"] == {"env": {"A": "1"}}
    assert {"a", "b"} <= set(found["tags"])
    assert found["name"] == "mine"
    due = datetime.fromisoformat(found["expected_start_time"]) - datetime.now(UTC)
    assert timedelta(minutes=110) < due <= timedelta(hours=2)
    assert "Created flow run 'mine'" in done.err


def test_run_from_stdin_and_by_id(eparch, made):
    done = eparch("deployment", "run", "--id", made.id, "--params", "-", "-o", "json", input='{"days": 3}')
    assert done.json()["parameters"] == {"days": 3}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-p", "dais=1"], "Did you mean 'days'?"),
        (["-p", "days"], "Write --param days=value"),
        (["--params", "{"], "--params is not JSON."),
        (["--params", "[]"], "has to be a JSON object"),
        (["--params", "@no-such-file"], "no-such-file: The file cannot be read."),
        (["--start-in", "soon"], "'soon' is not a length of time."),
        (["--start-at", "soon"], "'soon' is not a moment."),
        (["--start-in", "1m", "--start-at", "5pm"], "cannot be used together"),
    ],
)
def test_run_refuses_what_cannot_be_and_makes_nothing(eparch, made, options, said):
    done = eparch("deployment", "run", made.name, *options, code=2)
    assert said in done.err
    assert "Traceback" not in done.err
    assert eparch("flow-run", "ls", "--deployment", made.name, "-o", "json").json() == []


def test_parameters_that_do_not_fit_are_refused_by_the_server(eparch, made):
    done = eparch("deployment", "run", made.name, "-p", 'days="many"', code=None)
    assert done.code in (2, 5)
    assert "days" in done.err


def test_runs_are_listed_by_flow_state_and_deployment(eparch, made, new_run):
    first, second = new_run(), new_run()
    made.set_state(first, StateType.RUNNING, force=True)

    def ids(*options):
        return eparch("flow-run", "ls", "--flow-name", made.flow, *options, "-o", "name").out.split()

    assert ids() == [second, first]
    assert ids("--state-type", "running") == [first]
    assert ids("--state", "scheduled") == [second]
    assert ids("--deployment", made.name) == [second, first]
    assert ids("--limit", 1) == [second]
    assert "there are more" in eparch("flow-run", "ls", "--limit", 1).err
    assert ids("--all") == [second, first]
    assert made.flow in eparch("flow-run", "ls").out
    assert "Did you mean 'FAILED'?" in eparch("flow-run", "ls", "--state-type", "FALED", code=2).err


def test_logs(eparch, made, new_run):
    run = new_run()
    made.log(run, *[f"line {n}" for n in range(30)])
    made.log(run, "bad\x1b]0;title\x07\x1b[31mred", level=40)

    def shown(*options):
        return [line.split(maxsplit=2)[2] for line in eparch("flow-run", "logs", *options).out.splitlines()]

    assert len(shown(run)) == 31
    assert shown(run)[0] == "line 0"
    assert shown(run, "--tail", "2")[0] in ("line 28", "line 29")
    assert shown("--tail", run) == shown(run)[-20:]
    assert shown("-t", "-n", "3", run) == shown(run)[-3:]
    assert shown(run, "-h", "-n", "2") == ["line 0", "line 1"]
    assert shown(run, "-r") == shown(run)[::-1]
    assert shown(run, "--level", 40) == ["bad]0;titlered"]
    assert len(eparch("flow-run", "logs", run, "-o", "json").json()) == 31
    assert "Which run?" in eparch("flow-run", "logs", code=2).err
    assert "There is no flow run" in eparch("flow-run", "logs", uuid4(), code=3).err


def test_follow_ends_with_the_run(eparch, made, new_run):
    run = new_run()
    made.log(run, "one", "two")
    made.set_state(run, StateType.COMPLETED, force=True)
    assert len(eparch("flow-run", "logs", run, "-f").out.splitlines()) == 2
    assert len(eparch("flow-run", "logs", run, "-f", "--tail", "1").out.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "code"), [(StateType.COMPLETED, 0), (StateType.FAILED, 7), (StateType.CRASHED, 7)]
)
def test_watch_shows_lines_and_ends_as_the_run_did(eparch, made, new_run, kind, code):
    run = new_run()

    def happen():
        made.set_state(run, StateType.RUNNING, force=True)
        made.log(run, "hello")
        made.set_state(run, kind, message="because", force=True)

    thread = threading.Thread(target=happen)
    thread.start()
    done = eparch("flow-run", "watch", run, code=code)
    thread.join()
    assert done.out.count("hello") == 1
    assert f"is {kind.value.capitalize()}" in done.err
    assert ("because" in done.err) == (code == 7)
    after = eparch("flow-run", "watch", run, "-o", "json", code=code)
    assert after.json()["state_type"] == kind.value
    assert "hello" in after.err


def test_deployment_run_watch_times_out_and_says_how_to_go_on(eparch, made):
    done = eparch("deployment", "run", made.name, "--watch", "--watch-timeout", "0", code=1)
    assert "was not over within 0 s" in done.err
    assert "flow-run watch" in done.err


def test_cancel_retry_delete(eparch, made, new_run):
    run = new_run()
    assert "Would cancel" in eparch("flow-run", "cancel", run, "--dry-run").err
    (found,) = eparch("flow-run", "cancel", run, "-o", "json").json()
    assert found["state_type"] in ("CANCELLED", "CANCELLING")
    made.set_state(run, StateType.CANCELLED, force=True)
    (again,) = eparch("flow-run", "retry", run, "-o", "json").json()
    assert again["state_name"] == "AwaitingRetry"
    assert "is not over" in eparch("flow-run", "retry", run, code=5).err
    other = new_run()
    assert "Add --yes." in eparch("flow-run", "delete", run, other, code=2).err
    eparch("flow-run", "delete", "-", "-y", input=f"{run}\n{other}\n")
    eparch("flow-run", "inspect", run, code=3)
    eparch("flow-run", "inspect", other, code=3)


def test_one_bad_name_deletes_nothing(eparch, made, new_run):
    run = new_run()
    eparch("flow-run", "delete", run, uuid4(), "-y", code=3)
    eparch("flow-run", "inspect", run)


def test_final_run_is_not_cancelled(eparch, made, new_run):
    run = new_run()
    made.set_state(run, StateType.COMPLETED, force=True)
    assert "cannot be cancelled" in eparch("flow-run", "cancel", run, code=5).err


def test_run_by_name(eparch, made, new_run):
    name = f"run-{uuid4().hex[:8]}"
    first = new_run("--flow-run-name", name)
    assert eparch("flow-run", "inspect", name, "-o", "name").out.strip() == first
    assert f"Did you mean '{name}'?" in eparch("flow-run", "inspect", name + "x", code=3).err
    new_run("--flow-run-name", name)
    assert "Several flow runs are called" in eparch("flow-run", "inspect", name, code=2).err


def test_p16_p17_preview_and_slots(eparch, made, new_run):
    later, running = new_run("--start-in", "30m"), new_run()
    made.set_state(running, StateType.RUNNING, force=True)
    (due,) = eparch("work-pool", "preview", made.pool, "-h", 1, "-o", "json").json()
    assert due["id"] == later
    assert eparch("work-queue", "preview", "default", "-p", made.pool, "-o", "name").out.strip() == later
    done = eparch("work-pool", "slots", made.pool, "-o", "name")
    assert done.out.strip() == running
    assert done.err == "1 slot is held; there is no limit.\n"


def test_schedules(eparch, made):
    base = ("deployment", "schedule")
    cron = eparch(
        *base, "create", made.name, "--cron", "0 3 * * *", "--timezone", "Europe/Athens", "-o", "json"
    ).json()
    assert cron["schedule"]["cron"] == "0 3 * * *"
    every = eparch(*base, "create", made.name, "--interval", "PT1H", "-o", "name").out.strip()
    assert set(eparch(*base, "ls", made.name, "-o", "name").out.split()) == {cron["id"], every}
    assert "cron 0 3 * * * (Europe/Athens)" in eparch(*base, "ls", made.name).out
    assert "every 1 h" in eparch("deployment", "ls", made.flow).out
    eparch(*base, "pause", made.name, every)
    paused = {one["id"]: one["active"] for one in eparch(*base, "ls", made.name, "-o", "json").json()}
    assert paused == {cron["id"]: True, every: False}
    eparch(*base, "resume", made.name, "--all")
    assert all(one["active"] for one in eparch(*base, "ls", made.name, "-o", "json").json())
    eparch(*base, "delete", made.name, every, "-y")
    eparch(*base, "create", made.name, "--rrule", "FREQ=DAILY", "--replace", "-y")
    (left,) = eparch(*base, "ls", made.name, "-o", "json").json()
    assert left["schedule"]["rrule"] == "FREQ=DAILY"
    eparch(*base, "clear", made.name, "-y")
    assert eparch(*base, "ls", made.name, "-o", "json").json() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cron", "0 25 * * *"], "25"),
        (["--cron", "* * * * *", "--interval", "5"], "cannot be used together"),
        (["--interval", "often"], "'often' is not an interval"),
        (["--rrule", "FREQ=NEVER"], "NEVER"),
        (["--cron", "* * * * *", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["--cron", "* * * * *", "--anchor-date", "2026-01-01"], "--anchor-date belongs to --interval"),
        ([], "There is no schedule."),
    ],
)
def test_schedule_that_cannot_be_is_refused(eparch, made, options, said):
    done = eparch("deployment", "schedule", "create", made.name, *options, code=2)
    assert said in done.err
    assert "Traceback" not in done.err


def test_pause_resume_delete_deployments(eparch, made):
    eparch("deployment", "pause", made.name)
    assert "PAUSED" in eparch("deployment", "ls", made.flow).out
    assert eparch("deployment", "resume", made.name, "-o", "json").json()["paused"] is False
    assert eparch("deployment", "delete", made.name, "--dry-run").err == (
        f"Would delete deployment '{made.name}'.\n"
    )
    assert "Which deployments?" in eparch("deployment", "delete", code=2).err
    eparch("deployment", "delete", made.name, "-y")
    eparch("deployment", "inspect", made.name, code=3)


def test_any_request(eparch, made):
    assert eparch("api", "GET", "/health").out == "true\n"
    body = msgspec.json.encode({"flows": {"name": {"any_": [made.flow]}}}).decode()
    found = eparch("api", "post", "flows/filter", "-d", body)
    assert [one["name"] for one in found.json()] == [made.flow]
    assert eparch("api", "GET", f"/flows/name/{made.flow}", "-o", "name").out == f"{made.flow}\n"
    eparch("api", "GET", "/flows/name/no-such-flow", code=3)
    eparch("api", "POST", "/flows/filter", "-d", '{"limt": 1}', code=2)
    assert "--data is not JSON." in eparch("api", "POST", "/flows/filter", "-d", "{", code=2).err


def test_shell_completes_names(eparch, made):
    def completed(words):
        variables = {"_EPARCH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "3"}
        return eparch(env=variables, code=None).out.split()

    assert f"plain,{made.pool}" in completed(f"eparch work-pool inspect {made.pool[:6]}")
    assert f"plain,{made.name}" in completed(f"eparch deployment run {made.flow[:6]}")


def test_shell_completes_nothing_without_a_server(eparch):
    variables = {"_EPARCH_COMPLETE": "bash_complete", "COMP_WORDS": "eparch work-pool inspect x"}
    done = eparch(env={**variables, "COMP_CWORD": "3", "EPARCH_API_URL": "http://127.0.0.1:1/api"}, code=None)
    assert (done.out.strip(), done.err) == ("", "")
