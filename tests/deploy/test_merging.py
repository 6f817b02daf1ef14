"""Schedules merged three ways: what the file said, what it says, what the server has (row D14)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.deployments import DeploymentSchedule, DeploymentScheduleCreate
from eparch.core.model import new_id
from eparch.deploy.merging import AppliedSchedule, Merged, merge, read_applied

NINE, TEN = {"cron": "0 9 * * *"}, {"cron": "0 10 * * *"}


def said(schedule: Any = NINE, slug: str | None = "s", **fields: Any) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(schedule=schedule, slug=slug, **fields)


def stored(merged: Merged) -> list[DeploymentSchedule]:
    """What the server has after ``merged`` was applied."""
    return [
        DeploymentSchedule(
            id=one.id, schedule=one.schedule, active=one.active, parameters=one.parameters, slug=one.slug
        )
        for one in merged.schedules
    ]


def first(*wanted: DeploymentScheduleCreate, silent: frozenset[int] = frozenset()) -> Merged:
    return merge(wanted, silent, None, [])


def edited(merged: Merged, **fields: Any) -> list[DeploymentSchedule]:
    """The server after a person changed the first schedule."""
    one, *others = stored(merged)
    return [msgspec.structs.replace(one, **fields), *others]


@pytest.mark.parametrize(
    ("field", "by_hand", "in_file"),
    [
        ("schedule", {"cron": "1 1 * * *"}, TEN),
        ("active", False, None),
        ("parameters", {"n": 2}, {"n": 1}),
    ],
)
def test_d14_what_a_person_changed_stays_unless_the_file_changed_it_too(
    field: str, by_hand: Any, in_file: Any
) -> None:
    before = first(said())
    server = edited(before, **{field: by_hand})
    kept = merge([said()], frozenset(), before.applied, server)
    assert getattr(kept.schedules[0], field) == by_hand
    assert len(kept.drift) == 1
    assert "by hand; it stays so" in kept.drift[0]
    assert kept.applied == before.applied
    if in_file is not None:
        changed = merge([said(**{field: in_file})], frozenset(), before.applied, server)
        assert getattr(changed.schedules[0], field) == in_file
        assert changed.schedules[0].id == before.schedules[0].id


def test_d14_the_file_that_now_says_active_wakes_what_a_person_paused() -> None:
    before = first(said(), silent=frozenset({0}))
    server = edited(before, active=False)
    assert merge([said()], frozenset({0}), before.applied, server).schedules[0].active is False
    assert merge([said()], frozenset(), before.applied, server).schedules[0].active is True


def test_d14_absent_is_unmanaged_and_an_empty_list_is_none() -> None:
    before = first(said())
    extra = DeploymentSchedule(id=new_id(), schedule=TEN, slug="own")
    server = [*stored(before), extra]
    unmanaged = merge(None, frozenset(), before.applied, server)
    assert {one.id for one in unmanaged.schedules} == {one.id for one in server}
    assert merge([], frozenset(), before.applied, server).schedules == []


def test_d14_a_schedule_added_by_hand_stays_and_one_that_left_the_file_goes() -> None:
    before = first(said(slug="a"), said(TEN, slug="b"))
    own = DeploymentSchedule(id=new_id(), schedule={"interval": 60.0}, slug="own")
    after = merge([said(slug="a")], frozenset(), before.applied, [*stored(before), own])
    assert [one.slug for one in after.schedules] == ["a", "own"]
    assert after.drift == ["schedule own was added by hand; it stays"]


def test_d14_a_schedule_deleted_by_hand_stays_deleted_until_the_file_changes_it() -> None:
    before = first(said())
    kept = merge([said()], frozenset(), before.applied, [])
    assert (kept.schedules, kept.applied) == ([], before.applied)
    assert merge([said()], frozenset(), kept.applied, []).schedules == []
    assert [one.schedule for one in merge([said(TEN)], frozenset(), kept.applied, []).schedules] == [TEN]


def test_d14_a_schedule_without_a_slug_is_known_by_what_it_says() -> None:
    before = first(said(slug=None))
    same = merge([said(slug=None)], frozenset(), before.applied, stored(before))
    assert [one.id for one in same.schedules] == [before.schedules[0].id]
    other = merge([said(TEN, slug=None)], frozenset(), before.applied, stored(before))
    assert [one.schedule for one in other.schedules] == [TEN]
    assert other.schedules[0].id != before.schedules[0].id


def test_d14_a_slug_is_changed_by_naming_the_old_one() -> None:
    before = first(said(slug="old"))
    after = merge([said(slug="new", replaces="old")], frozenset(), before.applied, stored(before))
    assert [(one.id, one.slug) for one in after.schedules] == [(before.schedules[0].id, "new")]


_SCHEDULES = st.lists(
    st.builds(
        said,
        st.sampled_from([NINE, TEN, {"interval": 60.0}]),
        st.sampled_from(["a", "b", "c"]),
        active=st.booleans(),
        parameters=st.sampled_from([{}, {"n": 1}]),
    ),
    max_size=3,
    unique_by=lambda one: one.slug,
)


@given(_SCHEDULES, _SCHEDULES)
def test_d14_where_nobody_changed_anything_the_file_is_what_is_there(
    then: list[DeploymentScheduleCreate], now: list[DeploymentScheduleCreate]
) -> None:
    before = merge(then, frozenset(), None, [])
    after = merge(now, frozenset(), before.applied, stored(before))
    plain = [(one.slug, one.schedule, one.active, one.parameters) for one in after.schedules]
    assert plain == [(one.slug, one.schedule, one.active, one.parameters) for one in now]
    assert after.drift == []
    again = merge(now, frozenset(), after.applied, stored(after))
    assert again == after


def test_what_cannot_be_read_of_the_last_time_is_not_known() -> None:
    one = AppliedSchedule(id=new_id(), schedule=NINE)
    assert read_applied(msgspec.to_builtins([one])) == [one]
    assert read_applied(None) is None
    assert read_applied([{"id": 1}]) is None
