"""Finds what a person names: by name or id, with the nearest name when there is none.

Owns these questions to the server; prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eparch.core import calls
from eparch.core.errors import NotFound, Usage, did_you_mean

if TYPE_CHECKING:
    from eparch.cli.session import Session
    from eparch.core.concurrency import ConcurrencyLimit, TagLimit
    from eparch.core.deployments import Deployment, Flow
    from eparch.core.pools import WorkPool, WorkQueue
    from eparch.core.runs import FlowRun, TaskRun


def as_id(text: str) -> UUID | None:
    """``text`` as an id, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def absent(what: str, name: str, known: Iterable[str], listing: str) -> NotFound:
    """The error for a name that is not there; ``listing`` is the command that shows what is."""
    return NotFound(
        f"There is no {what} {name!r}.", fix=did_you_mean(name, known) or f"See: eparch {listing}"
    )


def find_pool(session: Session, name: str) -> WorkPool:
    """The work pool of that name.

    Raises:
        NotFound: there is none; the nearest name is suggested.
    """
    try:
        return session.send(calls.read_work_pool(name=name))
    except NotFound as error:
        known = [pool.name for pool in session.pages(calls.read_work_pools, {}, 1000)]
        raise absent("work pool", name, known, "work-pool ls") from error


def find_limit(session: Session, name: str) -> ConcurrencyLimit:
    """The concurrency limit of that name, or by id.

    Raises:
        NotFound: there is none; the nearest name is suggested.
    """
    try:
        return session.send(calls.read_concurrency_limit(id_or_name=name))
    except NotFound as error:
        known = [limit.name for limit in session.pages(calls.read_concurrency_limits, {}, 1000)]
        raise absent("concurrency limit", name, known, "global-concurrency-limit ls") from error


def find_tag_limit(session: Session, tag: str) -> TagLimit:
    """The concurrency limit on the tag.

    Raises:
        NotFound: there is none; the nearest tag is suggested.
    """
    try:
        return session.send(calls.read_tag_limit(tag=tag))
    except NotFound as error:
        known = [limit.tag for limit in session.pages(calls.read_tag_limits, {}, 1000)]
        raise absent("concurrency limit on the tag", tag, known, "concurrency-limit ls") from error


def find_queue(session: Session, name: str, pool: str | None) -> WorkQueue:
    """The work queue of that name in ``pool``, or in the only pool that has one; or by id.

    Raises:
        NotFound: there is none.
        Usage: several pools have one.
    """
    if (id_ := as_id(name)) is not None:
        return session.send(calls.read_work_queue(id=id_))
    pool = pool or session.settings.default_work_pool
    if pool is None:
        body = {"work_queues": {"name": {"any_": [name]}}}
        found = list(session.pages(calls.read_work_queues, body, 100))
        if len(found) > 1:
            pools = ", ".join(str(queue.work_pool_name) for queue in found)
            raise Usage(
                f"Several work pools have a queue {name!r}.", why=f"They are {pools}.", fix="Add --pool NAME."
            )
        if found:
            return found[0]
        known = [queue.name for queue in session.pages(calls.read_work_queues, {}, 1000)]
        raise absent("work queue", name, known, "work-queue ls")
    find_pool(session, pool)
    try:
        return session.send(calls.read_work_queue_by_name(work_pool_name=pool, name=name))
    except NotFound as error:
        listed = session.pages(calls.read_pool_queues, {}, 1000, work_pool_name=pool)
        known = [queue.name for queue in listed]
        raise absent(f"work queue in {pool!r} named", name, known, f"work-queue ls --pool {pool}") from error


def flows_by_id(session: Session, ids: Iterable[UUID]) -> dict[UUID, Flow]:
    """The flows with these ids."""
    wanted = [str(id_) for id_ in dict.fromkeys(ids)]
    found: dict[UUID, Flow] = {}
    for begin in range(0, len(wanted), 200):
        body = {"flows": {"id": {"any_": wanted[begin : begin + 200]}}}
        found |= {flow.id: flow for flow in session.pages(calls.read_flows, body)}
    return found


def named(session: Session, deployments: Iterable[Deployment]) -> list[tuple[str, Deployment]]:
    """Each deployment with its full name, ``flow/deployment``."""
    found = list(deployments)
    flows = flows_by_id(session, (deployment.flow_id for deployment in found))
    return [(f"{_name(flows.get(one.flow_id))}/{one.name}", one) for one in found]


