"""Eparch: flows in Python, deployed from one file, run by workers on your own infrastructure.

Public names are resolved when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from eparch.version import __version__ as __version__

TYPE_CHECKING = False  # typing's own would have to be imported first
if TYPE_CHECKING:
    from typing import Any

    from eparch.core.states import State as State
    from eparch.sdk.annotations import allow_failure as allow_failure
    from eparch.sdk.annotations import opaque as opaque
    from eparch.sdk.annotations import quote as quote
    from eparch.sdk.annotations import unmapped as unmapped
    from eparch.sdk.artifacts import create_link_artifact as create_link_artifact
    from eparch.sdk.artifacts import create_markdown_artifact as create_markdown_artifact
    from eparch.sdk.artifacts import create_table_artifact as create_table_artifact
    from eparch.sdk.blocks.block import Block as Block
    from eparch.sdk.context import tags as tags
    from eparch.sdk.deploying import deploy as deploy
    from eparch.sdk.deployment_runs import arun_deployment as arun_deployment
    from eparch.sdk.deployment_runs import run_deployment as run_deployment
    from eparch.sdk.events import emit_event as emit_event
    from eparch.sdk.flow import Flow as Flow
    from eparch.sdk.flow import flow as flow
    from eparch.sdk.futures import as_completed as as_completed
    from eparch.sdk.futures import wait as wait
    from eparch.sdk.logs import get_run_logger as get_run_logger
    from eparch.sdk.pausing import pause_flow_run as pause_flow_run
    from eparch.sdk.pausing import resume_flow_run as resume_flow_run
    from eparch.sdk.pausing import suspend_flow_run as suspend_flow_run
    from eparch.sdk.retries import exponential_backoff as exponential_backoff
    from eparch.sdk.runners import ThreadPoolTaskRunner as ThreadPoolTaskRunner
    from eparch.sdk.serving import aserve as aserve
    from eparch.sdk.serving import serve as serve
    from eparch.sdk.task import Task as Task
    from eparch.sdk.task import task as task
    from eparch.sdk.variables import Variable as Variable

_STATES = (
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateType",
)

_HOME_OF: dict[str, str] = {
    **dict.fromkeys(_STATES, "eparch.core.states"),
    "Block": "eparch.sdk.blocks.block",
    "Flow": "eparch.sdk.flow",
    "Task": "eparch.sdk.task",
    "ThreadPoolTaskRunner": "eparch.sdk.runners",
    "Variable": "eparch.sdk.variables",
    "allow_failure": "eparch.sdk.annotations",
    "arun_deployment": "eparch.sdk.deployment_runs",
    "as_completed": "eparch.sdk.futures",
    "aserve": "eparch.sdk.serving",
    "create_link_artifact": "eparch.sdk.artifacts",
    "create_markdown_artifact": "eparch.sdk.artifacts",
    "create_table_artifact": "eparch.sdk.artifacts",
    "deploy": "eparch.sdk.deploying",
    "emit_event": "eparch.sdk.events",
    "exponential_backoff": "eparch.sdk.retries",
    "flow": "eparch.sdk.flow",
    "get_run_logger": "eparch.sdk.logs",
    "pause_flow_run": "eparch.sdk.pausing",
    "resume_flow_run": "eparch.sdk.pausing",
    "suspend_flow_run": "eparch.sdk.pausing",
    "run_deployment": "eparch.sdk.deployment_runs",
    "opaque": "eparch.sdk.annotations",
    "quote": "eparch.sdk.annotations",
    "serve": "eparch.sdk.serving",
    "tags": "eparch.sdk.context",
    "task": "eparch.sdk.task",
    "unmapped": "eparch.sdk.annotations",
    "wait": "eparch.sdk.futures",
}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'eparch' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
