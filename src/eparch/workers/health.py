"""``GET /health`` of a worker: red when its loop is dead, even while its heartbeats go on (row W9).

Owns the small server. What is healthy is decided by the worker.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eparch.core.errors import Usage


class Health:
    """Answers 200 while ``check`` finds nothing wrong, else 503 with what it found."""

    def __init__(self, port: int, check: Callable[[], str], *, host: str = "0.0.0.0") -> None:  # noqa: S104  probes come from outside
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one probe."""
                if self.path.rstrip("/") != "/health":
                    self.send_error(404)
                    return
                wrong = check()
                body = json.dumps({"message": wrong or "OK"}).encode()
                self.send_response(503 if wrong else 200)
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
                f"The health check cannot listen on port {port}",
                why=error.strerror or str(error),
                fix="stop what uses it, or leave '--with-healthcheck' out",
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
