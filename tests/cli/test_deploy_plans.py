"""Plans, pruning and versions as people use them, against a server (moonshot 1, rows D12 to D14, D25)."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from eparch.core import calls
from eparch.core.deployments import DeploymentScheduleUpdate, DeploymentUpdate
from eparch.core.model import encode

FLOWS = "from eparch import flow\n\n@flow\ndef report(day: str = 'today'):\n    pass\n"
ONE = """
  - name: {name}
    entrypoint: flows.py:report
    tags: [a]
    schedules: [{{cron: "0 3 * * *", slug: daily}}]
    work_pool: {{name: {pool}, job_variables: {{env: {{LEVEL: "1", API_TOKEN: tip-top}}}}}}
"""


@pytest.fixture
def project(server, environ, tmp_path, run):
    for name, value in server.env.items():
        if name.startswith("EPARCH_"):
            environ.setenv(name, value)
    environ.chdir(tmp_path)
    run("work-pool", "create", "plans", "--type", "process", "--overwrite", code=0)
    (tmp_path / "flows.py").write_text(FLOWS)

    def write(*names, edit=lambda text: text, top="name: {project}\n"):
        items = "".join(ONE.format(name=name, pool="plans") for name in names)
        top = top.format(project=tmp_path.name)
        (tmp_path / "prefect.yaml").write_text(top + "deployments:" + edit(items))

    return write


def _names(tmp_path, *names):
    """Names that no other test of this server has."""
    return [f"{tmp_path.name.replace('_', '-')[-30:]}-{name}" for name in names]


def test_the_plan_and_the_deploy_show_the_same_and_secrets_are_masked(project, run, tmp_path):
    (one,) = _names(tmp_path, "one")
    project(one)
    plan = run("deploy", "--all", "--plan", code=2)
    assert f"+ report/{one}  create" in plan.out
    assert '+ env.LEVEL: "1" (deployment)' in plan.out
    assert 'env.API_TOKEN: "********' in plan.out
    assert "tip-top" not in plan.out
    assert "\x1b" not in plan.out
    assert "Plan: 1 to create, 0 to change, 0 to delete, 0 unchanged." in plan.err
    done = run("deploy", "--all", code=0)
    assert plan.out.strip() in done.err
    project(one, edit=lambda text: text.replace('LEVEL: "1"', 'LEVEL: "2"').replace("[a]", "[a, b]"))
    plan = run("deploy", "--all", "--plan", "--color", "always", code=2)
    assert "\x1b[33m" in plan.out
    plan = run("deploy", "--all", "--plan", code=2)
    assert '~ tags: ["a"] -> ["a","b"]' in plan.out
    assert "~ job_variables.env: " in plan.out
    assert '~ env.LEVEL: "1" (deployment) -> "2" (deployment)' in plan.out
    assert "tip-top" not in plan.out
    [told] = run("deploy", "--all", "--plan", "-o", "json", code=2).json()
    assert told["action"] == "change"
    assert {"kind": "work pool", "name": "plans", "state": "there"} in told["uses"]
    level = next(value for value in told["job"] if value["key"] == "env.LEVEL")
    assert (level["before"], level["after"], level["after_from"]) == ("1", "2", "deployment")


def test_d13_prune_deletes_what_the_file_had_and_nothing_of_others(project, run, client, tmp_path):
    kept, gone, foreign = _names(tmp_path, "kept", "gone", "foreign")
    project(foreign, top="name: another-{project}\n")
    run("deploy", "--all", code=0)
    project(kept, gone)
    run("deploy", "--all", code=0)
    project(kept)
    assert "to delete" in run("deploy", "--all", "--plan", code=0).err
    plan = run("deploy", "--all", "--plan", "--prune", code=2)
    assert f"- report/{gone}  delete" in plan.out
    assert foreign not in plan.out
    done = run("deploy", "--all", "--prune", "-o", "json", code=0).json()
    assert [(one["name"], one["action"]) for one in done] == [
        (f"report/{kept}", "unchanged"), (f"report/{gone}", "deleted"),
    ]  # fmt: skip
    left = run("deployment", "ls", "-o", "name").out
    assert gone not in left
    assert kept in left
    assert foreign in left
    assert run("deploy", "--all", "--prune", "--plan", code=0)
    assert "--all" in run("deploy", "-n", kept, "--prune", code=2).err
    project(kept, top="")
    assert "has no name" in run("deploy", "--all", "--prune", code=2).err


def test_d14_what_people_changed_by_hand_is_shown_and_what_they_paused_stays(project, run, client, tmp_path):
    (one,) = _names(tmp_path, "hand")
    project(one, edit=lambda text: text.replace("slug: daily", "slug: daily, active: true"))
    [made] = run("deploy", "--all", "-o", "json", code=0).json()
    found = client.send(calls.read_deployment(id=made["id"]))
    off = calls.update_deployment_schedule(
        id=made["id"], schedule_id=found.schedules[0].id, body=DeploymentScheduleUpdate(active=False)
    )
    client.send(off)
    client.send(calls.update_deployment(id=made["id"], body=DeploymentUpdate(tags=["by-hand"])))
    plan = run("deploy", "--all", "--plan", code=2)
    assert "! schedule daily was made paused by hand; it stays so" in plan.out
    assert "! tags was changed by hand; it is set as the file says" in plan.out
    assert "! last changed by eparch/" in plan.out
    run("deploy", "--all", code=0)
    after = client.send(calls.read_deployment(id=made["id"]))
    assert (after.tags, after.schedules[0].active) == (["a"], False)
    assert after.schedules[0].id == found.schedules[0].id
    assert "stays so" in run("deploy", "--all", "--plan", code=0).out
    project(
        one,
        edit=lambda text: text.replace("0 3 * * *", "0 4 * * *").replace(
            "slug: daily", "slug: daily, active: true"
        ),
    )
    run("deploy", "--all", code=0)
    after = client.send(calls.read_deployment(id=made["id"]))
    assert (after.schedules[0].schedule["cron"], after.schedules[0].active) == ("0 4 * * *", False)


def test_versions_diff_and_rollback(project, run, client, tmp_path):
    (one,) = _names(tmp_path, "past")
    name = f"report/{one}"
    project(one)
    [made] = run("deploy", "--all", "-o", "json", code=0).json()
    project(one, edit=lambda text: text.replace("[a]", "[b]"))
    run("deploy", "--all", code=0)
    client.send(
        calls.update_deployment(id=made["id"], body=DeploymentUpdate(description="by hand", paused=True))
    )
    listed = run("deployment", "versions", name, "-o", "json", code=0).json()
    assert [(v["number"], v["origin"]["source"]) for v in listed] == [
        (3, "api"),
        (2, "deploy"),
        (1, "deploy"),
    ]
    assert "@" in listed[1]["origin"]["author"]
    assert listed[0]["origin"]["client"].startswith("eparch/")
    shown = run("deployment", "diff", name, "1", "2", code=0)
    assert '~ tags: ["a"] -> ["b"]' in shown.out
    told = run("deployment", "diff", name, "-o", "json", code=0).json()
    assert told["changes"] == {"description": [None, "by hand"], "paused": [False, True]}
    assert run("deployment", "rollback", name, "1", "--plan", code=2)
    done = run("deployment", "rollback", name, "1", "-y", code=0)
    assert "is version 1 again, as version 4" in done.err
    found = client.send(calls.read_deployment(id=made["id"]))
    assert (found.tags, found.paused) == (["a"], True)
    newest = run("deployment", "versions", name, "-o", "json", code=0).json()[0]
    assert newest["origin"]["source"] == "rollback"
    assert run("deployment", "rollback", name, "1", "-y", code=0)
    assert run("deployment", "diff", name, "9", code=3).err.startswith("error: ")


def test_a_person_who_says_no_has_changed_nothing(project, run, environ, client, tmp_path):
    (one,) = _names(tmp_path, "asked")
    project(one)
    environ.setenv("EPARCH_CLI_PROMPT", "true")
    environ.setattr("click.confirm", lambda *_, **__: (_ for _ in ()).throw(__import__("click").Abort()))
    done = run("deploy", "--all")
    assert done.code != 0
    assert f"+ report/{one}  create" in done.err
    assert one not in run("deployment", "ls", "-o", "name").out
    assert run("deploy", "--all", "-y", code=0)


def test_a_plan_that_grew_old_while_somebody_thought_is_refused(project, run, environ, client, tmp_path):
    (one,) = _names(tmp_path, "old")
    project(one)
    [made] = run("deploy", "--all", "-o", "json", code=0).json()
    project(one, edit=lambda text: text.replace("[a]", "[c]"))
    environ.setenv("EPARCH_CLI_PROMPT", "true")
    patch = calls.update_deployment(id=made["id"], body=DeploymentUpdate(description="meanwhile"))
    environ.setattr("click.confirm", lambda *_, **__: client.send(patch) or True)
    done = run("deploy", "--all")
    assert done.code not in (0, 2)
    assert f"'report/{one}' was changed by eparch/" in done.err
    found = client.send(calls.read_deployment(id=made["id"]))
    assert (found.tags, found.description) == (["a"], "meanwhile")
    assert b"meanwhile" in encode(found)


def test_a_run_of_a_version_runs_what_it_was(project, run, server, client, tmp_path):
    (one,) = _names(tmp_path, "rerun")
    old = FLOWS.replace("pass", "open('ran', 'a').write('old ' + day)")
    (tmp_path / "flows.py").write_text(old + old.replace("report(", "other(").replace("'old ", "'new "))
    project(one, edit=lambda text: text.replace("tags:", "parameters: {day: monday}\n    tags:"))
    [made] = run("deploy", "--all", "-o", "json", code=0).json()
    patch = DeploymentUpdate(entrypoint="flows.py:other", parameters={"day": "tuesday"})
    client.send(calls.update_deployment(id=made["id"], body=patch))
    for options, ran in (("--version", "1"), "old monday"), ((), "new tuesday"):
        new = run("deployment", "run", f"report/{one}", *options, "-o", "json", code=0).json()
        command = [sys.executable, "-m", "eparch.sdk.execute"]
        env = {**server.env, "EPARCH_FLOW_RUN_ID": new["id"]}
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done
        assert (tmp_path / "ran").read_text() == ran
        (tmp_path / "ran").unlink()
    assert run("deployment", "run", f"report/{one}", "--version", "9", code=3)


KILLED = """
import os, signal, sys
from eparch.client.http import Client
from eparch.cli import app

point, send = sys.argv[1], Client.send

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def killed(self, call, **options):
    if call.path == "/deployments/apply" and point == "before":
        die()
    if call.path == "/deployments/apply" and point == "during":
        import http.client
        http.client.HTTPConnection.getresponse = lambda *_: die()
    answer = send(self, call, **options)
    if call.path in ("/deployments/standing", "/deployments/apply") and call.path.endswith(point):
        die()
    return answer

Client.send = killed
app.run(["deploy", "--all", "-y"])
"""


@pytest.mark.parametrize(
    ("point", "least", "most"),
    [("standing", 0, 0), ("before", 0, 0), ("during", 0, 3), ("apply", 3, 3)],
)
def test_a_client_that_is_killed_leaves_all_or_nothing(project, run, tmp_path, point, least, most):
    names = _names(tmp_path, *(f"{point}-{letter}" for letter in "abc"))
    project(*names)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script, point], capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done
    there = {f"report/{name}" for name in names} & set(run("deployment", "ls", "-o", "name").out.split())
    assert len(there) in {least, most}
    again = run("deploy", "--all", "-o", "json", code=0).json()
    assert {one["name"] for one in again} == {f"report/{name}" for name in names}
    assert run("deploy", "--all", "--plan", code=0)
