"""The Jobs and pods of one worker's pool in one namespace, as the cluster tells of them.

Owns two watches (one of Jobs, one of pods) however many Jobs there are, that they go on after a break where
they ended, and that what was gone too long is listed anew (410). Asks nothing of a single Job.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from eparch.core.errors import InfrastructureError
from eparch.workers.kubernetes_api import Api, Lines, asked_for
from eparch.workers.kubernetes_faults import ClusterAway, Outdated
from eparch.workers.kubernetes_jobs import HOLDER, POOL
from eparch.workers.kubernetes_pods import end_of, is_over

logger = logging.getLogger("eparch.worker")

WATCH = 60.0
"""Seconds for which one watch is asked for; a connection that died unheard is noticed a little later."""

_PAGE = 500
_PAUSE = (0.2, 10.0)
"""Seconds before a watch that broke is begun again: at first, and at most."""

JOB_NAMES = ("batch.kubernetes.io/job-name", "job-name")
"""Labels by which a cluster marks the pods of a Job; the second is what older ones have."""


class Seen:
    """A Job that is followed, and its pods as they were last seen, also those that are gone."""

    def __init__(self, name: str, lock: threading.RLock) -> None:
        self.name = name
        self.changed = threading.Condition(lock)
        """Notified of everything new of this Job only."""
        self.job: dict[str, Any] | None = None
        self.is_gone = False
        """The watch says that it was deleted; whoever needs to be sure asks for it."""
        self.pods: dict[str, dict[str, Any]] = {}

    def in_order(self) -> list[dict[str, Any]]:
        """The pods, the oldest first."""
        return sorted(self.pods.values(), key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))


class Namespace:
    """What is known of one namespace; all of it under ``lock``."""

    def __init__(self, api: Api, name: str, pool: str) -> None:
        self.api, self.name, self.pool = api, name, pool
        self.lock = threading.RLock()
        self.settled = threading.Condition(self.lock)
        self._seen: dict[str, Seen] = {}
        self._all: dict[str, dict[str, dict[str, Any]]] = {"jobs": {}, "pods": {}}
        self._watches = [_Watch(self, kind) for kind in ("jobs", "pods")]

    def begin(self, seconds: float) -> None:
        """Watch, if it does not yet; over when all is known that is there.

        Raises:
            InfrastructureError: it cannot be watched.
        """
        with self.settled:
            for watch in self._watches:
                watch.begin()
            done = self.settled.wait_for(lambda: all(one.is_settled for one in self._watches), seconds)
            faults = [one.fault for one in self._watches if one.fault is not None]
        if faults:
            raise faults[0]
        if not done:
            raise ClusterAway(f"The namespace '{self.name}' cannot be watched", why="no answer in time")

    def close(self) -> None:
        """Watch no longer."""
        for watch in self._watches:
            watch.close()
        with self.lock:
            for seen in self._seen.values():
                seen.changed.notify_all()

    def follow(self, name: str, *, is_new: bool = False) -> Seen:
        """Keep what is seen of a Job until ``drop``; ``is_new`` says that it is about to be made."""
        with self.lock:
            seen = self._seen.get(name)
            if seen is None:
                seen = self._seen[name] = Seen(name, self.lock)
                seen.job = self._all["jobs"].get(name)
                # It may have come and gone before anybody wanted to know.
                seen.is_gone = not is_new and seen.job is None
                for pod in self._all["pods"].values():
                    self._put_pod(pod)
            return seen

    def drop(self, name: str) -> None:
        """What was seen of a Job is not needed any more."""
        with self.lock:
            self._seen.pop(name, None)

    def replace(self, kind: str, names: set[str], objects: Mapping[str, dict[str, Any]]) -> None:
        """What there is now: all of their names, and those that somebody may want to know of."""
        with self.lock:
            for name in self._all[kind].keys() - names:
                self.put(kind, self._all[kind][name], is_there=False)
            for found in objects.values():
                self.put(kind, found, is_there=True)
            for seen in self._seen.values() if kind == "jobs" else ():
                if seen.name not in names:
                    seen.is_gone = True
                    seen.changed.notify_all()

    def wants(self, kind: str, found: Mapping[str, Any]) -> bool:
        """Whether an object is of use: finished ones that nobody follows are many."""
        with self.lock:
            return not is_done(kind, found) or not self._seen.keys().isdisjoint(_owners(kind, found))

    def put(self, kind: str, found: dict[str, Any], *, is_there: bool) -> None:
        """One object as it is, or as it was when it went; call it with ``lock`` held."""
        name = found["metadata"]["name"]
        if is_there and not is_done(kind, found):
            self._all[kind][name] = found
        else:
            self._all[kind].pop(name, None)
        if kind == "pods":
            self._put_pod(found)
        elif (seen := self._seen.get(name)) is not None:
            seen.job = found if is_there else None
            seen.is_gone = not is_there
            seen.changed.notify_all()

    def _put_pod(self, pod: dict[str, Any]) -> None:
        for owner in _owners("pods", pod):
            seen = self._seen.get(owner)
            if seen is not None:
                seen.pods[pod["metadata"]["name"]] = pod
                seen.changed.notify_all()
                return


class _Watch:
    """One kind of object in a namespace, in a thread of its own."""

    def __init__(self, namespace: Namespace, kind: str) -> None:
        self._namespace, self._kind = namespace, kind
        # A Job whose end was taken note of has no holder any more, and is no news.
        own = f"{POOL}={namespace.pool}" + (f",{HOLDER}" if kind == "jobs" else "")
        self._query = {"labelSelector": own} if namespace.pool else {}
        self.is_settled = False
        """It knows all that is there, or that it cannot know it."""
        self.fault: InfrastructureError | None = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._lines: Lines | None = None

    def begin(self) -> None:
        """Watch; one that could not tries again."""
        if self._thread is not None and self.fault is None:
            return
        if self._thread is None or not self._thread.is_alive():
            self.is_settled, self.fault = False, None
            name = f"watch-{self._kind}-{self._namespace.name}"
            self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it."""
        self._over.set()
        lines = self._lines
        if lines is not None:
            lines.interrupt()

    def _go_on(self) -> None:
        pause, version = _PAUSE[0], ""
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                version = version or self._list()
                version = self._read(version)
                pause = _PAUSE[0]
                if time.monotonic() - begun < 1.0:
                    self._over.wait(pause)
                continue
            except Outdated:
                version = ""
                self._over.wait(_PAUSE[0])
                continue
            except ClusterAway as error:
                self._said(error)
            except InfrastructureError as error:
                if not self.is_settled:
                    # Whoever begins it is told; it is tried again with the next Job.
                    self._settle(error)
                    return
                version = ""
                self._said(error)
            except Exception:
                logger.exception("The %s of a namespace could not be read", self._kind)
                version = ""
            self._over.wait(pause)
            pause = min(pause * 2, _PAUSE[1])

    def _said(self, error: InfrastructureError) -> None:
        if not self._over.is_set():
            logger.warning("The %s in '%s' are not heard of now: %s: %s",
                           self._kind, self._namespace.name, error, error.why)  # fmt: skip

    def _settle(self, fault: InfrastructureError | None) -> None:
        with self._namespace.lock:
            self.fault, self.is_settled = fault, True
            self._namespace.settled.notify_all()

    def _list(self) -> str:
        """All that is there; the version from which to watch."""
        found: dict[str, dict[str, Any]] = {}
        names: set[str] = set()
        query = {**self._query, "limit": str(_PAGE)}
        asked = asked_for("list", self._kind, self._namespace.name)
        while True:
            page = self._namespace.api.send(asked, query=query)
            for one in page.get("items") or []:
                names.add(one["metadata"]["name"])
                if self._namespace.wants(self._kind, one):
                    found[one["metadata"]["name"]] = one
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        self._namespace.replace(self._kind, names, found)
        self._settle(None)
        return str(metadata.get("resourceVersion") or "")

    def _read(self, version: str) -> str:
        """Take what happens until the cluster ends it; the version from which to go on.

        Raises:
            Outdated: the version is not known any more.
            ClusterAway: it broke; what was seen is kept, and it goes on from there.
        """
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": f"{WATCH:.0f}",
        }
        asked = asked_for("watch", self._kind, self._namespace.name)
        with self._namespace.api.stream(asked, query=query, timeout=WATCH * 1.5) as lines:
            self._lines = lines
            try:
                for line in lines:
                    if self._over.is_set():
                        break
                    version = self._take(line, version)
            except ClusterAway:
                # The next watch begins after what was heard.
                if not self._over.is_set():
                    self._over.wait(_PAUSE[0])
            finally:
                self._lines = None
        return version

    def _take(self, line: bytes, version: str) -> str:
        try:
            event = json.loads(line)
            kind, found = event["type"], event["object"]
        except (ValueError, KeyError, TypeError):
            # A line that was cut off when the connection broke; it comes again.
            raise ClusterAway("A watch was cut off", why="half a line") from None
        if kind == "ERROR":
            if found.get("code") == 410:
                raise Outdated("The changes since then are not known any more")
            raise ClusterAway("A watch was ended", why=str(found.get("message") or found))
        if kind != "BOOKMARK":
            with self._namespace.lock:
                self._namespace.put(self._kind, found, is_there=kind != "DELETED")
        return str(found["metadata"].get("resourceVersion") or version)


def is_done(kind: str, found: Mapping[str, Any]) -> bool:
    """Whether nothing more happens to a Job or a pod."""
    return is_over(found) if kind == "pods" else end_of(found) is not None


def _owners(kind: str, found: Mapping[str, Any]) -> list[str]:
    """The names of the Job that an object is, or belongs to."""
    metadata = found["metadata"]
    labels = metadata.get("labels") or {}
    return [metadata["name"]] if kind == "jobs" else [str(labels.get(key, "")) for key in JOB_NAMES]
