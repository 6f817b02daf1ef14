"""The contract of ``Infrastructure`` as tests, and an infrastructure that runs nothing.

A package with a worker type of its own subclasses ``InfrastructureContract`` in its tests, says how to make
an instance, and pytest runs the rest (row W26).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from shlex import quote
from typing import Any, ClassVar
from uuid import uuid4

import msgspec
import pytest

from eparch.core.errors import Invalid
from eparch.core.job_templates import Severity, check_template, render_job
from eparch.core.model import Json, Value
from eparch.workers.infrastructure import Exit, Infrastructure


class InfrastructureContract:
    """Tests that every ``Infrastructure`` passes; subclass it and answer ``make``."""

    grace: ClassVar[float] = 0.5
    """Seconds given to a job that will not end by itself."""

    def make(self) -> Infrastructure[Any]:
        """A new instance."""
        raise LookupError("a subclass of InfrastructureContract says how to make its infrastructure")

    def successor(self, infrastructure: Infrastructure[Any]) -> Infrastructure[Any]:
        """An instance as the next worker on the same machine makes it."""
        return self.make()

    def job(self, script: str, labels: Mapping[str, str]) -> dict[str, Json]:
        """A rendered job configuration that runs a POSIX shell script; override it if jobs look otherwise."""
        return {
            "command": f"/bin/sh -c {quote(script)}",
            "labels": dict(labels),
            "name": "contract",
            "env": {},
        }

    @pytest.fixture
    def infrastructure(self) -> Infrastructure[Any]:
        """The instance under test."""
        return self.make()

    @pytest.fixture
    def labels(self) -> dict[str, str]:
        """Labels that no other job has."""
        return {"contract": str(uuid4()), "prefect.io/flow-run-name": "a name & more=1"}

    def start(
        self,
        infrastructure: Infrastructure[Any],
        script: str,
        labels: Mapping[str, str],
        recorded: Callable[[str], None] = lambda handle: None,
    ) -> str:
        """Start a job with a script."""
        return infrastructure.start(infrastructure.render(self.job(script, labels)), recorded)

    def test_default_template_is_sound_and_renders(self, infrastructure: Infrastructure[Any]) -> None:
        """The template has no error, and what it gives without any variable can be rendered."""
        template = infrastructure.base_job_template
        assert [found for found in check_template(template) if found.severity is Severity.ERROR] == []
        job, _ = render_job(template, [])
        infrastructure.render(job)

    def test_type_has_a_name_and_is_described(self, infrastructure: Infrastructure[Any]) -> None:
        """People choose by these."""
        assert infrastructure.type == infrastructure.type.strip().lower()
        assert infrastructure.display_name
        assert infrastructure.description

    @pytest.mark.parametrize("wrong", [{"env": 3}, {"labels": ["a"]}, {"command": {"a": 1}}])
    def test_render_refuses_what_does_not_fit(
        self, infrastructure: Infrastructure[Any], wrong: dict[str, Json], labels: dict[str, str]
    ) -> None:
        """A wrong value is refused before anything is made, by its key."""
        with pytest.raises(Invalid) as caught:
            infrastructure.render({**self.job("exit 0", labels), **wrong})
        assert next(iter(wrong)) in caught.value.message

    def test_handle_is_recorded_before_start_returns(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str]
    ) -> None:
        """The same text is recorded and returned (row W22)."""
        recorded: list[str] = []
        handle = self.start(infrastructure, "exit 0", labels, recorded.append)
        assert recorded == [handle]
        infrastructure.watch(handle)

    def test_job_that_cannot_be_recorded_is_not_left_behind(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str]
    ) -> None:
        """What ``recorded`` raises comes out, and the job is gone."""

        def refuse(handle: str) -> None:
            raise ConnectionError("nobody heard of it")

        with pytest.raises(ConnectionError, match="nobody heard of it"):
            self.start(infrastructure, "sleep 600", labels, refuse)
        assert infrastructure.find(labels) == []

    def test_exit_code_and_last_lines_are_told(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str]
    ) -> None:
        """How it ended, and why as far as it said so; asked twice, the same."""
        handle = self.start(infrastructure, "echo went wrong >&2; exit 3", labels)
        seen = infrastructure.watch(handle)
        assert seen.code == 3
        assert seen.stderr.endswith("went wrong")
        assert infrastructure.watch(handle) == seen

    def test_good_end_is_code_zero(self, infrastructure: Infrastructure[Any], labels: dict[str, str]) -> None:
        """Nothing else is."""
        assert infrastructure.watch(self.start(infrastructure, "exit 0", labels)).code == 0

    def test_several_may_watch(self, infrastructure: Infrastructure[Any], labels: dict[str, str]) -> None:
        """Each is told."""
        handle = self.start(infrastructure, "sleep 600", labels)
        seen: list[Exit] = []
        watchers = [
            threading.Thread(target=lambda: seen.append(infrastructure.watch(handle))) for _ in range(3)
        ]
        for watcher in watchers:
            watcher.start()
        infrastructure.stop(handle, self.grace)
        for watcher in watchers:
            watcher.join(60)
        assert len(seen) == 3
        assert len(set(seen)) == 1

    @pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM; sleep 600; sleep 600"])
    def test_stop_ends_a_job_whether_it_wants_or_not(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str], script: str
    ) -> None:
        """When ``stop`` returns the job is gone (row W20)."""
        handle = self.start(infrastructure, script, labels)
        infrastructure.stop(handle, self.grace)
        assert infrastructure.find(labels) == []
        assert infrastructure.watch(handle).code != 0

    def test_stopping_what_is_gone_is_not_an_error(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str]
    ) -> None:
        """Neither after the end nor for a handle that nobody knows."""
        handle = self.start(infrastructure, "exit 0", labels)
        infrastructure.watch(handle)
        infrastructure.stop(handle, self.grace)
        infrastructure.stop("", self.grace)

    def test_jobs_are_found_by_their_labels(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str]
    ) -> None:
        """All labels must be there; other jobs are not meant. Another instance finds the same."""
        handle = self.start(infrastructure, "sleep 600", labels)
        try:
            assert infrastructure.find(labels) == [handle]
            assert infrastructure.find({"contract": labels["contract"]}) == [handle]
            assert infrastructure.find({**labels, "more": "x"}) == []
        finally:
            infrastructure.stop(handle, self.grace)
        assert infrastructure.find(labels) == []

    def test_job_is_found_again_after_its_worker_is_gone(
        self, infrastructure: Infrastructure[Any], labels: dict[str, str]
    ) -> None:
        """The next worker finds the job by its labels, reads them, and has it as if it had started it."""
        handle = self.start(infrastructure, "echo once >&2; exec sleep 600", labels)
        infrastructure.close()
        other = self.successor(infrastructure)
        assert other.find(labels) == [handle]
        assert labels.items() <= other.labels_of(handle).items()
        assert other.adopt(handle)
        assert not self.successor(other).adopt(handle)
        other.stop(handle, self.grace)
        assert other.find(labels) == []
        assert other.watch(handle).code not in (None, 0)
        assert not other.adopt(handle)
        assert other.labels_of(handle) == {}

    def test_many_jobs_at_once(self, infrastructure: Infrastructure[Any], labels: dict[str, str]) -> None:
        """Handles differ, and each has its own end."""
        handles = [self.start(infrastructure, f"exit {code}", labels) for code in range(5)]
        assert len(set(handles)) == 5
        assert [infrastructure.watch(handle).code for handle in handles] == list(range(5))


class FakeJob(Value, frozen=True, kw_only=True):
    """A job that is only noted down."""

    command: str = ""
    name: str | None = None
    labels: dict[str, str] = {}
    env: dict[str, str | None] = {}


class FakeInfrastructure(Infrastructure[FakeJob]):
    """Runs nothing: a job with ``sleep`` in its command lasts until ``end`` or ``stop``, any other is over.

    ``fail`` makes every start fail with this exception. ``started`` holds every job that was started.
    """

    type: ClassVar[str] = "fake"
    display_name: ClassVar[str] = "Fake"
    description: ClassVar[str] = "Runs nothing, for tests."
    base_job_template: ClassVar[dict[str, Json]] = {
        "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "labels": "{{ labels }}"},
        "variables": {
            "type": "object",
            "properties": {
                "command": {"type": "string"},
                "env": {"type": "object"},
                "labels": {"type": "object"},
            },
        },
    }

    def __init__(self, fail: Exception | None = None) -> None:
        self.fail = fail
        self.started: list[FakeJob] = []
        self.stopped: list[str] = []
        self._jobs: dict[str, FakeJob] = {}
        self._exits: dict[str, Exit] = {}
        self._changed = threading.Condition()
        self._left: set[str] = set()

    def close(self) -> None:
        """Leave every job alone, as a worker does that dies."""
        self._left |= set(self._jobs)

    def labels_of(self, handle: str) -> dict[str, str]:
        """Labels of a job that was not ended."""
        return dict(self._jobs[handle].labels) if handle in self.find({}) else {}

    def adopt(self, handle: str) -> bool:
        """Take a job that was left alone."""
        is_left = handle in self._left and handle not in self._exits
        self._left.discard(handle)
        return is_left

    def render(self, job: Mapping[str, Json]) -> FakeJob:
        """The job as it is."""
        try:
            return msgspec.convert(dict(job), FakeJob)
        except msgspec.ValidationError as error:
            raise Invalid(f"The job does not fit: {error}") from error

    def start(self, config: FakeJob, recorded: Callable[[str], None]) -> str:
        """Note it down."""
        if self.fail is not None:
            raise self.fail
        handle = f"fake:{len(self._jobs) + 1}"
        recorded(handle)
        with self._changed:
            self._jobs[handle] = config
            self.started.append(config)
            if "sleep" not in config.command:
                code = re.search(r"exit (\d+)", config.command)
                said = re.search(r"echo (.*) >&2", config.command)
                self._exits[handle] = Exit(code=int(code[1]) if code else 0, stderr=said[1] if said else "")
            self._changed.notify_all()
        return handle

    def watch(self, handle: str) -> Exit:
        """Wait until it was ended."""
        with self._changed:
            self._changed.wait_for(lambda: handle in self._exits)
            return self._exits[handle]

    def stop(self, handle: str, grace: float) -> None:
        """End it as SIGTERM would."""
        self.stopped.append(handle)
        self.end(handle, -15)

    def end(self, handle: str, code: int, stderr: str = "") -> None:
        """Let the job end."""
        with self._changed:
            self._exits.setdefault(handle, Exit(code=code, stderr=stderr))
            self._changed.notify_all()

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Jobs that were not ended."""
        wanted = labels.items()
        return [
            handle
            for handle, job in self._jobs.items()
            if handle not in self._exits and wanted <= job.labels.items()
        ]
