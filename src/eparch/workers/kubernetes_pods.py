"""What a Job and its pods say of themselves: why one waits, that it is over, and why. Pure.

Owns the words for what happens to pods. Facts:
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eparch.core.model import Value
from eparch.workers.infrastructure import Exit, explain_exit

Object = Mapping[str, Any]

_UNDERWAY = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Why a container waits that only takes its time."""

_SAME = {"ErrImagePull": "ImagePullBackOff"}
"""Reasons between which a kubelet goes to and fro."""

JOB_TIME, POD_TIME = "eparch.io/job-seconds", "eparch.io/pod-seconds"
"""Annotations of a Job with how long it may run, and how long its pod may need to start."""

_MOST = 500
"""Characters of what Kubernetes says that are repeated."""

_DISRUPTIONS = {
    "Evicted": "its pod was evicted",
    "EvictionByEvictionAPI": "its pod was evicted",
    "TerminationByKubelet": "its pod was ended by its node",
    "PreemptionByScheduler": "its pod was preempted by one that is more important",
    "Preempting": "its pod was preempted by one that is more important",
    "DeletionByTaintManager": "the node of its pod was lost or drained",
    "DeletionByPodGC": "the node of its pod was lost",
    "NodeLost": "the node of its pod was lost",
    "NodeShutdown": "the node of its pod was shut down",
    "Shutdown": "the node of its pod was shut down",
    "Terminated": "the node of its pod was shut down",
}
"""Reason of a pod's end, or of its condition DisruptionTarget, in words."""


class Waiting(Value, frozen=True):
    """Why a pod does not run yet."""

    reason: str
    """As Kubernetes calls it: ``Unschedulable``, ``ImagePullBackOff``."""
    message: str
    is_fault: bool
    """Whether it will not pass by waiting, such as an image that is not there."""

    @property
    def text(self) -> str:
        """Both, for people."""
        return f"{self.reason}: {self.message}" if self.message else self.reason


class Patience:
    """How long a Job may run, and may fail to begin; times are seconds of one clock.

    A pod that waits for room, as a cluster that grows lets it, is waited for; one that cannot start as it is,
    or is never made, is not.
    """

    def __init__(self, pod: float, job: float | None) -> None:
        self.pod, self.job = pod, job
        self._begun: float | None = None
        self._fault, self._since = "", 0.0
        """What keeps it from beginning, and since when."""

    @staticmethod
    def of(annotations: Mapping[str, str]) -> Patience:
        """As a Job has it."""
        job = annotations.get(JOB_TIME)
        return Patience(float(annotations.get(POD_TIME) or 60), float(job) if job else None)

    def end_of(self, now: float, job: Object | None, pods: Sequence[Object], waiting: Waiting | None) -> str:
        """Why it is to be ended now; empty if it is not."""
        if self._begun is None or (job is not None and _mapping(job.get("spec")).get("suspend")):
            self._begun = now
        if self.job is not None and now - self._begun >= self.job:
            return f"it ran longer than {self.job:g} seconds (job_watch_timeout_seconds)"
        fault = "" if pods else "no pod"
        if waiting is not None and waiting.is_fault:
            fault = "waiting"
        if fault != self._fault or self._begun == now:
            self._fault, self._since = fault, now
        if not fault or now - self._since < self.pod:
            return ""
        if waiting is None:
            return f"no pod was made for it within {self.pod:g} seconds"
        return f"its pod did not start within {self.pod:g} seconds: {waiting.text}"

    def pause(self, now: float) -> float:
        """Seconds until ``end_of`` may say something else."""
        ends = []
        if self.job is not None and self._begun is not None:
            ends.append(self._begun + self.job)
        if self._fault:
            ends.append(self._since + self.pod)
        return max(min(ends, default=float("inf")) - now, 0.01)


