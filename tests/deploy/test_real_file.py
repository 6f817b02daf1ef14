"""A big realistic file, as a whole, and arbitrary content that must never end in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.core.deployments import CollisionStrategy
from eparch.core.errors import SourceError, SourceErrors
from eparch.core.model import UNSET
from eparch.core.templates import Kind, Placeholder, find
from eparch.deploy.project import Project, examine, read_project, render_deployment
from eparch.deploy.source import dump, editable, parse
from eparch.deploy.tolerance import DEPLOYMENT, DEPLOYMENT_HINTS, SECTIONS, TOP, WORK_POOL

SHOP = Path(__file__).parent / "files" / "shop.yaml"


@pytest.fixture(scope="module")
def project() -> Project:
    return read_project(SHOP)


def lookup(found: Placeholder) -> Any:
    outputs = {"build-image": {"image": "registry.example.com/shop:1"}, "clone": {"directory": "shop"}}
    known = {
        Kind.OUTPUT: outputs,
        Kind.ENV: {"REGION": "eu", "PAUSED": "true", "GIT_SHA": "abc"},
        Kind.VARIABLE: {"shop_depth": 3},
    }
    return find(known[found.kind], found.key) if found.kind in known else UNSET


def test_the_notes_say_what_was_made_of_old_spellings(project: Project) -> None:
    expected = [
        (4, "'version' at the top"),
        (46, "git_clone_project"),
        (58, "text '1.10'"),
        (76, "hourly_catch"),
        (85, "list within 'tags'"),
        (86, "'schedule' is read"),
        (87, "is_schedule_active"),
        (99, "laptops"),
        (103, "indented below"),
        (116, "skipped"),
    ]
    assert [note.position.line for note in project.notes] == [line for line, _ in expected]
    for note, (_, fragment) in zip(project.notes, expected, strict=True):
        assert fragment in note.message


def test_the_deployments(project: Project) -> None:
    orders, stock, local = project.deployments
    assert [deployment.name for deployment in project.deployments] == ["production", "production", "local"]
    assert (orders.version, orders.tags, orders.description) == (
        "1.10",
        ["shop", "etl"],
        "Loads orders.\nEvery night.\n",
    )
    assert orders.parameters["since"] == "2024-01-19"
    assert orders.parameters["limits"] == [10, 20.5, None, True]
    assert orders.concurrency_limit == 1
    assert orders.concurrency_options is not None
    assert orders.concurrency_options.collision_strategy is CollisionStrategy.CANCEL_NEW
    assert orders.schedules is not None
    assert [schedule.active for schedule in orders.schedules] == [True, False]
    assert orders.work_pool.job_variables["env"]["WORKERS"] == "4"
    assert orders.work_pool.job_variables["env"]["DEBUG"] == "false"
    assert stock.tags == ["shop", "shop", "etl"]
    assert stock.schedules is not None
    assert [schedule.active for schedule in stock.schedules] == [False]
    assert stock.work_pool.work_queue_name == "slow"
    assert stock.work_pool.job_variables["memory"] == "2Gi"
    assert stock.work_pool.job_variables["image"] == "{{ build-image.image }}"
    assert (local.flow_name, local.work_pool.name, local.enforce_parameter_schema) == (None, "laptops", False)
    assert local.triggers[0]["type"] == "event"


def test_rendered_for_the_server(project: Project) -> None:
    orders, _, local = (render_deployment(project, one, lookup) for one in project.deployments)
    assert orders.work_pool.job_variables["image"] == "registry.example.com/shop:1"
    assert orders.work_pool.job_variables["env"]["REGION"] == "eu"
    assert orders.work_pool.job_variables["env"]["TOKEN"] == "{{ prefect.blocks.secret.shop-token }}"
    assert orders.parameters["deep"] == {"a": {"b": 3}}
    assert orders.pull is not None
    assert [step.stored() for step in orders.pull] == [
        {
            "prefect.deployments.steps.git_clone": {
                "id": "clone",
                "repository": "https://git.example.com/shop.git",
                "branch": "main",
                "access_token": "{{ prefect.blocks.secret.git }}",
            }
        },
        {
            "prefect.deployments.steps.pip_install_requirements": {
                "directory": "shop",
                "requirements_file": "requirements.txt",
                "stream_output": False,
            }
        },
    ]
    assert local.paused is True
    assert local.pull is not None
    assert local.pull[0].arguments == {"directory": "/opt/shop"}
    assert local.triggers[0]["parameters"] == {"run": "{{ event.resource.id }}"}


def test_d2_the_file_survives_a_round_trip(project: Project) -> None:
    text = dump(editable(project.document))
    assert text.count("#") == project.document.text.count("#")
    assert parse(text, "again").data == project.document.data


words = st.sampled_from(
    [
        "",
        "x",
        "{{ x }}",
        "{{ $X }}",
        "a.b",
        "f.py:f",
        "1",
        "0 0 * * *",
        "PT1H",
        "UTC",
        "yes",
        "{{ x | y }}",
        "{",
        "\u00e9",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
)
schedule_keys = st.sampled_from(
    [
        "cron",
        "interval",
        "rrule",
        "timezone",
        "day_or",
        "anchor_date",
        "active",
        "slug",
        "catchup",
        "parameters",
    ]
)
step_keys = st.sampled_from(
    ["prefect.deployments.steps.git_clone", "a.b", "id", "requires", "repository", "git_clone"]
)
inner_keys = st.sampled_from(
    [*WORK_POOL, "env", "limit", "collision_strategy", "type", "triggers", "require"]
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(schedule_keys | step_keys | inner_keys | words, inner, max_size=4)
    ),
    max_leaves=12,
)
deployment_keys = st.sampled_from(
    [*DEPLOYMENT, *DEPLOYMENT_HINTS, "is_paused", "is_schedule_active", "infra_overrides"]
)
deployments = st.dictionaries(deployment_keys, values, max_size=6)
projects = st.dictionaries(st.sampled_from([*TOP, *SECTIONS, "version", "x-a"]) | words, values, max_size=4)


def refused(action: Callable[[], object]) -> tuple[SourceError, ...]:
    """The mistakes that ``action`` raises, none if it works; any other error is a failure."""
    try:
        action()
    except SourceErrors as caught:
        return caught.errors
    return ()


@settings(max_examples=100, deadline=None)
@given(projects, st.lists(deployments, max_size=3))
def test_any_content_is_read_or_refused_with_places(top: dict[str, Any], items: list[dict[str, Any]]) -> None:
    document = parse(dump({**top, "deployments": items}), "f")
    project = examine(document)
    errors = [*project.errors, *(error for one in project.deployments for error in one.errors)]
    for deployment in project.deployments:
        errors += refused(lambda one=deployment: render_deployment(project, one, lambda _: "5"))
    assert all(error.file == "f" and error.line > 0 and error.column > 0 for error in errors)


@given(st.text("-: \n{}[]&*a!|>'\"#%@\t", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(error.message and error.file == "f" for error in refused(lambda: parse(text, "f")))
