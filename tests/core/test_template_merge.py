"""A pool's template and the newest default of its type in one (row P13)."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.infrastructure_types import NAMES, past_templates, shipped_template
from eparch.core.model import UNSET
from eparch.core.template_merge import (
    ChangeKind,
    merge_templates,
    nearest_template,
    no_longer_fits,
)

DIGESTS = Path(__file__).with_name("job_template_digests.json")
BEGAN: dict[str, Any] = {
    "job_configuration": {"image": "{{ image }}", "cpu": "{{ cpu }}", "args": ["a"]},
    "variables": {
        "properties": {
            "image": {"type": "string", "default": None, "description": "Image."},
            "cpu": {"type": "integer", "default": 1},
        },
        "required": ["image"],
    },
}

scalars = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["x", "y"])
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


def changed(**at: Any) -> dict[str, Any]:
    """``BEGAN`` with values set at paths, ``__`` for each step; ``UNSET`` removes one."""
    new = deepcopy(BEGAN)
    for path, value in at.items():
        *above, last = path.split("__")
        place = new
        for key in above:
            place = place.setdefault(key, {})
        if value is UNSET:
            del place[last]
        else:
            place[last] = value
    return new


def test_p13_what_only_the_type_changed_is_taken_and_what_only_the_pool_changed_is_kept() -> None:
    pool = changed(variables__properties__cpu__default=4, job_configuration__args=["mine"])
    default = changed(
        variables__properties__image__default="base:2",
        variables__properties__memory={"type": "string"},
        job_configuration__memory="{{ memory }}",
    )
    merged = merge_templates(BEGAN, pool, default)
    properties = merged.template["variables"]["properties"]
    assert properties["cpu"]["default"] == 4
    assert properties["image"]["default"] == "base:2"
    assert merged.template["job_configuration"]["args"] == ["mine"]
    assert merged.template["job_configuration"]["memory"] == "{{ memory }}"
    kinds = {".".join(map(str, one.path)): one.kind for one in merged.changes}
    assert kinds == {
        "job_configuration.args": ChangeKind.POOL,
        "job_configuration.memory": ChangeKind.DEFAULT,
        "variables.properties.cpu.default": ChangeKind.POOL,
        "variables.properties.image.default": ChangeKind.DEFAULT,
        "variables.properties.memory": ChangeKind.DEFAULT,
    }
    assert merged.problems == []


def test_p13_a_conflict_is_named_and_the_pools_value_kept() -> None:
    pool = changed(variables__properties__cpu__default=4, variables__properties__image__description="Ours.")
    default = changed(variables__properties__cpu__default=2, variables__properties__image__description="New.")
    merged = merge_templates(BEGAN, pool, default)
    cpu, text = sorted(merged.changes, key=lambda one: one.is_text)
    assert (cpu.kind, cpu.began, cpu.pool, cpu.default) == (ChangeKind.CONFLICT, 1, 4, 2)
    assert text.is_text
    assert merged.template == pool


def test_p13_what_was_removed_stays_removed() -> None:
    pool = changed(variables__properties__cpu=UNSET, job_configuration__cpu=UNSET)
    assert merge_templates(BEGAN, pool, BEGAN).template == pool
    merged = merge_templates(BEGAN, pool, changed(variables__properties__cpu__default=2))
    assert merged.template == pool
    assert [(one.kind, one.pool) for one in merged.changes if one.kind is ChangeKind.CONFLICT] == [
        (ChangeKind.CONFLICT, UNSET)
    ]
    assert merge_templates(BEGAN, BEGAN, pool).template == pool


def test_p13_a_variable_that_the_type_gave_up_and_the_pool_still_uses_cannot_be_saved() -> None:
    pool = changed(job_configuration__more="{{ cpu }}")
    default = changed(variables__properties__cpu=UNSET, job_configuration__cpu=UNSET)
    (problem,) = merge_templates(BEGAN, pool, default).problems
    assert problem.path == ("job_configuration", "more")


def test_p13_without_a_beginning_only_what_is_new_is_taken() -> None:
    pool = {"a": 1, "own": 1, "same": 0}
    merged = merge_templates(None, pool, {"a": 2, "new": 3, "same": 0})
    assert merged.template == {"a": 1, "own": 1, "same": 0, "new": 3}
    assert {one.path: one.kind for one in merged.changes} == {
        ("a",): ChangeKind.CONFLICT,
        ("own",): ChangeKind.POOL,
        ("new",): ChangeKind.DEFAULT,
    }
    assert {one.began for one in merged.changes} == {UNSET}


@given(mappings, mappings, mappings)
def test_p13_laws_of_the_merge(began: Any, pool: Any, default: Any) -> None:
    assert merge_templates(began, began, default).template == default
    assert merge_templates(began, pool, began).template == pool
    assert merge_templates(began, pool, pool) == merge_templates(None, pool, pool)
    merged = merge_templates(began, pool, default)
    again = merge_templates(default, merged.template, default)
    assert again.template == merged.template
    assert {one.kind for one in again.changes} <= {ChangeKind.POOL}


def test_p13_true_is_not_1() -> None:
    merged = merge_templates({"a": 1}, {"a": 1}, {"a": True})
    assert merged.template["a"] is True


@pytest.mark.parametrize("name", NAMES)
def test_p13_a_pool_began_with_the_default_that_it_is_nearest_to(name: str) -> None:
    newest = shipped_template(name)
    assert newest is not None
    older = deepcopy(newest)
    older["variables"]["properties"].pop("labels", None)
    older["variables"]["properties"]["gone"] = {"type": "string"}
    theirs = deepcopy(older)
    theirs["variables"]["properties"]["name"]["description"] = "As another product says it."
    theirs["variables"]["properties"]["env"]["default"] = {"OWN": "1"}
    assert nearest_template(theirs, [older, newest]) is older
    assert nearest_template(deepcopy(newest), [older, newest]) is newest
    assert nearest_template(theirs, []) is None


@pytest.mark.parametrize("name", NAMES)
def test_p13_whoever_changes_a_default_keeps_the_old_one(name: str) -> None:
    """A digest that differs: put the template as it was into ``past`` and its new digest into the list."""
    known: dict[str, list[str]] = msgspec.json.decode(DIGESTS.read_bytes())
    assert [digest(one) for one in past_templates(name)] == known[name]


def digest(template: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()[:16]


def test_past_templates_of_a_type_that_is_not_shipped() -> None:
    assert past_templates("nope") == ()


def test_p13_deployments_that_no_longer_fit() -> None:
    new = changed(variables__properties__cpu={"type": "integer", "maximum": 2}, variables__required=["image"])
    assert no_longer_fits(BEGAN, new, {"image": "i", "cpu": 2}) == []
    (problem,) = no_longer_fits(BEGAN, new, {"image": "i", "cpu": 4})
    assert problem.path == ("cpu",)
    assert no_longer_fits(new, new, {"image": "i", "cpu": 4}) == []
    gone = changed(variables__properties__cpu=UNSET)
    (problem,) = no_longer_fits(BEGAN, gone, {"image": "i", "cpu": 4})
    assert "'cpu'" in problem.message
    (problem,) = no_longer_fits(
        BEGAN, changed(variables__required=["image", "cpu"]), {"image": "i", "cpu": None}
    )
    assert "cpu" in problem.message
