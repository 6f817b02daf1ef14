"""Pods that run their command as a process of this machine, and the controller that makes them for Jobs.

Owns what a kubelet and the Job controller of a cluster do, as far as workers see it. Runs no image: a command
is taken from this machine. Does not own the objects.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from eparch.testing.kubernetes_objects import Key, Object, Objects, Refused, is_image, now

_TICK = 0.02


class Log:
    """What a container wrote, each line with its time."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.lines: list[tuple[datetime, bytes]] = []
        self.is_over = False

    def read(self, stream: Any) -> None:
        """Take all that comes."""
        for line in stream:
            with self.changed:
                self.lines.append((datetime.now(UTC), line))
                self.changed.notify_all()
        with self.changed:
            self.is_over = True
            self.changed.notify_all()


class Kubelet:
    """Runs pods, and makes those of Jobs; in one thread, with one more for the output of each pod."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self.objects, self.folder = objects, folder
        self.missing_images: set[str] = set()
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}
        self.no_room = ""
        """Why no pod finds a node; empty if all do."""
        self.quota = ""
        """Why no pod may be made; empty if all may."""
        self.stuck = False
        """Whether pods that are deleted stay, as on a node that is lost."""
        self.logs: dict[str, Log] = {}
        self._running: dict[Key, subprocess.Popen[bytes]] = {}
        self._killed_at: dict[Key, float] = {}
        self._why: dict[Key, dict[str, Any]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="kubelet", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every process."""
        self._over.set()
        self._thread.join(60)
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self, pod: Key, status: dict[str, Any], *, reason: str = "Error") -> None:
        """Let a pod end for a reason of the cluster: ``status`` is the pod's, ``reason`` its container's."""
        self._why[pod] = {"reason": reason, "status": status}
        process = self._running.get(pod)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _go_on(self) -> None:
        while not self._over.is_set():
            with self.objects.changed:
                version = self.objects.version
            for job in self.objects.find("jobs", None):
                self._control(job)
            for pod in self.objects.find("pods", None):
                self._care(pod)
            with self.objects.changed:
                if self.objects.version == version:
                    self.objects.changed.wait(_TICK)

    # Jobs

    def _control(self, job: Object) -> None:
        metadata, spec, status = job["metadata"], job["spec"], job.get("status") or {}
        key = Key("jobs", metadata["namespace"], metadata["name"])
        pods = self.objects.find("pods", key.namespace, f"job-name={key.name}")
        if "deletionTimestamp" in metadata:
            for pod in pods:
                self.delete_pod(Key("pods", key.namespace, pod["metadata"]["name"]), None)
            if not pods:
                self.objects.remove(key)
            return
        if spec.get("suspend") or status.get("conditions"):
            return
        phases = [(pod.get("status") or {}).get("phase") for pod in pods]
        if "Succeeded" in phases:
            self._conclude(key, "Complete", "")
        elif phases.count("Failed") > spec.get("backoffLimit", 6):
            self._conclude(key, "Failed", "BackoffLimitExceeded")
        elif all(phase == "Failed" for phase in phases):
            self._make_pod(key, job)

    def _conclude(self, key: Key, kind: str, reason: str) -> None:
        said = {"message": "Job has reached the specified backoff limit"} if reason else {}
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now(), **said}
        self._change(key, lambda job: job.setdefault("status", {}).update(conditions=[condition]))

    def _make_pod(self, key: Key, job: Object) -> None:
        if self.quota:
            name = f"{key.name}.quota"
            event = {
                "metadata": {"name": name}, "type": "Warning", "reason": "FailedCreate",
                "message": self.quota,
                "involvedObject": {"kind": "Job", "name": key.name},
            }  # fmt: skip
            with contextlib.suppress(Refused):
                self.objects.create(Key("events", key.namespace, name), event)
            return
        template = job["spec"]["template"]
        labels = {**(template.get("metadata") or {}).get("labels", {}), "job-name": key.name}
        name = f"{key.name}-{uuid4().hex[:5]}"
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": key.name,
            "uid": job["metadata"]["uid"],
            "controller": True,
        }
        pod = {
            "metadata": {
                "name": name,
                "labels": {**labels, "batch.kubernetes.io/job-name": key.name},
                "ownerReferences": [owner],
            },
            "spec": {"terminationGracePeriodSeconds": 30, **template["spec"]},
            "status": {"phase": "Pending"},
        }
        with contextlib.suppress(Refused):
            self.objects.create(Key("pods", key.namespace, name), pod)

    # Pods

    def delete_pod(self, key: Key, grace: int | None) -> None:
        """Mark it; an earlier end than one asked for before counts."""

        def mark(pod: Object) -> None:
            seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
            before = pod["metadata"].get("deletionGracePeriodSeconds")
            if before is None or seconds < before:
                pod["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": seconds}

        self._change(key, mark)

    def _care(self, pod: Object) -> None:
        metadata = pod["metadata"]
        key = Key("pods", metadata["namespace"], metadata["name"])
        process = self._running.get(key)
        if process is not None:
            if process.poll() is not None:
                self._ended(key, process)
            elif "deletionTimestamp" in metadata and not self.stuck:
                self._terminate(key, process, metadata["deletionGracePeriodSeconds"])
        elif "deletionTimestamp" in metadata and not self.stuck:
            self.objects.remove(key)
        elif pod["status"]["phase"] == "Pending":
            if key in self._why:
                self._finish(key, self._why.pop(key)["status"], {})
            else:
                self._begin(key, pod)

    def _begin(self, key: Key, pod: Object) -> None:
        container = pod["spec"]["containers"][0]
        if self.no_room:
            condition = {
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": self.no_room,
            }  # fmt: skip
            self._change(key, lambda found: found["status"].update(conditions=[condition]))
            return
        reason, message = self._fault_of(key, container)
        if reason:
            waiting = {
                "name": container["name"],
                "state": {"waiting": {"reason": reason, "message": message}},
            }
            scheduled = {"type": "PodScheduled", "status": "True"}
            self._change(
                key,
                lambda found: found["status"].update(conditions=[scheduled], containerStatuses=[waiting]),
            )
            return
        log = self.logs[key.name] = Log()
        command = [*(container.get("command") or []), *(container.get("args") or [])]
        try:
            process = subprocess.Popen(
                command, env=self._environment(key, container), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.is_over = True
            ended = {"exitCode": 128, "reason": "StartError", "message": f"exec: {error}"}
            self._finish(key, {}, ended)
            return
        self._running[key] = process
        threading.Thread(target=log.read, args=(process.stdout,), name="pod-log", daemon=True).start()
        state = _seen(container, running={"startedAt": now()})
        self._change(
            key, lambda found: found.update(status={"phase": "Running", "containerStatuses": [state]})
        )

    def _fault_of(self, key: Key, container: Object) -> tuple[str, str]:
        image = container["image"]
        if not is_image(image):
            return "InvalidImageName", f'couldn\'t parse image name "{image}"'
        if image in self.missing_images:
            return "ImagePullBackOff", f'Back-off pulling image "{image}": not found'
        for one in container.get("env") or []:
            secret = (one.get("valueFrom") or {}).get("secretKeyRef")
            if secret and (key.namespace, secret["name"]) not in self.secrets:
                return "CreateContainerConfigError", f'secret "{secret["name"]}" not found'
        return "", ""

    def _environment(self, key: Key, container: Object) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        env = {"PATH": path, "HOME": str(self.folder), "HOSTNAME": key.name}
        for one in container.get("env") or []:
            secret = (one.get("valueFrom") or {}).get("secretKeyRef")
            if secret:
                env[one["name"]] = self.secrets[key.namespace, secret["name"]][secret["key"]]
            else:
                env[one["name"]] = one.get("value", "")
        return env

    def _terminate(self, key: Key, process: subprocess.Popen[bytes], grace: int) -> None:
        begun = self._killed_at.get(key)
        if begun is None:
            self._killed_at[key] = time.monotonic()
        elif time.monotonic() - begun < grace:
            return
        with contextlib.suppress(ProcessLookupError):
            # As in a container, all that it started ends with the first process.
            os.killpg(process.pid, signal.SIGTERM if begun is None else signal.SIGKILL)

    def _ended(self, key: Key, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        log = self.logs[key.name]
        with log.changed:
            log.changed.wait_for(lambda: log.is_over, 60)
        del self._running[key]
        self._killed_at.pop(key, None)
        code = 128 - process.returncode if process.returncode < 0 else process.returncode
        why = self._why.pop(key, {})
        ended = {"exitCode": code, "reason": why.get("reason") or ("Error" if code else "Completed")}
        self._finish(key, why.get("status") or {}, ended)

    def _finish(self, key: Key, status: dict[str, Any], ended: dict[str, Any]) -> None:
        def finish(pod: Object) -> None:
            phase = "Succeeded" if ended.get("exitCode") == 0 else "Failed"
            state = _seen(pod["spec"]["containers"][0], terminated=ended)
            pod["status"] = {"phase": phase, "containerStatuses": [state] if ended else [], **status}

        self._change(key, finish)

    def _change(self, key: Key, change: Any) -> None:
        with contextlib.suppress(Refused):
            self.objects.change(key, change)


def _seen(container: Object, **state: dict[str, Any]) -> Object:
    """The status of a container that was never started again."""
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }
