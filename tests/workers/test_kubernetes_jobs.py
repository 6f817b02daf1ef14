"""What is made of a pool's job manifest, without a cluster (rows P2-P8, W22-W25)."""

import json

import pytest

from eparch.core.errors import Invalid
from eparch.core.infrastructure_types import shipped_template
from eparch.core.job_templates import Layer, render_job
from eparch.workers.jobs import DEFAULT_IMAGE
from eparch.workers.kubernetes_jobs import gated, is_gated, labels_in, read_job, selector_of, slug

RUN = {"EPARCH_FLOW_RUN_ID": "run", "PREFECT__FLOW_RUN_ID": "run", "EPARCH_CLAIM_TOKEN": "7"}


def rendered(env=None, **values):
    """A job as a worker has it: the template with its variables, and what every job gets."""
    job, _ = render_job(shipped_template("kubernetes"), [Layer(name="deployment", values=values)])
    job = {**job, "name": values.get("name") or "brave cat", "env": {**(env or {}), **RUN}}
    job["labels"] = {"prefect.io/work-pool-id": "p1", "prefect.io/flow-run-name": "brave cat"}
    return job


def container(job):
    return read_job(job).manifest["spec"]["template"]["spec"]["containers"][0]


def with_manifest(change, **values):
    job = rendered(**values)
    change(job["job_manifest"])
    return job


def test_p2_every_variable_of_the_stock_template_reaches_the_manifest():
    job = rendered(
        image="team/flows:1", image_pull_policy="Always", service_account_name="runner", finished_job_ttl=60,
        backoff_limit=2, namespace="team", annotations={"a": "b"}, cpu_request="100m", memory_limit="1Gi",
        command="python -m flows 'a b'", job_watch_timeout_seconds=600, pod_watch_timeout_seconds=5,
        stream_output=False,
    )  # fmt: skip
    read = read_job(job)
    spec = read.manifest["spec"]
    pod = spec["template"]["spec"]
    assert read.manifest["metadata"]["namespace"] == read.namespace == "team"
    assert read.manifest["metadata"]["annotations"] == {"a": "b"}
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (2, 60)
    assert (spec["completions"], spec["parallelism"]) == (1, 1)
    assert {"completions", "parallelism"}.isdisjoint(pod)
    assert (pod["serviceAccountName"], pod["restartPolicy"]) == ("runner", "Never")
    first = pod["containers"][0]
    assert (first["image"], first["imagePullPolicy"]) == ("team/flows:1", "Always")
    assert first["args"] == ["python", "-m", "flows", "a b"]
    assert first["resources"] == {"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m"}}
    assert (read.job_watch_timeout_seconds, read.pod_watch_timeout_seconds) == (600, 5)
    assert not read.stream_output


def test_p4_without_variables_there_is_an_image_a_command_and_a_name():
    read = read_job(rendered())
    first = read.manifest["spec"]["template"]["spec"]["containers"][0]
    assert first["image"] == DEFAULT_IMAGE
    assert "prefect flow-run execute" in first["args"][-1]
    assert read.manifest["metadata"]["generateName"] == "brave-cat-"
    assert "ttlSecondsAfterFinished" not in read.manifest["spec"]


def test_w24_the_environment_is_a_list_without_what_is_null():
    env = container(rendered({"A": "1", "GONE": None}))["env"]
    assert {"name": "A", "value": "1"} in env
    assert {one["name"] for one in env} == {"A", *RUN}


