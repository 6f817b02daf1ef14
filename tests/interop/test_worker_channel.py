"""Prefect's own worker on its channel: no request tells that it lives, and runs come to it (wire 4.3)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.targets import Session, wait_for
from tests.interop.watching import latest_run, wait_for_end


class Tap:
    """Forwards connections to a server, and keeps what clients say."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self.said = bytearray()

    def accept(self) -> None:
        """Serve until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for pair in ((client, server, self.said), (server, client, None)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if kept is not None:
                    kept += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def tapped(url: str) -> Iterator[Tap]:
    tap = Tap(url)
    thread = threading.Thread(target=tap.accept, daemon=True)
    thread.start()
    try:
        yield tap
    finally:
        tap.close()


def test_stock_worker_lives_on_its_channel(server: Session, stock: Session, project: Path) -> None:
    pool = "test-stock-worker-lives-on-its-channel"
    stock.run("work-pool", "create", pool, "--type", "process")
    stock.run("deploy", "--all", cwd=project)

    def beat() -> str | None:
        found = server.call("POST", f"/work_pools/{pool}/workers/filter", {})
        return found[0]["last_heartbeat_time"] if found and found[0]["status"] == "ONLINE" else None

    with tapped(server.url) as tap:
        listened = replace(stock, url=tap.url)
        more = {"PREFECT_WORKER_HEARTBEAT_SECONDS": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}
        with listened.spawn("worker", "start", "--pool", pool, "--name", "their", env=more):
            first = wait_for(beat, "the worker is online", 60)
            wait_for(lambda: beat() != first, "another heartbeat", 60)
            server.call("PATCH", f"/work_pools/{pool}", {"concurrency_limit": 5})
            stock.run("deployment", "run", "pipeline/small")
            ended = wait_for_end(server, latest_run(server, "pipeline/small"))
            assert ended["state_type"] == "COMPLETED", ended["state"]
        said = bytes(tap.said)
    assert b"GET /api/work_pools/" + pool.encode() + b"/workers/connect HTTP/1.1" in said
    assert b"/get_scheduled_flow_runs HTTP/1.1" in said
    assert b"/workers/heartbeat HTTP/1.1" not in said
