"""``prefect.yaml`` as people really write it (features 1.5, rows D9-D11, D14, D24; real-files 2 and 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eparch.core.crash_retries import CrashRetries
from eparch.core.deployments import CollisionStrategy, ConcurrencyOptions
from eparch.core.errors import SourceError, SourceErrors
from eparch.core.model import UNSET
from eparch.core.templates import Kind, Placeholder, find
from eparch.deploy.project import (
    Project,
    ProjectDeployment,
    examine,
    parse_project,
    read_project,
    render_deployment,
)
from eparch.deploy.source import parse

GIT = "prefect.deployments.steps.git_clone"
CWD = "prefect.deployments.steps.set_working_directory"
BUILD = "prefect_docker.deployments.steps.build_docker_image"


def one(body: str) -> tuple[ProjectDeployment, Project]:
    """The deployment whose fields are ``body``, lines indented by four."""
    project = parse_project(f"deployments:\n  - name: a\n    entrypoint: f.py:f\n{body}")
    return project.deployments[0], project


def errors_of(text: str) -> tuple[SourceError, ...]:
    with pytest.raises(SourceErrors) as caught:
        parse_project(text)
    return caught.value.errors


def in_deployment(body: str) -> SourceError:
    (error,) = errors_of(f"deployments:\n  - name: a\n    entrypoint: f.py:f\n{body}")
    return error


# Accepted without a word (real-files 3.1).


def test_d14_an_empty_list_of_schedules_means_none() -> None:
    assert one("    schedules: []\n")[0].schedules == []
    assert one("")[0].schedules is None


@pytest.mark.parametrize("version", ["3", "3.x", "'>=3.4'", "3.14", "null", "'2.10'", "2024-01-01"])
def test_d25_prefect_version_is_any_scalar(version: str) -> None:
    assert parse_project(f"prefect-version: {version}\nname: x\n").notes == []


def test_d24_definitions_and_x_may_hold_anything() -> None:
    project = parse_project(
        "definitions:\n  tags: &tags [a, b]\n  zzz: {schedulez: 1}\nx-mine: [1]\n"
        "deployments:\n  - name: a\n    entrypoint: f.py:f\n    tags: *tags\n"
    )
    assert project.notes == []
    assert project.deployments[0].tags == ["a", "b"]


def test_sections_null_empty_and_single() -> None:
    project = parse_project(f"build: null\npush: []\npull:\n  {CWD}:\n    directory: /opt\n")
    assert (project.build, project.push) == (None, [])
    assert project.pull is not None
    assert [step.stored() for step in project.pull] == [{CWD: {"directory": "/opt"}}]


def test_a_deployments_own_section_replaces_the_projects() -> None:
    project = parse_project(
        f"pull:\n  - {CWD}: {{directory: /a}}\ndeployments:\n"
        "  - {name: a, entrypoint: 'f.py:f'}\n  - {name: b, entrypoint: 'f.py:f', pull: []}\n"
    )
    assert [project.steps("pull", deployment) for deployment in project.deployments] == [project.pull, []]


# Accepted with a note (real-files 3.2).


@pytest.mark.parametrize(
    ("body", "position", "note", "field", "value"),
    [
        ("    version: 1.0\n", "4:5", "text '1.0'", "version", "1.0"),
        ("    version: 3\n", "4:5", "text '3'", "version", "3"),
        ("    is_paused: true\n", "4:5", "now 'paused'", "paused", True),
        ("    tags:\n      - x\n      - [y, 3]\n", "6:9", "list within 'tags'", "tags", ["x", "y", "3"]),
    ],
)
def test_accepted_with_a_note(body: str, position: str, note: str, field: str, value: object) -> None:
    deployment, project = one(body)
    assert [(str(found.position), note in found.message) for found in project.notes] == [
        (f"prefect.yaml:{position}", True)
    ]
    assert getattr(deployment, field) == value


def test_work_pool_as_text_and_infra_overrides() -> None:
    deployment, project = one(
        "    work_pool: k8s\n    infra_overrides:\n      image: x\n      env: {A: 1, B: true}\n"
    )
    assert deployment.work_pool.name == "k8s"
    assert deployment.work_pool.job_variables == {"image": "x", "env": {"A": "1", "B": "true"}}
    assert [str(note.position) for note in project.notes] == ["prefect.yaml:4:5", "prefect.yaml:5:5"]
    assert (
        str(project.document.at((*deployment.path, "work_pool", "job_variables", "image")))
        == "prefect.yaml:6:14"
    )


def test_top_level_version_is_ignored() -> None:
    project = parse_project("version: 1\nname: x\n")
    assert [note.position.line for note in project.notes] == [1]


@pytest.mark.parametrize(
    "body",
    [
        "    schedule: {cron: '0 0 * * *'}\n",
        "    schedule:\n      - cron: '0 0 * * *'\n",
        "    schedules: {cron: '0 0 * * *'}\n",
        "    schedule: {cron: '0 0 * * *'}\n    schedules: null\n",
    ],
)
def test_every_form_of_one_schedule(body: str) -> None:
    deployment, project = one(body)
    assert deployment.schedules is not None
    assert [schedule.schedule for schedule in deployment.schedules] == [{"cron": "0 0 * * *", "day_or": True}]
    assert len(project.notes) == 1


def test_schedule_is_noted_once_per_file() -> None:
    item = "  - {name: %s, entrypoint: 'f.py:f', schedule: {interval: 60}}\n"
    project = parse_project("deployments:\n" + item % "a" + item % "b" + item % "c")
    assert [note.position.line for note in project.notes] == [2]


def test_untouched_templates_of_init_are_skipped() -> None:
    item = (
        "  - name: null\n    version: null\n    tags: []\n    description: null\n    schedule: {}\n"
        "    flow_name: null\n    entrypoint: null\n    parameters: {}\n"
        "    work_pool: {name: null, work_queue_name: null, job_variables: %s}\n"
    )
    text = "deployments:\n" + item % "{}" + item % "{image: '{{ build_image.image }}'}" + "  -\n"
    project = parse_project(text)
    assert project.deployments == []
    assert [note.position.line for note in project.notes] == [2, 11, 20]
    assert all("skipped" in note.message for note in project.notes)


def test_is_schedule_active_goes_to_the_schedules() -> None:
    deployment, project = one(
        "    is_schedule_active: false\n    schedules:\n"
        "      - interval: 60\n      - {interval: 90, active: true}\n"
    )
    assert deployment.schedules is not None
    assert [schedule.active for schedule in deployment.schedules] == [False, True]
    assert [note.position.line for note in project.notes] == [4]


def test_recipes_are_recognised() -> None:
    project = parse_project("name: null\nrequired_inputs:\n  image: the image\nbuild: null\n")
    assert project.is_recipe
    assert not parse_project("name: x\n").is_recipe


# Steps (real-files 2.5).


def test_steps_with_old_names_ids_and_requirements() -> None:
    project = parse_project(
        "build:\n  - prefect_docker.projects.steps.build_docker_image:\n      id: build-image\n"
        "      requires: prefect-docker>=0.3\n      push: false\n      platform: linux/amd64\n"
        "pull:\n  - prefect.projects.steps.git_clone_project:\n      repository: https://x/y\n"
        "  - my.own.step:\n  - eparch.steps.pip_install_requirements: {requires: [a, b]}\n"
    )
    assert project.build is not None
    assert project.pull is not None
    (build,) = project.build
    assert (build.function, build.id, build.requires) == (BUILD, "build-image", ["prefect-docker>=0.3"])
    assert build.arguments == {"platform": "linux/amd64"}
    assert build.stored() == {
        BUILD: {"id": "build-image", "requires": "prefect-docker>=0.3", "platform": "linux/amd64"}
    }
    assert [step.stored() for step in project.pull] == [
        {GIT: {"repository": "https://x/y"}},
        {"my.own.step": {}},
        {"prefect.deployments.steps.pip_install_requirements": {"requires": ["a", "b"]}},
    ]
    assert [note.position.line for note in project.notes] == [2, 5, 8]


def test_arguments_at_the_indent_of_the_step() -> None:
    project = parse_project(f"pull:\n  - {CWD}:\n    directory: /opt\n    id: here\n")
    assert project.pull is not None
    (step,) = project.pull
    assert (step.arguments, step.id) == ({"directory": "/opt"}, "here")
    assert str(project.document.at((*step.path, "directory"))) == "prefect.yaml:3:16"
    (note,) = project.notes
    assert "    directory: ..." in note.message


# Refused, with the hint (real-files 3.3).


def test_d10_all_mistakes_at_once_in_the_order_of_the_file() -> None:
    errors = errors_of(
        "foo: 1\ndeployments:\n  - name: a\n    bar: 1\n    paused: maybe\n  - name: b\n    pool: x\n"
    )
    assert [error.line for error in errors] == [1, 4, 5, 7]


def test_lenient_turns_unknown_keys_into_notes() -> None:
    text = "foo: 1\ndeployments:\n  - name: a\n    entrypoint: f.py:f\n    work_queue_name: q\n"
    project = parse_project(text, lenient=True)
    assert [note.position.line for note in project.notes] == [1, 5]
    assert "into 'work_pool:'" in project.notes[1].message


def test_d11_a_good_deployment_is_usable_beside_a_bad_one() -> None:
    text = "deployments:\n  - {name: good, entrypoint: 'f.py:f'}\n  - {name: bad, pool: x}\n"
    project = examine(parse(text, "prefect.yaml"))
    good, bad = project.deployments
    project.check([good])
    with pytest.raises(SourceErrors, match="no key 'pool'"):
        project.check([bad])
    with pytest.raises(SourceErrors):
        project.check()


def test_one_name_for_two_flows_is_legal_for_one_flow_it_is_not() -> None:
    item = "  - {name: production, entrypoint: '%s'}\n"
    project = parse_project("deployments:\n" + item % "a.py:a" + item % "b.py:b")
    assert [deployment.name for deployment in project.deployments] == ["production", "production"]
    (error,) = errors_of("deployments:\n" + item % "a.py:a" + item % "b.py:b" + item % "./a.py:a")
    assert "lines 2 and 4" in error.message
    assert error.line == 4


@pytest.mark.parametrize(
    ("written", "limit", "options"),
    [
        ("3", 3, None),
        ("'3'", 3, None),
        ("{limit: 2}", 2, None),
        ("{}", None, None),
        (
            "{limit: 1, collision_strategy: CANCEL_NEW, grace_period_seconds: 60}",
            1,
            ConcurrencyOptions(collision_strategy=CollisionStrategy.CANCEL_NEW, grace_period_seconds=60),
        ),
        (
            "{limit: 1, collision_strategy: enqueue}",
            1,
            ConcurrencyOptions(collision_strategy=CollisionStrategy.ENQUEUE),
        ),
    ],
)
def test_concurrency_limit(written: str, limit: int | None, options: ConcurrencyOptions | None) -> None:
    deployment, _ = one(f"    concurrency_limit: {written}\n")
    assert (deployment.concurrency_limit, deployment.concurrency_options) == (limit, options)


def test_d16_triggers() -> None:
    deployment, _ = one(
        "    triggers:\n"
        "      - expect: prefect.flow-run.Completed\n        match: {prefect.resource.id: 'x.*'}\n"
        "        parameters: {id: \"{{ event.resource.get('x') }}\"}\n        name: null\n"
        "      - require: any\n        within: 60\n        triggers: [{type: event, after: [a]}]\n"
        "      - triggers: [{expect: [b]}]\n"
    )
    event, compound, sequence = deployment.triggers
    assert event == {
        "expect": ["prefect.flow-run.Completed"],
        "match": {"prefect.resource.id": "x.*"},
        "parameters": {"id": "{{ event.resource.get('x') }}"},
        "type": "event",
    }
    assert (compound["type"], compound["triggers"]) == ("compound", [{"type": "event", "after": ["a"]}])
    assert sequence["type"] == "sequence"


@pytest.mark.parametrize(
    ("written", "note"),
    [
        ("'${HOME}/x'", "write '{{ $HOME }}'"),
        ("'{ { build.image } }'", "write '{{ build.image }}'"),
    ],
)
def test_what_only_looks_like_a_placeholder_is_noted(written: str, note: str) -> None:
    deployment, project = one(
        f"    work_pool: {{name: x, job_variables: {{image: {written}, command: '${{X}}'}}}}\n"
    )
    assert [(found.position.line, note in found.message) for found in project.notes] == [(4, True)]
    assert deployment.work_pool.job_variables["image"] == written.strip("'")


# Rendering (row D9).


def lookup(found: Placeholder) -> Any:
    values = {
        Kind.OUTPUT: {"build-image": {"image": "r/x:1"}, "tags": ["p", "q"]},
        Kind.ENV: {"PAUSED": "true", "CRON": "5 4 * * *", "NAME": "n"},
        Kind.VARIABLE: {"region": "eu"},
        Kind.BLOCK: {"secret.token": "s3cret"},
    }
    return find(values.get(found.kind, {}), found.key) if found.kind in values else UNSET


TEMPLATED = """\
pull:
  - prefect.deployments.steps.git_clone:
      repository: "{{ build-image.image }}"
      access_token: "{{ prefect.blocks.secret.token }}"
