"""Flows: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.deployments import Flow, FlowCreate, FlowUpdate
from eparch.core.endpoint import Endpoint
from eparch.core.listing import Deleted, FlowIds, NextRun, Page

create_flow: Endpoint[Flow] = Endpoint(
    "POST", "/flows/", Flow, body=FlowCreate, status=201, also=(200,), tag="Flows", idempotent=True
)
read_flow: Endpoint[Flow] = Endpoint("GET", "/flows/{id}", Flow, tag="Flows")
read_flow_by_name: Endpoint[Flow] = Endpoint("GET", "/flows/name/{name}", Flow, tag="Flows")
read_flows: Endpoint[list[Flow]] = Endpoint(
    "POST", "/flows/filter", list[Flow], body=filters.READ_FLOWS, tag="Flows", idempotent=True
)
update_flow: Endpoint[None] = Endpoint("PATCH", "/flows/{id}", None, body=FlowUpdate, status=204, tag="Flows")
delete_flow: Endpoint[None] = Endpoint("DELETE", "/flows/{id}", None, status=204, tag="Flows")
count_flows: Endpoint[int] = Endpoint(
    "POST", "/flows/count", int, body=filters.COUNT_FLOWS, tag="Flows", idempotent=True
)
page_flows: Endpoint[Page[Flow]] = Endpoint(
    "POST", "/flows/paginate", Page[Flow], body=filters.PAGE_FLOWS, tag="Flows", idempotent=True
)
delete_flows: Endpoint[Deleted] = Endpoint(
    "POST", "/flows/bulk_delete", Deleted, body=filters.DELETE_FLOWS, tag="Flows"
)
count_deployments_by_flow: Endpoint[dict[str, int]] = Endpoint(
    "POST", "/ui/flows/count-deployments", dict[str, int], body=FlowIds, tag="Flows", idempotent=True
)
read_next_runs_by_flow: Endpoint[dict[str, NextRun | None]] = Endpoint(
    "POST", "/ui/flows/next-runs", dict[str, NextRun | None], body=FlowIds, tag="Flows", idempotent=True
)
