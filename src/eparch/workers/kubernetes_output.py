"""What the pods of a Job write: shown line by line, the last of it kept, nothing lost by a broken connection.

Owns following the log of each pod, and reading on after a break where it ended. The cluster keeps the log as
long as it keeps the pod, so a worker that takes a Job over has all of it.
"""

from __future__ import annotations

import logging
import re
import threading
from datetime import UTC, datetime
from typing import Any

from eparch.core.errors import InfrastructureError
from eparch.workers.kubernetes_api import Api, Lines, asked_for
from eparch.workers.kubernetes_faults import Denied
from eparch.workers.kubernetes_pods import has_begun, main_container
from eparch.workers.timed_output import TimedStream

logger = logging.getLogger("eparch.worker")

_LAST = 10.0
"""Seconds for which a log that does not end with its pod is waited for."""

_PAUSE = 1.0
"""Seconds before a log that broke is read on."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
"""The time before a line, as kubelets of all versions and time zones write it (RFC 3339)."""

_SILENCE = 3600.0
"""Seconds after which a log that says nothing is asked for anew; its connection may have died unheard."""


class Output:
    """Follows the output of one Job until ``finish``."""

    def __init__(self, api: Api, namespace: str, *, show: bool) -> None:
        self._api, self._namespace, self._show = api, namespace, show
        self._logs: dict[str, _Log] = {}

    def look(self, pods: list[dict[str, Any]]) -> None:
        """Follow those that began."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self._logs and has_begun(pod):
                self._logs[name] = _Log(self._api, self._namespace, name, main_container(pod), self._show)

    def finish(self) -> str:
        """Read what is left of a Job that is over; the last lines of its last pod."""
        tail = ""
        for log in self._logs.values():
            tail = log.finish()
        return tail


class _Log:
    """The log of one pod."""

    def __init__(self, api: Api, namespace: str, pod: str, container: str, show: bool) -> None:
        self._api, self._container = api, container
        self._asked = asked_for("get", "pods/log", namespace, pod)
        # A pod has one stream for both; what a person looks for in it are mostly the errors.
        self._stream = TimedStream(error=True, show=show)
        self._over = threading.Event()
        self._lines: Lines | None = None
        self._thread = threading.Thread(target=self._follow, name="pod-output", daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Read the rest; the last lines."""
        self._over.set()
        self._thread.join(_LAST)
        lines = self._lines
        if lines is not None:
            lines.interrupt()
            self._thread.join(_PAUSE)
        self._read(follow=False)
        self._stream.end()
        return self._stream.lines.tail()

    def _follow(self) -> None:
        while not self._over.is_set():
            if not self._read(follow=True):
                return
            self._over.wait(_PAUSE)

    def _read(self, *, follow: bool) -> bool:
        """Take what comes; whether it may be asked for again."""
        query = {"container": self._container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if self._stream.since:
            query["sinceTime"] = datetime.fromtimestamp(self._stream.since, UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
        try:
            with self._api.stream(self._asked, query=query, timeout=_SILENCE if follow else _LAST) as lines:
                self._lines = lines if follow else None
                self._stream.begin()
                for line in lines:
                    if follow and not line.endswith(b"\n"):
                        # It was cut off, or has no end yet, and comes again.
                        break
                    self._stream.take(in_utc(line), timed=True)
        except Denied as error:
            logger.warning("What a pod writes cannot be shown: %s", error)
            return False
        except InfrastructureError as error:
            logger.debug("The log of a pod cannot be read now: %s", error)
        finally:
            self._lines = None
        return True


def in_utc(line: bytes) -> bytes:
    """A line whose time can be compared as text: in UTC and with nine digits after the point."""
    found = _STAMP.match(line)
    if found is None:
        return line
    when, digits, zone = found[1], (found[2] or b"").ljust(9, b"0"), found[3]
    if zone != b"Z":
        moved = datetime.fromisoformat((when + zone).decode()).astimezone(UTC)
        when = moved.strftime("%Y-%m-%dT%H:%M:%S").encode()
    return when + b"." + digits + b"Z " + line[found.end() :]