deployments:
  - name: "x-{{ $NAME }}"
    entrypoint: f.py:f
    tags: "{{ tags }}"
    paused: "{{ $PAUSED }}"
    concurrency_limit: "{{ limit }}"
    schedules:
      - cron: "{{ $CRON }}"
        active: "{{ $PAUSED }}"
    parameters: {region: "{{ prefect.variables.region }}", kept: "{{{{ x }}}}"}
    work_pool:
      name: k8s
      job_variables:
        image: "{{ build-image.image }}"
        token: "{{ prefect.blocks.secret.token }}"
    triggers:
      - enabled: "{{ $PAUSED }}"
        parameters: {id: "{{ event.id | upper }}"}
build:
  - my.own.function: {}
"""


def test_d9_render_resolves_types_and_keeps_secrets_as_references() -> None:
    project = parse_project(TEMPLATED.replace("{{ limit }}", "3"))
    (deployment,) = project.deployments
    assert deployment.paused is None
    rendered = render_deployment(project, deployment, lookup)
    assert (rendered.name, rendered.tags, rendered.paused) == ("x-n", ["p", "q"], True)
    assert rendered.concurrency_limit == 3
    assert rendered.schedules is not None
    assert rendered.schedules[0].schedule == {"cron": "5 4 * * *", "day_or": True}
    assert rendered.parameters == {"region": "eu", "kept": "{{ x }}"}
    assert rendered.work_pool.job_variables == {
        "image": "r/x:1",
        "token": "{{ prefect.blocks.secret.token }}",
    }
    assert rendered.triggers == [
        {"enabled": "true", "parameters": {"id": "{{ event.id | upper }}"}, "type": "event"}
    ]
    assert rendered.pull is not None
    assert rendered.pull[0].arguments == {
        "repository": "r/x:1",
        "access_token": "{{ prefect.blocks.secret.token }}",
    }
    assert deployment.raw["name"] == "x-{{ $NAME }}"


def test_d9_unresolved_placeholders_are_told_with_their_places() -> None:
    text = TEMPLATED.replace("build-image.image", "build-imge.image").replace("$CRON", "$CORN")
    project = parse_project(text)
    with pytest.raises(SourceErrors) as caught:
        render_deployment(project, project.deployments[0], lookup, known=["build-image.image"])
    told = {error.position: error.fix for error in caught.value.errors}
    assert told == {
        "prefect.yaml:10:25": "for the environment write '{{ $limit }}', for text '{{{{ limit }}}}'",
        "prefect.yaml:12:16": "set CORN",
        "prefect.yaml:18:17": "Did you mean 'build-image.image'?",
        "prefect.yaml:3:20": "Did you mean 'build-image.image'?",
    }


def test_a_rendered_value_of_the_wrong_type_is_refused() -> None:
    project = parse_project(TEMPLATED.replace("{{ limit }}", "{{ tags }}"))
    with pytest.raises(SourceErrors, match=r"prefect\.yaml:10:24.*above 0"):
        render_deployment(project, project.deployments[0], lookup)


def test_filters_are_refused_with_their_place() -> None:
    error = in_deployment('    parameters: {a: "x {{ y | default(1) }}"}\n')
    assert error.position == "prefect.yaml:4:24"
    assert "filter" in error.message


def test_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "prefect-prod.yaml"
    path.write_text("deployments:\n  - name: a\n    pool: x\n")
    with pytest.raises(SourceErrors, match=r"prefect-prod\.yaml:3:5"):
        read_project(path)
    assert read_project(path, lenient=True).deployments[0].name == "a"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("3", CrashRetries(count=3)),
        ("{count: 2, delay_seconds: 0.5}", CrashRetries(count=2, delay_seconds=0.5)),
    ],
)
def test_b2_retry_on_crash_is_read(written, wanted):
    text = f"deployments:\n- name: a\n  entrypoint: f.py:f\n  retry_on_crash: {written}\n"
    (deployment,) = parse_project(text).deployments
    assert deployment.errors == ()
    assert deployment.retry_on_crash == wanted
