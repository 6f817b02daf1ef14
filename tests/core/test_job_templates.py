"""Base job templates and job variables (rows P2-P9)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import Invalid
from eparch.core.job_templates import (
    Layer,
    Severity,
    check_layers,
    check_template,
    check_values,
    render_job,
    resolve_variables,
    unknown_variables,
)

TEMPLATE: dict[str, Any] = {
    "variables": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "string"},
            "env": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "default": {"POOL": "1", "BOTH": "pool"},
            },
            "command": {"type": "string", "default": None},
            "cpu": {"type": "integer", "default": 1, "minimum": 1},
            "labels": {"type": "object", "default": {"a": "pool"}},
            "resources": {"type": "object", "default": {"limits": {"cpu": 1, "memory": "1Gi"}}},
            "notes": {"type": "object", "x-merge": "deep", "default": {"who": {"x": 1}}},
        },
    },
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "labels": "{{ labels }}",
        "spec": {"image": "{{ image }}", "cpu": "{{ cpu }}", "text": "cpu={{ cpu }}", "r": "{{ resources }}"},
        "args": ["{{ command }}", "{{ notes.who }}"],
    },
}
SCHEMA = TEMPLATE["variables"]


def layers(deployment: dict[str, Any], run: dict[str, Any] | None = None) -> list[Layer]:
    return [Layer(name="deployment", values=deployment), Layer(name="run", values=run or {})]


def test_p2_a_good_template_has_no_problem() -> None:
    assert check_template(TEMPLATE) == []
    assert check_template({}) == []


@pytest.mark.parametrize("part", ["variables", "job_configuration"])
def test_p2_both_parts_are_needed(part: str) -> None:
    (problem,) = check_template({key: value for key, value in TEMPLATE.items() if key != part})
    assert part in problem.message
    assert problem.path == (part,)


def test_p2_placeholder_without_variable() -> None:
    template = {
        "variables": {"properties": {"image": {"type": "string"}}},
        "job_configuration": {"a": ["x", "{{ imge }}/{{ image }}"], "b": "{{ prefect.blocks.secret.x }}"},
    }
    (problem,) = check_template(template)
    assert problem.severity is Severity.ERROR
    assert problem.path == ("job_configuration", "a", 1)
    assert "imge" in problem.message
    assert problem.fix == "Did you mean 'image'?"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"type": "array"},
        {"properties": {"a": {"type": 3}}},
        {"properties": {"a": {"$ref": "https://example.com/schema.json"}}},
        {"properties": {"a": {"$ref": "#/definitions/nope"}}},
        {"properties": {"a": {"pattern": "("}}},
    ],
)
def test_p2_schema_must_be_valid(schema: dict[str, Any]) -> None:
    (problem,) = check_template({"variables": schema, "job_configuration": {"a": "{{ a }}"}})
    assert "not a valid JSON schema" in problem.message


def test_p2_draft_7_tuples_of_older_workers_are_read() -> None:
    schema = {"properties": {"a": {"type": "array", "items": [{"type": "string"}]}}}
    assert check_template({"variables": schema, "job_configuration": {"a": "{{ a }}"}}) == []


def test_p6_unused_variable_is_a_warning() -> None:
    template = {"variables": {"properties": {"a": {}, "env": {}}}, "job_configuration": {"env": {"X": "1"}}}
    (problem,) = check_template(template)
    assert (problem.severity, problem.path) == (Severity.WARNING, ("variables", "properties", "a"))


def test_default_that_does_not_fit_is_a_warning() -> None:
    schema = {
        "properties": {"a": {"type": "integer", "default": "x"}, "b": {"type": "string", "default": None}}
    }
    template = {"variables": schema, "job_configuration": {"a": "{{ a }}{{ b }}"}}
    (problem,) = check_template(template)
    assert problem.severity is Severity.WARNING
    assert problem.path == ("variables", "properties", "a", "default")


def test_p5_unknown_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Invalid, match=r"variable 'imag'.*deployment.*variable 'zzz'.*run") as caught:
        resolve_variables(SCHEMA, *layers({"imag": 1}, {"zzz.a": 2}))
    assert caught.value.fix == "Did you mean 'image'?"


@pytest.mark.parametrize("schema", [{"properties": {}, "additionalProperties": True}, {"type": "object"}])
def test_p5_opt_out(schema: dict[str, Any]) -> None:
    assert unknown_variables(schema, ["anything"]) == []
    assert resolve_variables(schema, *layers({"anything": 1})).values == {"anything": 1}


def test_p7_precedence_and_who_won() -> None:
    resolved = resolve_variables(SCHEMA, *layers({"image": "d", "cpu": 2}, {"cpu": 3}))
    assert (resolved.values["image"], resolved.values["cpu"]) == ("d", 3)
    assert resolved.values["labels"] == {"a": "pool"}
    winners = {key: resolved.winner(key) for key in ("image", "cpu", "labels", "env.POOL", "command")}
    assert winners == {
        "image": "deployment",
        "cpu": "run",
        "labels": "pool",
        "env.POOL": "pool",
        "command": None,
    }


def test_p8_env_merges_key_by_key() -> None:
    resolved = resolve_variables(SCHEMA, *layers({"env": {"BOTH": "d", "D": "1"}}, {"env": {"R": "1"}}))
    assert resolved.values["env"] == {"POOL": "1", "BOTH": "d", "D": "1", "R": "1"}
    assert [resolved.winner(f"env.{key}") for key in ("POOL", "BOTH", "D", "R")] == [
        "pool",
        "deployment",
        "deployment",
        "run",
    ]


def test_p8_other_keys_replace_unless_the_schema_says_deep() -> None:
    resolved = resolve_variables(SCHEMA, *layers({"labels": {"b": "d"}, "notes": {"who": {"y": 2}}}))
    assert resolved.values["labels"] == {"b": "d"}
    assert resolved.values["notes"] == {"who": {"x": 1, "y": 2}}
    schema = {"properties": {"env": {"x-merge": "replace", "default": {"A": "1"}}}}
    assert resolve_variables(schema, *layers({"env": {"B": "2"}})).values["env"] == {"B": "2"}


def test_p8_dotted_keys_set_one_nested_value() -> None:
    resolved = resolve_variables(SCHEMA, *layers({"resources.limits.cpu": 4, "env.FOO": "1"}))
    assert resolved.values["resources"] == {"limits": {"cpu": 4, "memory": "1Gi"}}
    assert resolved.values["env"] == {"POOL": "1", "BOTH": "pool", "FOO": "1"}
    assert resolved.winner("resources.limits.cpu") == "deployment"
    assert resolved.winner("resources.limits.memory") == "pool"


def test_p8_nested_form_wins_over_dotted_in_one_layer() -> None:
    both = {"env.A": "dotted", "env": {"A": "nested", "B": "1"}, "labels.x": "dotted", "labels": {"y": "n"}}
    resolved = resolve_variables(SCHEMA, *layers(both))
    assert resolved.values["env"]["A"] == "nested"
    assert resolved.values["labels"] == {"x": "dotted", "y": "n"}


def test_p8_null_deletes() -> None:
    resolved = resolve_variables(
        SCHEMA,
        *layers({"cpu": None, "env": {"POOL": None}, "resources.limits.memory": None}, {"env.BOTH": None}),
    )
    assert "cpu" not in resolved.values
    assert resolved.values["env"] == {}
    assert resolved.values["resources"] == {"limits": {"cpu": 1}}
    assert (resolved.winner("cpu"), resolved.winner("env.BOTH")) == ("deployment", "run")


def test_p10_what_stands_in_a_reference_is_not_judged() -> None:
    strict = {"type": "object", "required": ["user"], "additionalProperties": {"type": "string"}}
    schema = {"properties": {"login": strict, "logins": {"type": "array", "items": strict}}}
    reference = {"$ref": {"block_document_id": "x"}}
    assert check_values(schema, {"login": reference, "logins": [reference]}, required=True) == []
    assert check_values(schema, {"login": {"$ref": "x"}}, required=True) != []


def test_p10_a_reference_is_not_merged_into() -> None:
    reference = {"$ref": {"block_document_id": "x"}}
    schema = {"properties": {"env": {"default": reference}}}
    assert resolve_variables(schema, *layers({})).values["env"] == reference
    assert resolve_variables(schema, *layers({"env": {"A": "1"}})).values["env"] == {"A": "1"}


def test_p9_types_always_required_only_with_all_layers() -> None:
    assert check_values(SCHEMA, {"cpu": 2}, required=False) == []
    (missing,) = check_values(SCHEMA, {"cpu": 2}, required=True)
    assert "image" in missing.message
    problems = check_values(SCHEMA, {"cpu": "two", "env": {"A": 1}}, required=False)
    assert {problem.path for problem in problems} == {("cpu",), ("env", "A")}
    assert "two" not in "".join(problem.message for problem in problems)


def test_p11_limits_of_the_schema_hold() -> None:
    (problem,) = check_values(SCHEMA, {"cpu": 0}, required=False)
    assert problem.path == ("cpu",)


def test_p11_what_the_pool_locks_only_its_template_sets() -> None:
    properties = SCHEMA["properties"]
    one = {**SCHEMA, "properties": {**properties, "cpu": {**properties["cpu"], "readOnly": True}}}
    for schema, name in ((one, "cpu"), ({**SCHEMA, "readOnly": True}, "image"), ({"readOnly": True}, "any")):
        with pytest.raises(Invalid, match=f"lets nobody set the job variable '{name}'") as caught:
            resolve_variables(schema, *layers({}, {name: 1}))
        assert "locked" in caught.value.fix
        (problem,) = check_layers(schema, layers({f"{name}.x": 1}), required=False)
        assert (problem.path, problem.layer) == ((f"{name}.x",), "deployment")
    assert resolve_variables(one, *layers({"image": "i"})).values["cpu"] == properties["cpu"]["default"]


@pytest.mark.parametrize("value", ["{{ prefect.variables.n }}", {"$ref": {"block_document_id": "x"}}, None])
def test_p10_what_is_known_later_is_not_judged(value: object) -> None:
    assert check_values(SCHEMA, {"cpu": value}, required=False) == []


def test_p3_p4_render_job() -> None:
    job, resolved = render_job(
        TEMPLATE, layers({"image": "i", "env": {"A": "{{ prefect.blocks.secret.x }}"}})
    )
    assert job == {
        "env": {"POOL": "1", "BOTH": "pool", "A": "{{ prefect.blocks.secret.x }}"},
        "labels": {"a": "pool"},
        "spec": {"image": "i", "cpu": 1, "text": "cpu=1", "r": {"limits": {"cpu": 1, "memory": "1Gi"}}},
        "args": [{"x": 1}],
    }
    assert resolved.winner("image") == "deployment"
    assert TEMPLATE["job_configuration"]["env"] == "{{ env }}"


def test_literal_env_of_the_template_is_kept() -> None:
    template = {
        "variables": {"properties": {"env": {"default": {"B": "2"}}, "c": {}}},
        "job_configuration": {"env": {"A": "1", "C": "{{ c }}"}, "go": "{{ json .Names | x }}"},
    }
    job, _ = render_job(template, layers({"env": {"A": "d"}, "c": "3"}))
    assert job == {"env": {"A": "d", "B": "2", "C": "3"}, "go": "{{ json .Names | x }}"}


env_values = st.dictionaries(st.sampled_from("ABCD"), st.none() | st.text(max_size=3), max_size=4)


@given(env_values, env_values, env_values)
def test_p8_env_is_the_last_word_per_key(
    pool: dict[str, str | None], deployment: dict[str, str | None], run: dict[str, str | None]
) -> None:
    schema = {"properties": {"env": {"default": pool}}}
    resolved = resolve_variables(
        schema, *layers({"env": deployment}, {f"env.{k}": v for k, v in run.items()})
    )
    last = {**pool, **deployment, **run}
    assert resolved.values.get("env", {}) == {key: value for key, value in last.items() if value is not None}
    for key in last:
        layer = "run" if key in run else "deployment" if key in deployment else "pool"
        assert resolved.winner(f"env.{key}") == layer
