"""The wizard on a real terminal against a real server (rows D2, D3, D4, D18)."""

import re
from pathlib import Path

import pytest

from eparch.core import calls
from eparch.deploy.project import read_project

from .terminals import CTRL_C, CTRL_D, DOWN, ENTER, UP, Terminal

FLOWS = '''\
from eparch import flow


@flow
def load(day: str = "today"):
    """Loads a day."""


@flow(name="monthly-report")
def report():
    """Reports."""
'''
FILE = """\
# Ours.
name: etl
pull: []  # the code is there
deployments:
  # The first one.
  - name: old
    entrypoint: flows.py:load
    work_pool: {name: nowhere}
  - name: second
    entrypoint: flows.py:report

# The end.
"""


@pytest.fixture
def folder(client, environ, tmp_path):
    """A project with two flows and no file, and a server without work pools."""
    for pool in client.send(calls.read_work_pools(body={"limit": 200, "offset": 0})):
        client.send(calls.delete_work_pool(name=pool.name))
    for one in client.send(calls.read_deployments(body={"limit": 200, "offset": 0})):
        client.send(calls.delete_deployment(id=one.id))
    found = tmp_path / "etl"
    found.mkdir()
    (found / "flows.py").write_text(FLOWS)
    environ.chdir(found)
    environ.setenv("TZ", "Europe/Athens")
    return found


def names(client):
    pools = client.send(calls.read_work_pools(body={"limit": 200, "offset": 0}))
    deployments = client.send(calls.read_deployments(body={"limit": 200, "offset": 0}))
    return [one.name for one in pools], [one.name for one in deployments]


def test_d2_a_deployment_is_asked_for_planned_applied_and_saved(folder, client, run):
    with Terminal("deploy", "--save-answers", "answers.yaml") as terminal:
        terminal.answer("Which flow?", DOWN + DOWN + UP)
        terminal.answer("> monthly-report  flows.py:report", ENTER)
        terminal.answer("Name of the deployment [default]: ", "a/b\n")
        terminal.wait("a name has no /")
        terminal.answer("Name of the deployment [default]: ", "nightly\n")
        terminal.answer("Name of the new one [local]: ", "\n")
        terminal.wait("Type of the new work pool 'local'")
        terminal.answer("> process", ENTER)
        terminal.wait("Where does a job get the code?")
        terminal.answer("> this folder", ENTER)
        terminal.wait("A schedule?")
        terminal.answer("> no", DOWN + ENTER)
        terminal.answer("Minute, hour, day, month, weekday: ", "0 25 * * *\n")
        terminal.answer("Minute, hour, day, month, weekday: ", "0 3 * * *\n")
        terminal.answer("Time zone [Europe/Athens]: ", "\n")
        terminal.wait("runs next:")
        for _ in range(5):
            terminal.wait("03:00:00 EE")
        terminal.answer("Another schedule?", ENTER)
        terminal.answer("Save this deployment in prefect.yaml? [Y/n] ", "\n")
        terminal.wait("+ monthly-report/nightly  create")
        assert (names(client), list(folder.glob("*.yaml"))) == (([], []), [])
        terminal.answer("Apply this plan?", "y\n")
        assert terminal.end() == 0
    assert "eparch worker start --pool local" in terminal.plain
    assert "eparch deployment run 'monthly-report/nightly'" in terminal.plain
    assert "eparch work-pool create local --type process" in terminal.plain
    same = "deploy flows.py:report --name nightly --pool local --cron '0 3 * * *' --timezone Europe/Athens"
    assert f"eparch {same}" in terminal.plain
    made = run("deployment", "inspect", "monthly-report/nightly", "-o", "json", code=0).json()
    assert (made["entrypoint"], made["work_pool_name"]) == ("flows.py:report", "local")
    assert [one["schedule"]["cron"] for one in made["schedules"]] == ["0 3 * * *"]
    [saved] = read_project(folder / "prefect.yaml").deployments
    assert (saved.name, saved.entrypoint) == ("nightly", "flows.py:report")
    again = run("deploy", "-o", "json", code=0).json()
    assert [one["action"] for one in again] == ["unchanged"]

    (folder / "prefect.yaml").unlink()
    run("deployment", "delete", "monthly-report/nightly", "--yes", code=0)
    run("work-pool", "delete", "local", "--yes", code=0)
    replayed = run("deploy", "--answers", "answers.yaml", "-o", "json", code=0).json()
    assert [(one["name"], one["action"]) for one in replayed] == [("monthly-report/nightly", "created")]
    assert names(client) == (["local"], ["nightly"])
    assert (folder / "prefect.yaml").exists()


@pytest.mark.parametrize(
    ("stage", "key"), [("name", CTRL_C), ("name", CTRL_D), ("type", CTRL_C), ("plan", CTRL_C)]
)
def test_d3_ctrl_c_leaves_everything_as_it_was(folder, client, stage, key):
    (folder / "prefect.yaml").write_text("name: etl\n")
    with Terminal("deploy", "flows.py:load", "--pool", "new", "--save-answers", "a.yaml") as terminal:
        questions = {
            "name": ("Name of the deployment [default]: ", "x\n"),
            "type": ("> process", ENTER),
            "storage": ("> this folder", ENTER),
            "schedule": ("> no", ENTER),
            "save": ("[Y/n] ", "y\n"),
            "plan": ("Apply this plan? [y/N]: ", ""),
        }
        for name, (text, keys) in questions.items():
            if name == stage:
                break
            terminal.answer(text, keys)
        if key == CTRL_C:
            assert terminal.interrupt(text) == 130
        else:
            terminal.answer(text, key)
            assert terminal.end() == 130
    assert "Nothing was changed." in terminal.plain
    assert names(client) == ([], [])
    assert sorted(path.name for path in folder.iterdir()) == ["flows.py", "prefect.yaml"]
    assert (folder / "prefect.yaml").read_text() == "name: etl\n"


