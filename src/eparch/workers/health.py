"""Small pages that say how a worker is: ``GET /health`` (row W9) and ``GET /status`` of a task worker.

Owns the small servers. What is healthy is decided by the worker.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eparch.core.errors import Usage


class Page:
    """Answers ``GET path`` with what ``answer`` gives: a status and a value."""

    def __init__(
        self, what: str, host: str, port: int, path: str, answer: Callable[[], tuple[int, Any]], fix: str
    ) -> None:
        """``what`` it is and how to ``fix`` a port that is taken, for people.

        Raises:
            Usage: nothing can listen there.
        """

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one probe."""
                if self.path.rstrip("/") != path:
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
        threading.Thread(target=self._server.serve_forever, name=path[1:], daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class Health(Page):
    """Answers 200 while ``check`` finds nothing wrong, else 503 with what it found.

    It is red when a worker's loop is dead, even while its heartbeats go on.
    """

    def __init__(self, port: int, check: Callable[[], str], *, host: str = "0.0.0.0") -> None:  # noqa: S104  probes come from outside
        def answer() -> tuple[int, Any]:
            wrong = check()
            return 503 if wrong else 200, {"message": wrong or "OK"}

        fix = "stop what uses it, or leave '--with-healthcheck' out"
        super().__init__("The health check", host, port, "/health", answer, fix)


class Status(Page):
    """Answers what ``status`` gives, to this machine only."""

    def __init__(self, port: int, status: Callable[[], Any], *, host: str = "127.0.0.1") -> None:
        def answer() -> tuple[int, Any]:
            return 200, status()

        super().__init__(
            "The status page", host, port, "/status", answer, "Stop what uses it, or name another."
        )
