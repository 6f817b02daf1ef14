"""Wanted against current: what is created, changed, left alone, and what nobody wrote stays (row D14)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.deploy_plans import Standing
from eparch.core.deployments import (
    ConcurrencyLimit,
    Deployment,
    DeploymentSchedule,
    DeploymentScheduleCreate,
)
from eparch.core.model import decode, encode, new_id
from eparch.deploy.plan import Kind, Wanted, plan

FLOW_ID = new_id()
CRON = {"cron": "0 3 * * *", "timezone": "UTC"}
DAILY = DeploymentScheduleCreate(schedule=CRON)
PULL: list[dict[str, Any]] = [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv"}}]


def wanted(**fields: Any) -> Wanted:
    given: dict[str, Any] = {"flow_name": "report", "name": "nightly", "entrypoint": "f.py:report"}
    return Wanted(**{**given, "pull_steps": PULL, **fields})


def stored(one: Wanted, **fields: Any) -> Deployment:
    """``one`` as a server answers it, with ``fields`` of its own."""
    body = one.body(FLOW_ID)
    schedules = [
        DeploymentSchedule(
            id=new_id(),
            schedule={"day_or": True, **s.schedule} if "cron" in s.schedule else s.schedule,
            active=s.active,
            parameters=s.parameters,
            slug=s.slug,
        )
        for s in body.schedules
    ]
    given = {
        name: getattr(body, name)
        for name in body.__struct_fields__
        if name not in ("schedules", "global_concurrency_limit_id", "version_info", "labels")
    }
    return Deployment(**{**given, "id": new_id(), "schedules": schedules, **fields})


def only(one: Wanted, current: Deployment | None) -> Any:
    standing = {} if current is None else {one.key: Standing(flow_name=one.flow_name, deployment=current)}
    [action] = plan([one], standing)
    return action


def test_what_is_not_there_is_created() -> None:
    action = only(wanted(), None)
    assert (action.kind, action.standing, action.changes) == (Kind.CREATE, None, {})


def test_what_is_the_same_is_left_alone_although_a_server_fills_in_defaults() -> None:
    one = wanted(work_pool_name="local", tags=["b", "a"], schedules=[DAILY])
    current = stored(one, work_queue_name="default", tags=["a", "b"])
    assert only(one, current).kind is Kind.UNCHANGED


def test_an_interval_without_anchor_fits_the_anchor_that_the_server_gave_it() -> None:
    one = wanted(schedules=[DeploymentScheduleCreate(schedule={"interval": 60.0})])
    current = stored(one)
    anchored = {"interval": 60.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    schedule = msgspec.structs.replace(current.schedules[0], schedule={**anchored, "timezone": None})
    assert only(one, msgspec.structs.replace(current, schedules=[schedule])).kind is Kind.UNCHANGED
    schedule = msgspec.structs.replace(schedule, schedule={**anchored, "interval": 61.0})
    assert only(one, msgspec.structs.replace(current, schedules=[schedule])).kind is Kind.CHANGE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entrypoint", "g.py:report"),
        ("version", "2"),
        ("description", "new"),
        ("paused", True),
        ("concurrency_limit", 3),
        ("enforce_parameter_schema", False),
        ("parameter_openapi_schema", {"type": "object", "properties": {"n": {}}}),
        ("parameters", {"n": 1}),
        ("tags", ["x"]),
        ("pull_steps", []),
        ("work_pool_name", "other"),
        ("work_queue_name", "high"),
        ("job_variables", {"env": {"A": "1"}}),
    ],
)
def test_a_field_that_differs_is_told_with_what_it_was_and_will_be(field: str, value: Any) -> None:
    old = wanted()
    action = only(wanted(**{field: value}), stored(old))
    was = False if field == "paused" else getattr(old, field)
    assert action.kind is Kind.CHANGE
    assert action.changes == {field: [was, value]}


def test_the_limit_of_a_stock_server_stands_in_its_global_limit() -> None:
    one = wanted(concurrency_limit=2)
    limit = ConcurrencyLimit(id=new_id(), name="deployment:x", limit=2)
    current = stored(one, concurrency_limit=None, global_concurrency_limit=limit)
    assert only(one, current).kind is Kind.UNCHANGED


def test_the_request_does_not_name_a_limit_that_it_does_not_set() -> None:
    """Prefect's server forgets its own limit when it reads null here, and then cannot make it again."""
    sent = decode(encode(wanted(concurrency_limit=2).body(FLOW_ID)))
    assert sent["concurrency_limit"] == 2
    assert "global_concurrency_limit_id" not in sent


