"""Small pages that say how a worker is: ``/health`` and others (row W9), ``/status`` of a task worker.

Owns the small servers. What is healthy is decided by the worker.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eparch.core.errors import Usage

Answer = Callable[[], tuple[int, Any]]
"""A status and a value."""


class Page:
    """Answers ``GET`` of each path with what its answer gives."""

    def __init__(self, what: str, host: str, port: int, answers: Mapping[str, Answer], fix: str) -> None:
        """``what`` it is and how to ``fix`` a port that is taken, for people.

        Raises:
            Usage: nothing can listen there.
        """

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one probe."""
                answer = answers.get(self.path.partition("?")[0].rstrip("/"))
                if answer is None:
                    self.send_error(404)
                    return
                status, value = answer()
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
                """Probes are not logged."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise Usage(
                f"{what} cannot listen on port {port}", why=error.strerror or str(error), fix=fix
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Condition:
    """How a worker is."""

    fault: str
    """Why its loop is held to be dead; empty if it is not."""
    not_ready: str
    """Why it takes no runs now; empty if it does."""
    draining: bool
    runs: int
    """How many it has."""


class Health(Page):
    """Probes of a worker (row W9), each answered 200 or 503 with the reason.

    ``/health`` (as Prefect's) and ``/live`` are red when its loop is dead, even while its heartbeats go on;
    ``/ready`` also while it takes no runs. ``/draining`` is 200 while it finishes its last runs.
    """

    def __init__(self, host: str, port: int, look: Callable[[], Condition]) -> None:
        def told(wrong: str, found: Condition) -> tuple[int, Any]:
            value = {"message": wrong or "OK", "draining": found.draining, "runs": found.runs}
            return 503 if wrong else 200, value

        def live() -> tuple[int, Any]:
            found = look()
            return told(found.fault, found)

        def ready() -> tuple[int, Any]:
            found = look()
            return told(found.fault or found.not_ready, found)

        def draining() -> tuple[int, Any]:
            found = look()
            return told("" if found.draining else "The worker takes runs", found)

        answers = {"/health": live, "/live": live, "/ready": ready, "/draining": draining}
        fix = "Stop what uses it, set EPARCH_WORKER_HEALTH_PORT, or leave '--with-healthcheck' out."
        super().__init__("The health check", host, port, answers, fix)


class Status(Page):
    """Answers what ``status`` gives, to this machine only."""

    def __init__(self, port: int, status: Callable[[], Any], *, host: str = "127.0.0.1") -> None:
        def answer() -> tuple[int, Any]:
            return 200, status()

        super().__init__(
            "The status page", host, port, {"/status": answer}, "Stop what uses it, or name another."
        )
