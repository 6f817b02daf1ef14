"""A Kubernetes API over real HTTP for tests: Jobs, pods that run as processes here, watches, logs, rules.

``with FakeCluster(folder) as cluster:`` and ``cluster.kubeconfig`` is what a client needs. Owns HTTP, access
and the faults that a test asks for; objects and pods are in ``kubernetes_objects`` and ``kubernetes_pods``.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

from eparch.testing.kubernetes_objects import Key, Object, Objects, Refused, fits, merge, now
from eparch.testing.kubernetes_pods import Kubelet

_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[a-z0-9.]+)/v1)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>jobs|pods|leases|events|namespaces)(?:/(?P<name>[^/]+))?(?:/(?P<sub>log))?"
)
_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
_BOOKMARK = 1.0
"""Seconds of silence after which a watch is told how far it is."""


class Used(NamedTuple):
    """One right that was made use of."""

    verb: str
    group: str
    resource: str
    in_namespace: bool


class FakeCluster:
    """One cluster; ``objects`` and ``kubelet`` are there to look at and to break."""

    def __init__(self, folder: Path, namespaces: Iterable[str] = ("default",)) -> None:
        self.objects = Objects(tuple(namespaces))
        self.kubelet = Kubelet(self.objects, folder)
        self.token = uuid4().hex
        self.rules: list[Mapping[str, Any]] | None = None
        """Rules of a Role in every namespace; None allows all."""
        self.cluster_rules: list[Mapping[str, Any]] = []
        """Rules of a ClusterRole, once there are ``rules``."""
        self.used: set[Used] = set()
        self.requests: list[str] = []
        """``verb resource`` of each request."""
        self.lost_answers: list[str] = []
        """``verb resource`` of requests that are done, but whose answer does not arrive; each once."""
        self.is_away = False
        """Whether every request is answered 503."""
        self._streams: set[socket.socket] = set()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """A kubectl configuration for it."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "worker"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "worker", "user": {"token": self.token}}],
        }

    def write_kubeconfig(self, folder: Path) -> Path:
        """The configuration as a file."""
        path = folder / f"kubeconfig-{self.token[:8]}"
        path.write_text(json.dumps(self.kubeconfig))
        return path

    def pods(self, namespace: str = "default") -> list[Object]:
        """Those that are there."""
        return self.objects.find("pods", namespace)

    def jobs(self, namespace: str = "default") -> list[Object]:
        """Those that are there."""
        return self.objects.find("jobs", namespace)

    def wait_for_pod(self, phase: str = "Running", namespace: str = "default") -> Key:
        """The first pod in a phase, once there is one; a minute at most."""
        found: list[Object] = []

        def look() -> bool:
            found[:] = [pod for pod in self.pods(namespace) if pod["status"].get("phase") == phase]
            return bool(found)

        with self.objects.changed:
            assert self.objects.changed.wait_for(look, 60), f"no pod is {phase}: {self.pods(namespace)}"
        return Key("pods", namespace, found[0]["metadata"]["name"])

    def wait_for_request(self, name: str) -> None:
        """Until ``verb resource`` was asked for; a minute at most."""
        with self.objects.changed:
            assert self.objects.changed.wait_for(lambda: name in self.requests, 60), f"nobody asked to {name}"

    def drop_connections(self) -> None:
        """Break every watch and every log that is followed."""
        for connection in list(self._streams):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End every pod and stop listening."""
        self.drop_connections()
        self._server.shutdown()
        self._server.server_close()
        self.kubelet.close()

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news."""


