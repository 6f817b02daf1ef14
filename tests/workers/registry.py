"""A registry of one small image that lets in who knows the password, and takes what is pushed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.workers.engine import _linked

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Answers what pulling asks, once it was told ``user`` and ``password``."""

    def __init__(self, user: str, password: str) -> None:
        layer = _layer()
        config = _json(
            {
                "architecture": _architecture(),
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        )
        described = [
            {"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": len(layer)},
            {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config)},
        ]
        layer_told, config_told = (
            {**one, "digest": _digest(data)} for one, data in zip(described, (layer, config), strict=True)
        )
        self.manifest = _json(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_told, "layers": [layer_told]}
        )
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.blobs = {_digest(data): data for data in (layer, config)}
        self.pushed: dict[str, dict[str, object]] = {}
        """``name:tag`` -> its manifest."""
        self.uploads: dict[str, bytearray] = {}
        self.shown: list[str | None] = []
        """What each request had to say for itself."""
        handler = type("Handler", (_Handler,), {"registry": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        """Engines take a registry on this machine without TLS."""


class _Handler(BaseHTTPRequestHandler):
    registry: Registry

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.registry.shown.append(given)
        if given != self.registry.wanted:
            self._answer(401, "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}')
            return
        _, _, last = self.path.rpartition("/")
        if "/manifests/" in self.path:
            self._answer(200, MANIFEST, self.registry.manifest)
        elif "/blobs/" in self.path:
            known = last in self.registry.blobs
            self._answer(
                200 if known else 404, "application/octet-stream", self.registry.blobs.get(last, b"")
            )
        else:
            self._answer(200, "application/json", b"{}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._take()

    def do_PATCH(self) -> None:
        self._take()

    def do_PUT(self) -> None:
        self._take()

    def _take(self) -> None:
        """An upload is begun (POST), goes on (PATCH) and is over (PUT); so is a manifest."""
        data = self._body()
        given = self.headers.get("Authorization")
        self.registry.shown.append(given)
        if given != self.registry.wanted:
            self._answer(401, "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}')
            return
        place = self.path.partition("?")[0]
        if "/manifests/" in place:
            name, _, tag = place.removeprefix("/v2/").partition("/manifests/")
            self.registry.pushed[f"{name}:{tag}"] = json.loads(data)
            self._answer(201, MANIFEST, b"", _digest(data))
            return
        if self.command == "POST":
            place = place.rstrip("/") + f"/{len(self.registry.uploads)}"
        upload = self.registry.uploads.setdefault(place, bytearray())
        upload += data
        if self.command != "PUT":
            self._answer(202, "text/plain", b"", place=place, end=max(len(upload) - 1, 0))
            return
        self.registry.blobs[_digest(bytes(upload))] = bytes(upload)
        self._answer(201, "text/plain", b"", _digest(bytes(upload)))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(
        self, status: int, kind: str, body: bytes, digest: str = "", place: str = "", end: int = 0
    ) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
        if place:
            self.send_header("Location", place)
            self.send_header("Range", f"0-{end}")
        self.send_header("Docker-Content-Digest", digest or _digest(body))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def running_registry(user: str, password: str) -> Iterator[Registry]:
    """A registry until the block is left."""
    registry = Registry(user, password)
    threading.Thread(target=registry.server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        registry.server.shutdown()
        registry.server.server_close()


def _layer() -> bytes:
    """A shell and what it needs."""
    shell = Path(str(shutil.which("sh"))).resolve()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.add(shell, "bin/sh")
        for library in sorted(_linked([shell])):
            file.add(Path(library).resolve(), library.lstrip("/"))
    return buffer.getvalue()


def _architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