def waiting_of(pod: Object) -> Waiting | None:
    """Why a pod waits; None when it runs, is over, or only takes its time."""
    status = _mapping(pod.get("status"))
    if status.get("phase") not in (None, "Pending"):
        return None
    for condition in _all(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = str(condition.get("reason") or "Unschedulable")
            return Waiting(reason, _line(condition.get("message")), False)
    for container in (*_all(status, "initContainerStatuses"), *_all(status, "containerStatuses")):
        waiting = _mapping(_mapping(container.get("state")).get("waiting"))
        reason = str(waiting.get("reason") or "")
        if reason not in _UNDERWAY:
            return Waiting(_SAME.get(reason, reason), _line(waiting.get("message")), True)
    return None


def has_begun(pod: Object) -> bool:
    """Whether its main container runs or has run."""
    state = _mapping(_main(pod).get("state"))
    return (
        "running" in state or "terminated" in state or "terminated" in _mapping(_main(pod).get("lastState"))
    )


def is_over(pod: Object) -> bool:
    """Whether no container of it runs any more."""
    return _mapping(pod.get("status")).get("phase") in ("Succeeded", "Failed")


def end_of(job: Object) -> str | None:
    """How a Job ended, ``Complete`` or ``Failed``; None while it is not over."""
    for condition in _all(_mapping(job.get("status")), "conditions"):
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return str(condition["type"])
    return None


def main_container(pod: Object) -> str:
    """The name of the container that runs the flow: the first of the pod."""
    return str(next(iter(_all(_mapping(pod.get("spec")), "containers")), {}).get("name") or "")


def exit_of(job: Object | None, pods: Sequence[Object], stderr: str, stopped: str = "") -> Exit:
    """How a Job ended; ``job`` is None when it was deleted, ``stopped`` says by whom if that is known.

    ``pods`` are as they were last seen, the oldest first; the last one counts.
    """
    pod = pods[-1] if pods else None
    code = code_of(pod) if pod is not None else None
    if job is not None and end_of(job) == "Complete":
        return Exit(code=0, stderr=stderr)
    reason = (_why(pod, code) if pod is not None else "") or stopped
    failed = _failure(job) if job is not None else {}
    said = _line(failed.get("message"))
    if failed.get("reason") == "DeadlineExceeded":
        reason = "it ran longer than its Job may (activeDeadlineSeconds)"
    elif not reason and job is None:
        reason = "its Job was deleted while it ran"
    elif not reason and code is None:
        reason = f"its Job failed: {said}" if said else "its pod is gone, and nobody knows why"
    return Exit(code=code, stderr=stderr, reason=reason)


def code_of(pod: Object) -> int | None:
    """The exit code of its main container, or of the one before it that failed."""
    for before in _all(_mapping(pod.get("status")), "initContainerStatuses"):
        if _number(_ended(before).get("exitCode")):
            return _number(_ended(before).get("exitCode"))
    return _number(_ended(_main(pod)).get("exitCode"))


def _why(pod: Object, code: int | None) -> str:
    """What is to be said of the end of a pod; empty where its exit code says it all."""
    status = _mapping(pod.get("status"))
    container, ended = _main(pod), _ended(_main(pod))
    if ended.get("reason") == "OOMKilled":
        limit = _limit(pod)
        told = f", its memory limit is {limit}" if limit else ""
        return f"it ran out of memory (exit code {code}{told})"
    said = _line(status.get("message"))
    for condition in _all(status, "conditions"):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            found = _DISRUPTIONS.get(str(condition.get("reason")), "its pod was disrupted")
            return _with(found, said or _line(condition.get("message")))
    reason = str(status.get("reason") or "")
    if reason in _DISRUPTIONS:
        return _with(_DISRUPTIONS[reason], said)
    if reason == "DeadlineExceeded":
        return "it ran longer than its pod may (activeDeadlineSeconds)"
    for one in _all(status, "initContainerStatuses"):
        before = _ended(one)
        if before and before.get("exitCode") not in (0, None):
            what = f"{one.get('name')}: {explain_exit(code)}"
            return _with(f"its init container failed, {what}", _line(before.get("message")))
    if ended.get("reason") in ("ContainerCannotRun", "StartError"):
        return _with("its container could not be started", _line(ended.get("message")))
    if not ended and (wait := _mapping(_mapping(container.get("state")).get("waiting"))).get("reason"):
        return _with(str(wait["reason"]), _line(wait.get("message"))) if reason or said else ""
    if said or (reason and code is None):
        return _with(f"its pod failed ({reason or explain_exit(code)})", said)
    return ""


def _with(text: str, said: str) -> str:
    return f"{text}: {said}" if said else text


def _failure(job: Object) -> Object:
    for condition in _all(_mapping(job.get("status")), "conditions"):
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            return condition
    return {}


def _main(pod: Object) -> Object:
    name = main_container(pod)
    for container in _all(_mapping(pod.get("status")), "containerStatuses"):
        if container.get("name") == name:
            return container
    return {}


def _ended(container: Object) -> Object:
    state, last = _mapping(container.get("state")), _mapping(container.get("lastState"))
    return _mapping(state.get("terminated")) or _mapping(last.get("terminated"))


def _limit(pod: Object) -> str:
    first = next(iter(_all(_mapping(pod.get("spec")), "containers")), {})
    return str(_mapping(_mapping(first.get("resources")).get("limits")).get("memory") or "")


def _mapping(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}


def _all(value: Object, key: str) -> list[Object]:
    found = value.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _line(text: Any) -> str:
    return " ".join(str(text or "").split())[:_MOST].rstrip(".")
