"""What is looked at from outside: states that were seen, values of a form, metrics for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from eparch.api.request import Answer, Request
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.errors import Invalid, NotFound
from eparch.core.exposition import MEDIA, Family, expose
from eparch.core.filters import MAX_LIMIT, FilterBody, Query
from eparch.core.form_values import FormErrors, FormValues, check_form, variables_of
from eparch.core.model import Json, decode, encode
from eparch.core.observed_states import ObservedState, ObservedStateSort, choose
from eparch.core.queue_status import QueueHealth
from eparch.orchestration import queue_status
from eparch.store import deployments, pools, runs
from eparch.store.observed_states import read_observed
from eparch.store.rows import id_of
from eparch.store.variables import read_variable

FRESH_SECONDS = 10.0
"""How long scraped metrics are answered again."""
MAX_SERIES = 1000
"""Rows that one metric tells of; totals count all."""
MAX_QUEUES = 100
"""Queues whose health is looked at."""
RECENT = timedelta(minutes=5)
"""Runs that ended longer ago are not told of one by one; the exporter's default is the same."""

MAX_STATE_QUERY = 100
"""Characters."""


@handles(calls.read_observed_states)
async def read_observed_states(
    request: Request,
    query: str = "",
    order_by: ObservedStateSort = ObservedStateSort.LAST_SEEN_DESC,
    limit: int = MAX_LIMIT,
) -> list[ObservedState]:
    """Types and names of the states that runs have had, of the newest transitions."""
    if len(query) > MAX_STATE_QUERY:
        raise Invalid(f"The query may have {MAX_STATE_QUERY} characters.")
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"The limit is from 1 to {MAX_LIMIT}.")
    return choose(await request.scan(read_observed), query, order_by, limit)


@handles(calls.check_form_values)
async def check_form_values(request: Request, body: FormValues) -> FormErrors:
    """What of the values of a form does not fit its schema."""
    known: dict[str, Json] = {}
    for name in sorted(variables_of(body.values))[:MAX_SERIES]:
        variable = await request.read(read_variable, name)
        if variable is not None:
            known[name] = decode(encode(variable["value"]))
    return check_form(body, known)


@handles(calls.read_metrics)
async def read_metrics(request: Request) -> Answer:
    """Metrics under the names of prometheus-prefect-exporter, so that its dashboards work without it."""
    services = request.services
    scraped = services.metrics
    if scraped is None or time.monotonic() - scraped[0] > FRESH_SECONDS:
        page = expose(await _measure(request)).encode()
        scraped = services.metrics = (time.monotonic(), page)
    return Answer(200, scraped[1], media=MEDIA)


async def _measure(request: Request) -> list[Family]:
    now = request.now
    flows = await request.scan(deployments.read_flows, _all(calls.read_flows.body))
    names = {str(flow["id"]): flow["name"] for flow in flows}
    deployed = await request.scan(deployments.read_deployments, _all(calls.read_deployments.body), now)
    deployment_names = {str(one["id"]): one["name"] for one in deployed}
    for one in deployed:
        one["is_schedule_active"] = not one["paused"]
    recent = await _recent(request, now)
    for one in (*deployed, *recent):
        one["flow_name"] = names.get(str(one["flow_id"]))
    for one in recent:
        one["deployment_name"] = deployment_names.get(str(one["deployment_id"]))
    found_pools = await request.scan(pools.read_pools, _all(calls.read_work_pools.body), now)
    queues = await request.scan(pools.read_queues, _all(calls.read_work_queues.body), now)
    for queue in queues[:MAX_QUEUES]:
        with suppress(NotFound):
            queue.update(_health(await request.scan(queue_status.health, id_of(queue["id"]), now)))
    return [
        await _total(request, "prefect_deployments_total", "Deployments", calls.count_deployments.body),
        _family("prefect_info_deployment", "Each deployment", _DEPLOYMENT, deployed),
        await _total(request, "prefect_flows_total", "Flows", calls.count_flows.body),
        _family("prefect_info_flows", "Each flow", {"flow_id": "id", "flow_name": "name"}, flows),
        await _total(request, "prefect_flow_runs_total", "Flow runs", calls.count_flow_runs.body),
        _family(
            "prefect_flow_runs_total_run_time_total",
            "Seconds that each recent flow run has run",
            {"flow_id": "flow_id", "flow_name": "flow_name", "flow_run_name": "name"},
            recent,
            lambda run: float(run["total_run_time"]),
            kind="counter",
        ),
        _family(
            "prefect_info_flow_runs",
            "Each recent flow run, 1 while it runs",
            _RUN,
            recent,
            lambda run: float(run["state_name"] == "Running"),
        ),
        await _total(request, "prefect_work_pools_total", "Work pools", calls.count_work_pools.body),
        _family("prefect_info_work_pools", "Each work pool, 0 while paused", _POOL, found_pools, _goes),
        Family("prefect_work_queues_total", "Work queues", (), (((), float(len(queues))),)),
        _family("prefect_info_work_queues", "Each work queue, 0 while paused", _QUEUE, queues, _goes),
    ]


