"""What a container is made of: the job of the type ``docker``, read and checked. Pure: no engine, no clock.

Owns the fields that Prefect's template of this type has, what is made of names, labels, commands and local
addresses, and when an image is pulled. Does not own the engine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec
from docker import auth
from docker.errors import DockerException
from docker.models.containers import RUN_CREATE_KWARGS, RUN_HOST_CONFIG_KWARGS
from docker.utils import parse_bytes, parse_repository_tag

from eparch.core.errors import Invalid, did_you_mean
from eparch.core.model import Json, Value
from eparch.steps.image import registry_name
from eparch.workers.jobs import DEFAULT_IMAGE, command_in_image

HOST = "host.docker.internal"
"""What a container calls the machine that it runs on."""

AUTO_REMOVE, SILENT, MACHINE = "eparch.io/auto-remove", "eparch.io/silent", "eparch.io/worker-host"
"""Labels by which a worker that takes a container over knows what to do with it."""

_API_URLS = ("EPARCH_API_URL", "PREFECT_API_URL")
_LOCAL = ("127.0.0.1", "localhost")
_OWN_NAMESPACES = {"prefect.io/": "io.prefect.", "eparch.io/": "io.eparch."}
_MAX_NAME = 200


class PullPolicy(StrEnum):
    """When an image is pulled."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    IF_POSSIBLE = "IfPossible"
    """Try, and take the one that is there if that fails."""
    NEVER = "Never"


class RegistryCredentials(Value, frozen=True, kw_only=True):
    """How to log in to a registry; a block of the type ``docker-registry-credentials`` once it is read."""

    username: str
    password: str
    registry_url: str

    def __repr__(self) -> str:
        """Whose they are, not what they are."""
        return f"RegistryCredentials({self.username!r} at {self.registry_url!r})"


class DockerJob(Value, frozen=True, kw_only=True):
    """One container that is to run."""

    name: str | None = None
    env: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    command: str | list[str] | None = None
    image: str | None = None
    registry_credentials: RegistryCredentials | None = None
    image_pull_policy: PullPolicy | None = None
    networks: list[str] = []
    network_mode: str | None = None
    auto_remove: bool = False
    volumes: list[str] = []
    stream_output: bool = True
    mem_limit: int | str | None = None
    memswap_limit: int | str | None = None
    privileged: bool = False
    container_create_kwargs: dict[str, Json] | None = None

    @property
    def reference(self) -> str:
        """The image to run."""
        return self.image or DEFAULT_IMAGE


_OWN = frozenset(DockerJob.__struct_fields__) | {"environment", "network", "detach", "remove", "version"}
_KNOWN = (frozenset(RUN_CREATE_KWARGS) | frozenset(RUN_HOST_CONFIG_KWARGS) | {"ports", "volumes"}) - _OWN
"""Arguments of docker-py's ``containers.create`` that are not fields of the job."""


