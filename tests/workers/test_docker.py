"""Containers of a real engine. One class, so that one process starts one engine."""

import pytest
from tests.workers.engine import IMAGE, running_engine

from eparch.testing.infrastructure import InfrastructureContract
from eparch.workers.docker import DockerInfrastructure


@pytest.fixture(scope="module")
def engine():
    with running_engine() as engine:
        yield engine


class TestDocker(InfrastructureContract):
    @pytest.fixture(autouse=True)
    def _uses_the_engine(self, engine, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        yield
        for container in engine.client.containers.list(all=True):
            container.remove(force=True)

    def make(self) -> DockerInfrastructure:
        return DockerInfrastructure()

    def job(self, script, labels):
        return {**super().job(script, labels), "image": IMAGE, "network_mode": "none"}