def test_d2_the_file_keeps_its_comments_and_one_of_it_can_be_chosen(folder, client, run):
    (folder / "prefect.yaml").write_text(FILE + "\n")
    run("work-pool", "create", "local", "--type", "process", code=0)
    run("work-pool", "create", "nowhere", "--type", "process", code=0)
    with Terminal("deploy", "--yes", "-t", "from-flag") as terminal:
        terminal.wait("Which deployment?")
        terminal.wait("> old  flows.py:load")
        terminal.type(UP + ENTER)
        terminal.answer("> load ", ENTER)
        terminal.answer("Name of the deployment [default]: ", "new\n")
        terminal.answer("> local  (process)", ENTER)
        terminal.answer("A schedule?", ENTER)
        terminal.answer("Save this deployment in prefect.yaml?", "y\n")
        assert terminal.end() == 0
    item = "\n  - name: new\n    entrypoint: flows.py:load\n    work_pool:\n      name: local\n    tags:\n"
    head, _, tail = FILE.partition("\n# The end.")
    text = (folder / "prefect.yaml").read_text()
    assert text.startswith(head)
    assert item + "      - from-flag\n" in text
    assert text.endswith(f"\n# The end.{tail}\n")
    assert names(client)[1] == ["new"]
    with Terminal("deploy") as terminal:
        terminal.wait("Which deployment?")
        terminal.answer("> old  flows.py:load", ENTER)
        terminal.wait("+ load/old  create")
        terminal.answer("Apply this plan?", "n\n")
        assert terminal.end() == 130
    assert names(client)[1] == ["new"]


def test_d3_a_narrow_terminal_without_colours(folder, client):
    (folder / "more.py").write_text(
        "from eparch import flow\n" + "".join(f"@flow\ndef flow_{i}(): pass\n" for i in range(30))
    )
    with Terminal("deploy", columns=24, rows=6, env={"NO_COLOR": "1"}) as terminal:
        terminal.wait("> load")
        terminal.type("k")
        terminal.wait("> flow-29")
        terminal.type("j" + DOWN)
        terminal.wait("> monthly-report")
        shown = terminal.plain
        assert terminal.interrupt("\n") == 130
    assert max(map(len, shown.splitlines())) < 24
    assert "\x1b[1m" not in terminal.seen
    assert "\x1b[3" not in terminal.seen
    assert "flow-15" not in shown


def test_d3_a_dumb_terminal_gets_numbers(folder, client):
    with Terminal("deploy", env={"TERM": "dumb"}) as terminal:
        terminal.wait("2) monthly-report")
        terminal.answer("Which flow? [1]: ", "3\n")
        terminal.answer("a number from 1 to 2", "2\n")
        assert terminal.interrupt("Name of the deployment [default]: ") == 130
    assert "\x1b" not in terminal.seen


def test_d4_without_a_person_nothing_is_asked(folder, run):
    with Terminal("--no-prompt", "deploy") as terminal:
        assert terminal.end() == 2
    assert "There is no prefect.yaml" in terminal.plain
    assert "--name NAME" in terminal.plain
    done = run("--prompt", "deploy", code=2)
    assert "There is no prefect.yaml" in done.err
    assert "--save-answers" in run("deploy", "--save-answers", "x.yaml", code=2).err


def test_d3_answers_are_checked_and_each_mistake_has_its_place(folder, client, run):
    answers = folder / "answers.yaml"
    answers.write_text("flow: flows.py:load\nnmae: x\npush: maybe\nschedules:\n  - {kind: cron, corn: 1}\n")
    done = run("deploy", "--answers", answers, code=2)
    for place in ("answers.yaml:2:1", "answers.yaml:3:7", "answers.yaml:5:18"):
        assert place in done.err
    assert "'name'" in done.err
    answers.write_text("flow: flows.py:laod\n")
    done = run("deploy", "--answers", answers, code=2)
    assert "answers.yaml:1:7" in done.err
    assert "'flows.py:load'" in done.err
    answers.write_text('{"flow": "flows.py:load"}')
    done = run("deploy", "--answers", answers, code=2)
    assert "does not answer 'name'" in done.err
    assert names(client) == ([], [])


def test_d3_the_answers_on_the_page_deploy(folder, client, run):
    page = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text()
    [block] = [
        part for part in re.findall(r"^```yaml\n(.*?)^```$", page, re.S | re.M) if "\nstorage:" in part
    ]
    (folder / "answers.yaml").write_text(block)
    [planned] = run("deploy", "--answers", "answers.yaml", "--plan", "-o", "json", code=2).json()
    assert (planned["name"], planned["action"]) == ("monthly-report/nightly", "create")
    assert names(client) == ([], [])
    run("deploy", "--answers", "answers.yaml", code=0)
    assert names(client) == (["local"], ["nightly"])
    assert "already" in run("deploy", "--answers", "answers.yaml", code=2).err
    assert "--answers" in run("deploy", "--answers", "answers.yaml", "--all", code=2).err


def test_d3_a_pool_that_was_made_goes_again_when_the_deployment_is_refused(folder, client, run):
    (folder / "build.sh").write_text("exit 7\n")
    step = "build:\n  - prefect.deployments.steps.run_shell_script:\n      script: sh build.sh\n"
    (folder / "prefect.yaml").write_text(step)
    (folder / "answers.yaml").write_text(
        "flow: flows.py:load\nname: x\npool: fresh\npool_type: process\nstorage: local\nsave: true\n"
    )
    done = run("deploy", "--answers", "answers.yaml")
    assert done.code != 0
    assert names(client) == ([], [])
    assert (folder / "prefect.yaml").read_text() == step
