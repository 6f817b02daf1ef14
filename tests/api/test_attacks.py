"""A server in its own process, and bytes that no honest client sends: it answers, lives and stays small."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

SERVE = """
from eparch.settings import load
from eparch.api.app import serve
serve(load(), "127.0.0.1", 0)
"""
MOST_GROWTH = 150_000
"""Kilobytes that all of these requests together may cost."""

ID = str(uuid4())
OPEN_END = b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


class Server:
    """Its port and its process."""

    def __init__(self, home: Path) -> None:
        environ = {**os.environ, "EPARCH_HOME": str(home), "EPARCH_SERVICES_ENABLED": "false"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)/api", line)
        assert found, line
        self.port = int(found[1])
        self.least = self.size()

    def size(self) -> int:
        """Kilobytes in memory."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        return int(shown.stdout)

    def ask(self, data: bytes) -> bytes:
        """All that it says to ``data`` until it hangs up."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            try:
                sock.sendall(data)
                while part := sock.recv(65536):
                    received += part
            except (ConnectionResetError, BrokenPipeError):
                pass
        return received

    def post(self, path: bytes, body: bytes, headers: bytes = b"") -> bytes:
        """Its answer to a body."""
        length = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        return self.ask(b"POST /api%b " % path + OPEN_END + length + headers + b"\r\n" + body)

    def check(self, answer: bytes, *, may_hang_up: bool = False) -> int:
        """The status of ``answer``, which is none of a fault; and the server lives."""
        assert b"Traceback" not in answer
        assert b"\r\nserver:" not in answer.lower()
        status = int(answer[9:12]) if answer else 0
        assert 200 <= status < 500 or (may_hang_up and not answer), answer[:500]
        assert self.ask(b"GET /api/health " + OPEN_END + b"\r\n").endswith(b"true")
        assert self.size() < self.least + MOST_GROWTH
        return status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("home"))
    yield found
    found.process.terminate()
    _, said = found.process.communicate(timeout=30)
    assert "Traceback" not in said


HEAD = b"POST /api/flows/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HIDDEN = b"GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "list of lengths": b"Content-Length: 0, 5\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "length with a sign": b"Content-Length: +0\r\n\r\n",
    "length that overflows": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "chunks are not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "size is no number": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "size is negative": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "size overflows": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
    "size with an underscore": b"Transfer-Encoding: chunked\r\n\r\n1_0\r\n\r\n",
    "chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
    "NUL in a header": b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "folded header": b"X: a\r\n Content-Length: 5\r\nTransfer-Encoding\r\n : chunked\r\n\r\n",
    "bare carriage return": b"X: a\rContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_request_of_two_readings_is_refused_and_what_follows_is_not_read(server: Server, name: str) -> None:
    answer = server.ask(HEAD + SMUGGLED[name] + HIDDEN)
    assert server.check(answer, may_hang_up=True) in (0, 400, 413)
    assert "👋".encode() not in answer


TARGETS = [
    b"/api/../../etc/passwd",
    b"/api/%2e%2e/%2e%2e/etc/passwd",
    b"/api/..%2f..%2fetc%2fpasswd",
    b"/api//flows//",
    b"//api/health",
    b"/api/work_pools/%00",
    b"/api/work_pools/a%00b",
    b"/api/work_pools/%ff%fe",
    b"/api/work_pools/%ed%a0%80",
    b"/api/work_pools/a%2fb",
    b"/api/work_pools/%2e%2e",
    b"/api/work_pools/%252e%252e%252f",
    b"/api/work_pools/%",
    b"/api/work_pools/%zz",
    b"/api/work_pools/{{7*7}}",
    b"/api/flows/" + b"9" * 5000,
    b"/api/flow_runs/%7b%7d",
    b"/api/" + b"a/" * 7000,
    b"/api/" + b"x" * 20_000,
    b"/api/csrf-token?client=%00",
    b"/api/csrf-token?client=%ff",
    b"/api/csrf-token?" + b"&".join(b"a%d=1" % n for n in range(1000)),
    b"/api/collections/views/..%2f..%2fsecrets",
    b"http://evil.example/api/health",
    b"*",
    b"/api/events/filter/next?page-token=" + b"A" * 9000,
]


@pytest.mark.parametrize("target", TARGETS, ids=range(len(TARGETS)))
@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"OPTIONS"])
def test_path_that_leads_nowhere(server: Server, method: bytes, target: bytes) -> None:
    answer = server.ask(method + b" " + target + b" " + OPEN_END + b"\r\n")
    server.check(answer, may_hang_up=True)
    assert b"root:" not in answer


def _nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + closing * depth


FLOW = b'{"name": "f", "labels": %b}'
BODIES = {
    "deep lists": _nested(b"[", b"]", 500_000),
    "deep objects": _nested(b'{"a":', b"}", 500_000),
    "only openings": b"[" * 5_000_000,
    "deep value": FLOW % _nested(b'{"a":', b"}", 100_000).replace(b":}", b":1}"),
    "large integer": FLOW % (b'{"a": ' + b"9" * 4000 + b"}"),
    "very large integer": FLOW % (b'{"a": ' + b"9" * 1_000_000 + b"}"),
    "large number": FLOW % b'{"a": 1e999}',
    "exponent": FLOW % b'{"a": 1e99999999999999999999}',
    "NaN": FLOW % b'{"a": NaN}',
    "infinity": FLOW % b'{"a": -Infinity}',
    "NUL": b'{"name": "a\\u0000b"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "NUL in a key": FLOW % b'{"\\u0000": 1}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "surrogates the wrong way round": b'{"name": "\\udc00\\ud800"}',
    "surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "byte order mark": b'\xef\xbb\xbf{"name": "a"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "the same key often": b"{" + b'"name": "a",' * 100_000 + b'"name": "b"}',
    "long name": b'{"name": "%b"}' % (b"a" * 5_000_000),
    "only spaces": b" " * 9_000_000,
}


@pytest.mark.parametrize("name", BODIES)
def test_body_that_is_hard_to_read(server: Server, name: str) -> None:
    harmless = ("large integer", "the same key often")
    status = server.check(server.post(b"/flows/", BODIES[name]))
    assert status in ((201,) if name in harmless else (400, 422))


QUERIES = {
    "a million ids": {"flows": {"id": {"any_": [ID] * 230_000}}},
    "a million texts": {"flows": {"name": {"any_": ["a"] * 1_000_000}}},
    "long text": {"flows": {"name": {"like_": "%" * 5_000_000}}},
    "limit": {"limit": 10**30},
    "offset": {"offset": 10**30},
    "page beyond bigint": {"offset": 2**63},
}


@pytest.mark.parametrize("name", QUERIES)
def test_filter_that_asks_for_too_much(server: Server, name: str) -> None:
    status = server.check(server.post(b"/flows/filter", json.dumps(QUERIES[name]).encode()))
    assert status == (200 if name == "long text" else 422)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "x-gzip"])
def test_compressed_body_is_not_unpacked(server: Server, name: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = server.post(b"/flows/", bomb, b"Content-Encoding: %b\r\n" % name.encode())
    assert server.check(answer) == 422
    assert b"must not be compressed" in answer


def test_headers_that_are_too_many_or_too_long(server: Server) -> None:
    for headers in (
        b"X: y\r\n" * 500,
        b"X: " + b"y" * 70_000 + b"\r\n",
        b"Cookie: " + b"a=b;" * 20_000 + b"\r\n",
    ):
        answer = server.ask(b"GET /api/hello " + OPEN_END + headers + b"\r\n")
        assert server.check(answer, may_hang_up=True) in (0, 400, 431)


def test_pattern_that_takes_for_ever_is_refused(server: Server) -> None:
    flow = json.loads(server.post(b"/flows/", b'{"name": "patterns"}').partition(b"\r\n\r\n")[2])
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    body = {
        "name": "d",
        "flow_id": flow["id"],
        "parameter_openapi_schema": schema,
        "enforce_parameter_schema": True,
    }
    made = server.post(b"/deployments/", json.dumps(body).encode())
    if server.check(made) == 201:
        id_ = json.loads(made.partition(b"\r\n\r\n")[2])["id"]
        run = json.dumps({"parameters": {"a": "a" * 100_000 + "!"}}).encode()
        server.check(server.post(b"/deployments/%b/create_flow_run" % id_.encode(), run))


def test_frame_that_is_too_large_ends_the_socket(server: Server) -> None:
    upgrade = (
        b"GET /api/events/in HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(upgrade)
        assert sock.recv(65536).startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"\x00" * 4 + b"x" * 1000)
        said = b""
        while part := sock.recv(65536):
            said += part
    assert (1009).to_bytes(2, "big") in said
    assert server.ask(b"GET /api/health " + OPEN_END + b"\r\n").endswith(b"true")
