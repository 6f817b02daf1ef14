"""Which worker looks after a Job, and whether that worker lives (rows W16, W17).

Owns the Lease of a worker in each namespace that it uses, renewed while it lives, and the judgement on those
of others. On one machine a lock tells it at once; from another a Lease that is not renewed tells it later.
Clocks of machines are never compared. Does not own what is done with a Job whose worker is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from eparch.core.errors import InfrastructureError
from eparch.workers.kubernetes_api import Api, asked_for
from eparch.workers.kubernetes_faults import Denied, Missing, Taken
from eparch.workers.kubernetes_jobs import HOLDER, HOST, UNLEASED
from eparch.workers.places import own_folder

logger = logging.getLogger("eparch.worker")

_PREFIX = "eparch-worker-"
_ID = re.compile(r"[0-9a-f]{32}")


class Holder:
    """This worker as the owner of Jobs: an id that lives as long as the process, and its Leases."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.id = uuid4().hex
        self.host = socket.gethostname()
        self._clock = clock
        self._lock = threading.Lock()
        self._file = -1
        self._leases: dict[tuple[str, str], tuple[Api, float]] = {}
        self._denied: set[tuple[str, str]] = set()
        self._known: dict[str, tuple[str, float]] = {}
        """Id of another worker -> its Lease's last renewal as it says it, and when that was first seen."""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, api: Api, namespace: str, claim_seconds: float) -> dict[str, str]:
        """Be there, before a Job is; the annotations that say so.

        A Lease ends well before a claim does, so that another worker can renew the claim in time.

        Raises:
            InfrastructureError: the cluster cannot be asked.
        """
        self._hold()
        key, marks = (api.access.url, namespace), {HOST: self.host}
        with self._lock:
            if key in self._denied:
                return {**marks, UNLEASED: "true"}
            if key in self._leases:
                return marks
        seconds = max(1.0, claim_seconds / 3)
        try:
            self._write(api, namespace, seconds, is_new=True)
        except Denied as error:
            logger.warning("Jobs can be taken over only by a worker on this machine: %s", error)
            with self._lock:
                self._denied.add(key)
            return {**marks, UNLEASED: "true"}
        with self._lock:
            self._leases[key] = (api, seconds)
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._thread.start()
        return marks

    def is_gone(self, api: Api, job: Mapping[str, Any]) -> bool:
        """Whether the worker that holds a Job does not live any more, as far as can be known.

        Raises:
            InfrastructureError: the cluster cannot be asked.
        """
        metadata = job["metadata"]
        holder = str((metadata.get("labels") or {}).get(HOLDER) or "")
        annotations = metadata.get("annotations") or {}
        if not _ID.fullmatch(holder) or holder == self.id:
            return False
        is_here = annotations.get(HOST) == self.host
        is_locked = _is_locked(holder) if is_here else None
        if is_locked is not None:
            return not is_locked
        if UNLEASED in annotations:
            return is_here
        try:
            lease = api.send(asked_for("get", "leases", metadata["namespace"], _PREFIX + holder))
        except Missing:
            return True
        except Denied:
            return False
        return self._is_expired(holder, lease.get("spec") or {})

    def close(self) -> None:
        """Let others take over, at once."""
        self._over.set()
        with self._lock:
            leases, self._leases = self._leases, {}
            file, self._file = self._file, -1
        for (_, namespace), (api, _) in leases.items():
            with contextlib.suppress(InfrastructureError):
                api.send(asked_for("delete", "leases", namespace, _PREFIX + self.id))
        if file >= 0:
            with contextlib.suppress(FileNotFoundError):
                _path(self.id).unlink()
            os.close(file)

    def _is_expired(self, holder: str, spec: Mapping[str, Any]) -> bool:
        renewed, now = str(spec.get("renewTime") or ""), self._clock()
        last, since = self._known.get(holder, ("", now))
        if renewed != last:
            since = now
        self._known[holder] = (renewed, since)
        return now - since > float(spec.get("leaseDurationSeconds") or 15)

    def _hold(self) -> None:
        with self._lock:
            if self._file < 0:
                self._file = os.open(_path(self.id), os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _renew(self) -> None:
        while True:
            with self._lock:
                leases = list(self._leases.items())
            if self._over.wait(min((seconds for _, (_, seconds) in leases), default=1.0) / 3):
                return
            for (_, namespace), (api, seconds) in leases:
                try:
                    self._write(api, namespace, seconds, is_new=False)
                except InfrastructureError as error:
                    logger.warning("The worker's lease in '%s' was not renewed: %s", namespace, error)

    def _write(self, api: Api, namespace: str, seconds: float, *, is_new: bool) -> None:
        name, now = _PREFIX + self.id, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": f"{self.host}/{self.id}",
            "leaseDurationSeconds": math.ceil(seconds),
            "renewTime": now,
        }
        if not is_new:
            with contextlib.suppress(Missing):
                api.send(asked_for("patch", "leases", namespace, name), body={"spec": spec})
                return
        if self._over.is_set():
            return
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace, "labels": {HOLDER: self.id}},
            "spec": spec,
        }
        try:
            api.send(asked_for("create", "leases", namespace), body=body)
        except Taken:
            # The answer to the first attempt was lost.
            return


def _is_locked(holder: str) -> bool | None:
    """Whether a process of this machine has the lock of that worker; None if nobody has left one."""
    try:
        file = os.open(_path(holder), os.O_RDWR)
    except FileNotFoundError:
        # It was closed, its container was started anew, or another container has the name of this one.
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _path(holder: str) -> Path:
    return own_folder() / f"kubernetes-{holder}"
