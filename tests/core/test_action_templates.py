"""Templates of actions: what they see, what they become, and what a hostile one cannot do."""

from __future__ import annotations

import contextlib
import tracemalloc
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.core.action_context import context_of, filters_for, id_in, involved
from eparch.core.action_templates import (
    MAX_SOURCE,
    Hydration,
    check_template,
    flaws_in,
    hydrate,
    names_in,
    render,
    upgraded,
    wanted_of,
)
from eparch.core.automation_actions import DoNothing
from eparch.core.automations import Automation, EventTrigger, Firing, TriggeredAction, TriggerState
from eparch.core.errors import TemplateInvalid
from eparch.core.events import ReceivedEvent

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
RUN = UUID("0195a1b2-0000-7000-8000-000000000001")
FLOW = UUID("0195a1b2-0000-7000-8000-000000000002")
EVENT = ReceivedEvent(
    id=UUID("0195a1b2-0000-7000-8000-000000000003"),
    occurred=NOW,
    received=NOW,
    event="prefect.flow-run.Failed",
    resource={"prefect.resource.id": f"prefect.flow-run.{RUN}", "prefect.resource.name": "brave-owl"},
    related=[
        {
            "prefect.resource.id": f"prefect.flow.{FLOW}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": "etl",
        },
        {"prefect.resource.id": "prefect.tag.nightly", "prefect.resource.role": "tag"},
        {"prefect.resource.id": "prefect.tag.big", "prefect.resource.role": "tag"},
    ],
    payload={"rows": 3, "items": ["a", "b"], "message": "<no>"},
)
TRIGGER = EventTrigger(posture="Reactive", expect=["prefect.flow-run.Failed"])
AUTOMATION = Automation(id=FLOW, name="tell me", trigger=TRIGGER, actions=[DoNothing()])
FIRING = Firing(
    trigger=TRIGGER, trigger_states=[TriggerState.TRIGGERED], triggered=NOW, triggering_event=EVENT
)
TRIGGERED = TriggeredAction(
    id=RUN,
    automation=AUTOMATION,
    firing=FIRING,
    triggered=NOW,
    triggering_labels={"prefect.resource.id": "x", "a.b": "deep", "a.b.c": "deeper"},
    triggering_event=EVENT,
    action=DoNothing(),
    action_index=0,
    automation_triggered_event_id=None,
)
UI = "https://prefect.example/ui"


