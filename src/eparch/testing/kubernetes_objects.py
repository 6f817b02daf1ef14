"""The objects of a Kubernetes cluster that is not one: versions, changes, deletion, and what is refused.

Owns what a real API server keeps and checks, as far as workers meet it. Does not own HTTP.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

Object = dict[str, Any]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_QUANTITY = re.compile(r"[0-9.]+(m|k|Ki|Mi|Gi|Ti|M|G|T)?")
_IMAGE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_./:@]*")


class Refused(Exception):
    """What an API server answers instead of what was asked for."""

    def __init__(
        self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code, "details": dict(details or {}),
        }  # fmt: skip


class Key(NamedTuple):
    """Where an object is."""

    resource: str
    namespace: str
    name: str


class Change(NamedTuple):
    """One entry of what a watch tells."""

    version: int
    kind: str
    key: Key
    object: Object


class Objects:
    """All objects, under one lock; ``changed`` is notified of every change."""

    def __init__(self, namespaces: tuple[str, ...]) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 1
        self.oldest = 0
        """Changes up to this version are forgotten."""
        self.changes: list[Change] = []
        self._all: dict[Key, Object] = {}
        for name in ("kube-system", *namespaces):
            self.create(Key("namespaces", "", name), {"metadata": {"name": name}})

    def get(self, key: Key) -> Object:
        """A copy.

        Raises:
            Refused: it is not there.
        """
        with self.changed:
            if key not in self._all:
                raise missing(key)
            return copy.deepcopy(self._all[key])

    def find(self, resource: str, namespace: str | None, selector: str = "") -> list[Object]:
        """Copies of all that fit, by name."""
        with self.changed:
            return [
                copy.deepcopy(found)
                for key, found in sorted(self._all.items())
                if key.resource == resource and namespace in (None, key.namespace) and fits(found, selector)
            ]

    def create(self, key: Key, body: Object) -> Object:
        """Put it there.

        Raises:
            Refused: its namespace is not there, it is not valid, or the name is taken.
        """
        with self.changed:
            space = Key("namespaces", "", key.namespace)
            if key.namespace and space not in self._all:
                raise missing(space)
            _check(key, body)
            if key in self._all:
                message = f'{_full(key.resource)} "{key.name}" already exists'
                raise Refused(409, "AlreadyExists", message, {"name": key.name, "kind": key.resource})
            made = copy.deepcopy(body)
            made["metadata"] |= {
                "name": key.name, "uid": str(uuid4()), "creationTimestamp": now(), "generation": 1,
            }  # fmt: skip
            if key.namespace:
                made["metadata"]["namespace"] = key.namespace
            self._put(key, made, "ADDED")
            return copy.deepcopy(made)

    def change(self, key: Key, change: Callable[[Object], None]) -> Object:
        """Let ``change`` alter it; nothing is told if it does not.

        Raises:
            Refused: it is not there, or is not valid then.
        """
        with self.changed:
            found = self.get(key)
            change(found)
            if found == self._all[key]:
                return found
            _check(key, found)
            self._put(key, found, "MODIFIED")
            return copy.deepcopy(found)

    def remove(self, key: Key) -> None:
        """Take it away; what is not there is not."""
        with self.changed:
            found = self._all.pop(key, None)
            if found is not None:
                self._tell(key, found, "DELETED")

    def is_there(self, key: Key) -> bool:
        """Whether it is."""
        with self.changed:
            return key in self._all

    def forget(self) -> None:
        """Forget what changed until now, as etcd does when it is compacted."""
        with self.changed:
            self.oldest = self.version
            self.changes.clear()
            self.changed.notify_all()

    def _put(self, key: Key, found: Object, kind: str) -> None:
        self._all[key] = found
        self._tell(key, found, kind)

    def _tell(self, key: Key, found: Object, kind: str) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        self.changes.append(Change(self.version, kind, key, copy.deepcopy(found)))
        self.changed.notify_all()


def now() -> str:
    """The time as objects have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fits(found: Object, selector: str) -> bool:
    """Whether labels fit a selector of equalities."""
    labels = found["metadata"].get("labels") or {}
    wanted = (part.partition("=") for part in selector.split(",") if part)
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in wanted)


def merge(whole: Object, patch: Mapping[str, Any]) -> None:
    """Apply a merge patch (RFC 7396)."""
    for key, value in patch.items():
        if value is None:
            whole.pop(key, None)
        elif isinstance(value, Mapping):
            part = whole.setdefault(key, {})
            if not isinstance(part, dict):
                part = whole[key] = {}
            merge(part, value)
        else:
            whole[key] = value


