"""Placeholders in values (features 1.5, rows P3, P4, D9; real-files 2.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import TemplateInvalid
from eparch.core.model import UNSET
from eparch.core.templates import (
    RESOLVABLE,
    Kind,
    Placeholder,
    find,
    lookup_in,
    placeholders,
    render,
    unresolved,
)

names = st.from_regex(r"[a-z_][a-z0-9_\-]{0,8}", fullmatch=True)
plain = st.text(alphabet=st.characters(exclude_characters="{}", codec="utf-8"), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | plain
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "kind", "key", "parts"),
    [
        ("{{ build-image.image }}", Kind.OUTPUT, "build-image.image", ["build-image", "image"]),
        ("{{image}}", Kind.OUTPUT, "image", ["image"]),
        (
            "{{ prefect.blocks.secret.git-token.a[0].b }}",
            Kind.BLOCK,
            "secret.git-token.a[0].b",
            ["secret", "git-token", "a", "0", "b"],
        ),
        ("{{ prefect.variables.region }}", Kind.VARIABLE, "region", ["region"]),
        ("{{ $HOME }}", Kind.ENV, "HOME", ["HOME"]),
        ("{{ ctx.flow_run.id }}", Kind.CTX, "flow_run.id", ["flow_run", "id"]),
        ("{{ event.resource.id }}", Kind.EVENT, "resource.id", ["resource", "id"]),
        ("{{ x | default('y') }}", Kind.FILTER, "x | default('y')", None),
        ("{{ event.payload | tojson }}", Kind.EVENT, "payload | tojson", None),
    ],
)
def test_kinds(text: str, kind: Kind, key: str, parts: list[str] | None) -> None:
    (found,) = placeholders({"a": ["x", f"in {text}"]})
    assert (found.kind, found.text, found.path, found.start) == (kind, text, ("a", 1), 3)
    assert found.key == key
    if parts is not None:
        assert found.parts == parts


@pytest.mark.parametrize("text", ["{{ x + 1 }}", "{ { x } }", "${VAR}", "{{ }}", "{{{{ x }}}}", "{{ 'x' }}"])
def test_what_is_not_a_placeholder(text: str) -> None:
    assert placeholders(text) == []


def test_order_is_the_order_of_reading() -> None:
    value = {"b": "{{ one }}{{ two }}", "a": ["{{ three }}", {"c": "{{ four }}"}]}
    assert [found.name for found in placeholders(value)] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", [1, 2], {"a": 1}])
def test_p3_alone_keeps_the_type(value: object) -> None:
    rendered = render({"k": "{{ step.key }}"}, lookup_in({"step": {"key": value}}))
    assert rendered == {"k": value}
    assert type(rendered["k"]) is type(value)


@pytest.mark.parametrize(
    ("value", "text"), [(1, "a1b"), (True, "aTrueb"), (None, "ab"), ({"k": [1]}, 'a{"k": [1]}b')]
)
def test_p3_inside_text_becomes_text(value: object, text: str) -> None:
    assert render("a{{ x }}b", lookup_in({"x": value})) == text


def test_p4_unset_removes_key_and_item() -> None:
    value = {
        "gone": "{{ no }}",
        "kept": 1,
        "list": ["{{ no }}", 2],
        "all": {"only": "{{ no }}"},
        "t": "a{{ no }}b",
    }
    assert render(value, lookup_in({})) == {"kept": 1, "list": [2], "all": {}, "t": "ab"}
    assert render("{{ no }}", lookup_in({})) is UNSET


def test_keep_leaves_what_is_unset() -> None:
    value = {"a": "{{ no }}", "b": "x {{no}}"}
    assert render(value, lookup_in({}), unset="keep") == value


def test_kinds_left_out_stay_as_written() -> None:
    value = {"a": "{{ prefect.blocks.secret.x }}", "b": "{{ event.id }}-{{ y }}", "c": "{{ ctx.z }}"}
    rendered = render(value, lookup_in({"y": 1}), kinds={Kind.OUTPUT})
    assert rendered == {"a": "{{ prefect.blocks.secret.x }}", "b": "{{ event.id }}-1", "c": "{{ ctx.z }}"}


def test_filter_is_refused_with_the_way_out() -> None:
    with pytest.raises(TemplateInvalid, match="uses a filter") as caught:
        render({"a": '{{ x | default("y") }}'}, lookup_in({"x": 1}))
    assert "'{{ x }}'" in caught.value.fix
    assert '{{{{ x | default("y") }}}}' in caught.value.fix
    assert render('{{ x | default("y") }}', lookup_in({}), kinds=RESOLVABLE - {Kind.FILTER}) == (
        '{{ x | default("y") }}'
    )


def test_escape_is_taken_off_once_and_only_when_asked() -> None:
    lookup = lookup_in({"x": 1})
    assert render("{{{{ x }}}} {{ x }}", lookup) == "{{ x }} 1"
    assert render("{{{{ x }}}} {{ x }}", lookup, unescape=False) == "{{{{ x }}}} 1"
    assert render("{{{{ x | f }}}}", lookup) == "{{ x | f }}"
    assert render("{{{{ x }}}}", lookup) == "{{ x }}"


def test_d9_unresolved_says_where() -> None:
    value = {"a": ["{{ known.key }}", "text {{ lost-step.image }}"], "b": "{{ $NOPE }}"}
    found = unresolved(value, lookup_in({"known": {"key": 1}}))
    assert [(one.name, one.path, one.start) for one in found] == [
        ("lost-step.image", ("a", 1), 5),
        ("$NOPE", ("b",), 0),
    ]
    assert unresolved(value, lookup_in({"known": {"key": 1}}), kinds={Kind.ENV}) == found[1:]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "flat"),
        ("build-image.image", "id"),
        ("a.b.c", "dotted id"),
        ("a.b.d", UNSET),
        ("list[1].k", 7),
        ("list.1.k", 7),
        ("list[9]", UNSET),
        ("image.deeper", UNSET),
        ("nope", UNSET),
        ("none", None),
    ],
)
def test_find(name: str, value: object) -> None:
    outputs = {
        "image": "flat",
        "build-image": {"image": "id"},
        "a.b": {"c": "dotted id"},
        "a": {"b": {"c": "x"}},
        "list": [1, {"k": 7}],
        "none": None,
    }
    assert find(outputs, name) == value


@given(values)
def test_without_placeholders_nothing_changes(value: object) -> None:
    assert render(value, lookup_in({})) == value
    assert placeholders(value) == []


@given(st.dictionaries(names, values, max_size=4), names)
def test_a_lone_placeholder_is_what_it_stands_for(outputs: dict[str, object], name: str) -> None:
    assert render("{{ " + name + " }}", lookup_in(outputs)) == outputs.get(name, UNSET)


@given(plain, names, plain, plain)
def test_text_around_a_placeholder_stays(before: str, name: str, after: str, value: str) -> None:
    text = f"{before}|{{{{{name}}}}}|{after}"
    (found,) = placeholders(text)
    assert text[found.start : found.start + len(found.text)] == found.text
    assert render(text, lookup_in({name: value})) == f"{before}|{value}|{after}"


@given(
    st.lists(
        st.sampled_from(["{{ a }}", "{{{{ a }}}}", "{{ b }}", "{", "}", " ", "{{", "}}", "x|y"]), max_size=8
    )
)
def test_rendering_never_breaks_and_escaping_is_the_inverse(pieces: list[str]) -> None:
    text = "".join(pieces)
    kinds = RESOLVABLE - {Kind.FILTER}
    kept = render(text, lambda _: UNSET, unset="keep", kinds=kinds, unescape=False)
    assert kept == text


@given(names, st.text(max_size=20))
def test_what_was_put_in_is_not_rendered_again(name: str, text: str) -> None:
    nested = f"{{{{ {name} }}}}{text}"
    assert render("<{{ x }}>", lookup_in({name: "again", "x": nested})) == f"<{nested}>"


def test_the_given_value_is_not_changed() -> None:
    value = {"a": ["{{ x }}", {"b": "{{ no }}"}]}
    render(value, lookup_in({"x": 1}))
    assert value == {"a": ["{{ x }}", {"b": "{{ no }}"}]}


def test_lookup_sees_the_placeholder() -> None:
    seen: list[Placeholder] = []

    def lookup(found: Placeholder) -> object:
        seen.append(found)
        return f"<{found.key}>"

    assert render("{{ $A }}/{{ prefect.variables.b }}", lookup) == "<A>/<b>"
    assert [one.kind for one in seen] == [Kind.ENV, Kind.VARIABLE]