class _Request(NamedTuple):
    verb: str
    group: str
    key: Key
    in_namespace: bool
    sub: str
    query: dict[str, str]
    body: Object

    @property
    def name(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def resource(self) -> str:
        return f"{self.key.resource}/{self.sub}" if self.sub else self.key.resource


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Nothing is said."""

    def _do(self) -> None:
        try:
            request = self._read()
            self._admit(request)
            if request.verb == "watch":
                self._watch(request)
            elif request.sub == "log":
                self._send_log(request)
            else:
                self._answer(200, self._act(request), request)
        except Refused as refused:
            self._answer(refused.code, refused.status, None)

    do_GET = do_POST = do_PATCH = do_DELETE = _do  # noqa: N815 - names of http.server

    @property
    def cluster(self) -> FakeCluster:
        """Whose request it is."""
        server = self.server
        assert isinstance(server, _Server)
        return server.cluster

    def _read(self) -> _Request:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = _PATH.fullmatch(parts.path)
        if found is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        body = json.loads(data) if data else {}
        name = unquote(found["name"] or "")
        verb = _VERBS.get(self.command) or ("get" if name else "watch" if "watch" in query else "list")
        if verb == "patch" and self.headers.get("Content-Type") != "application/merge-patch+json":
            raise Refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        key = Key(found["resource"], unquote(found["namespace"] or ""), name)
        return _Request(verb, found["group"] or "", key, bool(key.namespace), found["sub"] or "", query, body)

    def _admit(self, request: _Request) -> None:
        cluster = self.cluster
        with cluster.objects.changed:
            cluster.requests.append(request.name)
            cluster.objects.changed.notify_all()
        if cluster.is_away:
            raise Refused(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if self.headers.get("Authorization") != f"Bearer {cluster.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        rules = [*(cluster.rules or [] if request.in_namespace else []), *cluster.cluster_rules]
        may = cluster.rules is None or any(
            request.group in rule["apiGroups"]
            and request.resource in rule["resources"]
            and request.verb in rule["verbs"]
            for rule in rules
        )
        if not may:
            raise self._forbidden(request)
        cluster.used.add(Used(request.verb, request.group, request.resource, request.in_namespace))

    def _forbidden(self, request: _Request) -> Refused:
        user = "system:serviceaccount:default:worker"
        where = (
            f'in the namespace "{request.key.namespace}"' if request.in_namespace else "at the cluster scope"
        )
        full = f"{request.resource}.{request.group}" if request.group else request.resource
        return Refused(
            403, "Forbidden",
            f'{full} is forbidden: User "{user}" cannot {request.verb} resource "{request.resource}"'
            f' in API group "{request.group}" {where}',
        )  # fmt: skip

    def _act(self, request: _Request) -> Object:
        objects, key = self.cluster.objects, request.key
        if request.verb == "get":
            return objects.get(key)
        if request.verb == "list":
            return self._list(request)
        if request.verb == "create":
            return self._create(request)
        if request.verb == "patch":
            return objects.change(key, lambda found: _patched(found, request.body, key))
        return self._delete(request)

    def _list(self, request: _Request) -> Object:
        objects, query = self.cluster.objects, request.query
        with objects.changed:
            found = objects.find(
                request.key.resource, request.key.namespace or None, query.get("labelSelector", "")
            )
            wanted = [part.partition("=")[2] for part in query.get("fieldSelector", "").split(",") if part]
            if wanted:
                involved = [one.get("involvedObject") or {} for one in found]
                pairs = zip(found, involved, strict=True)
                found = [one for one, about in pairs if [about.get("kind"), about.get("name")] == wanted]
            begin, limit = int(query.get("continue", 0)), int(query.get("limit", 10**6))
            metadata: Object = {"resourceVersion": str(objects.version)}
            if begin + limit < len(found):
                metadata["continue"] = str(begin + limit)
            return {"kind": "List", "metadata": metadata, "items": found[begin : begin + limit]}

    def _create(self, request: _Request) -> Object:
        body, key = request.body, request.key
        metadata = body.setdefault("metadata", {})
        name = metadata.get("name") or f"{metadata.get('generateName', '')}{uuid4().hex[:5]}"
        if metadata.get("namespace", key.namespace) != key.namespace:
            raise Refused(400, "BadRequest", "the namespace of the object does not match the request")
        return self.cluster.objects.create(key._replace(name=name), body)

    def _delete(self, request: _Request) -> Object:
        objects, key = self.cluster.objects, request.key
        found = objects.get(key)
        if key.resource == "pods":
            self.cluster.kubelet.delete_pod(key, request.body.get("gracePeriodSeconds"))
        elif key.resource == "jobs" and request.body.get("propagationPolicy") == "Foreground":
            objects.change(key, lambda job: job["metadata"].update(deletionTimestamp=now()))
        else:
            objects.remove(key)
            for pod in objects.find("pods", key.namespace, f"job-name={key.name}"):
                self.cluster.kubelet.delete_pod(Key("pods", key.namespace, pod["metadata"]["name"]), None)
        return found

    # Answers

    def _answer(self, code: int, body: Object, request: _Request | None) -> None:
        data = json.dumps(body).encode()
        if request is not None and request.name in self.cluster.lost_answers:
            self.cluster.lost_answers.remove(request.name)
            self.close_connection = True
            return
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.cluster._streams.add(self.connection)

    def _send(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _end_stream(self) -> None:
        self._send(b"")
        self.cluster._streams.discard(self.connection)

    def _watch(self, request: _Request) -> None:
        objects, query, key = self.cluster.objects, request.query, request.key
        selector = query.get("labelSelector", "")
        version = int(query.get("resourceVersion") or objects.version)
        end = time.monotonic() + float(query.get("timeoutSeconds", 300))
        known = {one["metadata"]["name"] for one in objects.find(key.resource, key.namespace, selector)}
        self._begin_stream()
        while time.monotonic() < end:
            with objects.changed:
                if objects.version <= version:
                    objects.changed.wait(min(_BOOKMARK, end - time.monotonic()))
                outdated = version < objects.oldest
                changes = [change for change in objects.changes if change.version > version]
                latest = objects.version
            if outdated:
                status = Refused(410, "Expired", f"too old resource version: {version}").status
                self._event("ERROR", status)
                break
            for change in changes:
                if change.key.resource == key.resource and key.namespace in ("", change.key.namespace):
                    self._event_of(change.kind, change.object, selector, known)
            if latest == version and query.get("allowWatchBookmarks") == "true":
                self._event("BOOKMARK", {"metadata": {"resourceVersion": str(latest)}})
            version = latest
        self._end_stream()

    def _event_of(self, kind: str, found: Object, selector: str, known: set[str]) -> None:
        """What an object that fits, or does not fit any more, is to this watch."""
        name = found["metadata"]["name"]
        if fits(found, selector) and kind != "DELETED":
            self._event("MODIFIED" if name in known and kind != "ADDED" else "ADDED", found)
            known.add(name)
        elif name in known or fits(found, selector):
            known.discard(name)
            self._event("DELETED", found)

    def _event(self, kind: str, found: Object) -> None:
        self._send(json.dumps({"type": kind, "object": found}).encode() + b"\n")

    def _send_log(self, request: _Request) -> None:
        self.cluster.objects.get(request.key)
        log = self.cluster.kubelet.logs.get(request.key.name)
        if log is None:
            message = f'container in pod "{request.key.name}" is waiting to start: ContainerCreating'
            raise Refused(400, "BadRequest", message)
        query = request.query
        since = datetime.fromisoformat(query["sinceTime"]) if "sinceTime" in query else None
        self._begin_stream()
        sent = 0
        while True:
            with log.changed:
                if query.get("follow") == "true":
                    log.changed.wait_for(lambda: log.is_over or len(log.lines) > sent, 60)  # noqa: B023
                lines, is_over = log.lines[sent:], log.is_over
            sent += len(lines)
            for when, line in lines:
                if since is None or when >= since:
                    stamp = f"{when:%Y-%m-%dT%H:%M:%S.%f}000Z ".encode()
                    self._send(stamp + line if query.get("timestamps") == "true" else line)
            if query.get("follow") != "true" or (is_over and sent >= len(log.lines)):
                break
        self._end_stream()


def _patched(found: Object, patch: Object, key: Key) -> None:
    """Merge; a version in the patch is a condition."""
    wanted = (patch.get("metadata") or {}).get("resourceVersion")
    if wanted is not None and wanted != found["metadata"]["resourceVersion"]:
        message = (
            f'Operation cannot be fulfilled on {key.resource} "{key.name}": the object has been modified'
        )
        raise Refused(409, "Conflict", message)
    merge(found, patch)
