"""Pages, counts and histories of all entities, deletions of many: written once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from eparch.api.deployments import shown
from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.calls import Endpoint
from eparch.core.errors import EparchError, Invalid
from eparch.core.filters import Condition, Group, Query
from eparch.core.listing import BulkAnswer, BulkAnswers, BulkState, Deleted, FlowIds, FlowRunIds, page_of
from eparch.core.runs import SetState, SetStateStatus, StateAnswerDetails
from eparch.orchestration import bulk, erasure, transition
from eparch.store import deployments, runs, tallies
from eparch.store.statement import Steps


def _counts(endpoint: Endpoint[int], what: str) -> None:
    async def count(request: Request, body: Query) -> int:
        number: int = await request.count(body)
        return number

    count.__doc__ = f"How many {what} there are."
    handles(endpoint)(count)


def _pages(
    endpoint: Endpoint[Any],
    what: str,
    read: Callable[[Query, Any], Steps[list[dict[str, Any]]]],
    show: Callable[[Request, dict[str, Any]], dict[str, Any]] = lambda _, row: row,
) -> None:
    async def page(request: Request, body: Query) -> Any:
        async def rows() -> Any:
            return await request.scan(read, body, request.now)

        results, count = await asyncio.gather(rows(), request.count(body))
        return page_of([show(request, row) for row in results], count, body.limit, body.page)

    page.__doc__ = f"A page of {what}, and how many there are."
    handles(endpoint)(page)


def _histories(endpoint: Endpoint[Any], what: str) -> None:
    async def history(request: Request, body: Query) -> Any:
        return await request.scan(tallies.history, body, request.now)

    history.__doc__ = f"How many {what} of each state were to start in each interval."
    handles(endpoint)(history)


def _flows(query: Query, now: Any) -> Steps[list[dict[str, Any]]]:
    return deployments.read_flows(query)


_counts(calls.count_flows, "flows")
_counts(calls.count_task_runs, "task runs")
_counts(calls.count_deployments, "deployments")
_counts(calls.count_work_pools, "work pools")
_pages(calls.page_flows, "flows", _flows)
_pages(calls.page_flow_runs, "runs", runs.read_flow_runs)
_pages(calls.page_task_runs, "task runs", runs.read_task_runs)
_pages(calls.page_deployments, "deployments", deployments.read_deployments, shown)
_histories(calls.read_flow_run_history, "runs")
_histories(calls.read_task_run_history, "task runs")


@handles(calls.read_flow_run_lateness)
async def read_flow_run_lateness(request: Request, body: Query) -> float | None:
    """How late runs began or are on average, in seconds; null when there are none."""
    seconds: float | None = await request.scan(tallies.average_lateness, body, request.now)
    return seconds


@handles(calls.read_short_flow_runs)
async def read_short_flow_runs(request: Request, body: Query) -> Any:
    """A page of runs as a chart shows them."""
    return await request.scan(tallies.short_runs, body, request.now)


@handles(calls.count_task_runs_by_flow_run)
async def count_task_runs_by_flow_run(request: Request, body: FlowRunIds) -> Any:
    """How many task runs each flow run has, those of subflows aside."""
    return await request.scan(tallies.task_runs_by_flow_run, body.flow_run_ids)


@handles(calls.count_deployments_by_flow)
async def count_deployments_by_flow(request: Request, body: FlowIds) -> Any:
    """How many deployments each flow has."""
    return await request.scan(tallies.deployments_by_flow, body.flow_ids)


@handles(calls.read_next_runs_by_flow)
async def read_next_runs_by_flow(request: Request, body: FlowIds) -> Any:
    """The run of each flow that is due next."""
    return await request.scan(tallies.next_runs, body.flow_ids)


@handles(calls.count_task_runs_by_state)
async def count_task_runs_by_state(request: Request, body: Query) -> Any:
    """How many task runs are in a state of each type."""
    return await request.scan(tallies.task_runs_by_state, body)


@handles(calls.read_task_run_outcomes)
async def read_task_run_outcomes(request: Request, body: Query) -> Any:
    """How many task runs have completed and failed, over twenty intervals of the time they began in."""
    times = {part.op: part.value for part in _parts(body.where) if part.field == "start_time"}
    if "after_" not in times:
        raise Invalid("task_runs.start_time.after_ is required")
    start = times["after_"].replace(second=0, microsecond=0)
    end = times.get("before_", request.now).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return await request.scan(tallies.outcomes, body, start, end)


def _parts(group: Group) -> list[Condition]:
    found_: list[Condition] = []
    for part in group.parts:
        found_ += _parts(part) if isinstance(part, Group) else [part]
    return found_


@handles(calls.read_named_task_run)
async def read_named_task_run(request: Request, id: UUID) -> Any:
    """One task run, with the name of its flow run."""
    return found(await request.read(tallies.task_run_with_name, id, request.now), "Task not found")


@handles(calls.delete_flows)
async def delete_flows(request: Request, body: Query) -> Deleted:
    """Delete the flows that fit, with their deployments and runs."""
    for id_ in await request.scan(bulk.matching, body):
        await erasure.empty_flow(request.services.database, id_)
    return Deleted(deleted=await request.write(bulk.delete_flows, body, request.now))


@handles(calls.delete_flow_runs)
async def delete_flow_runs(request: Request, body: Query) -> Deleted:
    """Delete the runs that fit."""
    for id_ in await request.scan(bulk.matching, body):
        await erasure.empty_run(request.services.database, id_)
    return Deleted(deleted=await request.write(bulk.delete_flow_runs, body))


@handles(calls.delete_deployments)
async def delete_deployments(request: Request, body: Query) -> Deleted:
    """Delete the deployments that fit."""
    for id_ in await request.scan(bulk.matching, body):
        await erasure.empty_deployment(request.services.database, id_, request.now)
    return Deleted(deleted=await request.write(bulk.delete_deployments, body, request.now))


@handles(calls.set_flow_run_states)
async def set_flow_run_states(request: Request, body: Query) -> BulkAnswers:
    """Propose a state for each of the runs that fit; what one is refused does not keep it from the others."""
    wanted: BulkState = body.more
    ids: list[UUID] = await request.scan(bulk.matching, body)
    proposal = SetState(state=wanted.state, force=wanted.force)
    return BulkAnswers(results=[await _propose(request, id_, proposal) for id_ in ids])


async def _propose(request: Request, run_id: UUID, proposal: SetState) -> BulkAnswer:
    try:
        answered = await request.write(
            transition.set_flow_run_state,
            run_id,
            proposal,
            request.now,
            token=request.claim_token,
            stock=request.stock_version,
        )
    except EparchError as error:
        details = StateAnswerDetails(type="abort_details", reason=error.message)
        return BulkAnswer(flow_run_id=run_id, status=SetStateStatus.ABORT, details=details)
    said = answered.answer
    return BulkAnswer(flow_run_id=run_id, status=said.status, state=said.state, details=said.details)
