"""``@task``: a function whose runs are recorded, retried, cached, and run beside each other.

Owns the definition and the ways to call it. A run is in ``task_run``, its life in ``engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from eparch.core.errors import Usage
from eparch.core.model import encode
from eparch.core.runs import TaskRunPolicy
from eparch.core.states import State, StateType
from eparch.sdk import context
from eparch.sdk.annotations import Annotation, allow_failure, opaque, quote, unmapped
from eparch.sdk.caching import DEFAULT, NO_CACHE, CachePolicy
from eparch.sdk.definition import Definition, Hook, Named, refuse_unknown
from eparch.sdk.drive import drive, drive_async, finish
from eparch.sdk.engine import Engine, LocalAuthority, live
from eparch.sdk.futures import Future, FutureList
from eparch.sdk.inputs import resolve
from eparch.sdk.results import value_for_caller
from eparch.sdk.retries import delays_of
from eparch.sdk.task_run import TaskRunContext, source

if TYPE_CHECKING:
    from eparch.sdk.background import DelayedFuture

P = ParamSpec("P")
R = TypeVar("R")


class Task(Definition, Generic[P, R]):
    """A task. Call it to run it here, ``submit`` it to run it beside, ``map`` it over a list."""

    noun = "task"
    hooked = {
        "on_completion": StateType.COMPLETED,
        "on_failure": StateType.FAILED,
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
        cache_policy: CachePolicy | None = None,
        cache_key_fn: Callable[[Any, dict[str, Any]], str | None] | None = None,
        cache_expiration: timedelta | None = None,
        refresh_cache: bool | None = None,
        task_run_name: Named = None,
        retries: int | None = None,
        retry_delay_seconds: float | Sequence[float] | Callable[[int], list[float]] | None = None,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: Callable[..., Any] | None = None,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        persist_result: bool | None = None,
        on_completion: Sequence[Hook] | None = None,
        on_failure: Sequence[Hook] | None = None,
        on_running: Sequence[Hook] | None = None,
        viz_return_value: Any = None,
    ) -> None:
        given = {key: value for key, value in locals().items() if key not in ("self", "fn", "__class__")}
        self._options: dict[str, Any] = given
        super().__init__(
            fn,
            name=name,
            description=description,
            version=version,
            tags=tags,
            run_name=task_run_name,
            timeout_seconds=timeout_seconds,
            log_prints=log_prints,
            persist_result=persist_result,
            hooks={"on_completion": on_completion, "on_failure": on_failure, "on_running": on_running},
        )
        self.retries = _count(retries)
        self.retry_delays = delays_of(retry_delay_seconds, self.retries)
        if retry_jitter_factor is not None and retry_jitter_factor < 0:
            raise Usage("retry_jitter_factor is negative.", fix="Give a number from 0 on.")
        self.retry_jitter_factor = retry_jitter_factor
        self.retry_condition_fn = retry_condition_fn
        self.cache_key_fn = cache_key_fn
        self.cache_policy = (
            cache_policy if cache_policy is not None else DEFAULT if persist_result else NO_CACHE
        )
        self.cache_expiration = cache_expiration
        self.refresh_cache = bool(refresh_cache)
        self.caches = persist_result is not False and bool(
            persist_result or cache_key_fn or self.cache_policy
        )
        self.policy = TaskRunPolicy(
            retries=self.retries,
            retry_delay=self.retry_delays,
            retry_jitter_factor=retry_jitter_factor,
        )
        self.encoded_policy = _encoded(self.policy)

    def with_options(self, **changes: Any) -> Task[P, R]:
        """The same task with other options.

        Raises:
            Usage: an option is unknown or has a value that it cannot have.
        """
        return Task(self.fn, **self.options_with(changes))

    def _engine(self, run: TaskRunContext) -> Engine:
        condition = self.retry_condition_fn
        return live(
            run,
            LocalAuthority(
                self.retries,
                self.retry_delays,
                self.retry_jitter_factor,
                condition,
                run,
                limited=bool(run.record.tags),
            ),
        )

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, return_state: bool = ..., wait_for: Any = ..., **kwargs: Any) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and return what it returns; with ``return_state`` its last state.

        Raises whatever ended the run. An async task gives a coroutine.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        parameters = self.shape.bind(args, kwargs)
        if self.isasync:
            return self._call_async(parameters, wait_for, return_state)
        run = TaskRunContext(self, parameters, wait_for)
        state = drive(self._engine(run), run)
        return state if return_state else value_for_caller(state)

    async def _call_async(self, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
        run = TaskRunContext(self, parameters, wait_for)
        state = await drive_async(self._engine(run), run)
        return state if return_state else value_for_caller(state)

    def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the task beside the flow that calls this; a future of it, or its last state.

        Arguments may be futures; the task begins when they, and those of ``wait_for``, are done.

        Raises:
            Usage: it is not called in a flow.
        """
        future = self._submit(self.shape.bind(args, kwargs), wait_for)
        if return_state:
            future.wait()
            return future.state
        return future

    def _submit(
        self, parameters: dict[str, Any], wait_for: Any, extra: Mapping[str, list[Any]] | None = None
    ) -> Future[R]:
        flow = context.flow_run.get()
        if flow is None:
            raise Usage(
                f"The task {self.name!r} cannot be submitted outside of a flow.",
                fix="Call it, or submit it from inside of a flow.",
            )
        run = TaskRunContext(self, parameters, wait_for, extra)
        future: Future[R] = run.future()
        around = copy_context()

        def job(drop: bool) -> None:
            state = None
            try:
                state = run.drop() if drop else around.run(self._run_aside, run)
            finally:
                future.finish(state or run.state)

        flow.pool.submit(job, run.upstream)
        return future

    def _run_aside(self, run: TaskRunContext) -> State:
        try:
            engine = self._engine(run)
            if self.isasync:
                state: State = finish(drive_async(engine, run))
                return state
            return drive(engine, run)
        except BaseException as error:
            run.abandon(error)
            return run.state

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> DelayedFuture[R]:
        """Let a task worker run the task, with these arguments; a future of it.

        Raises:
            EparchError: see ``apply_async``.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wait_for: Iterable[Any] | None = None,
        dependencies: Mapping[str, Iterable[Any]] | None = None,
        *,
        scheduled_time: datetime | None = None,
    ) -> DelayedFuture[R]:
        """Let a task worker run the task, not before ``scheduled_time``; a future of it.

        It begins when the futures among its arguments, and those of ``wait_for``, are done. ``dependencies``
        are further sources of parameters, for the graph.

        Raises:
            ParametersInvalid: the arguments do not fit the task.
            EparchError: the server could not be reached, or the parameters not be kept.
        """
        from eparch.sdk.background import DelayedFuture, schedule

        parameters = self.shape.bind(args or (), kwargs or {})
        run = schedule(self, parameters, wait_for, dependencies, scheduled_time)
        return DelayedFuture(run.id)

    def serve(self, **options: Any) -> Any:
        """Run this task's background runs here; options as ``task_worker.serve`` has."""
        from eparch.sdk.task_worker import serve

        return serve(self, **options)

    def map(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> FutureList[R]:
        """Submit the task once for each element of the iterable arguments, which are equally long.

        Texts and what ``unmapped`` marks go to each run as they are.

        Raises:
            Usage: no argument can be iterated, or their lengths differ.
        """
        runs, extra = self._mapped(args, kwargs)
        futures = FutureList(self._submit(parameters, wait_for, extra) for parameters in runs)
        if return_state:
            futures.wait()
            return [future.state for future in futures]  # type: ignore[return-value]
        return futures

    def _mapped(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
        """The parameters of each run, and where the mapped values themselves came from."""
        given = self.shape.given(args, kwargs)
        extra: dict[str, list[Any]] = {}
        mapped: dict[str, list[Any]] = {}
        static: dict[str, Any] = {}
        marks: dict[str, Annotation[Any]] = {}
        for name, value in given.items():
            mark = value if isinstance(value, allow_failure | quote | opaque) else None
            bare = value.value if mark is not None else value
            if isinstance(bare, Future):
                extra[name] = [source(bare.task_run_id)]
                bare = resolve(value)
            if isinstance(bare, unmapped):
                static[name] = bare.value
            elif _is_mappable(bare):
                mapped[name] = list(bare)
                if mark is not None:
                    marks[name] = mark
            else:
                static[name] = value
        if not mapped:
            raise Usage(
                "No iterable parameters were received.", fix="Give map at least one list, or call submit."
            )
        lengths = {name: len(values) for name, values in mapped.items()}
        if len(set(lengths.values())) > 1:
            raise Usage(f"The iterable parameters for map have different lengths: {lengths}.")
        rows = []
        for row in zip(*mapped.values(), strict=True):
            parameters = dict(static)
            for name, value in zip(mapped, row, strict=True):
                parameters[name] = marks[name].rewrap(value) if name in marks else value
            rows.append(self.shape.complete(parameters))
        return rows, extra


def _encoded(policy: TaskRunPolicy) -> msgspec.Raw:
    """``policy`` as the events of every run carry it, encoded once."""
    given = {name: value for name, value in msgspec.to_builtins(policy).items() if value is not None}
    return msgspec.Raw(encode(given))


def _is_mappable(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str | bytes | bytearray)


def _count(retries: int | None) -> int:
    if retries is None:
        return 0
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise Usage(f"retries is {retries!r}.", fix="Give a whole number from 0 on.")
    return retries


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(fn: None = None, /, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
@overload
def task(fn: Callable[P, R], /, **options: Any) -> Task[P, R]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a task of a function; ``@task`` or ``@task(name=..., retries=...)``, options as ``Task`` has.

    Raises:
        Usage: an option is unknown or has a value that it cannot have.
    """
    refuse_unknown("task", Task, options)
    if fn is None:
        return lambda fn: Task(fn, **options)
    return Task(fn, **options)
