"""Deployments of Prefect 2 become items of one prefect.yaml (rows M5 to M7, M11)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.migrate.artefacts_of import FILES, read_json, saved_blocks

from eparch.core.errors import SourceErrors
from eparch.deploy.project import parse_project
from eparch.migrate.account import Account, Outcome
from eparch.migrate.deployment_files import Beta, read_file
from eparch.migrate.entrypoints import locate
from eparch.migrate.inventory import Block, OldDeployment, Queue, Reference, Source, is_masked
from eparch.migrate.migration import Migration, decide
from eparch.migrate.overrides import apply_overrides
from eparch.migrate.project_file import write_items

HERE = {"flows/report.py", "sub/flows/other.py"}


def move(*texts: str, names: tuple[str, ...] = ("a-deployment.yaml", "b-deployment.yaml")) -> Migration:
    found = [read_file(text, name) for text, name in zip(texts, names, strict=False)]
    olds = [one for one in found if isinstance(one, OldDeployment)]
    betas = [one for one in found if isinstance(one, Beta)]
    return decide(Source(deployments=olds), betas, exists=HERE.__contains__)


def real() -> Migration:
    olds = [read_file(file.read_text(), file.name) for file in FILES]
    return decide(
        Source(deployments=[one for one in olds if isinstance(one, OldDeployment)]), exists=HERE.__contains__
    )


def item_of(migration: Migration, name: str) -> dict[str, Any]:
    return next(one.item for one in migration.items if one.item["name"] == name)


def outcome(migration: Migration, field: str) -> Outcome:
    return next(entry.outcome for entry in migration.account if entry.field == field)


def minimal(**more: Any) -> str:
    return json.dumps(
        {"name": "a", "flow_name": "f", "entrypoint": "flows/report.py:report", "infrastructure": {}} | more
    )


def test_m5_what_prefect_2_wrote_becomes_a_file_that_our_checks_accept() -> None:
    migration = real()
    text, new = write_items(None, migration.items, migration.shared)
    assert len(new) == len(FILES) == 11
    project = parse_project(text)
    project.check()
    assert not project.notes
    assert {one.name for one in project.deployments} == {
        file.name[: -len("-deployment.yaml")] for file in FILES
    }
    assert "****" not in text
    for file in FILES:
        assert f"# From {file.name}\n" in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_m5_every_field_of_a_file_is_accounted_for(file: Any) -> None:
    old = read_file(file.read_text(), file.name)
    assert isinstance(old, OldDeployment)
    entries = decide(Source(deployments=[old]), exists=HERE.__contains__).account
    mine = {entry.field for entry in entries if entry.owner == file.name}
    assert old.fields.keys() <= mine
    assert old.infrastructure is not None
    assert "infrastructure" in mine
    for key in old.fields.get("infra_overrides") or {}:
        assert f"infra_overrides.{key}" in mine
    if old.storage is not None:
        assert {f"storage.{field}" for field in old.storage.data} <= mine
    others = [entry.field for entry in entries if entry.owner != file.name]
    assert sorted(others) == sorted([*old.infrastructure.data, *old.infrastructure.references])


def test_m5_schedules_of_all_kinds() -> None:
    migration = real()
    assert item_of(migration, "process")["schedules"] == [{"cron": "0 6 * * *", "timezone": "Europe/Athens"}]
    hourly = {"interval": 3600, "anchor_date": "2024-01-01T00:00:00+00:00", "timezone": "Europe/Athens"}
    assert item_of(migration, "docker")["schedules"] == [hourly]
    rule = {"rrule": "FREQ=DAILY;BYHOUR=6", "timezone": "Europe/Athens"}
    assert item_of(migration, "kubernetes")["schedules"] == [rule]
    assert item_of(migration, "azure-instance")["schedules"] == [{"cron": "*/5 * * * *", "active": False}]
    assert "schedules" not in item_of(migration, "anonymous")


def test_m5_a_schedule_of_older_releases_and_its_switch() -> None:
    old = {"schedule": {"interval": 60.5, "anchor_date": None}, "is_schedule_active": False}
    migration = move(minimal(**old))
    assert item_of(migration, "a")["schedules"] == [{"interval": 60.5, "active": False}]
    switched_on = move(minimal(schedule={"cron": "0 0 * * *", "day_or": False}, is_schedule_active=None))
    assert item_of(switched_on, "a")["schedules"] == [{"cron": "0 0 * * *", "day_or": False}]


def test_m5_a_schedule_that_cannot_be_used_is_left_to_you() -> None:
    migration = move(minimal(schedule={"cron": "99 99 * * *"}))
    assert "schedules" not in item_of(migration, "a")
    assert outcome(migration, "schedule") is Outcome.NEEDS_YOU


def test_m5_saved_storage_is_pulled_with_its_block_and_other_storage_by_its_place() -> None:
    migration = real()
    step = {"block_type_slug": "s3-bucket", "block_document_name": "s3-bucket"}
    assert item_of(migration, "cloud-run")["pull"] == [{"prefect.deployments.steps.pull_with_block": step}]
    masked = {"bucket_path": "s3://bucket/a/b", "aws_access_key_id": "*" * 10, "_block_type_slug": "s3"}
    anonymous = move(minimal(storage=masked))
    pulled = {"bucket": "bucket", "folder": "a/b"}
    assert item_of(anonymous, "a")["pull"] == [{"prefect_aws.deployments.steps.pull_from_s3": pulled}]
    assert outcome(anonymous, "storage.aws_access_key_id") is Outcome.NEEDS_YOU


def test_m6_overrides_are_job_variables() -> None:
    migration = real()
    assert item_of(migration, "process")["work_pool"]["job_variables"] == {
        "env": {"STAGE": "prod"},
        "working_dir": "/srv/other",
    }
    variables = item_of(migration, "docker")["work_pool"]["job_variables"]
    assert variables["networks"] == ["back"]
    assert variables["image_pull_policy"] == "Never"
    # An override replaced the whole environment of the block, and a pool's stays unless it is unset.
    assert variables["env"] == {"REGION": None, "TOKEN": None, "STAGE": "prod"}


def test_m6_overridden_customizations_are_in_a_pool_of_its_own() -> None:
    patch = {"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"gpu": "yes"}}
    infrastructure = {"type": "kubernetes-job", "_block_document_name": "k8s", "image": "reports:1"}
    migration = move(minimal(infrastructure=infrastructure, infra_overrides={"customizations": [patch]}))
    pool = next(pool for pool in migration.pools if pool.name == "k8s-a")
    pod = pool.base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "yes"}
    assert item_of(migration, "a")["work_pool"] == {"name": "k8s-a"}


def test_m6_customizations_that_only_add_environment_are_job_variables() -> None:
    add = {"op": "add", "path": "/spec/template/spec/containers/0/env/-"}
    patches = [add | {"value": {"name": "A", "value": "1"}}, add | {"value": {"name": "B", "value": "2"}}]
    infrastructure = {"type": "kubernetes-job", "_block_document_name": "k8s"}
    migration = move(minimal(infrastructure=infrastructure, infra_overrides={"customizations": patches}))
    assert item_of(migration, "a")["work_pool"] == {
        "name": "k8s",
        "job_variables": {"env": {"A": "1", "B": "2"}},
    }


def test_m7_paths_of_other_machines_and_of_windows() -> None:
    here = HERE.__contains__
    for entrypoint, path, folder in (
        ("flows/report.py:report", "/Users/ann/project", ""),
        ("report.py:report", "C:\\work\\project\\flows", ""),
        ("flows\\report.py:report", None, ""),
        ("flows/report:report", "", ""),
        ("./report.py:report", None, "flows"),
        ("C:\\work\\project\\flows\\report.py:report", "", ""),
    ):
        place = locate(entrypoint, path, folder=folder, exists=here)
        assert (place.entrypoint, place.is_found) == ("flows/report.py:report", True), entrypoint
    gone = locate("gone\\x.py:f", "D:\\a", folder="", exists=here)
    assert (gone.entrypoint, gone.is_found) == ("gone/x.py:f", False)


def test_m7_what_is_written_twice_becomes_an_anchor() -> None:
    storage = {"repository": "https://github.com/example/reports", "reference": "main", "type": "github"}
    same = {
        "storage": storage,
        "infrastructure": {"type": "process", "env": {"REGION": "eu", "STAGE": "prod-1"}},
    }
    migration = move(minimal(**same), minimal(**same, name="b"))
    text, _ = write_items(None, migration.items, migration.shared)
    assert "pull: &pull_a\n" in text
    assert "pull: *pull_a\n" in text
    first, second = parse_project(text).deployments
    assert first.raw["pull"] == second.raw["pull"]
    assert first.work_pool == second.work_pool


def test_m7_a_project_file_keeps_what_it_has_and_a_second_run_adds_nothing() -> None:
    had = "# ours\nname: shop\npull: []  # none\n"
    migration = move(minimal())
    text, _ = write_items(had, migration.items, migration.shared)
    assert text.startswith("# ours\nname: shop\npull: []  # none\ndeployments:\n")
    assert write_items(text, migration.items, migration.shared) == (text, [])


def test_words_that_older_yaml_reads_otherwise_are_quoted() -> None:
    migration = move(minimal(parameters={"a": "yes", "b": "12:30", "c": "010", "d": "{{ x }}"}))
    text, _ = write_items(None, migration.items, migration.shared)
    for word in ("'yes'", "'12:30'", "'010'"):
        assert word in text
    assert parse_project(text).deployments[0].raw["parameters"]["d"] == "{{{{ x }}}}"


def test_the_file_of_the_projects_beta_is_merged() -> None:
    item = "- name: x\n  entrypoint: flows/report.py:report\n  schedule: {}\n"
    beta = f"definitions:\n  a: 1\ndeployments:\n{item}"
    migration = move(beta)
    assert migration.shared == {"definitions": {"a": 1}}
    assert item_of(migration, "x")["entrypoint"] == "flows/report.py:report"
    parse_project(write_items(None, migration.items, migration.shared)[0]).check()


def test_other_yaml_is_left_alone() -> None:
    for text in ("kind: Deployment\nmetadata: {name: x}\n", "[]", "services: {a: {image: b}}\n", "x: 1\n"):
        assert read_file(text, "deployment.yaml") is None
    assert read_file("deployments: [{name: a, entrypoint: b}]\n", "prefect.yaml") is None
    with pytest.raises(SourceErrors):
        read_file("infrastructure: {type: process\n", "deployment.yaml")


def test_a_pool_of_workers_stays_and_so_do_hybrids() -> None:
    typed = minimal(
        work_pool_name="k8s", infrastructure={"type": "process", "env": {}, "stream_output": True}
    )
    assert item_of(move(typed), "a")["work_pool"] == {"name": "k8s"}
    hybrid = minimal(work_pool={"name": "p", "job_variables": {"image": "x"}}, infra_overrides={"env.A": "1"})
    expected = {"name": "p", "job_variables": {"image": "x", "env": {"A": "1"}}}
    assert item_of(move(hybrid), "a")["work_pool"] == expected


def test_m11_queues_keep_their_limit_and_priority() -> None:
    old = read_file(minimal(work_queue_name="urgent"), "a.yaml")
    assert isinstance(old, OldDeployment)
    queue = Queue(name="urgent", pool="default-agent-pool", priority=1, concurrency_limit=3)
    migration = decide(Source(deployments=[old], queues=[queue]), exists=HERE.__contains__)
    kept = [Queue(name="urgent", pool="process", priority=1, concurrency_limit=3)]
    assert migration.queues == kept


def test_blocks_and_deployments_of_a_server_share_their_pools() -> None:
    blocks = saved_blocks()
    migration = decide(Source(blocks=[blocks["docker"], blocks["plain-process"]]), exists=HERE.__contains__)
    assert [(pool.name, pool.type, pool.is_plain) for pool in migration.pools] == [
        ("docker", "docker", False),
        ("plain-process", "process", True),
    ]
    assert {document["infrastructure_document_id"] for document in read_json("deployments")} >= {
        blocks["docker"].id
    }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6) | st.just("*" * 10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
_READ = [read_file(file.read_text(), "x") for file in FILES]
_KNOWN = sorted({key for one in _READ if isinstance(one, OldDeployment) for key in one.fields})
_MORE = ["work_pool", "job_variables", "flow_location", "x"]
_OVERRIDDEN = ["env.A", "env", "image", "networks.0", "customizations", "job.spec.0.x", "no", "."]


@settings(max_examples=60, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from([*_KNOWN, *_MORE]), _JSON),
    slug=st.sampled_from(["process", "kubernetes-job", "docker-container", "slurmjob"]),
    overrides=st.dictionaries(
        st.sampled_from(_OVERRIDDEN),
        _JSON,
    ),
    named=st.booleans(),
)
def test_m5_no_field_is_ever_unaccounted_for(
    fields: dict[str, Any], slug: str, overrides: dict[str, Any], named: bool
) -> None:
    fields = {**fields, "infra_overrides": overrides}
    block = Block(slug=slug, name="b" if named else None, origin="x.yaml", data={"env": {"A": "1"}})
    old = OldDeployment(name="x", origin="x.yaml", fields=fields, infrastructure=block)
    migration = decide(Source(deployments=[old]), exists=lambda path: False)
    mine = {entry.field for entry in migration.account if entry.owner == "x.yaml"}
    assert fields.keys() <= mine
    assert {f"infra_overrides.{key}" for key in overrides} <= mine
    text, _ = write_items(None, migration.items, {})
    parse_project(text).check()
    if "work_pool" not in fields:
        pool = migration.items[0].item.get("work_pool", {})
        assert not is_masked(pool.get("job_variables"))


def test_m6_an_override_of_what_is_no_variable_makes_a_pool_of_its_own() -> None:
    block = Block(slug="ecs-task", name="e", references={"aws_credentials": Reference(id="1")})
    account = Account("x")
    result = apply_overrides(block, {"task_start_timeout_seconds": 9}, account, name="d")
    assert result.derived is not None
    assert result.derived.name == "e-d"
    assert [entry.field for entry in account.entries] == ["infra_overrides.task_start_timeout_seconds"]
