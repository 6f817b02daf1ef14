"""Laws of job variables and their rendering, for any values (rows P2-P11)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import EparchError
from eparch.core.job_origins import explain_job, leaves
from eparch.core.job_templates import (
    Layer,
    Severity,
    check_layers,
    check_template,
    render_job,
    resolve_variables,
)

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab.{} ", max_size=4)
texts = st.sampled_from(
    [
        "{{ a }}",
        "{{ b.c }}",
        "x{{ a }}-{{ b }}",
        "{{ ctx.flow.name }}",
        "{{{{ a }}}}",
        "{{ a | b }}",
        "{{ $H }}",
    ]
)
names = st.sampled_from(["a", "b", "env", "c.d", "properties", "default", "x-merge", "type", "required", ""])
documents = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
trees = st.recursive(
    st.integers(0, 3) | st.just("t"),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
deletions = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)


def deep_schema(default: Any = None) -> dict[str, Any]:
    about: dict[str, Any] = {"x-merge": "deep"}
    return {"properties": {"a": about if default is None else {**about, "default": default}}}


def resolve(schema: dict[str, Any], *values: dict[str, Any]) -> dict[str, Any]:
    layers = [Layer(name=str(number), values=value) for number, value in enumerate(values)]
    return resolve_variables(schema, *layers).values


@given(deletions, deletions, deletions)
def test_p7_layers_may_be_laid_in_one_go_or_one_after_the_other(first: Any, second: Any, third: Any) -> None:
    layers = [{"a": value} for value in (first, second, third)]
    at_once = resolve(deep_schema(), *layers)
    begun = resolve(deep_schema(), layers[0])
    assert at_once == resolve(deep_schema(begun.get("a")), *layers[1:])
    assert at_once == resolve(deep_schema(), *layers, layers[2])


@given(trees, deletions)
def test_p8_null_deletes_and_what_is_not_named_stays(below: Any, over: Any) -> None:
    merged = resolve(deep_schema(below), {"a": over}).get("a")
    assert None not in [value for _, value in leaves(merged)] or merged is None
    if isinstance(below, dict) and isinstance(over, dict):
        assert isinstance(merged, dict)
        for key in below.keys() - over.keys():
            assert merged[key] == below[key]
        assert not {key for key, value in over.items() if value is None} & merged.keys()
    assert resolve(deep_schema(below), {"a": None}) == {}


@given(trees, st.lists(st.sampled_from("xyz"), min_size=1, max_size=3), st.none() | st.integers(0, 3))
def test_p8_a_dotted_key_is_the_nested_value_of_a_deep_variable(
    below: Any, keys: list[str], value: Any
) -> None:
    nested: Any = value
    for key in reversed(keys):
        nested = {key: nested}
    dotted = {".".join(["a", *keys]): value}
    assert resolve(deep_schema(below), dotted) == resolve(deep_schema(below), {"a": nested})


@given(trees, st.sampled_from("xyz"))
def test_p8_what_replaces_leaves_nothing_of_what_was_there(below: Any, key: str) -> None:
    schema = {"properties": {"a": {"default": below}}}
    assert resolve(schema, {"a": {key: 1}}) == {"a": {key: 1}}


@given(documents, documents, documents)
def test_p2_any_template_renders_or_is_refused_in_words(variables: Any, configuration: Any, own: Any) -> None:
    template = {"variables": variables, "job_configuration": configuration}
    layer = Layer(name="run", values=own if isinstance(own, dict) else {"a": own})
    try:
        job, origins = explain_job(template, [layer])
    except EparchError:
        return
    assert job == render_job(template, [layer])[0]
    assert {path for path, _ in leaves(job)} - {()} == origins.keys() - {()}
    assert all(origin.layers for origin in origins.values())


@given(documents, documents)
def test_p2_any_template_is_judged_and_a_sound_one_renders(variables: Any, configuration: Any) -> None:
    template = {"variables": variables, "job_configuration": configuration}
    if any(problem.severity is Severity.ERROR for problem in check_template(template)):
        return
    explain_job(template, [])


@given(documents)
def test_p9_any_values_are_judged(own: Any) -> None:
    schema = {"properties": {"a": {"type": "integer"}, "env": {}}, "required": ["a"]}
    values = own if isinstance(own, dict) else {"a": own}
    problems = check_layers(schema, [Layer(name="run", values=values)], required=True)
    assert all(problem.message for problem in problems)


def test_p2_a_problem_names_its_place_and_the_nearest_name() -> None:
    template = {"variables": {"properties": {"image": {}}}, "job_configuration": {"a": ["{{ imge }}"]}}
    problem = check_template(template)[0]
    assert problem.text == (
        "The placeholder '{{ imge }}' has no variable 'imge' "
        "(at job_configuration.a.0; Did you mean 'image'?)"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ctx.flow_run.nmae", "Did you mean 'name'?"),
        ("ctx.flw.name", "Did you mean 'flow'?"),
        ("ctx.flow.name", None),
    ],
)
def test_w25_a_misspelt_context_is_a_warning(name: str, hint: str | None) -> None:
    template = {"variables": {"properties": {}}, "job_configuration": {"name": f"x-{{{{ {name} }}}}"}}
    problems = check_template(template)
    assert [(p.severity, p.fix) for p in problems] == ([(Severity.WARNING, hint)] if hint else [])


@pytest.mark.parametrize("part", ["variables", "job_configuration"])
def test_p2_a_part_that_is_no_mapping_is_refused_when_it_is_rendered(part: str) -> None:
    with pytest.raises(EparchError, match=f"'{part}' of the base job template must be a mapping, not list"):
        render_job({part: []}, [])


@pytest.mark.parametrize("rule", ["deeep", 1, ["deep"]])
def test_p8_a_merge_rule_that_is_none_is_refused(rule: Any) -> None:
    template = {"variables": {"properties": {"a": {"x-merge": rule}}}, "job_configuration": {"a": "{{ a }}"}}
    (problem,) = check_template(template)
    assert problem.severity is Severity.ERROR
    assert problem.path == ("variables", "properties", "a", "x-merge")


def test_p7_a_problem_names_the_layer_that_gave_it() -> None:
    schema = {"properties": {"cpu": {"type": "integer", "default": "x"}, "env": {"type": "object"}}}
    layers = [
        Layer(name="deployment", values={"env.A": 1, "cpu": "two", "envv": 1}),
        Layer(name="run", values={"cpu": "three", "cqu": 1}),
    ]
    found = check_layers(schema, layers, required=True)
    assert {problem.path: problem.layer for problem in found} == {
        ("envv",): "deployment",
        ("cqu",): "run",
        ("cpu",): "run",
    }
    assert check_layers(schema, [], required=True)[0].layer == "pool"
    assert "given by the run; Did you mean 'cpu'?" in found[1].text
