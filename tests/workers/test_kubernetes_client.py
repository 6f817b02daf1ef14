"""The fake cluster as the real client of Kubernetes sees it, and our manifests by its models.

Neither our client nor our cluster only agrees with itself then (ADR 0011).
"""

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client import ApiClient, ApiException

from eparch.core.infrastructure_types import shipped_template
from eparch.core.job_templates import Layer, render_job
from eparch.testing.kubernetes import FakeCluster
from eparch.workers.kubernetes_jobs import gated, read_job


class Answer(NamedTuple):
    data: str


def through(api: ApiClient, value, kind):
    """What is left of an object once the client has read it as ``kind`` and written it again."""
    read = api.deserialize(Answer(json.dumps(value)), kind)
    return api.sanitize_for_serialization(read)


VALUES = {
    "image": "flows:1", "env": {"A": "1"}, "command": "run it", "backoff_limit": 1, "finished_job_ttl": 5,
    "service_account_name": "s", "cpu_limit": "1", "memory_request": "1Gi", "annotations": {"a": "b"},
}  # fmt: skip


@pytest.mark.parametrize("values", [{}, VALUES])
def test_p2_every_key_of_a_manifest_is_one_that_the_cluster_knows(values):
    job, _ = render_job(shipped_template("kubernetes"), [Layer(name="run", values=values)])
    read = read_job({**job, "name": "n", "labels": {"prefect.io/work-pool-id": "p"}, "env": {"B": "2"}})
    manifest = gated(read, "1" * 32, "w", {"eparch.io/host": "h"})

    async def check():
        async with ApiClient() as api:
            assert through(api, manifest, "V1Job") == manifest

    asyncio.run(check())


def test_the_real_client_drives_the_fake_cluster(tmp_path):
    with FakeCluster(tmp_path) as cluster:
        asyncio.run(drive(cluster, cluster.write_kubeconfig(tmp_path)))


async def drive(cluster: FakeCluster, kubeconfig: Path) -> None:
    await config.load_kube_config(str(kubeconfig))
    container = {"name": "c", "image": "i", "args": ["/bin/sh", "-c", "echo hello; exit 3"]}
    body = {
        "metadata": {"generateName": "x-", "labels": {"a": "b"}},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {"containers": [container], "restartPolicy": "Never"}},
        },
    }
    async with ApiClient() as api:
        batch, core = client.BatchV1Api(api), client.CoreV1Api(api)
        listed = await batch.list_namespaced_job("default")
        made = await batch.create_namespaced_job("default", body)
        name = made.metadata.name
        kinds = []
        async with watch.Watch().stream(
            batch.list_namespaced_job, "default", label_selector="a=b",
            resource_version=listed.metadata.resource_version, timeout_seconds=60,
        ) as events:  # fmt: skip
            async for event in events:
                kinds.append(event["type"])
                if event["object"].status and event["object"].status.conditions:
                    break
        assert kinds[0] == "ADDED"
        assert event["object"].status.conditions[0].type == "Failed"
        (pod,) = (await core.list_namespaced_pod("default", label_selector=f"job-name={name}")).items
        assert pod.status.container_statuses[0].state.terminated.exit_code == 3
        assert await core.read_namespaced_pod_log(pod.metadata.name, "default") == "hello\n"
        for refused, ask in [
            (409, batch.create_namespaced_job("default", {**body, "metadata": {"name": name}})),
            (404, batch.read_namespaced_job("other", "default")),
            (422, batch.create_namespaced_job("default", {"metadata": {"name": "y"}, "spec": {}})),
        ]:
            with pytest.raises(ApiException) as caught:
                await ask
            assert caught.value.status == refused
        cluster.objects.forget()
        with pytest.raises(ApiException) as caught:
            async with watch.Watch().stream(
                batch.list_namespaced_job, "default", resource_version="1", timeout_seconds=60
            ) as events:
                await anext(events)
        assert caught.value.status == 410
        await batch.delete_namespaced_job(name, "default", propagation_policy="Foreground")
