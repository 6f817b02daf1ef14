"""What a Kubernetes Job is made of: the job of the type ``kubernetes``, read and checked. Pure: no cluster.

Owns what is made of the pool's ``job_manifest``: name, labels, environment, command, image, and the gate that
keeps a Job from beginning. Does not own the cluster, or where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NoReturn

import msgspec

from eparch.core.errors import Invalid, did_you_mean
from eparch.core.model import Json, Value, encode
from eparch.settings import TABLE
from eparch.workers.jobs import CLAIM_TOKEN, DEFAULT_IMAGE, RUN_ID, command_in_image
from eparch.workers.labels import for_kubernetes

POOL_ID = "prefect.io/work-pool-id"
POOL, HOLDER, START = "eparch.io/pool", "eparch.io/holder", "eparch.io/start"
"""Labels of a Job: by which the namespace is watched, whose it is, and which attempt made it."""

LABELS, GATE, HOST, UNLEASED = "eparch.io/labels", "eparch.io/gate", "eparch.io/host", "eparch.io/unleased"
"""Annotations of a Job: its labels as they were before they were made legal, that its start is not recorded
yet, the machine of its worker, and that its worker may not use leases.
"""

_MAX_NAME = 63
_SUFFIX = 8
_OWN_ENV = frozenset({RUN_ID, "PREFECT__FLOW_RUN_ID", CLAIM_TOKEN})
_MISPLACED = ("completions", "parallelism")
"""Keys of a Job that Prefect's template puts into its pod, where a cluster drops them."""


class ClusterConfig(Value, frozen=True, kw_only=True):
    """A block ``kubernetes-cluster-config``: a kubectl configuration and the context to use."""

    config: dict[str, Json] | str
    context_name: str

    def __repr__(self) -> str:
        """Which context it is, not what opens it."""
        return f"ClusterConfig({self.context_name!r})"


class KubernetesJob(Value, frozen=True, kw_only=True):
    """One Job that is to run."""

    manifest: dict[str, Any]
    """What is sent to the cluster, but for the name and the gate."""
    namespace: str
    labels: dict[str, str]
    """As the job has them; those of the manifest are legal in Kubernetes."""
    cluster_config: ClusterConfig | None = None
    pod_watch_timeout_seconds: float = 60.0
    job_watch_timeout_seconds: float | None = None
    stream_output: bool = True

    @property
    def pool(self) -> str:
        """By what the Jobs of its worker are watched."""
        return for_kubernetes({POOL: self.labels.get(POOL_ID, "none")})[POOL]


class _Given(Value, frozen=True, kw_only=True):
    """The rendered ``job_configuration``."""

    job_manifest: dict[str, Any]
    name: str | None = None
    env: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    command: str | list[str] | None = None
    namespace: str | None = None
    cluster_config: dict[str, Any] | None = None
    pod_watch_timeout_seconds: float | None = None
    job_watch_timeout_seconds: float | None = None
    stream_output: bool = True


