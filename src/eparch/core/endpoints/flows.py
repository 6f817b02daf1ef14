"""Flows: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.deployments import Flow, FlowCreate
from eparch.core.endpoint import Endpoint

create_flow: Endpoint[Flow] = Endpoint(
    "POST", "/flows/", Flow, body=FlowCreate, status=201, also=(200,), tag="Flows", idempotent=True
)
read_flow: Endpoint[Flow] = Endpoint("GET", "/flows/{id}", Flow, tag="Flows")
read_flow_by_name: Endpoint[Flow] = Endpoint("GET", "/flows/name/{name}", Flow, tag="Flows")
read_flows: Endpoint[list[Flow]] = Endpoint(
    "POST", "/flows/filter", list[Flow], body=filters.READ_FLOWS, tag="Flows", idempotent=True
)
