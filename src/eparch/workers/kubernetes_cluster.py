"""One cluster as a worker uses it: what is asked of Jobs and pods there, and which namespaces are watched.

Owns the requests and their answers; each may be made again. Does not own when they are made.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import threading
from typing import Any

from eparch.core.errors import InfrastructureError
from eparch.workers.kubernetes_api import Api, asked_for
from eparch.workers.kubernetes_faults import Denied, Missing
from eparch.workers.kubernetes_watch import JOB_NAMES, Namespace

logger = logging.getLogger("eparch.worker")

CLUSTER_UID = ("EPARCH_KUBERNETES_CLUSTER_UID", "PREFECT_KUBERNETES_CLUSTER_UID")
"""Environment variables with the cluster's name in handles, for a worker that may not read kube-system."""

_PAGE = "500"
_GRACE = 30
"""Seconds between SIGTERM and SIGKILL for a pod that does not say how many."""


class Cluster:
    """A cluster and what is watched of it; for any number of threads.

    Raises:
        ClusterAway: it cannot be reached; so does every method.
        InfrastructureError: it refuses.
    """

    def __init__(self, api: Api, *, is_default: bool) -> None:
        self.api = api
        self.uid = _uid_of(api, is_default=is_default)
        self._lock = threading.Lock()
        self._namespaces: dict[tuple[str, str], Namespace] = {}

    def namespace(self, name: str, pool: str) -> Namespace:
        """What is watched of a namespace for a pool."""
        with self._lock:
            known = self._namespaces.get((name, pool))
            if known is None:
                known = self._namespaces[name, pool] = Namespace(self.api, name, pool)
            return known

    def close(self) -> None:
        """Watch nothing any more."""
        with self._lock:
            namespaces = list(self._namespaces.values())
        for namespace in namespaces:
            namespace.close()
        self.api.close()

    def read(self, space: str, name: str) -> dict[str, Any] | None:
        """A Job; None if it is not there."""
        try:
            return self.api.send(asked_for("get", "jobs", space, name))
        except Missing:
            return None

    def pods_of(self, space: str, name: str) -> list[dict[str, Any]]:
        """The pods of a Job."""
        query = {"labelSelector": f"{JOB_NAMES[1]}={name}"}
        return list(self.api.send(asked_for("list", "pods", space), query=query).get("items") or [])

    def jobs(self, selector: str) -> list[dict[str, Any]]:
        """The Jobs of all namespaces; who may not see them sees its own and those that it used."""
        with self._lock:
            used = {space for space, _ in self._namespaces}
        try:
            return self._listed(None, selector)
        except Denied:
            spaces = sorted({self.api.access.namespace, *used})
            return [job for space in spaces for job in self._listed(space, selector)]

    def left_of(self, space: str, name: str) -> list[str]:
        """What there is of a Job, for people."""
        pods = [f"the pod {pod['metadata']['name']}" for pod in self.pods_of(space, name)]
        return pods or (["the Job"] if self.read(space, name) is not None else [])

    def remove(self, space: str, name: str) -> None:
        """Delete a Job that has not begun; one that is not there is not an error."""
        with contextlib.suppress(Missing):
            body = _options(propagationPolicy="Background")
            self.api.send(asked_for("delete", "jobs", space, name), body=body)

    def end(self, space: str, name: str, grace: float) -> None:
        """Let the Job and its pods be deleted, the pods within ``grace`` seconds or their own, if those are
        fewer.
        """
        with contextlib.suppress(Missing):
            body = _options(propagationPolicy="Foreground")
            self.api.send(asked_for("delete", "jobs", space, name), body=body)
        # Zero would only forget the pods, not end them.
        seconds = max(1, math.ceil(grace))
        for pod in self.pods_of(space, name):
            if seconds >= (pod.get("spec") or {}).get("terminationGracePeriodSeconds", _GRACE):
                continue
            asked = asked_for("delete", "pods", space, pod["metadata"]["name"])
            try:
                self.api.send(asked, body=_options(gracePeriodSeconds=seconds))
            except Missing:
                continue
            except Denied as error:
                logger.warning("The pods end in their own time, not in %g seconds: %s", grace, error)
                return

    def why_no_pod(self, space: str, name: str) -> str:
        """What the cluster said last when it could not make a pod, such as a quota that is used up."""
        query = {"fieldSelector": f"involvedObject.kind=Job,involvedObject.name={name}"}
        try:
            answer = self.api.send(asked_for("list", "events", space), query=query)
        except InfrastructureError:
            return ""
        said = [str(one.get("message")) for one in answer.get("items") or [] if one.get("type") == "Warning"]
        return f": {' '.join(said[-1].split())[:500]}" if said else ""

    def _listed(self, space: str | None, selector: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": _PAGE}
        while True:
            page = self.api.send(asked_for("list", "jobs", space), query=query)
            found += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return found
            query["continue"] = more


def _options(**options: str | int) -> dict[str, Any]:
    """How something is to be deleted."""
    return {"apiVersion": "v1", "kind": "DeleteOptions", **options}


def _uid_of(api: Api, *, is_default: bool) -> str:
    """What a cluster is called in handles, as Prefect's worker calls it: the uid of kube-system.

    One of which that may not be read is told apart by its address.
    """
    for name in CLUSTER_UID if is_default else ():
        if os.environ.get(name):
            return os.environ[name].replace(":", "-")
    try:
        return str(api.send(asked_for("get", "namespaces", None, "kube-system"))["metadata"]["uid"])
    except (Denied, Missing, KeyError):
        return f"at-{hashlib.sha256(api.access.url.encode()).hexdigest()[:12]}"
