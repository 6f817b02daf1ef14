import threading

import pytest
from tests.conftest import running_server
from tests.workers.scripted import Scripted

from eparch.settings import load
from eparch.testing.infrastructure import FakeInfrastructure
from eparch.workers import reporting
from eparch.workers.worker import Worker, WorkerOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server that soon after its start takes back what nobody renewed."""
    with running_server(tmp_path_factory.mktemp("server"), EPARCH_LEASE_SECONDS="2") as running:
        # A machine that is busy must not lose a run for that: only who tests a lapse makes it short.
        running.env["EPARCH_LEASE_SECONDS"] = "60"
        yield running


@pytest.fixture
def settings(tmp_path):
    environ = {
        "EPARCH_HOME": str(tmp_path),
        "EPARCH_LEASE_SECONDS": "1",
        "EPARCH_WORKER_POLL_SECONDS": "0.05",
        "EPARCH_API_URL": "http://127.0.0.1:1/api",
    }
    return load(environ, tmp_path)


@pytest.fixture
def scripted():
    return Scripted()


@pytest.fixture
def infrastructure():
    return FakeInfrastructure()


@pytest.fixture
def work(scripted, infrastructure, settings, monkeypatch):
    """Starts workers on the scripted scripted; all of them are stopped in the end."""
    monkeypatch.setattr("eparch.workers.worker.pause_after", lambda attempt: 0.01)
    monkeypatch.setattr(reporting, "pause_after", lambda attempt: 0.01)
    monkeypatch.setattr("eparch.workers.worker._TICK", 0.02)
    running: list[tuple[Worker, threading.Thread]] = []

    def start(*, server=scripted, infrastructure=infrastructure, settings=settings, **options) -> Worker:
        options = {"pool": "local", "name": "w", "grace_seconds": 5.0, "on_stop": "cancel", **options}
        worker = Worker(server, WorkerOptions(**options), settings, infrastructure=infrastructure)
        codes: list[int | Exception] = []

        def run() -> None:
            try:
                codes.append(worker.run())
            except Exception as error:
                codes.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        running.append((worker, thread))
        worker.codes = codes  # type: ignore[attr-defined]
        worker.join = lambda: thread.join(30)  # type: ignore[attr-defined]
        return worker

    yield start
    for worker, thread in running:
        worker.stop()
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()
    # It ends by itself; what it says must not come into the next test.
    for thread in threading.enumerate():
        if thread.name == "claim_runs":
            thread.join(30)