def shown(text: str, **more: Any) -> str:
    return render(text, {**context_of(TRIGGERED, UI), **more}, filters_for(UI))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain { text }", "plain { text }"),
        ("{{ automation.name }}", "tell me"),
        ("{{ event.event }}", "prefect.flow-run.Failed"),
        ("{{ event.resource.name }} {{ event.resource.id }}", f"brave-owl prefect.flow-run.{RUN}"),
        ("{{ event.resource['prefect.resource.name'] }}", "brave-owl"),
        ("{{ event.resource.labels.prefect.resource.name }}", "brave-owl"),
        ("{{ event.resource_in_role['flow'].name }}", "etl"),
        ("{{ event.resources_in_role.tag | map(attribute='id') | join(',') }}".replace("id", "role"), "tag,tag"),  # noqa: E501
        ("{{ event.involved_resources | length }}", "4"),
        ("{{ event.payload.rows + 1 }} {{ event.payload.items[1] }}", "4 b"),
        (["{{ event.payload.message | e }}", "{ event.payload | tojson }}"][0], "&lt;no&gt;"),
        ("{{ event.payload.message | tojson }}", '"\\u003cno\\u003e"'),
        ("{{ event.occurred.strftime('%H:%M') }}", "12:30"),
        ("{{ labels.a.b }} {{ labels.a.b.c }}", "deep deeper"),
        ("{{ firing.triggering_event.event }}", "prefect.flow-run.Failed"),
        ("{{ firings | length }}{{ events | length }}", "11"),
        ("{{ event.resource | ui_url }}", f"{UI}/runs/flow-run/{RUN}"),
        ("{{ automation | ui_url }}", f"{UI}/automations/automation/{FLOW}"),
        ("{{ event.url }}", f"{UI}/events/event/2026-03-01/{EVENT.id}"),
        ("{{ event.resource | ui_resource_events_url }}", f"{UI}/events?resource=prefect.flow-run.{RUN}"),
        (f"{{{{ 'see /runs/flow-run/{RUN} there' | flow_run_id }}}}", str(RUN)),
        ("{{ nothing.at.all }}.", "."),
        ("{% for t in event.related if t.role == 'tag' %}{{ loop.index }}{{ t.id[12:] }} {% endfor %}", "1nightly 2big "),  # noqa: E501
        ("{% set n = namespace(x=1) %}{% for i in [1, 2, 3] %}{% set n.x = n.x * 2 %}{% endfor %}{{ n.x }}", "8"),  # noqa: E501
        ("{% macro b(x) %}<{{ x }}>{% endmacro %}{{ b(1) ~ b(none) }}", "<1><None>"),
        ("{{ '%s of %03d' | format('a', 7) }} {{ '{0:>4}|{k}'.format(1, k=2) }}", "a of 007    1|2"),
        ("{{ 'a,b'.split(',') | reverse | join('-') }}", "b-a"),
        ("{{ {'a': 1}.items() | list }}{{ (1, 2) }}{{ [1, 2] }}", "[('a', 1)](1, 2)[1, 2]"),
    ],
)  # fmt: skip
def test_what_a_template_sees(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_without_a_web_page_there_are_no_urls() -> None:
    assert render("{{ event.resource | ui_url }}", context_of(TRIGGERED), filters_for("")) == "None"


HOSTILE = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ [0] * 10**9 }}",
    "{{ 10 ** 10 ** 5 }}{{ (9 ** 999) ** 999 }}",
    "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a ~ a ~ a ~ a ~ a ~ a ~ a ~ a ~ a ~ a %}" * 9,
    "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a + a %}" * 40,
    "{% set a = [1] %}" + "{% set a = [a, a, a, a, a, a, a, a, a, a] %}" * 9 + "{{ a }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(100) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "{% set a = [1] * 500000 %}{% for i in range(100) %}{% for j in range(100) %}{{ a == a }}{% endfor %}"
    "{% endfor %}",
    "{% set a = [1] * 500000 %}{% for i in range(100) %}{% for j in range(100) %}{% if 2 in a %}{% endif %}"
    "{% endfor %}{% endfor %}",
    "{% set a = ['x' * 1000] * 1000 %}{% for i in a %}{% for j in a %}{{ i }}{% endfor %}{% endfor %}",
    "{% for x in range(99) recursive %}{{ loop(range(99)) }}{% endfor %}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%(a)s' * 5000 % {'a': 'x' * 100000} }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 1000000000) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x' | indent(10**9) }}",
    "{{ '\\n' * 100000 | indent('x' * 999) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
    "{{ ('a' * 1000000) | replace('', 'b' * 1000000) }}",
    "{{ ('x' * 1000000).join(['a'] * 100000) }}",
    "{{ (['a'] * 100000) | join('x' * 1000000) }}",
    "{{ ([[1]] * 100000) | sum(start=[]) }}",
    "{{ ('x' * 1000000) | wordwrap(1) }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ range.__init__ }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0[a]}'.format({'a': 1}) }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ '' | attr('__class__') }}",
    "{{ [''] | map('attr', '__class__') | list }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ lipsum(n=10**9) }}",
    "{{" + "(" * 20_000,
    "{{ " + "not " * 20_000 + "1 }}",
    "{{ " + "+".join(["1"] * 5_000) + " }}",
    "{{ " + "9" * 10_000 + " }}",
    "{{ '" + "x" * MAX_SOURCE + "' }}",
    "{% if 1 %}" * 200 + "{% endif %}" * 200,
    "{% for a in [1] %}" * 3 + "{% endfor %}" * 3,
    "{% for a in [1] %}{% endfor %}" * 11,
    "{{ event.nothing() }}",
    "{{ x | no_such_filter }}",
    "{{ 1 / 0 }}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_template_ends_with_an_error(text: str) -> None:
    with pytest.raises(TemplateInvalid):
        shown(text)


@pytest.mark.parametrize(
    "text", [text for text in HOSTILE if "500000" not in text and "macro" not in text][:10]
)
def test_a_hostile_template_holds_little_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TemplateInvalid):
            shown(text)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["{{ a.update({'b': 1}) }}", "{{ [].append(1) }}", "{% set a.b = 1 %}"])
def test_a_template_changes_nothing(text: str) -> None:
    kept: dict[str, Any] = {}
    with pytest.raises(TemplateInvalid):
        shown(text, a=kept)
    assert kept == {}


