"""A small real HTTP server that does to each request what the test tells it to."""

import gzip
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """What to do with one request."""

    status: int = 200
    body: object = True
    headers: dict = field(default_factory=dict)
    content_type: str = "application/json"
    raw: bytes | None = None
    drop: bool = False
    """Close the connection after reading the request, without an answer."""
    hold: threading.Event | None = None
    """Answer only when this is set."""
    close_after: bool = False
    """Answer, then close the connection without announcing it."""
    short: bool = False
    """Announce more than is sent."""


class Misbehaving:
    """Serves ``replies`` in turn, then ``True``; remembers what was asked."""

    def __init__(self):
        self.replies = []
        self.requests = []
        self.connections = 0
        self.closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer.connections += 1

            def finish(self):
                super().finish()
                self.request.shutdown(socket.SHUT_WR)
                outer.closed.set()

            def log_message(self, *args):
                pass

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                outer.requests.append((self.command, self.path, dict(self.headers), body))
                reply = outer.replies.pop(0) if outer.replies else Reply()
                if reply.hold is not None:
                    reply.hold.wait(30)
                if reply.drop:
                    self.close_connection = True
                    return
                data = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
                if reply.headers.get("Content-Encoding") == "gzip":
                    data = gzip.compress(data)
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(data) + (10 if reply.short else 0)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                if reply.close_after or reply.short:
                    self.close_connection = True

        for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, address: None  # a client that left is no error
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/api"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def closed_port():
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
