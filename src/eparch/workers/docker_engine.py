"""The Docker engine, or one that speaks its API, such as Podman's: calls with a bound in time.

Owns the connection and every call. Each fault is an ``InfrastructureError`` (``docker_faults``). Knows
containers and images, no jobs. Where the engine is, docker-py reads from ``DOCKER_HOST`` and its like.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, ImageNotFound
from docker.utils import parse_repository_tag

from eparch.core.errors import InfrastructureError
from eparch.workers.docker_faults import Missing, explain_fault, told

T = TypeVar("T")

TIMEOUT = 60
"""Seconds that a call may take; starting and creating can be slow on a busy machine."""

PULL_SILENCE = 300.0
"""Seconds without any progress after which a pull is given up."""

_POOL = 50
"""Connections that are kept."""

_NAMES = 20
"""Names that are tried, each with a number more, before the engine makes one."""

LIVE = frozenset({"running", "paused", "restarting", "stopping"})
"""States of a container whose processes are there."""


class Container:
    """A container as the engine described it a moment ago."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.id: str = attributes["Id"]
        self.state: Mapping[str, Any] = attributes.get("State") or {}
        settings = attributes.get("Config") or {}
        self.labels: dict[str, str] = dict(settings.get("Labels") or {})
        self.tty = bool(settings.get("Tty"))
        self.memory = int((attributes.get("HostConfig") or {}).get("Memory") or 0)
        self.status = str(self.state.get("Status") or "").lower()

    @property
    def is_live(self) -> bool:
        """Whether something runs in it."""
        return self.status in LIVE or bool(self.state.get("Running") or self.state.get("Restarting"))


