"""Placeholders are judged before anything runs (row D9; features 1.5, templating rules)."""

from __future__ import annotations

import pytest

from eparch.core.errors import SourceError, SourceErrors
from eparch.core.model import UNSET
from eparch.core.step_names import OUTPUTS, SHIPPED
from eparch.core.templates import Kind
from eparch.deploy.project import examine, parse_project, render_deployment
from eparch.deploy.source import parse

HOME = "prefect.deployments.steps"
BUILD = "prefect_docker.deployments.steps.build_docker_image"
PUSH = "prefect_docker.deployments.steps.push_docker_image"

FILE = f"""\
build:
  - {HOME}.run_shell_script: {{id: get-commit-hash, script: git rev-parse HEAD}}
  - {BUILD}:
      id: build-image
      image_name: shop
      tag: "{{{{ get-commit-hash.stdout }}}}"
push:
  - {PUSH}:
      image_name: "{{{{ build-image.image_name }}}}"
      tag: "{{{{ tag }}}}"
pull:
  - {HOME}.git_clone: {{id: clone-step, repository: https://x/y, branch: "{{{{ $BRANCH }}}}"}}
  - {HOME}.pip_install_requirements:
      directory: "{{{{ clone-step.directory }}}}"
deployments:
  - name: a
    entrypoint: f.py:f
    work_pool:
      name: p
      job_variables: {{image: "{{{{ build-image.image }}}}", was: "{{{{ ctx.flow_run.id }}}}"}}
"""


def mistakes(text: str) -> tuple[SourceError, ...]:
    with pytest.raises(SourceErrors) as caught:
        parse_project(text)
    return caught.value.errors


def test_d9_outputs_of_earlier_steps_are_known_by_id_and_by_name() -> None:
    assert parse_project(FILE).notes == []


@pytest.mark.parametrize(
    ("old", "new", "position", "message", "help_"),
    [
        (
            "build-image.image }}",
            "build-imge.image }}",
            "20:31",
            "'{{ build-imge.image }}'",
            "'build-image.image'",
        ),
        ("build-image.image }}", "build-image.imge }}", "20:31", "Nothing stands", "'build-image.image'"),
        ("{{ tag }}", "{{ tga }}", "10:13", "Nothing stands", "'tag'"),
        (
            "get-commit-hash.stdout",
            "build-image.image",
            "6:13",
            "yet",
            "the step on line 3, which runs later",
        ),
        ("f.py:f", "'{{ clone-step.directory }}/f.py:f'", "17:18", "yet", "runs later, in the job"),
        ("git rev-parse HEAD", "'{{ clone-step.directory }}'", "2:80", "yet", "line 12"),
        ("clone-step.directory", "clone.directory", "14:19", "Nothing stands", "'clone-step.directory'"),
        ("build-image.image }}", "SHOP_ROOT }}", "20:31", "Nothing stands", "'{{ $SHOP_ROOT }}'"),
        ("build-image.image }}", "flow_run.name }}", "20:31", "Nothing stands", "{{ ctx.flow_run.name }}"),
        ("$BRANCH", "prefect.variable.x", "12:93", "nothing called", "'variables'"),
        ("$BRANCH", "prefect.runtime.x", "12:93", "nothing called", "'prefect.blocks.<type>.<name>' and"),
        ("$BRANCH", "prefect.variables.", "12:93", "does not name a variable", "<name>"),
        ("$BRANCH", "prefect.blocks.secret", "12:93", "does not name a block", "<type>.<name>"),
        ("$BRANCH", "x | default('main')", "12:93", "filter", "keep the braces as text"),
    ],
)
def test_d9_what_stands_for_nothing_is_refused(
    old: str, new: str, position: str, message: str, help_: str
) -> None:
    assert FILE.count(old) == 1
    (error,) = mistakes(FILE.replace(old, new))
    assert error.position == f"prefect.yaml:{position}"
    assert message in error.message
    assert help_ in f"{error.why} {error.fix}"


def test_d9_what_a_function_of_the_project_gives_is_not_known() -> None:
    own = "build:\n  - my.own.steps: {id: mine}\n"
    text = FILE.replace("build:\n", own)
    parse_project(text.replace("{{ tag }}", "{{ anything }}"))
    parse_project(text.replace("{{ tag }}", "{{ mine.any.thing[0] }}"))
    (error,) = mistakes(text.replace("{{ tag }}", "{{ get-commit-hash.sha }}"))
    assert "Nothing stands" in error.message


def test_d9_a_step_shared_by_deployments_is_told_once_and_by_each() -> None:
    text = FILE.replace("{{ tag }}", "{{ tga }}") + "  - {name: b, entrypoint: 'f.py:f'}\n"
    text += f"  - {{name: c, entrypoint: 'f.py:f', push: [], build: [{BUILD}: {{image_name: x}}]}}\n"
    assert len(mistakes(text)) == 1
    one, two, three = examine(parse(text, "prefect.yaml")).deployments
    assert [len(deployment.errors) for deployment in (one, two, three)] == [1, 1, 0]


def test_a_recipe_and_the_escape_are_left_alone() -> None:
    parse_project("name: '{{ name }}'\nrequired_inputs: {image: x}\nbuild: [{a.b: {c: '{{ image }}'}}]\n")
    parse_project(FILE.replace("git rev-parse HEAD", '"docker ps --format {{{{ .Names }}}}"'))
    (error,) = mistakes("pull: [{a.b: {c: '{{ image }}'}}]\n")
    assert error.position == "prefect.yaml:1:19"


def test_d8_what_a_pull_step_gives_to_the_next_one_is_left_for_the_job() -> None:
    project = parse_project(FILE)
    values = {Kind.ENV: "main", Kind.OUTPUT: "sha"}
    rendered = render_deployment(project, project.deployments[0], lambda found: values[found.kind])
    assert rendered.pull is not None
    without = render_deployment(
        project,
        project.deployments[0],
        lambda found: found.text if "image" in found.name or found.kind is Kind.ENV else UNSET,
    )
    assert without.pull is not None
    assert without.pull[1].arguments == {"directory": "{{ clone-step.directory }}"}


def test_d9_build_steps_need_their_environment_before_they_run() -> None:
    text = FILE.replace("image_name: shop", "image_name: '{{ $REGISTRY }}/shop'")
    project = parse_project(text)
    with pytest.raises(SourceErrors, match=r"prefect\.yaml:5:20: .*REGISTRY") as caught:
        render_deployment(
            project, project.deployments[0], lambda found: UNSET if found.kind is Kind.ENV else found.text
        )
    assert len(caught.value.errors) == 1
    own = parse_project(text.replace("build:\n", "build:\n  - my.secrets.load: {}\n"))
    render_deployment(own, own.deployments[0], lambda f: UNSET if f.kind is Kind.ENV else f.text)


def test_every_shipped_step_says_what_it_gives() -> None:
    assert set(OUTPUTS) == set(SHIPPED)
