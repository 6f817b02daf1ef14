"""What a flow run and a task run have in common, as the engine asks and the driver does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from eparch.core.states import State, StateCreate, StateType
from eparch.sdk import caching
from eparch.sdk.futures import Future, futures_in
from eparch.sdk.inputs import settle
from eparch.sdk.logs import RunLogger, run_logger
from eparch.sdk.results import Returned, concluded

if TYPE_CHECKING:
    from eparch.sdk.definition import Definition
    from eparch.sdk.flow_run import FlowRunContext
    from eparch.sdk.task_run import TaskRunContext


class RunContext:
    """One run of a definition, with the arguments that it was called with."""

    __slots__ = ()

    if TYPE_CHECKING:
        parameters: dict[str, Any]

        @property
        def definition(self) -> Definition:
            """The flow or the task."""

        @property
        def keeps(self) -> bool:
            """Whether the value that it returns is kept."""

    @property
    def fn(self) -> Callable[..., Any]:
        """The function."""
        return self.definition.fn

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take."""
        return self.definition.timeout_seconds

    @property
    def hooks(self) -> Mapping[StateType, Sequence[Callable[..., Any]]]:
        """What to call when a state is entered."""
        return self.definition.hooks

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What to call the function with."""
        return self.definition.shape.spread(self.parameters)

    def pending(self, value: Any) -> Sequence[Future[Any]]:
        """Futures that the function returned."""
        return futures_in(value)

    def conclude(self, value: Any) -> StateCreate:
        """The state that the returned value means; the value is kept when it is to be."""
        state = concluded(settle(value))
        return caching.keep(self._itself, state) if self.keeps and isinstance(state.data, Returned) else state

    def hook_arguments(self, state: State) -> Sequence[Any]:
        """``(definition, run, state)``."""
        return self.definition, self._itself.record, state

    @property
    def logger(self) -> RunLogger:
        """The logger of this run."""
        itself = self._itself
        if itself._logger is None:
            itself._logger = run_logger(itself)
        return itself._logger

    @property
    def _itself(self) -> FlowRunContext | TaskRunContext:
        return cast("FlowRunContext | TaskRunContext", self)
