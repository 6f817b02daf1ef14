"""Performs the effects that the engine yields: ``drive`` for sync functions, ``drive_async`` for async ones.

The two differ only in how they wait. What an effect means is written once, in ``PERFORM``.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import UTC, datetime
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import msgspec

from eparch.core import calls
from eparch.core.errors import TimedOut
from eparch.core.runs import SetState, SetStateStatus, StateAnswer
from eparch.core.states import State
from eparch.sdk.deadlines import Deadline
from eparch.sdk.effects import (
    Await,
    Call,
    Draw,
    Effect,
    Flush,
    Log,
    Now,
    Occupy,
    Propose,
    Record,
    Rename,
    Settle,
    Sleep,
    Stamp,
    Vacate,
)
from eparch.sdk.engine import Engine

if TYPE_CHECKING:
    from eparch.sdk.flow_run import FlowRunContext
    from eparch.sdk.task_run import TaskRunContext

    Context: TypeAlias = "FlowRunContext | TaskRunContext"


def drive(engine: Engine, run: Context) -> State:
    """Perform the effects of ``engine`` for ``run``, in this thread; its last state."""
    with run.entered():
        try:
            effect = next(engine)
            while True:
                try:
                    reply = PERFORM[type(effect)](run, effect)
                except BaseException as error:
                    effect = engine.throw(error)
                else:
                    effect = engine.send(reply)
        except StopIteration as end:
            state: State = end.value
            return state


async def drive_async(engine: Engine, run: Context) -> State:
    """Perform the effects of ``engine`` for ``run`` without blocking the event loop; its last state."""
    with run.entered():
        try:
            effect = next(engine)
            while True:
                try:
                    reply = await _perform_async(run, effect)
                except BaseException as error:
                    effect = engine.throw(error)
                else:
                    effect = engine.send(reply)
        except StopIteration as end:
            state: State = end.value
            return state


async def _perform_async(run: Context, effect: Effect) -> Any:
    import asyncio

    if type(effect) is Call:
        return await _call_async(effect)
    if type(effect) is Sleep:
        await asyncio.sleep(_seconds(effect))
        return None
    if effect.blocks:
        return await asyncio.to_thread(PERFORM[type(effect)], run, effect)
    if run.session.reporter.full:
        await asyncio.to_thread(run.session.reporter.wait_for_room)
    return PERFORM[type(effect)](run, effect)


async def _call_async(effect: Call) -> Any:
    import asyncio

    result = effect.fn(*effect.args, **effect.kwargs)
    if not isinstance(result, CoroutineType):
        return result
    if effect.timeout is None:
        return await result
    try:
        async with asyncio.timeout(effect.timeout) as scope:
            return await result
    except TimeoutError as error:
        effect.expired = scope.expired()
        if effect.expired:
            raise TimedOut from error
        raise


def _call(run: Context, effect: Call) -> Any:
    if effect.timeout is None:
        result = effect.fn(*effect.args, **effect.kwargs)
    else:
        deadline = Deadline(effect.timeout)
        try:
            with deadline:
                result = effect.fn(*effect.args, **effect.kwargs)
        finally:
            effect.expired = deadline.expired
    if type(result) is CoroutineType:
        return finish(result)
    return result


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run ``coroutine`` to its end from sync code, beside an event loop that may run in this thread."""
    import asyncio

    context = copy_context()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _loop_of_thread().run(coroutine, context=context)
    value: list[Any] = []
    raised: list[BaseException] = []

    def run_aside() -> None:
        try:
            value.append(context.run(asyncio.run, coroutine))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run_aside, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return value[0]


_local = threading.local()


def _loop_of_thread() -> Any:
    """This thread's runner of coroutines: making an event loop for each would cost more than a task."""
    import asyncio

    if not hasattr(_local, "runner"):
        _local.runner = asyncio.Runner()
    return _local.runner


def _propose(run: Context, effect: Propose) -> StateAnswer:
    details = msgspec.structs.replace(
        effect.state.state_details, transition_id=uuid4(), flow_run_id=run.record.id
    )
    data = effect.state.data
    state = msgspec.structs.replace(
        effect.state, data=data.wire if hasattr(data, "wire") else None, state_details=details
    )
    call = calls.set_flow_run_state(id=run.record.id, body=SetState(state=state), headers=run.session.headers)
    answer = recognised(run.session.client.send(call), details.transition_id)
    run.follow(answer, data)
    return answer


def recognised(answer: StateAnswer, transition_id: Any) -> StateAnswer:
    """``answer``, or ACCEPT when it refuses only because an earlier try of it was accepted."""
    state = answer.state
    if (
        answer.status is SetStateStatus.REJECT
        and state is not None
        and state.state_details.transition_id == transition_id
    ):
        return msgspec.structs.replace(answer, status=SetStateStatus.ACCEPT)
    return answer


def _seconds(effect: Sleep) -> float:
    if effect.until is None:
        return max(effect.seconds, 0.0)
    seconds = max((effect.until - datetime.now(UTC)).total_seconds(), 0.0)
    return seconds if effect.most is None else min(seconds, max(effect.most, 0.0))


def _sleep(run: Context, effect: Sleep) -> None:
    with run.waits():
        time.sleep(_seconds(effect))


def _await(run: Context, effect: Await) -> None:
    for future in effect.futures:
        future.wait()


def _log(run: Context, effect: Log) -> None:
    logger = logging.getLogger(run.logger_name)
    if not logger.isEnabledFor(effect.level):
        return
    error = effect.error
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    run.logger.log(effect.level, "%s", effect.message, exc_info=exc_info)


PERFORM: dict[type[Effect], Callable[[Any, Any], Any]] = {
    Await: _await,
    Call: _call,
    Draw: lambda run, effect: random.random(),  # noqa: S311 - spreads load, keeps no secret
    Flush: lambda run, effect: run.session.reporter.flush(effect.timeout),
    Log: _log,
    Now: lambda run, effect: datetime.now(UTC),
    Occupy: lambda run, effect: run.occupy(),
    Propose: _propose,
    Record: lambda run, effect: run.enter(effect.state),
    Rename: lambda run, effect: run.rename(effect.name),
    Settle: lambda run, effect: run.settle(effect.drop, effect.timeout),
    Sleep: _sleep,
    Stamp: lambda run, effect: run.stamp(effect.state),
    Vacate: lambda run, effect: run.vacate(),
}
"""How each effect is performed, in a thread that may block."""