def test_d14_absent_schedules_stay_and_an_empty_list_removes_them() -> None:
    current = stored(wanted(schedules=[DAILY]))
    kept = only(wanted(schedules=None, version="2"), current)
    assert list(kept.changes) == ["version"]
    assert [s.schedule["cron"] for s in kept.wanted.body(FLOW_ID).schedules] == ["0 3 * * *"]
    removed = only(wanted(schedules=[]), current)
    assert removed.changes["schedules"][1] == []


def test_d14_a_schedule_that_was_paused_by_hand_stays_paused_unless_the_file_says_so() -> None:
    paused = DeploymentScheduleCreate(schedule=CRON, active=False)
    current = stored(wanted(schedules=[paused]))
    silent = only(wanted(schedules=[DAILY], silent=frozenset({0})), current)
    assert silent.kind is Kind.UNCHANGED
    assert silent.wanted.body(FLOW_ID).schedules[0].active is False
    assert "schedules" in only(wanted(schedules=[DAILY]), current).changes


def test_d14_a_schedule_is_known_by_its_slug_also_under_its_old_one() -> None:
    old = DeploymentScheduleCreate(schedule=CRON, slug="old", active=False)
    new = DeploymentScheduleCreate(schedule={"cron": "5 5 * * *"}, slug="new", replaces="old")
    action = only(wanted(schedules=[new], silent=frozenset({0})), stored(wanted(schedules=[old])))
    assert action.wanted.body(FLOW_ID).schedules[0].active is False


def test_d14_a_deployment_that_was_paused_by_hand_stays_paused() -> None:
    action = only(wanted(version="2"), stored(wanted(), paused=True))
    assert list(action.changes) == ["version"]
    assert action.wanted.body(FLOW_ID).paused is True


_SCHEDULES = st.lists(
    st.builds(
        DeploymentScheduleCreate,
        schedule=st.one_of(
            st.builds(lambda hour: {"cron": f"0 {hour} * * *"}, st.integers(0, 23)),
            st.builds(lambda seconds: {"interval": float(seconds)}, st.integers(1, 99)),
        ),
        active=st.booleans(),
        parameters=st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=1),
    ),
    max_size=4,
)
_TEXTS = st.one_of(st.none(), st.text(max_size=3))
WANTED = st.builds(
    wanted,
    version=_TEXTS,
    description=_TEXTS,
    paused=st.one_of(st.none(), st.booleans()),
    schedules=st.one_of(st.none(), _SCHEDULES),
    tags=st.lists(st.text(max_size=2), max_size=3),
    parameters=st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    work_queue_name=st.sampled_from([None, "default", "high"]),
)


@given(WANTED, WANTED)
def test_what_was_applied_is_unchanged_when_it_is_wanted_again(before: Wanted, after: Wanted) -> None:
    """Applying is idempotent, whatever was there before."""
    action = only(after, stored(before))
    assert only(after, stored(action.wanted)).kind is Kind.UNCHANGED


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), unique=True))
def test_there_is_one_action_for_each_in_the_order_of_the_file(keys: list[tuple[str, str]]) -> None:
    ones = [wanted(flow_name=flow, name=name) for flow, name in keys]
    current = {one.key: Standing(flow_name=one.flow_name, deployment=stored(one)) for one in ones[::2]}
    actions = plan(ones, current)
    assert [action.wanted.key for action in actions] == keys
    assert [action.kind is Kind.CREATE for action in actions] == [one.key not in current for one in ones]
