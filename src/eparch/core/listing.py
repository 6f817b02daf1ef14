"""What lists are answered with besides their rows: pages, histories, deletions of many.

Owns the bodies' keys beside the conditions and the arithmetic of intervals; conditions are in ``filters``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from msgspec import Meta

from eparch.core.errors import Invalid
from eparch.core.model import Body, Timestamp, Value
from eparch.core.runs import SetStateStatus, StateAnswerDetails
from eparch.core.states import State, StateCreate, StateType

T = TypeVar("T")

MAX_INTERVALS = 500
"""Intervals of one history; a longer span is cut off at its end, as Prefect does."""

MAX_BULK = 50
"""Rows that one request deletes or changes."""


class Page(Value, Generic[T], frozen=True, kw_only=True):
    """One page of a list, and how many there are (wire: ``*PaginationResponse``)."""

    results: list[T]
    count: int
    limit: int
    pages: int
    page: int


def page_of(results: Sequence[Any], count: int, limit: int, page: int) -> dict[str, Any]:
    """``results`` as the page that they are; ``count`` is that of all rows."""
    pages = -(-count // limit) if limit else 0
    return {"results": results, "count": count, "limit": limit, "pages": pages, "page": page}


class Bulk(Body, frozen=True, kw_only=True):
    """How many of the rows that fit are taken."""

    limit: Annotated[int, Meta(ge=1, le=MAX_BULK)] = MAX_BULK


class BulkState(Bulk, frozen=True, kw_only=True):
    """``POST /flow_runs/bulk_set_state``: the state to propose for each run."""

    state: StateCreate
    force: bool = False


class Deleted(Value, frozen=True, kw_only=True):
    """What is not there any more."""

    deleted: list[UUID] = []


class BulkAnswer(Value, frozen=True, kw_only=True):
    """What came of the state that was proposed for one of several runs."""

    flow_run_id: UUID
    status: SetStateStatus
    state: State | None = None
    details: StateAnswerDetails


class BulkAnswers(Value, frozen=True, kw_only=True):
    """One answer for each run, in the order of their ids."""

    results: list[BulkAnswer] = []


class Secrets(Body, frozen=True, kw_only=True):
    """Whether what is answered holds secrets as they are."""

    include_secrets: bool = False


class Span(Body, frozen=True, kw_only=True):
    """``/history``: from when to when, in intervals of how many seconds."""

    history_start: Timestamp
    history_end: Timestamp
    history_interval_seconds: Annotated[float, Meta(ge=1, le=1e10)]

    @property
    def interval(self) -> timedelta:
        """The length of an interval, in whole microseconds."""
        return timedelta(seconds=self.history_interval_seconds)

    def starts(self) -> list[datetime]:
        """When each interval begins; at most ``MAX_INTERVALS``.

        Raises:
            Invalid: an interval would end where no calendar goes.
        """
        elapsed = self.history_end - self.history_start
        number = min(-(-elapsed // self.interval), MAX_INTERVALS) if elapsed > timedelta() else 0
        try:
            return [self.history_start + at * self.interval for at in range(number + 1)][:number]
        except OverflowError as error:
            raise Invalid("Invalid history_end: the history ends too late.") from error


class HistoryState(Value, frozen=True, kw_only=True):
    """The runs of one interval that are in one state; sums in seconds."""

    state_type: StateType
    state_name: str
    count_runs: int
    sum_estimated_run_time: float
    sum_estimated_lateness: float


class HistoryInterval(Value, frozen=True, kw_only=True):
    """What was to start in one interval (wire: ``HistoryResponse``)."""

    interval_start: Timestamp
    interval_end: Timestamp
    states: list[HistoryState] = []


def intervals(span: Span, counted: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All intervals of ``span``, with the rows of ``counted`` in the one that their ``interval`` numbers."""
    made: list[dict[str, Any]] = [
        {"interval_start": start, "interval_end": start + span.interval, "states": []}
        for start in span.starts()
    ]
    for row in counted:
        state = {name: row[name] for name in HistoryState.__struct_fields__}
        made[row["interval"]]["states"].append(state)
    return made


class ShortRun(Value, frozen=True, kw_only=True):
    """A flow run as a chart shows it; times in seconds (wire: ``SimpleFlowRun``)."""

    id: UUID
    state_type: StateType | None
    timestamp: Timestamp
    duration: float
    lateness: float


class NextRun(Value, frozen=True, kw_only=True):
    """The run of a flow that is due next (wire: ``SimpleNextFlowRun``)."""

    id: UUID
    flow_id: UUID
    name: str
    state_name: str
    state_type: StateType
    next_scheduled_start_time: Timestamp


class ByState(Value, frozen=True, kw_only=True):
    """How many are in a state of each type (wire: ``CountByState``)."""

    SCHEDULED: int = 0
    PENDING: int = 0
    RUNNING: int = 0
    COMPLETED: int = 0
    FAILED: int = 0
    CANCELLED: int = 0
    CRASHED: int = 0
    PAUSED: int = 0
    CANCELLING: int = 0


class FlowIds(Body, frozen=True, kw_only=True):
    """Which flows."""

    flow_ids: Annotated[list[UUID], Meta(max_length=200)]


class FlowRunIds(Body, frozen=True, kw_only=True):
    """Which flow runs."""

    flow_run_ids: Annotated[list[UUID], Meta(max_length=200)]
