"""Infrastructure blocks become work pools with an account of every field (rows M1 to M4)."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.migrate.artefacts_of import read_json, saved_blocks

from eparch.core.errors import Invalid
from eparch.core.job_templates import Layer, Severity, check_template, check_values, render_job
from eparch.migrate.account import Account, Outcome
from eparch.migrate.infrastructure import TYPES, Pool, join_command, to_pool
from eparch.migrate.inventory import Block, Reference, is_masked, read_block
from eparch.migrate.patches import apply_patch

BLOCKS = {name: block for name, block in saved_blocks().items() if block.slug in TYPES}
PUBLISHED = read_json("published")


def convert(block: Block) -> tuple[Pool, dict[str, Any]]:
    account = Account(block.label)
    return to_pool(block, account), {entry.field: entry for entry in account.entries}


def defaults(pool: Pool) -> dict[str, Any]:
    found = pool.base_job_template["variables"]["properties"]
    return {name: one["default"] for name, one in found.items() if one.get("default") is not None}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_m2_a_pool_has_what_prefect_2_publishes_or_the_account_says_why_not(name: str) -> None:
    block = BLOCKS[name]
    pool, account = convert(block)
    ours, theirs = defaults(pool), PUBLISHED[name]["defaults"]
    assert pool.type == PUBLISHED[name]["type"]
    assert pool.block_id == block.id
    for variable, value in theirs.items():
        field = variable if variable in block.data or variable in block.references else None
        if ours.get(variable) == value or str(value) == ours.get(variable) or field is None:
            continue
        if variable == "network_configuration":
            continue
        known = account[field]
        accepted = (
            known.outcome in (Outcome.NEEDS_YOU, Outcome.DROPPED) or "job_configuration" in known.target
        )
        assert accepted or block.data[field] == ours.get(variable), (variable, value, ours.get(variable))


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_m2_every_field_is_accounted_for_once_and_the_template_is_sound(name: str) -> None:
    block = BLOCKS[name]
    account = Account(block.label)
    pool = to_pool(block, account)
    fields = [entry.field for entry in account.entries]
    assert sorted(fields) == sorted([*block.data, *block.references])
    problems = check_template(pool.base_job_template)
    assert [problem for problem in problems if problem.severity is not Severity.WARNING] == []
    given = defaults(pool)
    assert check_values(pool.base_job_template["variables"], given, required=False) == []
    assert not is_masked(pool.base_job_template)
    for entry in account.entries:
        assert entry.why or entry.outcome in (Outcome.CARRIED, Outcome.RENAMED)


def test_m3_a_command_is_one_text_that_splits_into_its_words() -> None:
    pool, account = convert(BLOCKS["docker"])
    assert shlex.split(defaults(pool)["command"]) == ["python", "-m", "prefect.engine", "--name", "a b"]
    assert account["command"].outcome is Outcome.RENAMED
    assert (
        join_command([r"C:\Program Files\py.exe", "a b"], windows=True) == r'"C:\Program Files\py.exe" "a b"'
    )
    block = Block(slug="process", name="w", data={"command": [r"C:\py 3\python.exe", "run.py"]})
    assert defaults(convert(block)[0])["command"] == r'"C:\py 3\python.exe" run.py'


def test_m3_the_command_of_agents_is_not_carried() -> None:
    pool, account = convert(BLOCKS["cloud-run"])
    assert "command" not in defaults(pool)
    assert account["command"].outcome is Outcome.DROPPED


def test_m3_a_registry_is_a_login_on_the_worker() -> None:
    pool, account = convert(BLOCKS["docker"])
    assert defaults(pool)["image_pull_policy"] == "Always"
    assert defaults(pool)["memswap_limit"] == "4294967296"
    assert account["image_registry"].outcome is Outcome.NEEDS_YOU
    assert "docker login" in account["image_registry"].why


def test_m3_customizations_are_in_the_manifest() -> None:
    """Prefect 2 cannot publish this block: a patch appends to what is a placeholder in the pool."""
    assert "kubernetes" not in PUBLISHED
    pool, account = convert(BLOCKS["kubernetes"])
    pod = pool.base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "batch"}
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "2Gi"}}
    assert defaults(pool)["env"] == {"REGION": "eu", "TOKEN": "a b'c", "EXTRA": "1"}
    reference = BLOCKS["kubernetes"].references["cluster_config"]
    assert defaults(pool)["cluster_config"] == {"$ref": {"block_document_id": reference.id}}
    assert {account[field].outcome for field in ("customizations", "cluster_config")} == {Outcome.RENAMED}
    assert account["job"].outcome is Outcome.CARRIED


def test_m3_a_manifest_keeps_its_shape_and_deployments_can_still_set_its_variables() -> None:
    pool, _ = convert(BLOCKS["kubernetes-manifest"])
    layer = Layer(name="deployment", values={"image": "reports:9", "env": {"MODE": "slow"}})
    job, _ = render_job(pool.base_job_template, [layer])
    pod = job["job_manifest"]["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"key": "batch", "operator": "Exists"}]
    assert pod["containers"][0]["image"] == "reports:9"
    assert pod["containers"][0]["env"] == {"MODE": "slow"}
    assert job["job_manifest"]["metadata"]["namespace"] == "data"


def test_m3_braces_of_other_tools_in_a_manifest_stay_text() -> None:
    block = BLOCKS["kubernetes-manifest"]
    manifest = {**block.data["job"], "metadata": {"annotations": {"template": "{{ .Values.x }}"}}}
    pool, _ = convert(Block(slug="kubernetes-job", name="k", data={"job": manifest}))
    job, _ = render_job(pool.base_job_template, [])
    assert job["job_manifest"]["metadata"]["annotations"] == {"template": "{{ .Values.x }}"}


def test_m3_patches_that_do_not_fit_are_named() -> None:
    patch = [{"op": "replace", "path": "/spec/nothing/here", "value": 1}]
    pool, account = convert(Block(slug="kubernetes-job", name="k", data={"customizations": patch}))
    assert account["customizations"].outcome is Outcome.NEEDS_YOU
    assert "/spec/nothing" in account["customizations"].why
    assert pool.is_plain


def test_m3_task_customizations_of_ecs_are_in_the_request_and_the_network() -> None:
    pool, _ = convert(BLOCKS["ecs"])
    request = pool.base_job_template["job_configuration"]["task_run_request"]
    assert request["overrides"]["ephemeralStorage"] == {"sizeInGiB": 50}
    assert defaults(pool)["network_configuration"] == {"securityGroups": ["sg-1"]}
    own, _ = convert(BLOCKS["ecs-definition"])
    assert own.base_job_template["job_configuration"]["task_definition"]["family"] == "own"


def test_m2_arguments_of_cloud_run_are_a_variable_of_its_pool() -> None:
    pool, _ = convert(BLOCKS["cloud-run"])
    job, _ = render_job(pool.base_job_template, [])
    task = job["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    assert task["containers"][0]["args"] == ["--fast"]
    assert task["maxRetries"] == 1
    assert (defaults(pool)["cpu"], defaults(pool)["memory"]) == ("2000m", "1Gi")


def test_m2_a_value_that_the_pool_does_not_take_is_named() -> None:
    block = Block(slug="cloud-run-job", name="c", data={"timeout": 86400})
    pool, account = convert(block)
    assert account["timeout"].outcome is Outcome.NEEDS_YOU
    assert defaults(pool)["timeout"] == 600


def test_a_masked_secret_is_never_copied() -> None:
    pool, account = convert(BLOCKS["azure-instance"])
    assert account["subscription_id"].outcome is Outcome.NEEDS_YOU
    assert "subscription_id" not in defaults(pool)


def test_m4_an_unknown_block_is_kept_in_a_pool_of_type_block() -> None:
    data = {"type": "slurm-job", "partition": "long", "_block_document_id": "0" * 8}
    block = read_block({**data, "_block_document_name": "hpc", "block_type_slug": "slurm-job"}, "x.yaml")
    pool, account = convert(block)
    assert (pool.name, pool.type) == ("hpc", "block")
    assert pool.base_job_template["job_configuration"] == {"block": "{{ block }}"}
    default = pool.base_job_template["variables"]["properties"]["block"]["default"]
    assert default == {"$ref": {"block_document_id": "00000000"}}
    assert account["partition"].outcome is Outcome.CARRIED


def test_patches_are_rfc_6902() -> None:
    document = {"a": [1, 2], "b": {"c~/d": 1}}
    operations = [
        {"op": "add", "path": "/a/1", "value": 5},
        {"op": "add", "path": "/a/-", "value": 6},
        {"op": "replace", "path": "/b/c~0~1d", "value": 2},
        {"op": "move", "from": "/a/0", "path": "/first"},
        {"op": "copy", "from": "/b", "path": "/copy"},
        {"op": "remove", "path": "/b"},
        {"op": "test", "path": "/first", "value": 1},
    ]
    assert apply_patch(document, operations) == {"a": [5, 2, 6], "first": 1, "copy": {"c~/d": 2}}
    assert document == {"a": [1, 2], "b": {"c~/d": 1}}
    for wrong in (
        "x",
        {"op": "add", "path": "/a/9", "value": 1},
        {"op": "remove", "path": "/z"},
        {"op": "no"},
    ):
        with pytest.raises(Invalid):
            apply_patch(document, [wrong])


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.just("*" * 10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = sorted({field for block in BLOCKS.values() for field in [*block.data, *block.references]})


@settings(max_examples=100, deadline=None)
@given(
    slug=st.sampled_from([*TYPES, "slurmjob"]),
    data=st.dictionaries(st.sampled_from(_FIELDS) | st.text(max_size=8), _JSON, max_size=8),
    reference=st.none() | st.sampled_from(["image_registry", "credentials", "cluster_config"]),
)
def test_m2_no_field_is_ever_unaccounted_for(slug: str, data: dict[str, Any], reference: str | None) -> None:
    references = {reference: Reference(id="1", slug="s", name="n")} if reference else {}
    data = {key: value for key, value in data.items() if key != reference}
    block = Block(slug=slug, name="x", id="1", data=data, references=references)
    account = Account(block.label)
    pool = to_pool(block, account)
    assert sorted(entry.field for entry in account.entries) == sorted([*data, *references])
    values = defaults(pool)
    assert check_values(pool.base_job_template["variables"], values, required=False) == []
    assert not is_masked(pool.base_job_template) or slug == "slurmjob"
