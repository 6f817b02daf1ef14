"""Servers in the place of Google's and Azure's object stores, on their documented REST calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape


class Store(BaseHTTPRequestHandler):
    """Objects in memory, for whoever is let in; two names a page."""

    objects: dict[str, bytes]
    faults: list[int]
    seen: list[str]

    def read(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        parts = urlsplit(self.path)
        self.place, self.query = parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))
        self.seen.append(f"{self.command} {self.path}")

    def is_let_in(self) -> bool:
        raise AssertionError

    def act(self) -> None:
        raise AssertionError

    def do_GET(self) -> None:
        self.read()
        if self.faults:
            self.answer(self.faults.pop(0), b"a fault that passes")
        elif not self.is_let_in():
            self.answer(403, b"who are you?")
        else:
            self.act()

    do_PUT = do_POST = do_GET  # noqa: N815

    def names(self, marker: str) -> tuple[list[str], str]:
        start = int(marker or 0)
        found = sorted(name for name in self.objects if name.startswith(self.query.get("prefix", "")))
        more = str(start + 2) if len(found) > start + 2 else ""
        return found[start : start + 2], more

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Google(Store):
    """The JSON API of Cloud Storage, and the place that gives tokens for a signed request."""

    token: str

    def is_let_in(self) -> bool:
        return self.place == "/token" or self.headers.get("Authorization") == f"Bearer {self.token}"

    def act(self) -> None:
        _, _, name = self.place.partition("/o/")
        if self.place == "/token":
            self.answer(200, json.dumps({"access_token": self.token, "expires_in": 3600}).encode())
        elif self.place == "/upload/storage/v1/b/code/o":
            assert self.query["uploadType"] == "media"
            self.objects[self.query["name"]] = self.body
            self.answer(200, b"{}")
        elif name and self.query.get("alt") == "media" and unquote(name) in self.objects:
            self.answer(200, self.objects[unquote(name)])
        elif self.place == "/storage/v1/b/code/o":
            names, more = self.names(self.query.get("pageToken", ""))
            page = {"items": [{"name": one} for one in names], **({"nextPageToken": more} if more else {})}
            self.answer(200, json.dumps(page).encode())
        else:
            self.answer(404, b"no such thing")


class Azure(Store):
    """The REST API of blobs, behind an account's key."""

    key: str

    def is_let_in(self) -> bool:
        sent = {name.lower(): value for name, value in self.headers.items()}
        length = sent.get("content-length", "")
        first = [self.command, "", "", "" if length == "0" else length, "", sent.get("content-type", "")]
        ours = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent) if name.startswith("x-ms-"))
        resource = f"/me{self.place}" + "".join(f"\n{name}:{self.query[name]}" for name in sorted(self.query))
        text = "\n".join([*first, "", "", "", "", "", "", ""]) + ours + resource
        signed = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        return sent.get("authorization") == "SharedKey me:" + base64.b64encode(signed).decode()

    def act(self) -> None:
        name = unquote(self.place.removeprefix("/code").removeprefix("/"))
        if self.command == "PUT":
            assert self.headers["x-ms-blob-type"] == "BlockBlob"
            self.objects[name] = self.body
            self.answer(201)
        elif self.query.get("comp") == "list":
            names, more = self.names(self.query.get("marker", ""))
            blobs = "".join(f"<Blob><Name>{escape(one)}</Name></Blob>" for one in names)
            page = f"<R><Blobs>{blobs}</Blobs><NextMarker>{more}</NextMarker></R>"
            self.answer(200, page.encode())
        elif name in self.objects:
            self.answer(200, self.objects[name])
        else:
            self.answer(404, b"no such blob")


@contextmanager
def serve(kind: type[Store], **attributes: str) -> Iterator[tuple[str, type[Store]]]:
    """The address of a store, and what it holds."""
    made: dict[str, object] = {"objects": {}, "faults": [], "seen": [], **attributes}
    handler = type("Handler", (kind,), made)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