def _health(health: QueueHealth) -> dict[str, Any]:
    policy = health.health_check_policy
    return {
        "healthy": health.healthy,
        "late_runs_count": health.late_runs_count,
        "health_check_policy_maximum_late_runs": policy.maximum_late_runs,
        "health_check_policy_maximum_seconds_since_last_polled": policy.maximum_seconds_since_last_polled,
    }


def _goes(row: dict[str, Any]) -> float:
    return float(not row["is_paused"])


def _all(body: FilterBody) -> Query:
    return replace(body.parse({}), limit=MAX_SERIES)


async def _total(request: Request, name: str, text: str, body: FilterBody) -> Family:
    number: int = await request.count(body.parse({}))
    return Family(name, text, (), (((), float(number)),))


async def _recent(request: Request, now: datetime) -> list[dict[str, Any]]:
    """Runs that run, or that ended a short while ago."""
    since = (now - RECENT).isoformat()
    asked: list[Any] = [
        {"state": {"type": {"any_": ["RUNNING"]}}},
        {"end_time": {"after_": since}},
    ]
    found: dict[str, dict[str, Any]] = {}
    for conditions in asked:
        query = replace(calls.read_flow_runs.body.parse({"flow_runs": conditions}), limit=MAX_SERIES)
        rows: list[dict[str, Any]] = await request.scan(runs.read_flow_runs, query, now)
        found.update((str(run["id"]), run) for run in rows)
    return list(found.values())[:MAX_SERIES]


def _family(
    name: str,
    text: str,
    labels: dict[str, str],
    rows: Iterable[dict[str, Any]],
    value: Callable[[dict[str, Any]], float] = lambda row: 1.0,
    *,
    kind: str = "gauge",
) -> Family:
    """``labels``: what the exporter calls it -> the field of the row. ``created`` is one of most metrics."""
    fields = labels if kind == "counter" else {"created": "created", **labels}
    samples = tuple((tuple(row.get(field) for field in fields.values()), value(row)) for row in rows)
    return Family(name, text, tuple(fields), samples, kind)


def _same(*names: str, **others: str) -> dict[str, str]:
    return {**{name: name for name in names}, **others}


_DEPLOYMENT = _same(
    "flow_id", "flow_name", "is_schedule_active", "path", "work_pool_name", "work_queue_name", "status",
    deployment_id="id", deployment_name="name",
)  # fmt: skip
_RUN = _same(
    "deployment_id", "deployment_name", "end_time", "flow_id", "flow_name", "run_count", "start_time",
    "state_id", "state_name", "total_run_time", "work_queue_name", flow_run_id="id", flow_run_name="name",
)  # fmt: skip
_POOL = _same(
    "is_paused", "type", "status", work_queue_id="default_queue_id", work_pool_id="id", work_pool_name="name"
)
_QUEUE = _same(
    "is_paused", "priority", "type", "work_pool_id", "work_pool_name", "status", "healthy",
    "late_runs_count", "last_polled", "health_check_policy_maximum_late_runs",
    "health_check_policy_maximum_seconds_since_last_polled", work_queue_id="id", work_queue_name="name",
)  # fmt: skip
