"""What a worker asks of a place where runs run, and which places there are.

Owns the interface, its contract and the registry of types. Does not own when a job is started: that is
``worker``. A type from another package is found by the entry point group ``eparch.workers``.
"""

from __future__ import annotations

import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypeVar

from msgspec.structs import asdict

from eparch.core.errors import InfrastructureError, NotFound, did_you_mean
from eparch.core.infrastructure_types import InfrastructureType, shipped_template
from eparch.core.model import Json, Value
from eparch.settings import Settings

logger = logging.getLogger("eparch.worker")

Config = TypeVar("Config")

GROUP = "eparch.workers"
"""Entry point group of infrastructure classes."""

BUILT_IN: dict[str, str] = {
    "process": "eparch.workers.process:ProcessInfrastructure",
    "docker": "eparch.workers.docker:DockerInfrastructure",
    "kubernetes": "eparch.workers.kubernetes:KubernetesInfrastructure",
}
"""Type -> ``module:class`` of what is shipped."""


class Exit(Value, frozen=True, kw_only=True):
    """How a job ended."""

    code: int | None
    """Exit code, negative for a signal; None when nobody can know it any more."""
    stderr: str = ""
    """The last lines that it wrote to standard error; bounded."""
    reason: str = ""
    """What its infrastructure says of the end, where that is more than the code; empty if nothing."""
    taken: bool = False
    """It is not over: another worker looks after it now and tells its end."""

    @property
    def cause(self) -> str:
        """Why it ended, in words."""
        return self.reason or explain_exit(self.code)


