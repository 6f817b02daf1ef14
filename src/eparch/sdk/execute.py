"""The process of one flow run: ``python -m eparch.sdk.execute``, started by a worker.

The run's id is in ``EPARCH_FLOW_RUN_ID`` (or ``PREFECT__FLOW_RUN_ID``), the fencing token in
``EPARCH_CLAIM_TOKEN``. Owns the order: read the run, pull the code, load the flow, lead the life of the run.
Exits with 0 when the run is in a state that the server knows, else with the code of the error.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any
from uuid import UUID

import msgspec

from eparch.core import calls
from eparch.core.deployment_versions import as_of, asked_version
from eparch.core.deployments import Deployment
from eparch.core.errors import (
    EXIT,
    Aborted,
    EparchError,
    PausedRun,
    SourceError,
    Unreachable,
    Usage,
    nearest,
)
from eparch.core.runs import FlowRun, FlowRunUpdate
from eparch.core.states import State, StateCreate
from eparch.sdk import compat
from eparch.sdk.drive import drive
from eparch.sdk.engine import Engine, ServerAuthority, failed
from eparch.sdk.flow import Flow
from eparch.sdk.flow_run import FlowRunContext, Terminated
from eparch.sdk.loading import load_flow
from eparch.sdk.logs import FLOW_RUNS, RunLogger
from eparch.sdk.session import Session, current, leave

VARIABLES = ("EPARCH_FLOW_RUN_ID", "PREFECT__FLOW_RUN_ID")
UNLOADABLE = "Flow could not be retrieved from deployment."


def main() -> int:
    """Run the flow run that the environment names; the exit code."""
    compat.install()
    try:
        execute(_run_id(), current())
    except (Aborted, PausedRun) as error:
        print(f"eparch: {error.message}", file=sys.stderr)  # noqa: T201 - what a worker keeps of the job
        return 0
    except EparchError as error:
        print(f"eparch: {error} {error.fix}".rstrip(), file=sys.stderr)  # noqa: T201
        return nearest(EXIT, error, 1)
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    finally:
        leave()
    return 0


def execute(run_id: UUID, session: Session) -> State:
    """Lead the flow run ``run_id`` to its end; its last state.

    Raises:
        Aborted: the server does not want this process to run it.
        EparchError: the server cannot be reached, or does not know the run.
    """
    record = session.client.send(calls.read_flow_run(id=run_id))
    if record.state is not None and record.state.is_final():
        return record.state
    lines = RunLogger(
        logging.getLogger(FLOW_RUNS),
        {"flow_run_id": str(run_id), "run": _Loading(record), "task_run_id": None},
    )
    try:
        flow = _load(record, session, lines)
    except Unreachable:
        raise
    except (Exception, SystemExit) as error:
        return _fail(record, session, lines, error)
    record = _follow_policy(flow, record, session)
    parameters = {**flow.shape.defaults(), **record.parameters}
    run = FlowRunContext(flow, record, parameters, session)
    if not flow.isasync:
        return flow.run(run)
    import asyncio

    return asyncio.run(flow.run_async(run))


class _Loading(msgspec.Struct):
    """Whose lines they are while the flow is not loaded."""

    record: FlowRun
    noun: str = "Flow run"


def _run_id() -> UUID:
    for name in VARIABLES:
        text = os.environ.get(name)
        if text:
            try:
                return UUID(text)
            except ValueError:
                raise Usage(f"{name} is {text!r}, which is not the id of a flow run.") from None
    raise Usage("There is no flow run to execute.", fix=f"Set {VARIABLES[0]}, or let a worker start this.")


def _load(record: FlowRun, session: Session, lines: RunLogger) -> Flow[..., Any]:
    """Pull the code and load the flow.

    Raises:
        Exception: whatever the steps and the flow's module raise.
    """
    deployment: Deployment | None = None
    if record.deployment_id is not None:
        deployment = session.client.send(calls.read_deployment(id=record.deployment_id))
        number = asked_version(record.labels)
        if number is not None:
            version = session.client.send(calls.read_deployment_version(id=deployment.id, number=number))
            deployment = as_of(deployment, version.content)
    if deployment is None or not deployment.entrypoint:
        raise SourceError(
            "The run has no entrypoint.", fix="Deploy the flow with an entrypoint, and run the deployment."
        )
    if deployment.pull_steps:
        from eparch.steps.references import ServerReferences
        from eparch.steps.runner import run_steps

        outputs = run_steps(
            deployment.pull_steps,
            on_output=lambda line: lines.info("%s", line),
            references=ServerReferences(session.client),
            install=session.settings.steps_install,
        )
        folder = outputs.get("directory")
    else:
        folder = deployment.path
    if folder and os.path.isdir(folder):
        os.chdir(folder)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return load_flow(deployment.entrypoint)


def _follow_policy(flow: Flow[..., Any], record: FlowRun, session: Session) -> FlowRun:
    """Tell the server how often the flow is retried: it made the run without knowing the code."""
    policy = msgspec.structs.replace(
        record.empirical_policy, retries=flow.policy.retries, retry_delay=flow.policy.retry_delay
    )
    if not flow.retries or policy == record.empirical_policy:
        return record
    change = FlowRunUpdate(empirical_policy=policy)
    session.client.send(calls.update_flow_run(id=record.id, body=change))
    return msgspec.structs.replace(record, empirical_policy=policy)


def _fail(record: FlowRun, session: Session, lines: RunLogger, error: BaseException) -> State:
    """The flow cannot be loaded: the run has failed, and its log says why."""
    lines.error(UNLOADABLE, exc_info=(type(error), error, error.__traceback__))
    state = failed(error, UNLOADABLE)
    context = FlowRunContext(Flow(_nothing, name="unknown"), record, {}, session)
    session.reporter.flush()
    return drive(_refuse(state), context)


def _refuse(state: StateCreate) -> Engine:
    return (yield from ServerAuthority().propose(state))


def _nothing() -> None:
    """Stands for the flow that could not be loaded."""


if __name__ == "__main__":
    sys.exit(main())