def test_too_long_an_output_is_refused() -> None:
    with pytest.raises(TemplateInvalid, match="more than"):
        shown("{{ 'x' * 600000 }}")


@given(st.text(alphabet="{}%ab .()[]'|~*+-1\n", max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_is_rendered_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateInvalid):
        assert isinstance(shown(text), str)


@pytest.mark.parametrize(
    ("text", "line"),
    [("{{ a }}", None), ("plain", None), ("a\n{% if %}", 2), ("{{ a | b }}", 1), ("{{", 1), ("{# x", 1)],
)
def test_checking_says_the_line(text: str, line: int | None) -> None:
    flaw = check_template(text)
    assert (flaw.line if flaw else None) == line
    assert flaw is None or flaw.message


def test_names_that_templates_ask_for() -> None:
    assert names_in(["{{ flow_run.name }}{% set x = 1 %}{{ deployment | ui_url }}", "flow", "{{ ("]) == {
        "flow_run",
        "deployment",
    }


def test_resources_of_an_event_by_kind() -> None:
    assert id_in(involved(EVENT, "prefect.flow")) == FLOW
    assert involved(EVENT, "prefect.deployment") is None
    assert id_in(involved(EVENT, "prefect.tag")) is None
    assert involved(None, "prefect.flow") is None


# Parameters


def made(parameters: dict[str, Any], **variables: Any) -> dict[str, Any]:
    return hydrate(parameters, Hydration(lambda text: shown(text), variables))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("text", "text"),
        ({"__prefect_kind": "none", "value": [1]}, [1]),
        ({"__prefect_kind": "json", "value": '{"a": 1}'}, {"a": 1}),
        ({"__prefect_kind": "jinja", "template": "{{ event.event }}!"}, "prefect.flow-run.Failed!"),
        (
            {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": "[{{ 1 + 1 }}]"}},
            [2],
        ),
        ({"__prefect_kind": "workspace_variable", "variable_name": "region"}, "eu"),
        ("{{ event.payload.rows }}", 3),
        ("{{ event.payload['items'] }}", ["a", "b"]),
        ("{{ event.payload.rows if true else 1 }}", 3),
        ("n={{ event.payload.rows }}", "n=3"),
        (["{{ event.payload.rows }}", {"deep": "x{{ 1 }}"}], [3, {"deep": "x1"}]),
        ({"__prefect_kind": "unknown", "value": 1}, 1),
    ],
)
def test_parameters_become_what_they_stand_for(value: Any, expected: Any) -> None:
    assert made({"p": value}, region="eu") == {"p": expected}


def test_a_value_that_says_nothing_is_left_out() -> None:
    empty = {"__prefect_kind": "json"}
    assert made({"a": empty, "b": [empty, {"__prefect_kind": "workspace_variable"}], "c": 1}) == {
        "b": [],
        "c": 1,
    }


@pytest.mark.parametrize(
    "value",
    [
        {"__prefect_kind": "json", "value": "{"},
        {"__prefect_kind": "jinja"},
        {"__prefect_kind": "jinja", "template": "{{ 1 / 0 }}"},
        {"__prefect_kind": "workspace_variable", "variable_name": "absent"},
        {"__prefect_kind": "none"},
        "{{ missing }}",
    ],
)
def test_parameters_that_cannot_be_made(value: Any) -> None:
    with pytest.raises(TemplateInvalid):
        made({"p": value})


def test_mistakes_in_parameters_are_named() -> None:
    found = flaws_in(
        {
            "good": "{{ event.event }}",
            "bad": "{{ event. }}",
            "json": {"__prefect_kind": "json", "value": "{"},
            "name": {"__prefect_kind": "workspace_variable", "variable_name": "x"},
        }
    )
    assert [flaw.partition(":")[0] for flaw in found] == ["bad", "json"]
    deep: Any = 1
    for _ in range(100):
        deep = {"a": deep}
    assert flaws_in({"p": deep}) == ["The parameters are too many or nested too deeply."]


def test_what_parameters_ask_for() -> None:
    variable = {"__prefect_kind": "workspace_variable", "variable_name": "region"}
    templates, variables = wanted_of({"a": "x {{ flow_run.id }}", "b": [variable]})
    assert (templates, variables) == (["x {{ flow_run.id }}"], ["region"])
    assert upgraded({"a": variable, "b": "plain"}) == {"a": variable, "b": "plain"}