def missing(key: Key) -> Refused:
    """404."""
    details = {"name": key.name, "kind": key.resource}
    return Refused(404, "NotFound", f'{_full(key.resource)} "{key.name}" not found', details)


def invalid(key: Key, causes: list[tuple[str, str]]) -> Refused:
    """422, with each field that is wrong."""
    said = ", ".join(f"{field}: {message}" for field, message in causes)
    return Refused(
        422, "Invalid", f'{_kind(key.resource)} "{key.name}" is invalid: {said}',
        {"name": key.name, "causes": [{"field": field, "message": message} for field, message in causes]},
    )  # fmt: skip


def _full(resource: str) -> str:
    group = {"jobs": "batch", "leases": "coordination.k8s.io"}.get(resource, "")
    return f"{resource}.{group}" if group else resource


def _kind(resource: str) -> str:
    return {"jobs": "Job.batch", "leases": "Lease.coordination.k8s.io"}.get(resource, resource.title()[:-1])


def _check(key: Key, body: Object) -> None:
    causes: list[tuple[str, str]] = []
    if not _NAME.fullmatch(key.name) or len(key.name) > (63 if key.resource == "jobs" else 253):
        causes.append(("metadata.name", f'Invalid value: "{key.name}": a lowercase RFC 1123 subdomain'))
    metadata = body.get("metadata") or {}
    causes += _label_causes(metadata, "metadata.labels")
    annotations = metadata.get("annotations") or {}
    for name, value in annotations.items():
        if not isinstance(value, str):
            raise _not_decoded(f"metadata.annotations.{name}", value, "string")
    if key.resource == "jobs":
        causes += _job_causes(body)
    if causes:
        raise invalid(key, causes)


def _label_causes(metadata: Object, place: str) -> list[tuple[str, str]]:
    causes = []
    for name, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str):
            raise _not_decoded(f"{place}.{name}", value, "string")
        last = name.rpartition("/")[2]
        if (
            not last
            or len(last) > 63
            or len(value) > 63
            or not (_VALUE.fullmatch(last) and _VALUE.fullmatch(value))
        ):
            causes.append((place, f'Invalid value: "{name}={value}": a valid label is at most 63 characters'))
    return causes


def _job_causes(body: Object) -> list[tuple[str, str]]:
    spec = body.get("spec") or {}
    for name in (
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "activeDeadlineSeconds",
        "parallelism",
        "completions",
    ):
        if not isinstance(spec.get(name, 0), int):
            raise _not_decoded(f"spec.{name}", spec[name], "int32")
    template = spec.get("template") or {}
    pod = template.get("spec") or {}
    causes = _label_causes(template.get("metadata") or {}, "spec.template.metadata.labels")
    place = "spec.template.spec"
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        causes.append((f"{place}.restartPolicy", 'Required value: valid values: "OnFailure", "Never"'))
    containers = pod.get("containers") or []
    if not containers:
        causes.append((f"{place}.containers", "Required value"))
    for at, container in enumerate(containers):
        causes += _container_causes(container, f"{place}.containers[{at}]")
    return causes


def _container_causes(container: Object, place: str) -> list[tuple[str, str]]:
    causes = []
    if not container.get("name"):
        causes.append((f"{place}.name", "Required value"))
    if not container.get("image"):
        causes.append((f"{place}.image", "Required value"))
    if not all(isinstance(word, str) for word in container.get("args") or []):
        raise _not_decoded(f"{place}.args", container["args"], "string")
    for one in container.get("env") or []:
        if not isinstance(one.get("value", ""), str):
            raise _not_decoded(f"{place}.env.value", one["value"], "string")
        if "value" in one and "valueFrom" in one:
            causes.append((f"{place}.env.valueFrom", "may not be specified when `value` is not empty"))
    if container.get("imagePullPolicy", "Always") not in ("Always", "IfNotPresent", "Never"):
        causes.append((f"{place}.imagePullPolicy", f'Unsupported value: "{container["imagePullPolicy"]}"'))
    for kind, limits in (container.get("resources") or {}).items():
        for name, value in limits.items():
            if not _QUANTITY.fullmatch(str(value)):
                message = "quantities must match the regular expression"
                raise Refused(400, "BadRequest", f"{place}.resources.{kind}.{name}: {message}")
    return causes


def _not_decoded(place: str, value: Any, kind: str) -> Refused:
    given = {str: "string", bool: "bool", dict: "object", list: "array"}.get(type(value), "number")
    message = f"json: cannot unmarshal {given} into Go struct field {place} of type {kind}"
    return Refused(400, "BadRequest", f'Job in version "v1" cannot be handled as a Job: {message}')


def is_image(name: str) -> bool:
    """Whether it can be the name of an image."""
    return _IMAGE.fullmatch(name) is not None