class Engine:
    """Calls from many threads; connects with the first."""

    def __init__(self) -> None:
        self._client: Any = None
        self._name = ""
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What tells this engine from others, as far as it says.

        Raises:
            InfrastructureError: it cannot be asked.
        """
        self._connected()
        return self._name

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                with told("the engine"):
                    client = docker.from_env(version="auto", timeout=TIMEOUT, max_pool_size=_POOL)
                    try:
                        self._name = _name_of(client.info(), client.version())
                    except BaseException:
                        client.close()
                        raise
                self._client = client
            return self._client

    def _call(self, subject: str, call: Callable[[Any], T]) -> T:
        client = self._connected()
        with told(subject):
            return call(client)

    def has_image(self, image: str) -> bool:
        """Whether the image is there."""

        def look(client: Any) -> bool:
            try:
                client.api.inspect_image(image)
            except ImageNotFound:
                return False
            return True

        return self._call(image, look)

    def pull(self, image: str, login: dict[str, str] | None) -> None:
        """Pull an image; ``login`` is for its registry alone and is kept nowhere.

        Raises:
            InfrastructureError: it cannot be had, or nothing comes any more.
        """
        client = self._connected()
        lines: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue(1000)

        def pull() -> None:
            try:
                name, tag = parse_repository_tag(image)
                more = {} if login is None else {"auth_config": login}
                for line in client.api.pull(name, tag=tag or "latest", stream=True, decode=True, **more):
                    lines.put(line)
                lines.put(None)
            except Exception as error:
                lines.put(error)

        threading.Thread(target=pull, name="pull", daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=PULL_SILENCE)
            except queue.Empty:
                raise InfrastructureError(
                    f"The image '{image}' does not arrive",
                    why=f"its registry sent nothing for {PULL_SILENCE:.0f} seconds",
                    fix="pull it by hand to see why, or try again",
                ) from None
            if line is None:
                return
            if isinstance(line, Exception):
                with told(image):
                    raise line
            if "error" in line:
                raise explain_fault(str(line["error"]), image)

    def create(self, name: str | None, settings: Mapping[str, Any]) -> str:
        """Create a container that does not run yet; its id. A name that is taken gets a number."""
        for number in range(_NAMES):
            tried = f"{name}-{number}" if name and number else name
            with suppress(_NameTaken):
                return self._call(settings["image"], partial(_create, name=tried, settings=settings))
        return self._call(settings["image"], partial(_create, name=None, settings=settings))

    def join(self, network: str, container: str) -> None:
        """Connect a container to one more network."""
        subject = f"the network {network}"
        self._call(subject, lambda client: client.api.connect_container_to_network(container, network))

    def start(self, container: str, image: str) -> None:
        """Let a created container run."""
        self._call(image, lambda client: client.api.start(container))

    def inspect(self, container: str) -> Container | None:
        """How it is now; None if it is gone."""
        try:
            return Container(self._call(container, lambda client: client.api.inspect_container(container)))
        except Missing:
            return None

    def wait(self, container: str, seconds: float) -> None:
        """Wait until it does not run, for at most ``seconds``."""

        def wait(client: Any) -> None:
            # A read that takes too long comes as either of these, by the transport.
            with suppress(requests.Timeout):
                try:
                    client.api.wait(container, timeout=seconds)
                except requests.ConnectionError as error:
                    if "timed out" not in str(error).lower():
                        raise

        with suppress(Missing):
            self._call(container, wait)

    def stop(self, container: str, grace: float) -> None:
        """Ask it to end, kill it after ``grace`` seconds, at once for 0; one that is over is no fault."""

        def stop(client: Any) -> None:
            try:
                if grace <= 0:
                    client.api.kill(container, "SIGKILL")
                else:
                    client.api.stop(container, timeout=math.ceil(grace))
            except APIError as error:
                if "is not running" not in str(error) and "can only kill running" not in str(error):
                    raise

        with suppress(Missing):
            self._call(container, stop)

    def remove(self, container: str) -> None:
        """Remove it with its anonymous volumes, whatever it does."""

        def remove(client: Any) -> None:
            try:
                client.api.remove_container(container, force=True, v=True)
            except APIError as error:
                if "already in progress" not in str(error):
                    raise

        with suppress(Missing):
            self._call(container, remove)

    def find(self, labels: Mapping[str, str]) -> list[tuple[str, str, dict[str, str]]]:
        """Id, state and labels of every container that carries all of ``labels``."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        found = self._call(
            "the engine", lambda client: client.api.containers(all=True, filters={"label": wanted})
        )
        return [
            (one["Id"], str(one.get("State", "")).lower(), dict(one.get("Labels") or {}))
            for one in found
            if labels.items() <= (one.get("Labels") or {}).items()
        ]

    def logs(self, container: str, *, error: bool, since: int, follow: bool) -> Generator[bytes, None, None]:
        """Its output, one stream of it, each piece with the time before it; ``since`` in epoch seconds."""
        yield from self._stream(
            container, stdout=not error, stderr=error, timestamps=True, follow=follow, **_since(since)
        )

    def terminal(self, container: str) -> Generator[bytes, None, None]:
        """The output of one that has a terminal, where there is one stream and no pieces."""
        yield from self._stream(container, stdout=True, stderr=True, follow=True)

    def _stream(self, container: str, **how: Any) -> Generator[bytes, None, None]:
        pieces = self._call(container, lambda client: client.api.logs(container, stream=True, **how))
        with told(container):
            yield from pieces

    def close(self) -> None:
        """Give back the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


class _NameTaken(Exception):
    """Another container has the name."""


def _create(client: Any, name: str | None, settings: Mapping[str, Any]) -> str:
    try:
        return str(client.containers.create(name=name, **settings).id)
    except APIError as error:
        said = str(error)
        if name and "name" in said and ("Conflict" in said or "already in use" in said):
            raise _NameTaken from error
        raise


def _name_of(info: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    """Docker keeps its id; Podman makes a new one for each answer, but has a host."""
    parts = version.get("Components") or [{}]
    podman = "podman" in str(parts[0].get("Name", "")).lower()
    return str(info.get("Name") if podman else info.get("ID") or info.get("Name") or "engine")


def _since(seconds: int) -> dict[str, int]:
    return {"since": seconds} if seconds > 0 else {}
