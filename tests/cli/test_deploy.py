"""``eparch deploy`` as people run it, against a real server, with the example that the README shows."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from eparch.cli import app
from eparch.core import calls

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "stdlib_report"


@pytest.fixture
def project(server, environ, tmp_path):
    """The example in a folder of its own, an environment that leads to the server, and a pool."""
    for name, value in server.env.items():
        if name.startswith("EPARCH_"):
            environ.setenv(name, value)
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    environ.chdir(folder)
    app.run(["work-pool", "create", "local", "--type", "process", "--overwrite"])
    return folder


def test_the_example_deploys_and_a_second_time_nothing_changes(project, eparch):
    first = eparch("deploy", "--all", "-o", "json")
    names = [one["name"] for one in first.json()]
    assert names == ["report/nightly", "report/quick"]
    assert "eparch worker start --pool local" in first.err
    assert "eparch deployment run 'report/nightly'" in first.err
    again = eparch("deploy", "--all", "-o", "json").json()
    assert [(one["id"], one["action"]) for one in again] == [(o["id"], "unchanged") for o in first.json()]
    kept = eparch("deployment", "inspect", "report/nightly", "-o", "json").json()
    assert kept["parameters"] == {"batches": 40, "top": 15}
    assert kept["schedules"][0]["schedule"]["timezone"] == "Europe/Athens"
    assert kept["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(project.resolve())}}
    ]


def test_a_plan_exits_with_2_when_something_would_change_and_with_0_when_not(project, run):
    run("deploy", "--all", code=0)
    assert run("deploy", "--all", "--plan", code=0).out.count("unchanged") == 2
    done = run("deploy", "-n", "quick", "-t", "new", "--plan", "-o", "json", code=2)
    [one] = done.json()
    assert one["action"] == "change"
    assert one["changes"] == {"tags": [["example", "report"], ["new"]]}
    assert run("deploy", "-n", "quick", "--plan", code=0)


def test_flags_alone_deploy_without_a_file(project, run):
    (project / "prefect.yaml").unlink()
    flags = "-n adhoc -p local -t a -t b -d words --version 3 -cl 2 --collision-strategy cancel_new -q high"
    flags += " -jv env.A=1 --param batches=3 --timezone Europe/Athens --no-enforce-parameter-schema"
    run("deploy", "./flows.py:report", *flags.split(), "--cron", "0 3 * * *", code=0)
    made = run("deployment", "inspect", "report/adhoc", "-o", "json", code=0).json()
    assert (made["tags"], made["description"], made["version"]) == (["a", "b"], "words", "3")
    assert made["global_concurrency_limit"] or made["concurrency_limit"] == 2
    assert made["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert (made["work_pool_name"], made["work_queue_name"]) == ("local", "high")
    assert (made["job_variables"], made["parameters"]) == ({"env.A": "1"}, {"batches": 3})
    assert made["enforce_parameter_schema"] is False
    assert made["schedules"][0]["schedule"]["cron"] == "0 3 * * *"


@pytest.mark.parametrize(
    ("arguments", "code", "first", "fix"),
    [
        (["-n", "nihgtly"], 3, "There is no deployment 'nihgtly'", "'nightly'"),
        ([], 2, "prefect.yaml has 2 deployments", "--all"),
        (["flows.py:report"], 2, "prefect.yaml has 2 deployments of 'flows.py:report'", "--name"),
        (["flow.py:report", "-n", "x"], 2, "There is no file 'flow.py'", "'flows.py'"),
        (["--all", "-p", "locla"], 3, "There is no work pool 'locla'", "'local'"),
        (["--all", "-jv", "envv=1"], 2, "no job variable 'envv'", "'env'"),
        (["--all", "--param", "top=many"], 2, "'top': 'many' is not of type 'integer'", ""),
        (["--all", "--trigger", '{"expct": "a"}'], 2, "--trigger cannot be used", "'expect'"),
        (["--all", "--trigger", "nonsense"], 2, "--trigger is not JSON", ".yaml or .json"),
        (["--all", "--trigger", "none.yaml"], 2, "none.yaml: There is no such file", ""),
        (["--all", "--sla", '{"name": "x"}'], 2, "--sla cannot be used", ""),
        (["--all", "--version-type", "vcs:gti"], 2, "--version-type cannot be used", "'vcs:git'"),
        (["--all", "--anchor-date", "2026-01-01"], 2, "There is no schedule", "--interval"),
        (["--all", "--cron", "x"], 2, "x", ""),
        (["--all", "--prefect-file", "prefct.yaml"], 2, "prefct.yaml: There is no such file", "prefect.yaml"),
        (["--al"], 2, "--al", "--all"),
    ],
)
def test_bad_input_is_told_in_three_lines_with_an_exit_code(project, run, arguments, code, first, fix):
    done = run("deploy", *arguments, code=code)
    lines = done.err.splitlines()
    assert first in lines[0]
    assert len(lines) <= 3
    assert fix in lines[-1]
    assert done.out == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        ("flows.py", "def report(", "def report((", "flows.py:"),
        ("prefect.yaml", "entrypoint: flows.py:report", "entrypoint: flows.py:reprot", "prefect.yaml:6:17"),
        ("prefect.yaml", "name: local", "name: locla", "prefect.yaml:15:13"),
        ("prefect.yaml", "batches: 40", "bacthes: 40", "prefect.yaml:9:7"),
        ("prefect.yaml", "schedules:", "schedulez:", "prefect.yaml:11:5"),
        ("prefect.yaml", 'cron: "30 2 * * *"', 'cron: "30 2 * *"', "prefect.yaml:12:15"),
        ("prefect.yaml", "tags: [example, report]", "tags: [example, report", "prefect.yaml:"),
        ("prefect.yaml", "top: 15", 'top: "{{ $NOT_SET }}"', "prefect.yaml:10:13"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(project, run, file, old, new, place):
    path = project / file
    path.write_text(path.read_text().replace(old, new, 1))
    done = run("deploy", "-n", "nightly", code=2)
    assert done.err.startswith(f"error: {place}")
    assert "Traceback" not in done.err
    before = run("deployment", "ls", "-o", "json").json()
    assert "bacthes" not in str(before)


def test_a_server_that_is_not_there_is_one_clear_error(project, run, environ):
    environ.setenv("EPARCH_API_URL", "http://127.0.0.1:9/api")
    done = run("deploy", "--all", code=6)
    assert "Cannot reach the server" in done.err


def test_d16_triggers_become_automations_and_deploying_again_changes_nothing(project, run, client):
    text = (
        "deployments:\n  - name: fired\n    entrypoint: flows.py:report\n    work_pool: {name: local}\n"
        "    triggers:\n      - {expect: order.placed, match: {prefect.resource.id: 'shop.*'}}\n"
        "      - {require: all, within: 60, name: both, triggers: [{expect: a}, {expect: b}]}\n"
    )
    project.joinpath("prefect.yaml").write_text(text)
    (made,) = run("deploy", "-n", "fired", "-o", "json", code=0).json()
    related = client.send(calls.read_related_automations(resource_id=f"prefect.deployment.{made['id']}"))
    assert sorted(one.name for one in related) == ["both", f"{made['name']} trigger 1"]
    (again,) = run("deploy", "-n", "fired", "-o", "json", code=0).json()
    assert again["action"] == "unchanged"
    project.joinpath("prefect.yaml").write_text(text.partition("    triggers:")[0] + "    triggers: []\n")
    (gone,) = run("deploy", "-n", "fired", "-o", "json", code=0).json()
    assert gone["action"] == "changed"
    assert client.send(calls.read_related_automations(resource_id=f"prefect.deployment.{made['id']}")) == []


COMPUTED = """\
from eparch import flow

NAME = "made" + "-up"


@flow(name=NAME)
def computed(n: int = 1):
    "Says so."
"""


def test_d5_flows_are_read_unless_import_is_asked_for(project, run, environ):
    environ.setattr(sys, "path", [*sys.path])
    environ.setattr(sys, "meta_path", [*sys.meta_path])
    (project / "computed.py").write_text(COMPUTED)
    flags = ("deploy", "./computed.py:computed", "-n", "x", "-p", "local", "--plan", "-o", "json")
    assert "computed/x" in run(*flags, code=2).out
    assert "made-up/x" in run(*flags, "--import", code=2).out
    (project / "computed.py").write_text("import not_installed_anywhere\n" + COMPUTED)
    done = run(*flags, "--import", code=2)
    assert "cannot be imported" in done.err
    assert "ModuleNotFoundError: No module named 'not_installed_anywhere'" in done.err
