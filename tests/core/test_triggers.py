"""When triggers fire (row B12): rules one by one, and against models that count by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.playing import SECOND, START, Play, a_trigger, an_automation, at, event, metric

from eparch.core import triggers
from eparch.core.automations import AutomationCreate, Firing, TriggerState
from eparch.core.events import ReceivedEvent
from eparch.core.model import decode, encode, new_id
from eparch.core.trigger_index import Index, Place, chain_of, watches_of
from eparch.core.trigger_memory import state_events
from eparch.core.triggers import RETAINED, Window, in_order, matches

# Which events


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("prefect.flow-run.*", "prefect.flow-run.Running", True),
        ("prefect.flow-run.*", "prefect.task-run.Running", False),
        ("*", "anything", True),
        ("!staging*", "production", True),
        ("!staging*", "staging-2", False),
        ("A", "a", False),
        ("a*a*a*a*a*a*a*a*a*a*b", "a" * 3000, False),
    ],
)
def test_b12_patterns(pattern: str, value: str, fits: bool) -> None:
    assert matches(pattern, value) is fits


def test_b12_labels_are_matched_by_any_of_a_list_and_all_of_a_specification() -> None:
    play = Play(
        match={"prefect.resource.id": ["thing.*", "other"], "env": "!staging"},
        match_related=[{"prefect.resource.role": "flow", "n": "1"}, {"prefect.resource.role": "tag"}],
    )
    flow = {"prefect.resource.id": "f", "prefect.resource.role": "flow", "n": "1"}
    tag = {"prefect.resource.id": "t", "prefect.resource.role": "tag"}
    assert play.see(event(0, labels={"env": "production"}, related=[tag, flow]))
    assert not play.see(event(0, labels={"env": "staging"}, related=[tag, flow]))
    assert not play.see(event(0, related=[tag, flow]))  # a label that is not there does not fit "not"
    assert not play.see(event(0, labels={"env": "production"}, related=[flow]))
    assert not play.see(event(0, labels={"env": "production"}, related=[tag, {**flow, "n": "2"}]))


NAMES = ["a.b", "a.b.c", "a.x", "b", "prefect.flow-run.Running"]
PATTERNS = [*NAMES, "a.*", "a.b*", "*", "*.c", "!b", "a.[bx]", "prefect.flow-run.*"]
IDS = ["r1", "r2", "r3"]


@given(st.data())
def test_b12_the_index_finds_what_asking_each_trigger_finds(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from(PATTERNS), max_size=2)
    ids = st.sampled_from([{}, *({"prefect.resource.id": x} for x in (*IDS, "r*", "!r1", IDS[:2]))])
    found = data.draw(st.lists(st.tuples(names, names, ids, ids), max_size=8))
    watches = [
        watch
        for expect, after, match, related in found
        for watch in watches_of(
            an_automation(
                {
                    "id": str(new_id()),
                    "expect": expect,
                    "after": after,
                    "match": match,
                    "match_related": related,
                }
            ),
            Place(0, UUID(int=0)),
        )
    ]
    others = data.draw(st.lists(st.sampled_from(IDS), max_size=2))
    one = event(
        0,
        data.draw(st.sampled_from(NAMES)),
        id_=data.draw(st.sampled_from(IDS)),
        related=[{"prefect.resource.id": other, "prefect.resource.role": "x"} for other in others],
    )
    wanted = {
        watch.trigger.id
        for watch in watches
        if (triggers.expects(watch.trigger, one.event) or triggers.arms(watch.trigger, one.event))  # type: ignore[arg-type]
        and triggers.concerns(watch.trigger, one)
    }
    assert {watch.trigger.id for watch in Index(watches).find(one)} == wanted


# Reactive


def test_b12_each_event_fires_at_once() -> None:
    play = Play(expect=["e"])
    assert len(play.see(event(0), event(0), event(-3600, received=0), event(1, "other"))) == 3
    assert not play.states


def test_b12_threshold_within_a_window_fires_once_for_it() -> None:
    play = Play(expect=["e"], threshold=3, within=60)
    assert not play.see(event(0), event(30))
    (firing,) = play.see(event(59))
    assert firing.triggered == at(59)
    assert firing.trigger_states == [TriggerState.TRIGGERED]
    assert firing.triggering_event is not None
    assert firing.triggering_event.occurred == at(59)
    # The window goes on to its end: what comes in it is spent.
    assert not play.see(event(59.5), event(59.6), event(59.7))
    assert len(play.see(event(60), event(61), event(62))) == 1


def test_b12_a_window_that_ended_begins_anew_with_the_next_event() -> None:
    play = Play(expect=["e"], threshold=2, within=60)
    assert not play.see(event(0), event(61))
    assert play.see(event(62))


def test_b12_events_out_of_order_count_where_they_belong() -> None:
    play = Play(expect=["e"], threshold=2, within=60)
    play.see(event(0))
    assert play.see(event(-800, received=1))
    assert not play.see(event(-900, received=2), event(30, received=3))


def test_b12_an_event_from_the_future_counts_now() -> None:
    play = Play(expect=["e"], threshold=2, within=60)
    assert not play.see(event(86_400, received=0))
    assert play.see(event(1))


def test_b12_for_each_counts_apart_and_labels_the_firing() -> None:
    play = Play(expect=["e"], threshold=2, within=60, for_each=["related:flow:prefect.resource.id", "env"])

    def of(flow: str, env: str) -> ReceivedEvent:
        related = [{"prefect.resource.id": flow, "prefect.resource.role": "flow"}]
        return event(0, related=related, labels={"env": env})

    assert not play.see(of("f", "a"), of("f", "b"), of("g", "a"), event(0))
    (firing,) = play.see(of("f", "b"))
    assert firing.triggering_labels == {"env": "b", "related:flow:prefect.resource.id": "f"}
    assert play.see(event(1))[0].triggering_labels == {"env": "", "related:flow:prefect.resource.id": ""}


def test_b12_after_arms_for_a_while() -> None:
    play = Play(after=["a"], expect=["e"], within=60)
    assert not play.see(event(0), event(1, "a"))
    assert play.see(event(60))
    assert not play.see(event(60.5))  # it needs another one
    assert not play.see(event(100, "a"), event(161))
    assert play.see(event(170, "a"), event(171))


def test_b12_the_event_that_arms_does_not_count() -> None:
    play = Play(after=["e"], expect=["e"], within=60)
    assert not play.see(event(0))
    assert play.see(event(1))
    assert not play.see(event(2))


moments = st.lists(st.integers(-2000, 8000), max_size=40)


@given(moments, st.integers(1, 4), st.integers(1, 500))
def test_b12_no_event_is_spent_twice_whatever_the_order(
    seconds: list[int], threshold: int, within: int
) -> None:
    play = Play(expect=["e"], threshold=threshold, within=within)
    for second in seconds:
        before = [state for _, _, state in play.states.values()]
        if play.see(event(second, received=9000)) and before:
            (window,) = before
            assert isinstance(window, Window)
            assert window.start <= at(second)
    assert len(play.fired) * threshold <= len(seconds)


def count_by_hand(seconds: Sequence[float], threshold: int, within: float) -> list[float]:
    """When a reactive trigger fires for events in their order, none more than the retention apart."""
    fired: list[float] = []
    start = end = None
    counted: list[float] = []
    for second in seconds:
        if start is None or end is None:
            start, end = second, second + within
        elif second >= end:
            start, end, counted = second, second + within, []
        if second < start:
            continue
        counted.append(second)
        if len(counted) == threshold:
            fired.append(second)
            start, end, counted = end, end + within, []
    return fired


@given(st.lists(st.integers(0, 800), max_size=40).map(sorted), st.integers(1, 4), st.integers(1, 300))
def test_b12_reactive_is_what_counting_by_hand_finds(seconds: list[int], threshold: int, within: int) -> None:
    play = Play(expect=["e"], threshold=threshold, within=within)
    play.see(*(event(second) for second in seconds))
    assert [firing.triggered for firing in play.fired] == [
        at(second) for second in count_by_hand(seconds, threshold, within)
    ]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 500)), max_size=30), st.integers(1, 3))
def test_b12_keys_do_not_see_each_other(found: list[tuple[str, int]], threshold: int) -> None:
    def fields(key: str | None) -> list[tuple[str, datetime]]:
        play = Play(expect=["e"], threshold=threshold, within=100, for_each=["k"])
        play.see(*(event(s, received=500, labels={"k": k}) for k, s in found if key in (None, k)))
        return sorted((f.triggering_labels["k"], f.triggered) for f in play.fired)

    assert fields(None) == sorted(fields("x") + fields("y") + fields("z"))


# Proactive


def test_b12_absence_fires_at_the_end_of_the_window_and_again() -> None:
    play = Play(posture="Proactive", expect=["e"], within=60)
    assert not play.wait(59)
    (firing,) = play.wait(60)
    assert (firing.triggered, firing.triggering_event) == (at(60), None)
    assert not play.see(event(119))
    assert not play.wait(120)
    (firing,) = play.wait(180)
    assert firing.triggering_event is not None
    assert firing.triggering_event.occurred == at(119)


@given(
    st.lists(st.integers(0, 600), max_size=20).map(sorted),
    st.integers(1, 3),
    st.integers(10, 200),
    st.sets(st.integers(0, 20)),
)
def test_b12_proactive_fires_for_each_window_that_has_too_few(
    seconds: list[int], threshold: int, within: int, looks: set[int]
) -> None:
    """Whenever time is looked at: before, between or after the events."""
    play = Play(posture="Proactive", expect=["e"], threshold=threshold, within=within)
    for number, second in enumerate(seconds):
        if number in looks:
            for end in range(within, second + 1, within):
                play.wait(end)
        play.see(event(second))
    # Windows that nobody looked at together are one firing: compare those whose end was looked at.
    for end in range(within, 601, within):
        play.wait(end)
    few = {
        end
        for end in range(within, 601, within)
        if sum(1 for second in seconds if end - within <= second < end) < threshold
    }
    fired = {(firing.triggered - START) // SECOND for firing in play.fired}
    assert fired <= few
    last = max(seconds, default=0)
    assert {end for end in few if end > last} <= fired
    if len(looks) > 20 or set(range(len(seconds))) <= looks:
        assert fired == few


def test_b12_a_server_that_was_down_fires_once_for_what_it_missed() -> None:
    play = Play(posture="Proactive", expect=["e"], within=60)
    assert len(play.wait(6000)) == 1
    assert not play.see(event(6030))
    assert not play.wait(6060)
    assert play.wait(6120)


def test_b12_after_expect_within_is_a_run_that_does_not_end() -> None:
    play = Play(
        posture="Proactive", after=["run"], expect=["end"], for_each=["prefect.resource.id"], within=60
    )
    assert not play.see(event(0, "run", id_="1"), event(10, "run", id_="2"), event(30, "end", id_="1"))
    assert not play.wait(69)
    (firing,) = play.wait(70)
    assert firing.triggering_labels == {"prefect.resource.id": "2"}
    assert not play.wait(1000)
    assert not play.states


def test_b12_a_heartbeat_asks_for_the_next() -> None:
    play = Play(posture="Proactive", after=["beat"], expect=["beat", "end"], within=60)
    for second in range(0, 600, 50):
        assert not play.see(event(second, "beat"))
        assert not play.wait(second + 1)
    (firing,) = play.wait(610)
    assert firing.triggered == at(610)


def test_b12_satisfied_it_can_be_armed_again_at_once() -> None:
    play = Play(posture="Proactive", after=["a"], expect=["e"], within=60)
    play.see(event(0, "a"), event(1), event(2, "a"))
    assert [firing.triggered for firing in play.wait(500)] == [at(62)]


def test_b12_a_late_event_before_the_end_keeps_it_quiet() -> None:
    play = Play(posture="Proactive", after=["a"], expect=["e"], within=60)
    play.see(event(0, "a"), event(59, received=61))
    assert not play.wait(500)


# Triggers of triggers


def children(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"type": "event", "posture": "Reactive", "expect": [n], "id": str(new_id()), **more} for n in names
    ]


def test_b12_all_within() -> None:
    play = Play(type="compound", require="all", within=60, triggers=children("a", "b"))
    assert not play.see(event(0, "a"), event(61, "b"))
    (firing,) = play.see(event(100, "a"))
    assert [child.triggered for child in firing.triggering_firings] == [at(61), at(100)]
    assert firing.triggering_event is not None
    assert firing.triggering_event.event == "a"
    assert not play.see(event(101, "a"))


@given(st.lists(st.sampled_from("abc"), max_size=30), st.sampled_from([1, 2, 3, "any", "all"]))
def test_b12_compound_is_a_set_that_fills(names: list[str], require: int | str) -> None:
    play = Play(type="compound", require=require, within=None, triggers=children("a", "b", "c"))
    needed = {"any": 1, "all": 3}.get(str(require)) or int(require)
    filled: set[str] = set()
    times = 0
    for number, name in enumerate(names):
        filled.add(name)
        expected = len(filled) >= needed
        assert bool(play.see(event(number, name))) is expected
        if expected:
            filled, times = set(), times + 1
    assert len(play.fired) == times


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_b12_sequence_is_the_last_of_each_in_order(names: list[str]) -> None:
    play = Play(type="sequence", within=None, triggers=children("a", "b", "c"))
    last: dict[str, int] = {}
    for number, name in enumerate(names):
        last[name] = number
        expected = sorted(last, key=lambda n: last[n]) == ["a", "b", "c"]
        assert bool(play.see(event(number, name))) is expected
        if expected:
            last = {}


def test_b12_sequence_goes_by_when_it_happened_not_by_when_it_was_told() -> None:
    play = Play(type="sequence", within=60, triggers=children("a", "b"))
    assert not play.see(event(2, "b"))
    assert play.see(event(1, "a", received=3))


def test_b12_triggers_in_triggers() -> None:
    inner = {
        "type": "compound",
        "require": "any",
        "within": None,
        "triggers": children("b", "c"),
        "id": str(new_id()),
    }
    play = Play(type="sequence", within=None, triggers=[*children("a"), inner])
    assert not play.see(event(0, "c"), event(1, "a"))
    (firing,) = play.see(event(2, "b"))
    assert firing.trigger == play.automation.trigger
    assert len(firing.triggering_firings) == 2


def test_b12_a_proactive_child() -> None:
    quiet = {"type": "event", "posture": "Proactive", "expect": ["ok"], "within": 60, "id": str(new_id())}
    play = Play(type="compound", require="all", within=100, triggers=[*children("bad"), quiet])
    play.see(event(10, "bad"))
    assert play.wait(60)


# What firings are


def test_b12_automations_on_everything_do_not_feed_on_each_other() -> None:
    everything, named = Play(), Play(expect=["prefect.automation.*"])
    for play, longest in ((everything, 2), (named, 8)):
        for name in ("triggered", "resolved", "action.triggered", "action.executed", "action.failed"):
            for who, chain in itertools.product((new_id(), play.automation.id), (1, 2, 7, 8, 100)):
                said = event(
                    0, f"prefect.automation.{name}", id_=f"prefect.automation.{who}", payload={"chain": chain}
                )
                assert bool(play.see(said)) == (chain < longest and who != play.automation.id)


def test_b12_a_chain_of_automations_is_cut_and_none_triggers_itself() -> None:
    play = Play(expect=["prefect.automation.*"])
    cause = event(0)
    automation = an_automation({})
    for _ in range(20):
        firing = Firing(
            trigger=automation.trigger,
            trigger_states=[TriggerState.TRIGGERED],
            triggered=START,
            triggering_event=cause,
        )
        said = state_events(automation, firing, START)[TriggerState.TRIGGERED]
        cause = ReceivedEvent(**{n: getattr(said, n) for n in said.__struct_fields__}, received=START)
        play.see(cause)
    assert len(play.fired) == 7
    assert chain_of(cause) == 20
    assert len(encode(cause)) < 2500
    firing = Firing(trigger=automation.trigger, trigger_states=[TriggerState.TRIGGERED], triggered=START)
    own = state_events(play.automation, firing, START)[TriggerState.TRIGGERED]
    assert not play.see(ReceivedEvent(**{n: getattr(own, n) for n in own.__struct_fields__}, received=START))


@given(st.permutations(range(6)))
def test_b12_what_follows_comes_after(order: list[int]) -> None:
    made: list[ReceivedEvent] = []
    for number in range(6):
        made.append(event(number // 3, follows=made[-1].id if number in (1, 2, 5) else None))
    found = in_order([made[number] for number in order])
    assert sorted(found, key=id) == sorted(made, key=id)
    place = {one.id: at_ for at_, one in enumerate(found)}
    assert all(place[one.follows] < place[one.id] for one in made if one.follows is not None)


def test_b12_what_is_remembered_is_forgotten_in_time() -> None:
    play = Play(expect=["e"], threshold=5, within=60, for_each=["k"])
    play.see(*(event(0, labels={"k": str(n)}) for n in range(50)))
    assert len(play.states) == 50
    play.wait(60 + RETAINED.total_seconds())
    assert not play.states


def refused(**fields: Any) -> str:
    body = {"name": "x", "actions": [], "trigger": {"type": "event", "posture": "Reactive"}, **fields}
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(encode(body), AutomationCreate)
    return str(caught.value)


def test_b12_what_cannot_be_an_automation_is_refused() -> None:
    proactive = {"type": "event", "posture": "Proactive"}
    assert "at least 10 seconds" in refused(trigger={**proactive, "within": 9})
    assert "between 0 and" in refused(trigger={**proactive, "within": -1})
    assert "between 0 and" in refused(trigger={**proactive, "within": 1e300})
    assert "PT5M" in refused(trigger={**proactive, "within": "soon"})
    assert "300 seconds" in refused(trigger=metric(name="successes", operator="<", threshold=1, range=10))
    assert "`require`" in refused(
        trigger={"type": "compound", "require": 3, "within": 1, "triggers": children("a", "b")}
    )
    assert "at most 100 triggers" in refused(
        trigger={"type": "sequence", "within": 1, "triggers": children(*("a" for _ in range(100)))}
    )
    assert "deployment_id is required" in refused(actions=[{"type": "run-deployment"}])
    given_id = {"source": "inferred", "work_pool_id": str(new_id())}
    assert "work_pool_id is not allowed" in refused(actions=[{"type": "pause-work-pool", **given_id}])
    assert "unknown field" in refused(owner="x")
    again = {"type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Running"]}
    assert "without end" in refused(trigger=again, actions=[{"type": "run-deployment", "source": "inferred"}])
    assert "without end" in refused(
        trigger=again, actions=[{"type": "run-deployment", "deployment_id": str(new_id())}]
    )


def test_b12_a_window_that_is_left_out_has_its_smallest_length() -> None:
    trigger = a_trigger(posture="Proactive")
    assert decode(encode(trigger))["within"] == 10.0
    assert decode(encode(a_trigger(within="PT1M30S")))["within"] == 90.0
