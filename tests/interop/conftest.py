"""The server under test and the two clients that talk to it, each a process in a home of its own.

``EPARCH_INTEROP_SERVER=prefect`` puts Prefect's own server, worker and command line in our place: that proves
the harness, and that what it asks for is what Prefect does.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.targets import Session, find_target
from tests.interop.projects import write_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; the first test of a machine installs Prefect, which takes minutes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Our server, started by our command line."""
    target = find_target(os.environ.get("EPARCH_INTEROP_SERVER", "eparch"))
    with Session(target, tmp_path_factory.mktemp("server")).serve() as session:
        yield session


@pytest.fixture(scope="module")
def ours(server: Session, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Our command line, pointed at the server."""
    return Session(server.target, tmp_path_factory.mktemp("ours"), server.url)


@pytest.fixture(scope="module")
def stock(server: Session, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Prefect's command line, unmodified, pointed at the server. A developer without it skips, CI fails."""
    try:
        target = find_target("prefect")
    except subprocess.CalledProcessError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Prefect cannot be installed here: {error}")
    return Session(target, tmp_path_factory.mktemp("stock"), server.url)


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A project with two deployments; its pool is named after the test."""
    return write_project(tmp_path / "project", str(request.node.name).replace("_", "-"))
