"""Runs as containers of a Docker engine, or of one that speaks its API.

Owns the life of a job: pulled, created, recorded, started, watched, stopped, removed, taken over from a
worker that is gone. What a container is made of is in ``docker_jobs``, the engine in ``docker_engine``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import ClassVar, TypeVar

from eparch.core.errors import EparchError, InfrastructureError
from eparch.core.infrastructure_types import read_type
from eparch.core.model import Json
from eparch.workers.docker_engine import LIVE, Container, Engine
from eparch.workers.docker_faults import EngineAway
from eparch.workers.docker_jobs import (
    AUTO_REMOVE,
    MACHINE,
    SILENT,
    DockerJob,
    PullPolicy,
    docker_label,
    login_of,
    name_of,
    plain_label,
    pull_policy_of,
    read_job,
    settings_of,
)
from eparch.workers.docker_output import Output
from eparch.workers.infrastructure import Exit, Infrastructure, explain_exit
from eparch.workers.places import own_folder
from eparch.workers.waiting_out import patiently

T = TypeVar("T")

logger = logging.getLogger("eparch.worker")

SCHEME = "docker://"
"""Begins a handle, ``docker://<engine>:<container id>``; Prefect's worker reads what follows the last colon.
"""

_LOOK = 20.0
"""Seconds for which the engine is asked to tell the end of a container before it is asked again."""

_PATIENCE = 300.0
"""Seconds for which an engine that went away is waited for, before its jobs are given up."""

_STARTING = 15.0
"""Seconds for which a start waits for an engine that does not answer."""

_KILLED = 30.0
"""Seconds after which a killed container that is still there is given up."""

_SIGKILL = 128 + 9
"""Exit code of what was killed."""

_REMEMBERED = 100
"""Jobs that are over and whose exit is still known."""

_TYPE = read_type("docker")


class DockerInfrastructure(Infrastructure[DockerJob]):
    """Jobs are containers. One that is created and not started is the gate before user code (row W22)."""

    type: ClassVar[str] = "docker"
    display_name: ClassVar[str] = _TYPE.display_name
    description: ClassVar[str] = _TYPE.description
    base_job_template: ClassVar[dict[str, Json]] = _TYPE.default_base_job_configuration

    def __init__(self) -> None:
        self._engine = Engine()
        self._machine = socket.gethostname()
        self._lock = threading.Lock()
        self._watched: dict[str, Future[Exit]] = {}
        self._held: dict[str, int] = {}

    def render(self, job: Mapping[str, Json]) -> DockerJob:
        """The container that a job configuration describes."""
        return read_job(job)

    def start(self, config: DockerJob, recorded: Callable[[str], None]) -> str:
        """Pull the image as its policy says, create a container, record it and let it run."""
        name = _patiently(lambda: self._engine.name, _STARTING)
        self._provide(config)
        settings = settings_of(config, os.getcwd(), self._marks(config))
        container = self._engine.create(name_of(config), settings)
        handle = f"{SCHEME}{name}:{container}"
        try:
            self._hold(container)
            for network in config.networks[1:]:
                self._engine.join(network, container)
            recorded(handle)
            self._engine.start(container, config.reference)
        except BaseException:
            with contextlib.suppress(EparchError):
                self._engine.remove(container)
            self._release(container)
            raise
        return handle

    def watch(self, handle: str) -> Exit:
        """Wait until the container is over; its output is shown meanwhile, and it is removed if it is to be.

        An engine that is started again is waited for: the container may live, or may have died with it.
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
        """SIGTERM or the image's own stop signal, then SIGKILL; over when the engine says that it is gone."""
        container = self._id_of(handle)
        if container is None:
            return
        seen = _patiently(lambda: self._engine.inspect(container), _KILLED)
        if seen is None:
            return
        if seen.status == "created":
            self._engine.remove(container)
            return
        end = time.monotonic() + grace + _KILLED
        while seen is not None and seen.is_live:
            if time.monotonic() > end:
                raise InfrastructureError(
                    f"The container {container[:12]} does not end",
                    why="it was killed, and is there still",
                    fix=f"look at it with: docker inspect {container[:12]}",
                )
            _patiently(lambda: self._engine.stop(container, grace), _KILLED)
            self._engine.wait(container, 1.0)
            seen = _patiently(lambda: self._engine.inspect(container), _KILLED)
        if seen is not None and not self._is_watched(handle):
            self._collect(seen)

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Containers that run or are to, and those that ended while nobody was there to remove them."""
        wanted = {docker_label(key): value for key, value in labels.items()}
        found = self._engine.find(wanted)
        name = self._engine.name
        return [
            f"{SCHEME}{name}:{container}" for container, state, carried in found if _is_there(state, carried)
        ]

    def labels_of(self, handle: str) -> dict[str, str]:
        """The labels of the container, with the names that jobs have."""
        container = self._id_of(handle)
        seen = self._engine.inspect(container) if container is not None else None
        if seen is None or not _is_there(seen.status, seen.labels):
            return {}
        return {plain_label(key): value for key, value in seen.labels.items()}

    def adopt(self, handle: str) -> bool:
        """Hold a container that a worker of this machine started, unless that worker or another holds it."""
        container = self._id_of(handle)
        if container is None or self._is_watched(handle):
            return False
        return self.labels_of(handle).get(MACHINE) == self._machine and self._hold(container)

    def close(self) -> None:
        """Let others take over what is held, and leave the engine."""
        for container in list(self._held):
            self._release(container)
        self._engine.close()

    # Start

    def _provide(self, config: DockerJob) -> None:
        """Have the image, as the policy says.

        Raises:
            InfrastructureError: it is not there and cannot be had.
        """
        image, policy = config.reference, pull_policy_of(config)
        if policy is PullPolicy.NEVER or (
            policy is PullPolicy.IF_NOT_PRESENT and self._engine.has_image(image)
        ):
            return
        login = login_of(config)
        if config.registry_credentials is not None and login is None:
            logger.warning(
                "The registry credentials are for %s and are not used for the image %s",
                config.registry_credentials.registry_url, image,
            )  # fmt: skip
        logger.info("The image %s is pulled", image)
        try:
            self._engine.pull(image, login)
        except EngineAway:
            raise
        except InfrastructureError as error:
            if policy is not PullPolicy.IF_POSSIBLE or not self._engine.has_image(image):
                raise
            logger.warning("The image %s is taken as it is here: %s", image, error)

    def _marks(self, config: DockerJob) -> dict[str, str]:
        marks = {MACHINE: self._machine}
        if config.auto_remove:
            marks[AUTO_REMOVE] = "true"
        if not config.stream_output:
            marks[SILENT] = "true"
        return marks

    # End

    def _follow(self, handle: str) -> Exit:
        container = self._id_of(handle)
        found = _patiently(lambda: self._engine.inspect(container), _PATIENCE) if container else None
        if found is None:
            return Exit(code=None, reason="its container is not there any more")
        seen = found
        try:
            if seen.status == "created":
                self._engine.remove(seen.id)
                return Exit(code=None, reason="its container was never started")
            output = Output(self._engine, seen, show=docker_label(SILENT) not in seen.labels)
            last: Container | None = seen
            while last is not None and last.is_live:
                seen = last
                last = self._look(seen.id)
            told = _exit_of(last, seen, output.finish())
            if last is not None:
                self._collect(last)
            return told
        finally:
            self._release(seen.id)

    def _look(self, container: str) -> Container | None:
        """Wait for its end for a while, and see how it is."""

        def look() -> Container | None:
            self._engine.wait(container, _LOOK)
            return self._engine.inspect(container)

        return _patiently(look, _PATIENCE)

    def _collect(self, container: Container) -> None:
        """Remove one whose exit code was taken, if it is to be."""
        if docker_label(AUTO_REMOVE) not in container.labels:
            return
        try:
            self._engine.remove(container.id)
        except InfrastructureError as error:
            logger.warning("The container %s was not removed: %s", container.id[:12], error)

    # Which container, and whose

    def _id_of(self, handle: str) -> str | None:
        """The container of a handle; None if the text is not one of a container.

        Raises:
            InfrastructureError: it is on another engine, where nothing can be known from here.
        """
        place, _, container = handle.rpartition(":")
        if not (place and container.isalnum() and len(container) >= 12):
            return None
        if place.startswith(SCHEME) and place != f"{SCHEME}{self._engine.name}":
            raise InfrastructureError(
                f"The container {container[:12]} cannot be reached",
                why=f"it is on the engine '{place.removeprefix(SCHEME)}', this is '{self._engine.name}'",
                fix="let a worker of that engine do it, or set DOCKER_HOST",
            )
        return container

    def _is_watched(self, handle: str) -> bool:
        with self._lock:
            return handle in self._watched and not self._watched[handle].done()

    def _hold(self, container: str) -> bool:
        """Lock the container for this process as long as it lives; whether it could."""
        with self._lock:
            if container in self._held:
                return True
            descriptor = os.open(own_folder() / f"container-{container}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._held[container] = descriptor
            return True

    def _release(self, container: str) -> None:
        with self._lock:
            descriptor = self._held.pop(container, None)
            if descriptor is not None:
                with contextlib.suppress(FileNotFoundError):
                    (own_folder() / f"container-{container}").unlink()
                os.close(descriptor)

    def _forget_oldest(self) -> None:
        over = [handle for handle, future in self._watched.items() if future.done()]
        for handle in over[:-_REMEMBERED]:
            del self._watched[handle]


def _is_there(status: str, labels: Mapping[str, str]) -> bool:
    """Whether a container is a job still: until its end, or until it is removed if it is to be."""
    return (
        status in LIVE or status == "created" or (status == "exited" and docker_label(AUTO_REMOVE) in labels)
    )


def _exit_of(last: Container | None, before: Container, stderr: str) -> Exit:
    """How a container ended; ``last`` is None when it was gone at once, ``before`` when it still ran."""
    if last is None:
        return Exit(code=None, stderr=stderr, reason="its container was removed while it ran")
    code, said = last.state.get("ExitCode"), str(last.state.get("Error") or "")
    limit = f"its memory limit is {before.memory // 1024**2} MiB" if before.memory else ""
    if last.state.get("OOMKilled") and code:
        told = f", {limit}" if limit else ""
        return Exit(code=code, stderr=stderr, reason=f"it ran out of memory (exit code {code}{told})")
    if code == _SIGKILL and limit:
        # The engine may hear of it only after the end, or never.
        reason = f"exit code {code}: it was killed, most likely because memory ran out; {limit}"
        return Exit(code=code, stderr=stderr, reason=reason)
    reason = f"{explain_exit(code)} ({said})" if said else ""
    return Exit(code=code, stderr=stderr, reason=reason)


def _patiently(ask: Callable[[], T], seconds: float) -> T:
    return patiently(ask, seconds, EngineAway)
