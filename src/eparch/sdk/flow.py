"""``@flow``: a function whose runs the server knows, orchestrates and retries.

Owns the definition and calling it. A run is in ``flow_run``, its life in ``engine``.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload
from uuid import UUID

from eparch.core.errors import Usage
from eparch.core.runs import FlowRunPolicy
from eparch.core.states import State, StateType
from eparch.sdk.definition import Definition, Hook, Named, name_of, refuse_unknown
from eparch.sdk.drive import drive, drive_async
from eparch.sdk.either import either
from eparch.sdk.engine import ServerAuthority, live
from eparch.sdk.flow_run import FlowRunContext, begin_flow_run
from eparch.sdk.results import value_for_caller
from eparch.sdk.runners import TaskRunner, ThreadPoolTaskRunner

if TYPE_CHECKING:
    from eparch.sdk.code_storage import Storage
    from eparch.sdk.deploying import RunnerDeployment

_FORBIDDEN = frozenset("/%&><\x00")
"""Characters that no path segment can hold (``core.model.Name``)."""

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Definition, Generic[P, R]):
    """A flow. Call it to run it here."""

    noun = "flow"
    hooked = {
        "on_completion": StateType.COMPLETED,
        "on_failure": StateType.FAILED,
        "on_cancellation": StateType.CANCELLING,
        "on_crashed": StateType.CRASHED,
        "on_running": StateType.RUNNING,
    }

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        tags: Iterable[str] | None = None,
        flow_run_name: Named = None,
        retries: int | None = None,
        retry_delay_seconds: float | None = None,
        task_runner: TaskRunner | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        log_prints: bool | None = None,
        on_completion: Sequence[Hook] | None = None,
        on_failure: Sequence[Hook] | None = None,
        on_cancellation: Sequence[Hook] | None = None,
        on_crashed: Sequence[Hook] | None = None,
        on_running: Sequence[Hook] | None = None,
    ) -> None:
        given = {key: value for key, value in locals().items() if key not in ("self", "fn", "__class__")}
        self._options: dict[str, Any] = given
        super().__init__(
            fn,
            name=name or name_of(fn).replace("_", "-").strip("<>"),
            description=description,
            version=version,
            tags=tags,
            run_name=flow_run_name,
            timeout_seconds=timeout_seconds,
            log_prints=log_prints,
            persist_result=persist_result,
            hooks={
                "on_completion": on_completion,
                "on_failure": on_failure,
                "on_cancellation": on_cancellation,
                "on_crashed": on_crashed,
                "on_running": on_running,
            },
        )
        if not self.name or _FORBIDDEN.intersection(self.name):
            raise Usage(f"{self.name!r} cannot be the name of a flow.", fix="Leave out / % & > < and NUL.")
        if version is None:
            self.version = _version_of(self.fn)
        self.retries = retries or 0
        if retries is not None and (isinstance(retries, bool) or retries < 0):
            raise Usage(f"retries is {retries!r}.", fix="Give a whole number from 0 on.")
        self.retry_delay_seconds = retry_delay_seconds or 0
        if self.retry_delay_seconds < 0:
            raise Usage("retry_delay_seconds is negative.", fix="Give a number of seconds, 0 or more.")
        self.should_validate_parameters = validate_parameters
        self.task_runner: TaskRunner = task_runner if task_runner is not None else ThreadPoolTaskRunner()
        self.source: tuple[Storage, str] | None = None
        """Where its code is kept and its entrypoint there, if it came ``from_source``."""
        self.policy = FlowRunPolicy(retries=self.retries, retry_delay=round(self.retry_delay_seconds))

    def with_options(self, **changes: Any) -> Flow[P, R]:
        """The same flow with other options.

        Raises:
            Usage: an option is unknown or has a value that it cannot have.
        """
        made: Flow[P, R] = Flow(self.fn, **self.options_with(changes))
        made.source = self.source
        return made

    @staticmethod
    def from_source(source: Any, entrypoint: str) -> Any:
        """The flow at ``entrypoint`` of code that is kept elsewhere: a folder, a URL, a ``GitRepository``.

        The code is brought here and executed. Called or awaited.

        Raises:
            Usage: ``source`` is no place for code.
            StepFailed: it cannot be brought.
            SourceError: there is no such flow.
        """
        from eparch.sdk.deploying import from_source

        return either(from_source)(source, entrypoint)

    def to_deployment(self, name: str, **given: Any) -> RunnerDeployment:
        """A deployment of this flow, which ``deploy`` makes.

        ``given``: ``interval``, ``cron``, ``rrule``, ``schedule``, ``schedules``, ``paused``,
        ``concurrency_limit``, ``parameters``, ``triggers``, ``description``, ``tags``, ``version``,
        ``enforce_parameter_schema``, ``work_pool_name``, ``work_queue_name``, ``job_variables``.

        Raises:
            Usage: an argument cannot be used.
        """
        from eparch.sdk.deploying import to_deployment

        return to_deployment(self, name, **given)

    def deploy(
        self,
        name: str,
        work_pool_name: str | None = None,
        image: Any = None,
        build: bool = True,
        push: bool = True,
        print_next_steps: bool = True,
        ignore_warnings: bool = False,
        **given: Any,
    ) -> Any:
        """Make or change the deployment of this flow called ``name``; its id. Called or awaited.

        ``given`` is as ``to_deployment`` has it. What an argument does not say stays as it is.

        Raises:
            Usage: an argument cannot be used.
            NotFound: there is no such work pool.
            Conflict: it does not fit its pool, or somebody changed it at this moment.
        """
        from eparch.sdk.deploying import deploy, to_deployment

        one = to_deployment(self, name, work_pool_name=work_pool_name, **given)

        def make() -> UUID:
            options: dict[str, Any] = {
                "image": image,
                "build": build,
                "push": push,
                "print_next_steps_message": print_next_steps,
                "ignore_warnings": ignore_warnings,
                "_sync": True,
            }
            [made] = deploy(one, **options)
            return made  # type: ignore[no-any-return]

        return either(make)()

    def serve(
        self,
        name: str | None = None,
        *,
        global_limit: Any = None,
        pause_on_shutdown: bool = True,
        print_starting_message: bool = True,
        limit: int | None = None,
        webserver: bool = False,
        **given: Any,
    ) -> Any:
        """Make the deployment of this flow called ``name``, and run here what is due of it until a signal.

        It is called as the flow unless named. ``limit`` are runs at once of this process, ``global_limit`` of
        all that serve it. ``given`` is as ``to_deployment`` has it. See ``eparch.serve``.

        Raises:
            Usage: an argument cannot be used.
            Conflict: it does not fit its flow.
        """
        from eparch.sdk.deploying import to_deployment
        from eparch.sdk.serving import serve

        one = to_deployment(self, name or self.name, concurrency_limit=global_limit, **given)
        return serve(
            one,
            pause_on_shutdown=pause_on_shutdown,
            print_starting_message=print_starting_message,
            limit=limit,
            webserver=webserver,
        )

    def on_cancellation(self, hook: Hook) -> Hook:
        """Decorator: call ``hook`` when a run is cancelled while it runs."""
        return self.add_hook("on_cancellation", hook)

    def on_crashed(self, hook: Hook) -> Hook:
        """Decorator: call ``hook`` when a run crashed and its process could still say so."""
        return self.add_hook("on_crashed", hook)

    def validate_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """``parameters`` as the annotations of the function ask for them.

        Raises:
            ParametersInvalid: they do not fit; the message names each.
        """
        from eparch.core.parameters import coerce

        return coerce(self.fn, dict(parameters))

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, return_state: bool = ..., wait_for: Any = ..., **kwargs: Any) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow here and return what it returns; with ``return_state`` its last state.

        Raises whatever ended the run. An async flow gives a coroutine. Called in a flow it is a subflow.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        parameters = self.shape.bind(args, kwargs)
        if self.isasync:
            return self._call_async(parameters, wait_for, return_state)
        state = self.run(begin_flow_run(self, parameters, wait_for))
        return state if return_state else value_for_caller(state)

    async def _call_async(self, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
        import asyncio

        run = await asyncio.to_thread(begin_flow_run, self, parameters, wait_for)
        state = await self.run_async(run)
        return state if return_state else value_for_caller(state)

    def run(self, run: FlowRunContext) -> State:
        """Lead the life of ``run``, whose flow is a sync function; its last state."""
        greet(run)
        return drive(live(run, ServerAuthority()), run)

    async def run_async(self, run: FlowRunContext) -> State:
        """Lead the life of ``run``, whose flow is an async function; its last state."""
        greet(run)
        return await drive_async(live(run, ServerAuthority()), run)


def greet(run: FlowRunContext) -> None:
    """The first line of a run's log."""
    kind = "subflow" if run.record.parent_task_run_id is not None else "flow"
    run.logger.info("Beginning %s run %r for flow %r", kind, run.record.name, run.flow.name)


def _version_of(fn: Callable[..., Any]) -> str | None:
    """A digest of the file that ``fn`` is in: another file is another version."""
    try:
        with open(inspect.getfile(fn), "rb") as file:
            return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
    except (OSError, TypeError):
        return None


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(fn: None = None, /, **options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
@overload
def flow(fn: Callable[P, R], /, **options: Any) -> Flow[P, R]: ...
def flow(fn: Any = None, /, **options: Any) -> Any:
    """Make a flow of a function; ``@flow`` or ``@flow(name=..., retries=...)``, options as ``Flow`` has.

    Raises:
        Usage: an option is unknown or has a value that it cannot have.
    """
    refuse_unknown("flow", Flow, options)
    if fn is None:
        return lambda fn: Flow(fn, **options)
    return Flow(fn, **options)


# ``flow.from_source(...)`` is how it is written.
setattr(flow, "from_source", Flow.from_source)  # noqa: B010 - a function has no such attribute for mypy
