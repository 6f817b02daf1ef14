"""What stands between workers, jobs and the server, and can be told to misbehave at a named step.

A step is seen on the wire: a request of some path, or its answer. The product knows nothing of it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A moment in the life of a run, as it is seen on the wire."""

    name: str
    path: str
    """Expression that the request line is searched for."""
    body: str = ""
    """Expression that the body of the request or, with ``answered``, of the answer is searched for."""
    answered: bool = False
    """Once the server has answered, and before that is told."""


class Lost(Exception):
    """The connection ends here."""


class Proxy:
    """A TCP proxy that reads HTTP/1.1; ``arm`` waits for one step."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.reached = threading.Event()
        self._armed: tuple[Step, Callable[[], None], bool] | None = None
        self._lock = threading.Lock()
        self._cut = False
        self._held = threading.Event()
        self._held.set()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, step: Step, act: Callable[[], None], *, lose: bool = False) -> None:
        """At the next ``step`` do ``act``, and with ``lose`` end the connection instead of going on."""
        self.reached.clear()
        with self._lock:
            self._armed = (step, act, lose)

    def disarm(self) -> None:
        """Wait for nothing."""
        with self._lock:
            self._armed = None

    def cut(self) -> None:
        """Refuse and end every connection until ``mend``."""
        self._cut = True
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def blackhole(self) -> None:
        """Take everything and pass nothing on until ``mend``."""
        self._held.clear()

    def mend(self) -> None:
        """Work again."""
        self._cut = False
        self._held.set()

    def close(self) -> None:
        """No more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, Lost, ValueError):
            if self._cut:
                return
            self._open.add(client)
            with socket.create_connection(self.target) as server:
                self._open.add(server)
                try:
                    self._relay(client, server)
                finally:
                    self._open -= {client, server}

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        asked, told = client.makefile("rb"), server.makefile("rb")
        while True:
            head, body = _message(asked)
            line = head.split(b"\r\n", 1)[0].decode()
            self._pass(line, body, answered=False)
            server.sendall(head + body)
            if b"upgrade: websocket" in head.lower():
                _pump(client, server)
                return
            answer, content = _message(told)
            self._pass(line, content, answered=True)
            client.sendall(answer + content)

    def _pass(self, line: str, body: bytes, *, answered: bool) -> None:
        act, lose = None, False
        with self._lock:
            if self._armed is not None and self._armed[0].answered is answered:
                step = self._armed[0]
                if re.search(step.path, line) and re.search(step.body.encode(), body):
                    _, act, lose = self._armed
                    self._armed = None
        if act is not None:
            act()
            self.reached.set()
            if lose:
                raise Lost
        self._held.wait()
        if self._cut:
            raise Lost


def _message(stream: socket.SocketIO) -> tuple[bytes, bytes]:  # type: ignore[name-defined]
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            raise Lost
        head += line
    fields = head.lower()
    if b"transfer-encoding: chunked" in fields:
        body = b""
        while True:
            size = stream.readline()
            chunk = stream.read(int(size, 16) + 2)
            body += size + chunk
            if int(size, 16) == 0:
                return head, body
    length = re.search(rb"content-length: *(\d+)", fields)
    return head, stream.read(int(length[1])) if length else b""


def _pump(client: socket.socket, server: socket.socket) -> None:
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=copy, args=(server, client), daemon=True)
    back.start()
    copy(client, server)
    back.join()
