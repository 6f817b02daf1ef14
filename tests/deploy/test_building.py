"""Build and push steps, and the pull steps that a run begins with (rows D8, D9, D11, D21)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deploy.shelf import TWO, Folder

from eparch.core.errors import (
    StepFailed,
)
from eparch.deploy.pulling import SET_WORKING_DIRECTORY, default_pull

BUILT = """
build:
  - prefect.deployments.steps.run_shell_script:
      id: tag
      script: PYTHON count.py
deployments:
  - name: one
    entrypoint: flows.py:clean
    version: "{{ tag.stdout }}"
    work_pool: {name: local, job_variables: {image: "repo:{{ tag.stdout }}"}}
  - name: two
    entrypoint: flows.py:clean
    push:
      - prefect.deployments.steps.run_shell_script:
          script: PYTHON count.py {{ tag.stdout }}
    work_pool: {name: local}
""".replace("PYTHON", shlex.quote(sys.executable))
COUNT = """
import sys
print("ran", *sys.argv[1:], file=open("ran.txt", "a"))
print("v7")
"""


def test_d8_steps_run_once_and_their_outputs_fill_the_deployments(folder: Folder) -> None:
    folder.write("count.py", COUNT)
    folder.deploy(BUILT, all=True)
    assert (folder.path / "ran.txt").read_text().splitlines() == ["ran", "ran v7"]
    one = folder.server.named("one")
    assert (one.version, one.job_variables) == ("v7", {"image": "repo:v7"})


SHELL = "prefect.deployments.steps.run_shell_script"


def project(*scripts: str) -> str:
    """A deployment for each script, which is its build step."""
    lines = ["deployments:"]
    for number, script in enumerate(scripts):
        lines += [
            f"  - name: d{number}", "    entrypoint: flows.py:clean", "    work_pool: {name: local}",
            '    version: "{{ made.stdout }}"', "    build:", f"      - {SHELL}:", "          id: made",
            f"          script: {script}",
        ]  # fmt: skip
    return "\n".join(lines)


def test_d8_distinct_steps_run_side_by_side_and_lines_say_whose_they_are(folder: Folder) -> None:
    # Each waits until the other has begun: one after the other would never end.
    folder.write(
        "meet.py",
        "import sys, pathlib, time\n"
        "mine, other = sys.argv[1:]\n"
        "pathlib.Path(mine).touch()\n"
        "for _ in range(1200):\n"
        "    if pathlib.Path(other).exists(): break\n"
        "    time.sleep(0.05)\n"
        "else: sys.exit('alone')\n"
        "print(mine)\n",
    )
    python = shlex.quote(sys.executable)
    text = project(f"{python} meet.py a b", f"{python} meet.py b a", f"{python} meet.py a b")
    folder.deploy(text, all=True)
    assert [folder.server.named(f"d{number}").version for number in range(3)] == ["a", "b", "a"]
    told = [line for line in folder.told if line.startswith("[made:")]
    said = {line for line in told if line.endswith(("] a", "] b"))}
    # Whichever of the two that are the same came first.
    assert said in ({"[made:7] a", "[made:15] b"}, {"[made:23] a", "[made:15] b"})
    assert sum(" done in " in line for line in told) == 2


def test_d8_of_steps_side_by_side_the_first_failure_is_told_and_nothing_is_applied(folder: Folder) -> None:
    text = project(*(f"sh -c 'exit {number}'" for number in range(8)))
    with pytest.raises(StepFailed, match=r"prefect.yaml:\d+:\d+: build step \(run_shell_script\).*exit code"):
        folder.deploy(text, all=True)
    assert folder.server.deployments == {}


def test_d8_with_a_function_of_ones_own_steps_keep_the_order_of_the_file(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(
        "own_building.py", "import os\ndef note():\n    return {'stdout': os.path.basename(os.getcwd())}\n"
    )
    monkeypatch.syspath_prepend(str(folder.path))
    scripts = [f"sh -c 'echo {n} >> order; cat order'" for n in range(4)]
    own = (
        project("x").replace("          script: x", "").replace(SHELL, "own_building.note").partition("\n")[2]
    )
    folder.deploy(project(*scripts) + "\n" + own.replace("d0", "own"), all=True)
    assert (folder.path / "order").read_text().split() == ["0", "1", "2", "3"]
    assert folder.server.named("own").version == folder.path.name
    assert not any(line.startswith("[") for line in folder.told)


def test_d8_a_failed_step_is_told_with_its_place_and_nothing_is_applied(folder: Folder) -> None:
    folder.write("count.py", "raise SystemExit(3)")
    with pytest.raises(StepFailed, match=r"prefect.yaml:3:5: build step \(run_shell_script\)"):
        folder.deploy(BUILT, all=True)
    assert folder.server.deployments == {}


def test_d11_steps_do_not_run_before_the_checks_pass(folder: Folder) -> None:
    folder.write("count.py", COUNT)
    folder.errors(BUILT.replace("flows.py:clean", "flows.py:claen", 1), all=True)
    assert not (folder.path / "ran.txt").exists()


def test_d9_an_output_that_no_step_has_is_refused_after_the_steps(folder: Folder) -> None:
    folder.write("count.py", COUNT)
    [error] = folder.errors(BUILT.replace('version: "{{ tag.stdout', 'version: "{{ tga.stdout'), all=True)
    assert error.line == 9
    assert "tag.stdout" in error.fix


def test_a_plan_of_a_project_with_steps_runs_none(folder: Folder) -> None:
    folder.write("count.py", COUNT)
    result = folder.deploy(BUILT, all=True, plan_only=True)
    assert [one.action for one in result.deployments] == ["create", "create"]
    assert not (folder.path / "ran.txt").exists()


def test_d21_without_pull_steps_a_run_starts_where_it_was_deployed(folder: Folder) -> None:
    folder.deploy(TWO, names=("tidy",))
    step = "prefect.deployments.steps.set_working_directory"
    assert folder.server.named("tidy").pull_steps == [{step: {"directory": str(folder.path)}}]
    assert folder.told == []


def test_d21_an_empty_list_means_none(folder: Folder) -> None:
    folder.deploy("pull: []\n" + TWO, names=("tidy",))
    assert folder.server.named("tidy").pull_steps == []


@pytest.mark.parametrize(("variables", "directory"), [({}, None), ({"image": "i"}, "/opt/prefect")])
def test_d21_a_folder_that_may_not_exist_elsewhere_is_noted(
    folder: Folder, variables: dict[str, Any], directory: str | None
) -> None:
    folder.server.add_pool("boxes", type="docker")
    folder.deploy(TWO, names=("tidy",), pool="boxes", job_variables=variables)
    [step] = folder.server.named("tidy").pull_steps or []
    assert next(iter(step.values()))["directory"] == (directory or str(folder.path))
    assert any("pull steps" in text for text in folder.told)


def test_pull_steps_are_stored_with_outputs_filled_and_secrets_left(folder: Folder) -> None:
    folder.write("count.py", COUNT)
    pull = """