def read_job(job: Mapping[str, Json]) -> KubernetesJob:
    """The Job that a job configuration describes; keys that it has no use for are ignored.

    Raises:
        Invalid: a value does not fit; the message names the key.
    """
    given = {key: value for key, value in job.items() if value is not None}
    try:
        config = msgspec.convert(given, _Given, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The job does not fit a Kubernetes Job: {error}") from error
    manifest = deepcopy(config.job_manifest)
    _check_kind(manifest)
    metadata, spec = _part(manifest, "metadata"), _part(manifest, "spec")
    template = _part(spec, "template", "spec.")
    pod = _part(template, "spec", "spec.template.")
    container = _container_of(pod)
    namespace = config.namespace or metadata.get("namespace") or "default"
    metadata["namespace"] = namespace
    _name(metadata, config.name)
    _label(metadata, template, config)
    _fill_container(container, config)
    for key in _MISPLACED:
        if key in pod:
            spec.setdefault(key, pod.pop(key))
    pod.setdefault("restartPolicy", "Never")
    spec.setdefault("backoffLimit", 0)
    return KubernetesJob(
        manifest=manifest,
        namespace=namespace,
        labels=config.labels,
        cluster_config=_cluster_of(config.cluster_config),
        pod_watch_timeout_seconds=config.pod_watch_timeout_seconds or 60.0,
        job_watch_timeout_seconds=config.job_watch_timeout_seconds,
        stream_output=config.stream_output,
    )


def gated(job: KubernetesJob, start: str, holder: str, marks: Mapping[str, str]) -> dict[str, Any]:
    """The manifest as it is sent: suspended until it is let go, with a name that no other start can have.

    ``start`` is a random text. A manifest that is suspended by itself, as a queueing controller wants it, is
    not let go by us and so has no gate.
    """
    manifest = deepcopy(job.manifest)
    metadata, spec = manifest["metadata"], manifest["spec"]
    prefix = metadata.pop("generateName", None)
    if "name" not in metadata:
        metadata["name"] = f"{prefix}{start[:_SUFFIX]}"
    metadata["labels"] |= {POOL: job.pool, START: start, HOLDER: holder}
    spec["template"]["metadata"]["labels"] |= {POOL: job.pool}
    metadata["annotations"] |= {LABELS: encode(job.labels).decode(), **marks}
    if not spec.get("suspend"):
        metadata["annotations"][GATE] = start
        spec["suspend"] = True
    return manifest


def is_gated(manifest: Mapping[str, Any]) -> bool:
    """Whether a Job waits for its handle to be recorded, so that none of its code can have run."""
    annotations = manifest["metadata"].get("annotations") or {}
    return bool(manifest["spec"].get("suspend")) and GATE in annotations


def labels_in(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a Job as its worker gave them; of another's Job as they are."""
    metadata = manifest["metadata"]
    try:
        return msgspec.json.decode((metadata.get("annotations") or {})[LABELS], type=dict[str, str])
    except (KeyError, msgspec.MsgspecError):
        return dict(metadata.get("labels") or {})


def selector_of(labels: Mapping[str, str]) -> str:
    """A label selector for all of ``labels``."""
    return ",".join(f"{key}={value}" for key, value in sorted(for_kubernetes(labels).items()))


def slug(name: str | None) -> str:
    """The nearest legal beginning of a Job's name: lower case letters, digits and hyphens (RFC 1123)."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-")
    return cleaned[: _MAX_NAME - _SUFFIX - 1].rstrip("-") or "eparch-job"


def _refuse(key: str, why: str, fix: str = "") -> NoReturn:
    raise Invalid(f"The job's '{key}' cannot be used: {why}", fix=fix)


def _check_kind(manifest: Mapping[str, Any]) -> None:
    wanted = {"apiVersion": "batch/v1", "kind": "Job"}
    for key, value in wanted.items():
        if manifest.get(key) != value:
            _refuse("job_manifest", f"'{key}' is {manifest.get(key)!r}", f"write {key}: {value}")
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    for key in manifest:
        if key not in known:
            hint = did_you_mean(key, known) or f"a Job has {', '.join(known[:-1])}"
            _refuse("job_manifest", f"there is no key '{key}'", hint)


def _part(whole: dict[str, Any], key: str, place: str = "") -> dict[str, Any]:
    """A mapping within the manifest, created where it is missing."""
    part = whole.setdefault(key, {})
    if part is None:
        part = whole[key] = {}
    if not isinstance(part, dict):
        _refuse("job_manifest", f"'{place}{key}' is not a mapping", f"correct '{place}{key}' in the template")
    return part


def _container_of(pod: Mapping[str, Any]) -> dict[str, Any]:
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers or not isinstance(containers[0], dict):
        _refuse(
            "job_manifest", "'spec.template.spec.containers' has no container",
            "the first container of the list is the one that runs the flow",
        )  # fmt: skip
    return containers[0]


def _name(metadata: dict[str, Any], name: str | None) -> None:
    """A name that is fixed stays; any other is a beginning that each start makes its own."""
    fixed, prefix = metadata.get("name"), metadata.get("generateName")
    for key, value in (("name", fixed), ("generateName", prefix)):
        if value is not None and not isinstance(value, str):
            _refuse("job_manifest", f"'metadata.{key}' is not a text")
    if fixed and not prefix:
        metadata["name"] = re.sub(r"[^a-z0-9.]+", "-", fixed.lower())[:_MAX_NAME].strip("-.") or slug(name)
        return
    metadata.pop("name", None)
    # The template's ``{{ name }}-`` has no name where the variable is not set: the run's is meant.
    given = (prefix or "").rstrip("-")
    metadata["generateName"] = f"{slug(given or name)}-"


def _label(metadata: dict[str, Any], template: dict[str, Any], config: _Given) -> None:
    pod_metadata = _part(template, "metadata", "spec.template.")
    for part, place in ((metadata, "metadata."), (pod_metadata, "spec.template.metadata.")):
        own = _texts(_part(part, "labels", place), f"{place}labels")
        part["labels"] = for_kubernetes(own) | for_kubernetes(config.labels)
    own = _texts(_part(metadata, "annotations", "metadata."), "metadata.annotations")
    metadata["annotations"] = own | config.annotations


def _texts(mapping: Mapping[str, Any], place: str) -> dict[str, str]:
    for key, value in mapping.items():
        if not isinstance(value, str | int | float | bool):
            _refuse("job_manifest", f"'{place}.{key}' is not a text")
    return {str(key): value if isinstance(value, str) else str(value) for key, value in mapping.items()}


def _fill_container(container: dict[str, Any], config: _Given) -> None:
    container.setdefault("name", "prefect-job")
    if not container.get("image"):
        container["image"] = DEFAULT_IMAGE
    if not isinstance(container["image"], str) or re.search(r"\s", container["image"]):
        _refuse("image", f"{container['image']!r} is no name of an image", "write registry/name:tag")
    args = container.get("args")
    if not args or isinstance(args, str):
        container["args"] = command_in_image(args or config.command)
    elif not (isinstance(args, list) and all(isinstance(word, str) for word in args)):
        _refuse("command", "'args' of the container is not a list of texts")
    container["env"] = _environment(container.get("env"), config)


def _environment(given: Any, config: _Given) -> list[dict[str, Any]]:
    """The job's environment as Kubernetes takes it.

    A list in the manifest, which may refer to secrets, counts for more than what every job has, but which run
    it is and its claim stay ours. A variable that is None is left out (row W24).
    """
    if given is None or isinstance(given, dict):
        # A mapping is what the variable ``env`` gave, which is in the job's environment already.
        own = [{"name": str(name), "value": value} for name, value in (given or {}).items()]
        own = [one for one in own if one["name"] not in config.env and one["value"] is not None]
    elif isinstance(given, list):
        own = given
    else:
        _refuse(
            "env", f"the manifest's is {type(given).__name__}", "write a mapping, or a list of name and value"
        )
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in own):
        _refuse("env", "an entry of the manifest's list has no 'name'")
    # Whoever sets one name of a setting means all of them: a key from a secret is nowhere in clear.
    other = {name for one in own for name in _names_of(one["name"])}
    env: dict[str, dict[str, Any]] = {
        name: {"name": name, "value": value}
        for name, value in config.env.items()
        if value is not None and name not in other
    }
    for one in own:
        if one["name"] not in _OWN_ENV or one["name"] not in config.env:
            env[one["name"]] = {**one, "value": str(one["value"])} if one.get("value") is not None else one
    return list(env.values())


def _names_of(name: str) -> tuple[str, ...]:
    """Every name of the setting that a variable sets; of any other only its own."""
    if name in _OWN_ENV:
        return ()
    return next((row.names for row in TABLE if name in row.names), (name,))


def _cluster_of(given: Mapping[str, Any] | None) -> ClusterConfig | None:
    """The cluster; one that is only referred to stays unread, as when a job is shown without a server."""
    if given is None:
        return None
    if set(given) == {"$ref"}:
        return ClusterConfig(config={}, context_name=f"block {given['$ref']}")
    try:
        return msgspec.convert(dict(given), ClusterConfig)
    except msgspec.ValidationError:
        # What it says may hold a part of a secret.
        _refuse(
            "cluster_config", "it has no 'config' or no 'context_name'", "use a KubernetesClusterConfig block"
        )