def _name(flow: Flow | None) -> str:
    return flow.name if flow else "?"


def find_deployment(session: Session, name: str) -> tuple[str, Deployment]:
    """The deployment ``flow/deployment``, or by id, or by its own name where that is the only one.

    Raises:
        NotFound: there is none; the nearest name is suggested.
        Usage: the name alone means several.
    """
    if (id_ := as_id(name)) is not None:
        return named(session, [session.send(calls.read_deployment(id=id_))])[0]
    flow, separator, short = name.partition("/")
    if separator:
        try:
            call = calls.read_deployment_by_name(flow_name=flow, deployment_name=short)
            return name, session.send(call)
        except NotFound as error:
            raise _no_deployment(session, name) from error
    body = {"deployments": {"name": {"any_": [name]}}}
    found = named(session, session.pages(calls.read_deployments, body, 100))
    if not found:
        raise _no_deployment(session, name)
    if len(found) > 1:
        raise Usage(
            f"Several deployments are called {name!r}.",
            why=f"They are {', '.join(full for full, _ in found)}.",
            fix="Write flow/deployment.",
        )
    return found[0]


def _no_deployment(session: Session, name: str) -> NotFound:
    known = [full for full, _ in named(session, session.pages(calls.read_deployments, {}, 1000))]
    short = {full.partition("/")[2]: full for full in known}
    error = absent("deployment", name, known, "deployment ls")
    hint = did_you_mean(name, short)
    if "/" not in name and hint:
        error.fix = f"Did you mean {next(full for one, full in short.items() if repr(one) in hint)!r}?"
    return error


def find_run(session: Session, name: str) -> FlowRun:
    """The flow run with that id or name.

    Raises:
        NotFound: there is none.
        Usage: several runs have the name.
    """
    if (id_ := as_id(name)) is not None:
        try:
            return session.send(calls.read_flow_run(id=id_))
        except NotFound as error:
            raise NotFound(f"There is no flow run {name}.", fix="See: eparch flow-run ls") from error
    body: dict[str, Any] = {"flow_runs": {"name": {"any_": [name]}}, "sort": "ID_DESC"}
    found = list(session.pages(calls.read_flow_runs, body, 10))
    if not found:
        recent = session.pages(calls.read_flow_runs, {"sort": "ID_DESC"}, 200)
        raise absent("flow run", name, [run.name for run in recent], "flow-run ls")
    if len(found) > 1:
        ids = ", ".join(str(run.id) for run in found)
        raise Usage(f"Several flow runs are called {name!r}.", why=f"They are {ids}.", fix="Use the id.")
    return found[0]


def state_filter(states: Iterable[str], types: Iterable[str]) -> dict[str, Any]:
    """What a filter of runs says of their states: names, of any case, and types.

    Raises:
        Usage: there is no such type.
    """
    state: dict[str, Any] = {}
    if names := [name.capitalize() if name.islower() else name for name in states]:
        state["name"] = {"any_": names}
    if kinds := [_state_type(kind) for kind in types]:
        state["type"] = {"any_": kinds}
    return state


def _state_type(text: str) -> str:
    from eparch.core.states import StateType

    if text.upper() in StateType.__members__:
        return text.upper()
    known = list(StateType.__members__)
    hint = did_you_mean(text.upper(), known)
    raise Usage(f"There is no state type {text!r}.", fix=hint or f"Use one of {', '.join(known)}.")


def find_task_run(session: Session, name: str) -> TaskRun:
    """The task run with that id or name.

    Raises:
        NotFound: there is none.
        Usage: several runs have the name.
    """
    if (id_ := as_id(name)) is not None:
        try:
            return session.send(calls.read_task_run(id=id_))
        except NotFound as error:
            raise NotFound(f"There is no task run {name}.", fix="See: eparch task-run ls") from error
    body: dict[str, Any] = {"task_runs": {"name": {"any_": [name]}}, "sort": "ID_DESC"}
    found = list(session.pages(calls.read_task_runs, body, 10))
    if not found:
        recent = session.pages(calls.read_task_runs, {"sort": "ID_DESC"}, 200)
        raise absent("task run", name, [run.name for run in recent], "task-run ls")
    if len(found) > 1:
        ids = ", ".join(str(run.id) for run in found)
        raise Usage(f"Several task runs are called {name!r}.", why=f"They are {ids}.", fix="Use the id.")
    return found[0]