def read_job(job: Mapping[str, Json]) -> DockerJob:
    """The container that a job configuration describes; keys that it has no use for are ignored.

    Raises:
        Invalid: a value does not fit, or two exclude each other; the message names the key.
    """
    given = {key: value for key, value in job.items() if value is not None}
    try:
        config = msgspec.convert(given, DockerJob, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The job does not fit a container: {error}") from error
    command_in_image(config.command)
    if config.networks and config.network_mode:
        _refuse("networks", "they exclude 'network_mode'", "set one of the two")
    for key in ("mem_limit", "memswap_limit"):
        try:
            parse_bytes(getattr(config, key) or 0)
        except DockerException as error:
            _refuse(key, str(error), "write a number with b, k, m or g, such as 512m")
    if config.memswap_limit is not None and config.mem_limit is None:
        _refuse("memswap_limit", "there is no 'mem_limit'", "set 'mem_limit' too")
    _check_image(config)
    for key in config.container_create_kwargs or {}:
        if key not in _KNOWN and key not in _OWN:
            hint = did_you_mean(key, _KNOWN) or "see the arguments of docker-py's containers.create"
            _refuse("container_create_kwargs", f"there is no argument '{key}'", hint)
    return config


def _refuse(key: str, why: str, fix: str) -> NoReturn:
    raise Invalid(f"The job's '{key}' cannot be used: {why}", fix=fix)


def _check_image(config: DockerJob) -> None:
    try:
        auth.resolve_repository_name(parse_repository_tag(config.reference)[0])
    except (DockerException, IndexError) as error:
        _refuse("image", f"'{config.reference}' is no name of an image: {error}", "write registry/name:tag")


def settings_of(config: DockerJob, folder: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of docker-py's ``containers.create``; the name is not among them.

    Volumes with a relative place are taken from ``folder``. Keys of ``container_create_kwargs`` that are
    fields of the job are ignored, as Prefect's worker does.
    """
    more = {key: value for key, value in (config.container_create_kwargs or {}).items() if key in _KNOWN}
    mode = network_mode_of(config)
    hosts = {} if mode == "host" or sys.platform != "linux" else {HOST: "host-gateway"}
    return {
        **more,
        "image": config.reference,
        "command": command_in_image(config.command),
        "environment": environment_of(config),
        "labels": {docker_label(key): value for key, value in {**config.labels, **labels}.items()},
        "network": config.networks[0] if config.networks else None,
        "network_mode": mode,
        "extra_hosts": hosts | _hosts_of(more.get("extra_hosts")),
        "volumes": [_resolved(volume, folder) for volume in config.volumes],
        "mem_limit": config.mem_limit,
        "memswap_limit": config.memswap_limit,
        "privileged": config.privileged,
    }


def network_mode_of(config: DockerJob) -> str | None:
    """The mode that is set; on Linux the host's network where the API is on this machine, as it may listen
    there on no other.
    """
    if config.network_mode or config.networks:
        return config.network_mode
    urls = (config.env.get(name) for name in _API_URLS)
    local = any(url is not None and urlsplit(url).hostname in _LOCAL for url in urls)
    return "host" if local and sys.platform == "linux" else None


def environment_of(config: DockerJob) -> list[str]:
    """The environment as the engine takes it: a name alone removes what the image sets (row W24)."""
    env = dict(config.env)
    if network_mode_of(config) != "host":
        for name in _API_URLS:
            url = env.get(name)
            parts = urlsplit(url or "")
            if url and parts.hostname in _LOCAL:
                env[name] = url.replace(str(parts.hostname), HOST, 1)
    return [name if value is None else f"{name}={value}" for name, value in env.items()]


def pull_policy_of(config: DockerJob) -> PullPolicy:
    """The policy that is set; else a tag that moves is always pulled, and one that stays when it is not
    there (as Kubernetes does).
    """
    if config.image_pull_policy is not None:
        return config.image_pull_policy
    tag = parse_repository_tag(config.reference)[1]
    return PullPolicy.ALWAYS if tag in (None, "", "latest") else PullPolicy.IF_NOT_PRESENT


def login_of(config: DockerJob) -> dict[str, str] | None:
    """What logs in to the registry of the image; None where the credentials are another registry's.

    A password is sent to no other registry than its own.
    """
    given = config.registry_credentials
    if given is None:
        return None
    registry = registry_name(given.registry_url)
    if registry != registry_name(auth.resolve_repository_name(parse_repository_tag(config.reference)[0])[0]):
        return None
    return {"username": given.username, "password": given.password, "serveraddress": given.registry_url}


def name_of(config: DockerJob) -> str | None:
    """The container's name, of characters that the engine allows; None lets it make one."""
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "-", config.name or "")[:_MAX_NAME].strip("-").lstrip("_.-")
    return name if len(name) > 1 else None


def docker_label(key: str) -> str:
    """A label as containers carry it: ``prefect.io/flow-run-id`` is ``io.prefect.flow-run-id``."""
    namespace, slash, name = key.partition("/")
    return ".".join([*reversed(namespace.split(".")), name]) if slash else key


def plain_label(key: str) -> str:
    """A container's label as jobs have it; the way back for the namespaces that workers use."""
    for plain, reversed_ in _OWN_NAMESPACES.items():
        if key.startswith(reversed_):
            return plain + key.removeprefix(reversed_)
    return key


def _hosts_of(given: Any) -> dict[str, str]:
    if isinstance(given, list):
        return dict(str(entry).split(":", 1) for entry in given if ":" in str(entry))
    return dict(given) if isinstance(given, Mapping) else {}


def _resolved(volume: str, folder: str) -> str:
    """A volume with the place that ``./data:/data`` means."""
    place, colon, rest = volume.partition(":")
    if colon and (place in (".", "..") or place.startswith(("./", "../"))):
        import os.path

        return f"{os.path.normpath(os.path.join(folder, place))}:{rest}"
    return volume
