"""A registry of one small image that lets in who knows the password, and notes who came."""

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
        manifest = _json(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_told, "layers": [layer_told]}
        )
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        blobs = {_digest(data): data for data in (layer, config)}
        shown: list[str | None] = []
        self.shown = shown
        """What each request had to say for itself."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                shown.append(given)
                if given != wanted:
                    self._answer(401, "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}')
                    return
                _, _, last = self.path.rpartition("/")
                if "/manifests/" in self.path:
                    self._answer(200, MANIFEST, manifest)
                elif "/blobs/" in self.path:
                    self._answer(200, "application/octet-stream", blobs[last])
                else:
                    self._answer(200, "application/json", b"{}")

            def do_HEAD(self) -> None:
                self.do_GET()

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="here"')
                self.send_header("Docker-Content-Digest", _digest(body))
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        """Engines take a registry on this machine without TLS."""


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
