"""Lets a flow file that says ``from prefect import flow`` run where Prefect is not installed.

``install`` adds a finder behind all others, so that a Prefect that is installed stays what
``import prefect`` gets. It is active in the process of a flow run (``execute``). A script that is started as
``python flow.py`` imports before we could be asked: it has to say ``eparch``, or be started by something that
calls ``run_script``.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from eparch.core.errors import did_you_mean
from eparch.sdk.filter_values import FILTER_NAMES, SORT_NAMES

_SDK = "eparch.sdk."


def _from(home: str, *names: str, **others: str) -> dict[str, tuple[str, str]]:
    return {name: (home, name) for name in names} | {name: (home, ours) for name, ours in others.items()}


_STATES = _from(
    "eparch.core.states",
    *(
        "AwaitingRetry",
        "Cancelled",
        "Cancelling",
        "Completed",
        "Crashed",
        "Failed",
        "Late",
        "Paused",
        "Pending",
    ),
    *("Retrying", "Running", "Scheduled", "State", "Suspended"),
)
_CLIENT = _from(
    _SDK + "api_client", "get_client", PrefectClient="AsyncClient", SyncPrefectClient="SyncClient"
)
_OBJECTS = _from("eparch.core.states", "State", "StateType", "StateDetails") | _from(
    "eparch.core.runs", "FlowRun", "TaskRun"
)
_ANNOTATIONS = _from(_SDK + "annotations", "allow_failure", "opaque", "quote", "unmapped")
_FUTURES = _from(
    _SDK + "futures", "as_completed", "wait", PrefectFuture="Future", PrefectFutureList="FutureList"
) | _from(_SDK + "background", PrefectDistributedFuture="DelayedFuture")
_LOGS = _from(_SDK + "logs", "get_logger", "get_run_logger")
_FILTERS = _from(_SDK + "filter_values", *FILTER_NAMES)
_SORTS = _from(_SDK + "filter_values", *SORT_NAMES)
_RUNNERS = _from(_SDK + "runners", "ThreadPoolTaskRunner", ConcurrentTaskRunner="ThreadPoolTaskRunner")
_FLOWS = _from(_SDK + "flow", "Flow", "flow")
_TASKS = _from(_SDK + "task", "Task", "task")
_SERVING = _from(_SDK + "serving", "aserve", "serve")
_ENTRYPOINTS = _from(_SDK + "deploying", "EntrypointType")
_DEPLOYING = _from(_SDK + "deploying", "RunnerDeployment", "deploy") | _ENTRYPOINTS
_DEPLOYMENT_RUNS = _from(_SDK + "deployment_runs", "arun_deployment", "run_deployment")
_PAUSING = _from(
    _SDK + "pausing",
    *("apause_flow_run", "aresume_flow_run", "asuspend_flow_run"),
    *("pause_flow_run", "resume_flow_run", "suspend_flow_run"),
)
_SLOT_ERRORS = _from(
    "eparch.core.errors",
    AcquireConcurrencySlotTimeoutError="NoSlotsInTime",
    ConcurrencySlotAcquisitionError="NoSlots",
)

_TRIGGERS = _from(
    _SDK + "automations",
    *("Automation", "CompoundTrigger", "EventTrigger", "MetricTrigger", "Posture", "SequenceTrigger"),
)
_ACTIONS = _from(
    _SDK + "automations",
    *("CallWebhook", "CancelFlowRun", "ChangeFlowRunState", "DeleteFlowRun", "DoNothing", "PauseAutomation"),
    *("PauseDeployment", "PauseWorkPool", "PauseWorkQueue", "ResumeAutomation", "ResumeDeployment"),
    *("ResumeFlowRun", "ResumeWorkPool", "ResumeWorkQueue", "RunDeployment", "SendNotification"),
    "SuspendFlowRun",
)
_OF_DEPLOYMENTS = _from(
    _SDK + "automations",
    *("DeploymentCompoundTrigger", "DeploymentEventTrigger", "DeploymentMetricTrigger"),
    "DeploymentSequenceTrigger",
)
_EVENTS = _from("eparch.core.events", "Event", "ReceivedEvent")

_BLOCKS = _SDK + "blocks."
_SECRETS = _from("eparch.core.secrets", "SecretDict")
_FILES = _from(_BLOCKS + "filesystems", "LocalFileSystem", "RemoteFileSystem")

NAMES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "prefect": {
        **_FLOWS,
        **_TASKS,
        **_ANNOTATIONS,
        **_from("eparch.core.states", "State"),
        **_from(_SDK + "context", "tags"),
        **_from(_SDK + "logs", "get_run_logger"),
        **_from(_SDK + "api_client", "get_client"),
        **_from("eparch.version", "__version__"),
        **_from(_SDK + "deploying", "deploy"),
        **_SERVING,
        **_PAUSING,
    },
    "prefect.artifacts": _from(
        _SDK + "artifacts",
        *("acreate_image_artifact", "acreate_link_artifact", "acreate_markdown_artifact"),
        *("acreate_progress_artifact", "acreate_table_artifact", "aupdate_progress_artifact"),
        *("create_image_artifact", "create_link_artifact", "create_markdown_artifact"),
        *("create_progress_artifact", "create_table_artifact", "update_progress_artifact"),
    ),
    "prefect.automations": _TRIGGERS | _ACTIONS,
    "prefect.blocks": {},
    "prefect.blocks.core": _from(_BLOCKS + "block", "Block"),
    "prefect.blocks.fields": _SECRETS,
    "prefect.blocks.notifications": _from(
        _BLOCKS + "notifications",
        *("CustomWebhookNotificationBlock", "DiscordWebhook", "MicrosoftTeamsWebhook", "SlackWebhook"),
    ),
    "prefect.blocks.system": _from(_BLOCKS + "system", "DateTime", "JSON", "Secret", "String"),
    "prefect.blocks.webhook": _from(_BLOCKS + "webhook", "Webhook"),
    "prefect.cache_policies": _from(
        _SDK + "caching",
        *("DEFAULT", "FLOW_PARAMETERS", "INPUTS", "NO_CACHE", "RUN_ID", "TASK_SOURCE", "CachePolicy"),
        NONE="NO_CACHE",
    ),
    "prefect.client": _from(_SDK + "api_client", "get_client"),
    "prefect.client.schemas": _OBJECTS,
    "prefect.client.orchestration": _CLIENT,
    "prefect.client.schemas.filters": _FILTERS,
    "prefect.client.schemas.objects": _OBJECTS,
    "prefect.client.schemas.sorting": _SORTS,
    "prefect.concurrency": {},
    "prefect.concurrency.asyncio": _from(
        _SDK + "concurrency",
        "concurrency",
        rate_limit="rate_limit_async",
    )
    | _SLOT_ERRORS,
    "prefect.concurrency.sync": _from(_SDK + "concurrency", "concurrency", "rate_limit") | _SLOT_ERRORS,
    "prefect.context": {
        **_from(_SDK + "context", "get_run_context", "tags"),
        **_from(_SDK + "flow_run", "FlowRunContext"),
        **_from(_SDK + "task_run", "TaskRunContext"),
    },
    "prefect.events": {
        **_TRIGGERS,
        **_OF_DEPLOYMENTS,
        **_ACTIONS,
        **_EVENTS,
        **_from(_SDK + "events", "emit_event"),
    },
    "prefect.events.actions": _ACTIONS,
    "prefect.events.schemas": {},
    "prefect.events.schemas.automations": _TRIGGERS,
    "prefect.events.schemas.deployment_triggers": _OF_DEPLOYMENTS,
    "prefect.events.schemas.events": _EVENTS,
    "prefect.events.utilities": _from(_SDK + "events", "emit_event"),
    "prefect.exceptions": _from(
        "eparch.core.errors",
        *("CancelledRun", "CrashedRun", "FailedRun", "MissingResult", "PausedRun", "UnfinishedRun"),
        Abort="Aborted",
        FlowPauseTimeout="TimedOut",
        ObjectNotFound="NotFound",
        ParameterBindError="ParametersInvalid",
        ParameterTypeError="ParametersInvalid",
        PrefectException="EparchError",
        UpstreamTaskError="UpstreamFailed",
    ),
    "prefect.filesystems": _FILES,
    "prefect.flow_runs": _PAUSING,
    "prefect.deployments": _DEPLOYING | _DEPLOYMENT_RUNS,
    "prefect.deployments.flow_runs": _DEPLOYMENT_RUNS,
    "prefect.deployments.runner": _DEPLOYING,
    "prefect.docker": _from(_SDK + "deploying", "DockerImage"),
    "prefect.flows": _FLOWS | _SERVING | _ENTRYPOINTS,
    "prefect.futures": _FUTURES,
    "prefect.input": _from(_SDK + "run_input", "RunInput"),
    "prefect.input.run_input": _from(_SDK + "run_input", "RunInput"),
    "prefect.logging": _LOGS,
    "prefect.logging.loggers": _LOGS,
    "prefect.runner": {},
    "prefect.runner.storage": _from(_SDK + "code_storage", "GitRepository", "LocalStorage", "RemoteStorage"),
    "prefect.runtime": _from(_SDK + "runtime", "deployment", "flow_run", "task_run"),
    "prefect.schedules": _from(_SDK + "schedules", "Cron", "Interval", "RRule"),
    "prefect.states": _STATES,
    "prefect.task_runners": _RUNNERS,
    "prefect.task_worker": _from(_SDK + "task_worker", "TaskWorker", "aserve", "serve"),
    "prefect.tasks": {
        **_TASKS,
        **_from(_SDK + "retries", "exponential_backoff"),
        **_from(_SDK + "caching", "task_input_hash"),
    },
    "prefect.types": _SECRETS,
    "prefect.types.entrypoint": _ENTRYPOINTS,
    "prefect.variables": _from(_SDK + "variables", "Variable"),
    "prefect.utilities": {},
    "prefect.utilities.annotations": _ANNOTATIONS,
}
"""What stands for each module of Prefect's: its names, and where ours are."""


