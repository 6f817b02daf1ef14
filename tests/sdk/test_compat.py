"""What stands in for Prefect where it is not installed, each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eparch.sdk.compat import NAMES

INSTALL = "from eparch.sdk import compat; compat.install()\n"


def run(code: str, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_every_name_of_every_stand_in_is_there() -> None:
    wanted = {module: sorted(names) for module, names in NAMES.items()}
    code = f"""{INSTALL}
import importlib
for module, names in {wanted!r}.items():
    found = importlib.import_module(module)
    for name in names:
        assert getattr(found, name) is not None, (module, name)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_the_usual_imports_work() -> None:
    done = run(
        INSTALL
        + """
import prefect, prefect.runtime
from prefect import flow, task, get_run_logger, unmapped, allow_failure, tags, states
from prefect.states import Completed, Failed
from prefect.futures import wait, PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff, task_input_hash
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_logger
import eparch
assert flow is eparch.flow and prefect.flow is eparch.flow and states.Failed is Failed
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from prefect import flw", "does not have prefect.flw. Did you mean 'flow'?"),
        ("import prefect.blocks.redis", "does not have prefect.blocks.redis."),
        ("from prefect.blocks.system import Sercet", "Did you mean 'Secret'?"),
        ("import prefect; prefect.Transaction", "does not have prefect.Transaction."),
    ],
)
def test_what_is_missing_is_named(line: str, said: str) -> None:
    done = run(INSTALL + line)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Prefect is not installed, and Eparch, which stands in for it,")
    assert said in last


def test_an_installed_prefect_comes_first(tmp_path: Path) -> None:
    (tmp_path / "prefect.py").write_text("flow = 'theirs'")
    done = run(INSTALL + "import prefect; print(prefect.flow)", cwd=tmp_path)
    assert done.stdout == "theirs\n"


def test_importing_eparch_changes_no_imports() -> None:
    done = run("import eparch, sys; eparch.flow; import prefect")
    assert done.stderr.strip().endswith("ModuleNotFoundError: No module named 'prefect'")


def test_a_script_can_be_run_with_the_stand_in(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nfrom prefect import flow\nprint(__name__, sys.argv[1:], flow.__module__)")
    done = run("from eparch.sdk.compat import run_script; run_script('script.py', ['a'])", cwd=tmp_path)
    assert done.stdout == "__main__ ['a'] eparch.sdk.flow\n", done.stderr


def test_importing_the_sdk_brings_nothing_heavy() -> None:
    done = run("from eparch import flow, task; import sys; print(*sorted(sys.modules))")
    loaded = set(done.stdout.split())
    heavy = {
        "asyncio",
        "cloudpickle",
        "http.client",
        "sqlalchemy",
        "jsonschema_rs",
        "rich",
        "pydantic",
        "yaml",
    }
    assert not heavy & loaded


MISSING = {
    "prefect": {"Transaction"},
    "prefect.events": {"get_events_client", "get_events_subscriber", "ResourceSpecification"},
    "prefect.logging": {"disable_run_logger"},
    "prefect.results": {"ResultStore"},
    "prefect.serializers": {"JSONSerializer", "PickleSerializer"},
    "prefect.task_runners": {"ProcessPoolTaskRunner"},
    "prefect.transactions": {"transaction"},
}
"""What user code imports and the stand-in does not have, as ``docs/wire-differences.md`` says."""

COMMON = {
    "prefect": "flow task Flow Task State tags unmapped allow_failure get_run_logger deploy serve aserve"
    " get_client"
    " pause_flow_run resume_flow_run suspend_flow_run apause_flow_run aresume_flow_run asuspend_flow_run"
    " Transaction"
    " __version__",
    "prefect.artifacts": "create_link_artifact create_markdown_artifact create_table_artifact"
    " create_image_artifact"
    " create_progress_artifact update_progress_artifact acreate_markdown_artifact acreate_table_artifact",
    "prefect.automations": "Automation EventTrigger CompoundTrigger SequenceTrigger MetricTrigger"
    " RunDeployment",
    "prefect.blocks.core": "Block",
    "prefect.blocks.notifications": "SlackWebhook MicrosoftTeamsWebhook DiscordWebhook",
    "prefect.blocks.system": "Secret JSON String DateTime",
    "prefect.blocks.webhook": "Webhook",
    "prefect.cache_policies": "DEFAULT INPUTS TASK_SOURCE RUN_ID NO_CACHE NONE FLOW_PARAMETERS CachePolicy",
    "prefect.client.orchestration": "get_client PrefectClient SyncPrefectClient",
    "prefect.client.schemas.filters": "FlowRunFilter FlowRunFilterState FlowRunFilterStateType"
    " FlowRunFilterStateName FlowRunFilterStartTime FlowRunFilterDeploymentId FlowRunFilterTags"
    " DeploymentFilter DeploymentFilterName FlowFilter FlowFilterName TaskRunFilter TaskRunFilterFlowRunId"
    " LogFilter LogFilterFlowRunId WorkPoolFilter",
    "prefect.client.schemas.sorting": "FlowRunSort TaskRunSort DeploymentSort LogSort",
    "prefect.client.schemas": "FlowRun TaskRun State StateType StateDetails",
    "prefect.client.schemas.objects": "FlowRun TaskRun State StateType",
    "prefect.concurrency.asyncio": "concurrency rate_limit",
    "prefect.concurrency.sync": "concurrency rate_limit",
    "prefect.context": "FlowRunContext TaskRunContext get_run_context tags",
    "prefect.deployments": "run_deployment arun_deployment deploy RunnerDeployment",
    "prefect.docker": "DockerImage",
    "prefect.events": "emit_event Event DeploymentEventTrigger DeploymentMetricTrigger"
    " DeploymentCompoundTrigger"
    " DeploymentSequenceTrigger EventTrigger CompoundTrigger SequenceTrigger MetricTrigger Posture"
    " RunDeployment"
    " SendNotification CallWebhook get_events_client get_events_subscriber ResourceSpecification Automation",
    "prefect.exceptions": "MissingResult UpstreamTaskError ObjectNotFound Abort CrashedRun FailedRun",
    "prefect.filesystems": "LocalFileSystem RemoteFileSystem",
    "prefect.flows": "Flow flow",
    "prefect.futures": "wait as_completed PrefectFuture",
    "prefect.input": "RunInput",
    "prefect.logging": "get_logger get_run_logger disable_run_logger",
    "prefect.results": "ResultStore",
    "prefect.runtime": "flow_run task_run deployment",
    "prefect.schedules": "Cron Interval RRule",
    "prefect.serializers": "JSONSerializer PickleSerializer",
    "prefect.states": "Completed Failed Cancelled Crashed Paused Pending Running Scheduled State",
    "prefect.task_runners": "ThreadPoolTaskRunner ConcurrentTaskRunner ProcessPoolTaskRunner",
    "prefect.task_worker": "serve TaskWorker",
    "prefect.tasks": "Task task task_input_hash exponential_backoff",
    "prefect.transactions": "transaction",
    "prefect.utilities.annotations": "quote allow_failure unmapped opaque",
    "prefect.variables": "Variable",
}
"""Names that flow files commonly import from Prefect 3.8.8."""


@pytest.mark.parametrize("module", COMMON)
def test_names_that_flow_files_import_are_there_or_told_of(module: str) -> None:
    missing = set(COMMON[module].split()) - NAMES.get(module, {}).keys()
    assert missing == MISSING.get(module, set())
    told = Path(__file__).parents[2].joinpath("docs", "wire-differences.md").read_text()
    assert [name for name in sorted(missing) if f"`{name}`" not in told] == []
