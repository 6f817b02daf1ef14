"""Runs as Jobs of Kubernetes.

Owns the life of a Job: created behind a gate, recorded, let go, watched, stopped, taken over from a worker
that is gone. What a Job is made of is in ``kubernetes_jobs``, the cluster in ``kubernetes_cluster``, what its
pods say in ``kubernetes_pods``.

Exactly once (rows W15, W22): a Job is created suspended, so that the cluster makes no pod of it; its handle
is recorded on the run; only then is it let go. Its name ends in a random text of its start, so a request
whose answer was lost and that is sent again finds its own Job (409, same label) instead of making a second
one. A Job that was never let go is deleted by whoever takes it over.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from eparch.core.errors import EparchError, InfrastructureError
from eparch.core.infrastructure_types import read_type
from eparch.core.model import Json, encode
from eparch.workers.infrastructure import Exit, Infrastructure
from eparch.workers.kubernetes_access import find_access
from eparch.workers.kubernetes_api import Api, asked_for
from eparch.workers.kubernetes_cluster import Cluster
from eparch.workers.kubernetes_faults import ClusterAway, Missing, Taken
from eparch.workers.kubernetes_holding import Holder
from eparch.workers.kubernetes_jobs import (
    GATE,
    HOLDER,
    HOST,
    POOL,
    START,
    UNLEASED,
    ClusterConfig,
    KubernetesJob,
    gated,
    is_gated,
    labels_in,
    read_job,
    selector_of,
)
from eparch.workers.kubernetes_output import Output
from eparch.workers.kubernetes_pods import (
    JOB_TIME,
    POD_TIME,
    Patience,
    Waiting,
    code_of,
    end_of,
    exit_of,
    waiting_of,
)
from eparch.workers.kubernetes_watch import Namespace, Seen
from eparch.workers.waiting_out import patiently

T = TypeVar("T")

logger = logging.getLogger("eparch.worker")

SILENT = "eparch.io/silent"
"""Annotation by which a worker that takes a Job over knows that its output is not shown."""

_LEASE = "eparch.io/lease-seconds"
_STARTING = 30.0
"""Seconds for which a start waits for a cluster that does not answer."""

_KILLED = 60.0
"""Seconds after its grace after which a pod that is still there is given up."""

_LOOK = 1.0
"""Seconds between two looks at a Job that is being deleted."""

_REMEMBERED = 100
"""Jobs that are over and whose exit is still known."""

_STOPPED = "it was stopped by its worker"

_TERM = 128 + 15
"""Exit code of what was stopped and did not say how it ended."""

_SURE = 300.0
"""Seconds without news after which the cluster is asked whether a Job is there still."""

_TYPE = read_type("kubernetes")


class KubernetesInfrastructure(Infrastructure[KubernetesJob]):
    """Jobs are Kubernetes Jobs. One that is suspended is the gate before user code (row W22)."""

    type: ClassVar[str] = "kubernetes"
    display_name: ClassVar[str] = _TYPE.display_name
    description: ClassVar[str] = _TYPE.description
    base_job_template: ClassVar[dict[str, Json]] = _TYPE.default_base_job_configuration

    def __init__(self) -> None:
        self._holder = Holder()
        self._clock = time.monotonic
        self._lock = threading.Lock()
        self._clusters: dict[str, Cluster] = {}
        self._watched: dict[str, Future[Exit]] = {}
        self._stopped: set[str] = set()

    def render(self, job: Mapping[str, Json]) -> KubernetesJob:
        """The Job that a job configuration describes."""
        return read_job(job)

    def start(self, config: KubernetesJob, recorded: Callable[[str], None]) -> str:
        """Create a suspended Job, record it and let it go."""
        cluster = _patiently(lambda: self._cluster(config.cluster_config), _STARTING)
        namespace = cluster.namespace(config.namespace, config.pool)
        namespace.begin(_STARTING)
        marks = _patiently(
            lambda: self._holder.begin(cluster.api, config.namespace, _lease_of(config.labels)), _STARTING
        )
        marks |= _marks(config)
        manifest, name = self._create(cluster, namespace, config, marks)
        handle = f"{cluster.uid}:{config.namespace}:{name}"
        try:
            recorded(handle)
            if is_gated(manifest):
                self._let_go(cluster, config.namespace, name)
        except BaseException:
            with contextlib.suppress(EparchError):
                cluster.remove(config.namespace, name)
            namespace.drop(name)
            raise
        return handle

    def watch(self, handle: str) -> Exit:
        """Wait until the Job is over; its output is shown meanwhile, and why it does not begin is told.

        A cluster that does not answer is waited for: the Job goes on without us.
        """
        with self._lock:
            known = self._watched.get(handle)
            future = known or Future()
            if known is None:
                self._forget_oldest()
                self._watched[handle] = future
        if known is None:
            try:
                future.set_result(self._follow(handle))
            except BaseException as error:
                with self._lock:
                    del self._watched[handle]
                future.set_exception(error)
        return future.result()

    def stop(self, handle: str, grace: float) -> None:
        """Delete the Job and its pods: SIGTERM, then SIGKILL; over when the cluster has none of them."""
        found = self._find(handle)
        if found is None:
            return
        cluster, space, name = found
        job = _patiently(lambda: cluster.read(space, name), _KILLED)
        if job is None:
            return
        with self._lock:
            self._stopped.add(handle)
        namespace = cluster.namespace(space, _pool_of(job))
        seen = namespace.follow(name)
        try:
            # Who listens hears how the pods ended; who may not watch only hears that they are gone.
            with contextlib.suppress(InfrastructureError):
                namespace.begin(_LOOK)
            _patiently(lambda: cluster.end(space, name, grace), _KILLED)
            self._wait_gone(cluster, space, seen, grace)
            with self._lock:
                known = handle in self._watched
                if not known:
                    self._forget_oldest()
                    self._watched[handle] = future = Future[Exit]()
                    told = exit_of(None, seen.in_order(), "", _STOPPED)
                    future.set_result(told if told.code is not None else Exit(code=_TERM, reason=_STOPPED))
        finally:
            if not self._is_watched(handle):
                namespace.drop(name)

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Jobs that are not over, and those whose end nobody has taken note of, in every namespace that may
        be seen.
        """
        found = []
        for cluster in self._known():
            for job in cluster.jobs(selector_of(labels)):
                if _is_there(job) and labels.items() <= labels_in(job).items():
                    metadata = job["metadata"]
                    found.append(f"{cluster.uid}:{metadata['namespace']}:{metadata['name']}")
        return sorted(set(found))

    def labels_of(self, handle: str) -> dict[str, str]:
        """The labels of the Job, as they were before they were made legal."""
        found = self._find(handle)
        job = found[0].read(*found[1:]) if found is not None else None
        return labels_in(job) if job is not None and _is_there(job) else {}

    def adopt(self, handle: str) -> bool:
        """Hold a Job whose worker is gone, whatever machine it was on; of two who try, one has it."""
        found = self._find(handle)
        if found is None or self._is_watched(handle):
            return False
        cluster, space, name = found
        job = cluster.read(space, name)
        if job is None or not _is_there(job) or not self._holder.is_gone(cluster.api, job):
            return False
        marks = self._holder.begin(cluster.api, space, _lease_of(labels_in(job)))
        namespace = cluster.namespace(space, _pool_of(job))
        namespace.begin(_STARTING)
        body = {
            "metadata": {
                "resourceVersion": job["metadata"]["resourceVersion"],
                "labels": {HOLDER: self._holder.id},
                "annotations": {HOST: None, UNLEASED: None, **marks},
            }
        }
        try:
            cluster.api.send(asked_for("patch", "jobs", space, name), body=body)
        except (Taken, Missing):
            return False
        namespace.follow(name)
        return True

    def close(self) -> None:
        """Let others take over what is held, and leave the clusters."""
        self._holder.close()
        with self._lock:
            clusters = list(self._clusters.values())
        for cluster in clusters:
            cluster.close()

    # Start

    def _create(
        self, cluster: Cluster, namespace: Namespace, config: KubernetesJob, marks: Mapping[str, str]
    ) -> tuple[dict[str, Any], str]:
        """Make the Job, once however often it is asked for; the Job and its name."""
        for _ in range(3):
            start = uuid4().hex
            manifest = gated(config, start, self._holder.id, marks)
            name = manifest["metadata"]["name"]

            def create(
                manifest: Any = manifest, name: str = name, start: str = start
            ) -> dict[str, Any] | None:
                asked = asked_for("create", "jobs", config.namespace)
                try:
                    return cluster.api.send(asked, body=manifest)
                except Taken:
                    there = cluster.read(config.namespace, name)
                    ours = there is not None and there["metadata"].get("labels", {}).get(START) == start
                    return there if ours else None

            # Before it is there, so that nothing of it is missed.
            seen = namespace.follow(name, is_new=True)
            try:
                made = _patiently(create, _STARTING)
            except ClusterAway:
                # It may have been made although nobody heard of it; it is suspended and never runs.
                namespace.drop(name)
                with contextlib.suppress(EparchError):
                    cluster.remove(config.namespace, name)
                raise
            except BaseException:
                namespace.drop(name)
                raise
            if made is not None:
                with seen.changed:
                    seen.job = seen.job or made
                return made, name
            namespace.drop(name)
            if "name" in config.manifest["metadata"]:
                raise InfrastructureError(
                    f"There is a Job '{name}' in the namespace '{config.namespace}' already",
                    why="the pool's job_manifest gives every Job the same 'metadata.name'",
                    fix="write 'generateName' instead of 'name', or delete the Job",
                )
        raise InfrastructureError("No name was free for the Job", why=f"the last one tried is '{name}'")

    def _let_go(self, cluster: Cluster, space: str, name: str) -> None:
        body = {"spec": {"suspend": False}, "metadata": {"annotations": {GATE: None}}}
        try:
            _patiently(
                lambda: cluster.api.send(asked_for("patch", "jobs", space, name), body=body), _STARTING
            )
        except Missing:
            raise InfrastructureError(
                "The Job was deleted before it began", why=f"there is no Job '{name}' in '{space}' any more"
            ) from None

    # End

    def _follow(self, handle: str) -> Exit:
        found = self._find(handle)
        if found is None:
            return Exit(code=None, reason="its handle is not one of a Job")
        cluster, space, name = found
        job = _patiently(lambda: cluster.read(space, name), float("inf"))
        if job is None:
            return Exit(code=None, reason="its Job is not there any more")
        if is_gated(job):
            # Its worker went away before it was recorded; whoever has the run now starts another.
            cluster.remove(space, name)
            return Exit(code=None, reason="its Job was never let go")
        namespace = cluster.namespace(space, _pool_of(job))
        seen = namespace.follow(name)
        _patiently(lambda: namespace.begin(_STARTING), float("inf"))
        annotations = job["metadata"].get("annotations") or {}
        output = Output(cluster.api, space, show=SILENT not in annotations)
        try:
            reason = self._wait_over(cluster, space, handle, seen, output, Patience.of(annotations))
            self._last_look(cluster, space, seen)
            output.look(seen.in_order())
            stderr = output.finish()
            if reason:
                return Exit(
                    code=code_of(seen.in_order()[-1]) if seen.pods else None, stderr=stderr, reason=reason
                )
            return exit_of(seen.job, seen.in_order(), stderr, _STOPPED if handle in self._stopped else "")
        finally:
            output.finish()
            namespace.drop(name)
            with self._lock:
                self._stopped.discard(handle)

    def _wait_over(
        self, cluster: Cluster, space: str, handle: str, seen: Seen, output: Output, patience: Patience
    ) -> str:
        """Wait until the Job is over or has to be ended; why it was ended, if it was."""
        told, sure = "", self._clock()
        while True:
            with seen.changed:
                pods, job, is_gone = seen.in_order(), seen.job, seen.is_gone
            if job is not None and end_of(job):
                return ""
            if is_gone or self._clock() - sure > _SURE:
                sure = self._clock()
                if self._is_gone(cluster, space, seen):
                    return ""
                continue
            output.look(pods)
            waiting = waiting_of(pods[-1]) if pods else None
            reason = patience.end_of(self._clock(), job, pods, waiting)
            if reason:
                if not pods:
                    reason += cluster.why_no_pod(space, seen.name)
                logger.warning("The Job %s is ended: %s", seen.name, reason)
                self._give_up(handle, cluster, space, seen)
                return reason
            told = self._tell_waiting(handle, waiting, told)
            with seen.changed:
                if seen.job is job and seen.is_gone == is_gone and seen.in_order() == pods:
                    seen.changed.wait(min(patience.pause(self._clock()), _SURE))

    def _tell_waiting(self, handle: str, waiting: Waiting | None, told: str) -> str:
        """Say why it does not begin, once for each reason (row W21)."""
        if waiting is None or waiting.reason == told or self.on_waiting is None:
            return told
        self.on_waiting(handle, waiting.text)
        return waiting.reason

    def _give_up(self, handle: str, cluster: Cluster, space: str, seen: Seen) -> None:
        try:
            cluster.end(space, seen.name, 0.0)
            self._wait_gone(cluster, space, seen, 0.0)
        except InfrastructureError as error:
            logger.warning("The Job %s was not ended: %s", handle, error)

    def _is_gone(self, cluster: Cluster, space: str, seen: Seen) -> bool:
        """Whether a Job of which the watch says so was deleted; a watch that is behind may be wrong."""
        job = _patiently(lambda: cluster.read(space, seen.name), float("inf"))
        with seen.changed:
            seen.job, seen.is_gone = job, job is None
        return job is None

    def _last_look(self, cluster: Cluster, space: str, seen: Seen) -> None:
        """Take note of the end, and of the pods as they are then: their watch may be behind that of Jobs."""
        try:
            pods = _patiently(lambda: cluster.pods_of(space, seen.name), _STARTING)
        except InfrastructureError as error:
            logger.warning("How the pods of %s ended is not known: %s", seen.name, error)
            pods = []
        with seen.changed:
            for pod in pods:
                seen.pods[pod["metadata"]["name"]] = pod
        if seen.job is None:
            return
        with contextlib.suppress(InfrastructureError):
            body = {"metadata": {"labels": {HOLDER: None}}}
            cluster.api.send(asked_for("patch", "jobs", space, seen.name), body=body)

    def _wait_gone(self, cluster: Cluster, space: str, seen: Seen, grace: float) -> None:
        end = time.monotonic() + grace + _KILLED
        while True:
            left = _patiently(lambda: cluster.left_of(space, seen.name), _KILLED)
            if not left:
                return
            if time.monotonic() > end:
                raise InfrastructureError(
                    f"The Job '{seen.name}' does not end",
                    why=f"it was deleted, and there is still {', '.join(left)}; its node may be lost",
                    fix=f"look at it with: kubectl -n {space} describe pods -l job-name={seen.name}",
                )
            with seen.changed:
                seen.changed.wait(_LOOK)

    # Clusters

    def _cluster(self, config: ClusterConfig | None) -> Cluster:
        """The cluster of a job; one that is used already is not read again."""
        key = hashlib.sha256(encode(config)).hexdigest() if config is not None else ""
        with self._lock:
            known = self._clusters.get(key)
        if known is not None:
            return known
        api = Api(find_access(config, os.environ))
        made = Cluster(api, is_default=config is None)
        with self._lock:
            return self._clusters.setdefault(key, made)

    def _known(self) -> list[Cluster]:
        """The clusters that were used, and the worker's own if it has one.

        Raises:
            InfrastructureError: there is none.
        """
        with self._lock:
            known = list(self._clusters.values())
            if "" in self._clusters:
                return known
        try:
            return [*known, self._cluster(None)]
        except InfrastructureError:
            # Every job of the pool may bring its own cluster.
            if not known:
                raise
            return known

    def _find(self, handle: str) -> tuple[Cluster, str, str] | None:
        """Where a Job is; None if the text is no handle of a Job.

        Raises:
            InfrastructureError: it is in a cluster that this worker does not know.
        """
        uid, _, rest = handle.partition(":")
        space, colon, name = rest.partition(":")
        if not (uid and space and colon and name) or ":" in name:
            return None
        for cluster in _patiently(self._known, _STARTING):
            if cluster.uid == uid:
                return cluster, space, name
        raise InfrastructureError(
            f"The Job '{name}' cannot be reached",
            why=f"it is in the cluster '{uid}', which this worker does not use",
            fix="let a worker of that cluster do it, or give it that cluster in KUBECONFIG",
        )

    def _is_watched(self, handle: str) -> bool:
        with self._lock:
            return handle in self._watched and not self._watched[handle].done()

    def _forget_oldest(self) -> None:
        over = [handle for handle, future in self._watched.items() if future.done()]
        for handle in over[:-_REMEMBERED]:
            del self._watched[handle]


def _marks(config: KubernetesJob) -> dict[str, str]:
    """What another worker has to know of a Job."""
    marks = {POD_TIME: f"{config.pod_watch_timeout_seconds:g}"}
    if config.job_watch_timeout_seconds is not None:
        marks[JOB_TIME] = f"{config.job_watch_timeout_seconds:g}"
    if not config.stream_output:
        marks[SILENT] = "true"
    return marks


def _lease_of(labels: Mapping[str, str]) -> float:
    """Seconds that the claim of a job lasts."""
    try:
        return float(labels[_LEASE])
    except (KeyError, ValueError):
        return 30.0


def _pool_of(job: Mapping[str, Any]) -> str:
    """By what a Job is watched; empty for one that no worker of ours made."""
    return str((job["metadata"].get("labels") or {}).get(POOL) or "")


def _is_there(job: Mapping[str, Any]) -> bool:
    """Whether it is a job still: until its end was taken note of, or until it is deleted."""
    metadata = job["metadata"]
    return "deletionTimestamp" not in metadata and (
        end_of(job) is None or HOLDER in (metadata.get("labels") or {})
    )


def _patiently(ask: Callable[[], T], seconds: float) -> T:
    return patiently(ask, seconds, ClusterAway)