pull:
  - prefect.projects.steps.git_clone_project:
      repository: https://example.org/x.git
      branch: "{{ tag.stdout }}"
      access_token: "{{ prefect.blocks.secret.token }}"
"""
    folder.deploy(pull + BUILT, names=("one",))
    assert folder.server.named("one").pull_steps == [
        {
            "prefect.deployments.steps.git_clone": {
                "repository": "https://example.org/x.git",
                "branch": "v7",
                "access_token": "{{ prefect.blocks.secret.token }}",
            }
        }
    ]


def test_what_a_step_requires_is_not_installed_where_that_is_forbidden(folder: Folder) -> None:
    folder.settings = msgspec.structs.replace(folder.settings, steps_install=False)
    own = (
        project("x")
        .replace("          script: x", "          requires: not-there")
        .replace(SHELL, "not_there.note")
    )
    with pytest.raises(StepFailed, match="requires not-there, which is not installed"):
        folder.deploy(own, all=True)


@pytest.mark.parametrize(
    ("dockerfile", "folder", "noted"),
    [
        ("auto", "/opt/prefect/code", False),
        ("Dockerfile", "/opt/prefect/code", True),
        (None, "/opt/prefect", True),
    ],
)
def test_d21_where_an_image_that_was_built_here_has_the_code(
    dockerfile: str | None, folder: str, noted: bool
) -> None:
    steps, note = default_pull(
        Path("/home/me/code"), build=[], image=True, pool_type="docker", dockerfile=dockerfile
    )
    assert steps == [{SET_WORKING_DIRECTORY: {"directory": folder}}]
    assert bool(note) is noted