class Infrastructure(ABC, Generic[Config]):
    """Starts jobs, watches them and ends them: one instance serves one worker, called from many threads.

    A *job* is whatever runs one flow run: a process, a container. Its *handle* is a text by which this or
    another instance finds it again; it is stored on the run as ``infrastructure_pid``.

    The contract, which ``eparch.testing.infrastructure`` tests:

    - ``render`` decides only: it reads no file, no network, no environment, so that a deployment can be tried
      before it is saved. Whatever is wrong with the job is refused here.
    - ``start`` makes the job so that none of its user code can run, calls ``recorded`` with the handle, and
      only then lets it go. If ``recorded`` raises, the job is removed and the exception goes on: a job that
      nobody knows of is the one thing that must not exist (row W22).
    - ``watch`` waits for the end, however it comes. It may be called by several threads and again after the
      end.
    - ``stop`` is over when the job is gone with everything that it started (row W20): asked to end first,
      killed after ``grace`` seconds. A job that is gone already is not an error.
    - ``find`` names the jobs that are there now, whoever started them: all that is asked for must be found
      by labels that are stored with the job itself, as the instance that started it may be gone.
    - ``labels_of`` gives back the labels of such a job. ``adopt`` makes it this instance's own, if nobody
      who lives looks after it: then ``watch`` tells its exit and shows what it wrote meanwhile, and ``stop``
      ends it. A type that leaves them as they are here has jobs that end with their worker's lease.
    - ``renewed`` says that a worker has renewed the claims of these jobs; a type whose jobs have a
      holder tells it, so that it knows when it has to do that itself (row W17).

    Everything else that can go wrong is an ``InfrastructureError`` that says what to do.
    """

    type: ClassVar[str]
    """What pools call it."""
    display_name: ClassVar[str]
    description: ClassVar[str]
    """One or two sentences for people who choose a type."""
    base_job_template: ClassVar[dict[str, Json]]
    """What a new pool of this type begins with: ``variables`` and ``job_configuration`` (row P2)."""

    on_waiting: Callable[[str, str], None] | None = None
    """Set by whoever wants to hear why a job that was started does not begin: its handle and the reason (row
    W21). A type whose jobs begin at once has no use for it.
    """

    def prepare(self, settings: Settings) -> None:
        """A worker begins to serve: whatever makes later starts fast is made now. Must not wait, nor fail."""
        return

    @abstractmethod
    def render(self, job: Mapping[str, Json]) -> Config:
        """The job as this type understands it, from a rendered ``job_configuration``.

        Raises:
            Invalid: a value does not fit; the message names its key.
        """

    @abstractmethod
    def start(self, config: Config, recorded: Callable[[str], None]) -> str:
        """Start a job and return its handle; ``recorded`` gets the handle before user code can run.

        Raises:
            InfrastructureError: it could not be started; nothing is left behind.
        """

    @abstractmethod
    def watch(self, handle: str) -> Exit:
        """Wait until the job is over."""

    @abstractmethod
    def stop(self, handle: str, grace: float) -> None:
        """End the job and all that it started; ``grace`` in seconds.

        Raises:
            InfrastructureError: it cannot be known whether it is gone.
        """

    @abstractmethod
    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Handles of the jobs that are there and carry all of ``labels``."""

    def labels_of(self, handle: str) -> dict[str, str]:
        """The labels that a job was started with; empty when it is gone or they cannot be known."""
        return {}

    def adopt(self, handle: str) -> bool:
        """Take over a job that another instance started; False when it is held, gone, or cannot be had.

        A type whose machine cannot tell whether the other worker lives lets the label
        ``prefect.io/worker-name`` decide: a worker of the same name, started again, may have it.
        """
        return False

    def renewed(self, handles: Sequence[str], asked: float) -> None:
        """The claims of these jobs were renewed; ``asked`` is ``time.monotonic()`` before that was asked.

        0.0: they were not, but the worker is there.
        """
        return

    def close(self) -> None:
        """Give back what the instance itself holds, such as connections; jobs are not touched."""
        return


def types() -> dict[str, str]:
    """Every type that is installed and where it is found, ``module:class``; the shipped ones cannot be
    replaced.
    """
    found = {point.name: point.value for point in _points()}
    return dict(sorted({**found, **BUILT_IN}.items()))


def find_type(type_name: str) -> type[Infrastructure[Any]]:
    """The class of a type.

    Raises:
        NotFound: no package that is installed has it.
        InfrastructureError: its package is broken, or is not an infrastructure.
    """
    known = types()
    place = known.get(type_name)
    if place is None:
        raise NotFound(
            f"There is no worker type '{type_name}' here",
            why=f"installed are: {', '.join(known)}",
            fix=did_you_mean(type_name, known) or "install the package that brings it",
        )
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        shipped = type_name in BUILT_IN
        raise InfrastructureError(
            f"The worker type '{type_name}' cannot be loaded",
            why=f"{place}: {error}",
            fix=f"pip install 'eparch[{type_name}]'" if shipped else "install its package again",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Infrastructure)):
        raise InfrastructureError(
            f"The worker type '{type_name}' cannot be loaded",
            why=f"{place} is not an Infrastructure",
            fix=f"correct the entry point in the group '{GROUP}'",
        )
    return found


def default_template(type_name: str) -> dict[str, Json]:
    """The base job template that a new pool of the type begins with (row P12); a copy.

    Also of a type whose worker is not installed here: a pool may be served on another machine.

    Raises:
        NotFound: there is no such type.
        InfrastructureError: its package is broken.
    """
    from copy import deepcopy

    template = shipped_template(type_name)
    return deepcopy(find_type(type_name).base_job_template) if template is None else template


def describe_types() -> list[dict[str, Json]]:
    """What ``/collections/views`` tells of each type that other packages bring; a broken one is left out."""
    described = []
    for name in sorted(types().keys() - BUILT_IN.keys()):
        try:
            found = find_type(name)
        except InfrastructureError as error:
            logger.warning("%s: %s", error.message, error.why)
            continue
        told = InfrastructureType(
            type=name,
            package=found.__module__.partition(".")[0],
            display_name=found.display_name,
            description=found.description,
            default_base_job_configuration=found.base_job_template,
        )
        described.append(asdict(told))
    return described


_MEANING = {
    0: "it ended by itself",
    126: "the command cannot be executed",
    127: "the command was not found",
    137: "it was killed, often because memory ran out",
    143: "it was asked to end (SIGTERM)",
}


def explain_exit(code: int | None) -> str:
    """What an exit code means, as far as a code can tell: ``exit code 137: it was killed, ...``."""
    if code is None:
        return "its exit code is not known"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", often because memory ran out" if name == "SIGKILL" else ""
        return f"ended by {name}{hint}"
    meaning = _MEANING.get(code)
    return f"exit code {code}: {meaning}" if meaning else f"exit code {code}"


def _points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))
