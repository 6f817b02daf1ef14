"""Jobs of a cluster that is a process of ours and speaks Kubernetes' API over HTTP."""

import pytest

from eparch.core.job_templates import Layer, render_job
from eparch.testing.infrastructure import InfrastructureContract
from eparch.testing.kubernetes import FakeCluster
from eparch.workers.kubernetes import KubernetesInfrastructure


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with FakeCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class TestContract(InfrastructureContract):
    @pytest.fixture(autouse=True)
    def cluster(self, shared, tmp_path, monkeypatch):
        self.made = []
        monkeypatch.setenv("KUBECONFIG", str(shared.write_kubeconfig(tmp_path)))
        yield shared
        for one in self.made:
            one.close()

    def make(self):
        self.made.append(KubernetesInfrastructure())
        return self.made[-1]

    def job(self, script, labels):
        command = {"command": super().job(script, labels)["command"]}
        values = {"labels": dict(labels), "name": "contract", "env": {}, "image": "local", **command}
        job, _ = render_job(KubernetesInfrastructure.base_job_template, [Layer(name="run", values=values)])
        return job