def test_w24_a_list_in_the_manifest_counts_for_more_but_not_for_the_claim():
    secret = {"name": "PREFECT_API_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    given = [secret, {"name": "N", "value": 3}, {"name": "EPARCH_CLAIM_TOKEN", "value": "1"}]

    def change(manifest):
        manifest["spec"]["template"]["spec"]["containers"][0]["env"] = given

    job = with_manifest(change)
    job["env"] |= {"PREFECT_API_KEY": "in clear", "EPARCH_API_KEY": "in clear"}
    env = container(job)["env"]
    assert "in clear" not in json.dumps(env)
    assert [one for one in env if one["name"] == "PREFECT_API_KEY"] == [secret]
    assert {"name": "N", "value": "3"} in env
    assert {"name": "EPARCH_CLAIM_TOKEN", "value": "7"} in env
    assert len(env) == len({one["name"] for one in env})


def test_w23_labels_are_legal_on_the_job_and_its_pods_and_known_as_they_were():
    read = read_job(rendered())
    manifest = gated(read, "0123456789abcdef", "w", {})
    legal = {"prefect.io/flow-run-name": "brave-cat", "prefect.io/work-pool-id": "p1"}
    assert legal.items() <= manifest["metadata"]["labels"].items()
    assert legal.items() <= manifest["spec"]["template"]["metadata"]["labels"].items()
    assert labels_in(manifest) == read.labels
    assert selector_of({"a": "x y", "b": "1"}) == "a=x-y,b=1"


def test_w22_a_job_is_sent_suspended_and_with_a_name_of_its_own():
    read = read_job(rendered())
    one, other = gated(read, "1" * 32, "w", {}), gated(read, "2" * 32, "w", {})
    assert (one["metadata"]["name"], other["metadata"]["name"]) == (
        "brave-cat-11111111",
        "brave-cat-22222222",
    )
    assert one["spec"]["suspend"] is True
    assert is_gated(one)
    assert "suspend" not in read.manifest["spec"], "the rendered job is not changed"


def test_w22_a_job_that_another_controller_lets_go_has_no_gate_of_ours():
    read = read_job(with_manifest(lambda manifest: manifest["spec"].update(suspend=True)))
    manifest = gated(read, "1" * 32, "w", {})
    assert manifest["spec"]["suspend"] is True
    assert not is_gated(manifest)


def test_w25_a_fixed_name_of_the_manifest_stays():
    def change(manifest):
        manifest["metadata"] = {"name": "Nightly_Report"}

    assert gated(read_job(with_manifest(change)), "1" * 32, "w", {})["metadata"]["name"] == "nightly-report"


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("Brave Cat!", "brave-cat"),
        ("é", "eparch-job"),
        ("", "eparch-job"),
        ("x" * 99, "x" * 54),
        (None, "eparch-job"),
    ],
)
def test_w25_names_are_made_legal(name, legal):
    assert slug(name) == legal


def test_p10_a_cluster_of_a_block_is_taken_and_not_shown():
    block = {"config": {"users": [{"user": {"token": "s3cret"}}]}, "context_name": "there"}
    read = read_job({**rendered(), "cluster_config": block})
    assert read.cluster_config is not None
    assert read.cluster_config.context_name == "there"
    assert "s3cret" not in repr(read)
    unread = read_job({**rendered(), "cluster_config": {"$ref": {"block_document_id": "1"}}})
    assert unread.cluster_config is not None
    assert unread.cluster_config.config == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"apiVersion": "v1"}, "apiVersion"),
        ({"kind": "Pod"}, "kind"),
        ({"spce": {}}, "spce"),
        ({"spec": 3}, "spec"),
        ({"spec": {"template": []}}, "spec.template"),
        ({"spec": {"template": {"spec": {"containers": []}}}}, "containers"),
        ({"spec": {"template": {"spec": {"containers": [{"image": "a b"}]}}}}, "image"),
        ({"spec": {"template": {"spec": {"containers": [{"args": [1]}]}}}}, "command"),
        ({"spec": {"template": {"spec": {"containers": [{"env": [3]}]}}}}, "env"),
        ({"spec": {"template": {"spec": {"containers": [{"env": "A=1"}]}}}}, "env"),
        ({"metadata": {"labels": {"a": []}}}, "metadata.labels.a"),
        ({"metadata": {"name": 3}}, "metadata.name"),
    ],
)
def test_p2_a_manifest_that_is_none_is_refused_by_its_key(change, told):
    job = rendered()
    job["job_manifest"] = {**job["job_manifest"], **change}
    with pytest.raises(Invalid) as caught:
        read_job(job)
    assert told in caught.value.message


@pytest.mark.parametrize(
    "change",
    [{"job_manifest": None}, {"cluster_config": {"config": 3}}, {"pod_watch_timeout_seconds": "soon"}],
)
def test_p2_a_configuration_that_does_not_fit_is_refused_by_its_key(change):
    with pytest.raises(Invalid) as caught:
        read_job({**rendered(), **change})
    assert next(iter(change)) in caught.value.message
    assert json.dumps(change) not in caught.value.message