class StandIn(ModuleType):
    """A module of Prefect's whose names are ours."""

    def __getattr__(self, name: str) -> Any:
        names = NAMES[self.__name__]
        if name in names:
            home, ours = names[name]
            value = getattr(importlib.import_module(home), ours)
            setattr(self, name, value)
            return value
        inner = f"{self.__name__}.{name}"
        if inner in NAMES:
            return importlib.import_module(inner)
        if name.startswith("__"):
            raise AttributeError(name)
        raise missing(f"{self.__name__}.{name}", did_you_mean(name, names))


def missing(name: str, hint: str = "") -> ImportError:
    """The error for something of Prefect's that has no counterpart."""
    text = f"Prefect is not installed, and Eparch, which stands in for it, does not have {name}."
    return ImportError(f"{text} {hint}".rstrip(), name=name)


class Finder(MetaPathFinder, Loader):
    """Finds stand-ins for modules of Prefect's that nobody else has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A stand-in; an error that names what is missing when there is none."""
        if fullname.partition(".")[0] != "prefect":
            return None
        if fullname not in NAMES:
            raise missing(fullname, did_you_mean(fullname, NAMES))
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty stand-in; its names are found when they are used."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""


def install() -> None:
    """From now on ``import prefect`` works in this process, whether Prefect is installed or not."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


def run_script(path: str, args: Sequence[str] = ()) -> None:
    """Run a file as ``python path args...`` would; ``prefect`` is Eparch where it is not installed."""
    install()
    sys.argv = [path, *args]
    sys.path.insert(0, str(Path(path).resolve().parent))
    runpy.run_path(path, run_name="__main__")
