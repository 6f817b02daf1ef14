"""Automations: the endpoints (wire section 3), and the dry run, which is our own."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.automation_replay import DryRun, DryRunAnswer
from eparch.core.automations import Automation, AutomationCreate, AutomationPatch, AutomationUpdate
from eparch.core.endpoint import Endpoint

create_automation: Endpoint[Automation] = Endpoint(
    "POST", "/automations/", Automation, body=AutomationCreate, status=201, tag="Automations"
)
read_automation: Endpoint[Automation] = Endpoint("GET", "/automations/{id}", Automation, tag="Automations")
read_automations: Endpoint[list[Automation]] = Endpoint(
    "POST",
    "/automations/filter",
    list[Automation],
    body=filters.READ_AUTOMATIONS,
    tag="Automations",
    idempotent=True,
)
count_automations: Endpoint[int] = Endpoint(
    "POST", "/automations/count", int, body=filters.COUNT_AUTOMATIONS, tag="Automations", idempotent=True
)
update_automation: Endpoint[None] = Endpoint(
    "PUT", "/automations/{id}", None, body=AutomationUpdate, status=204, tag="Automations"
)
patch_automation: Endpoint[None] = Endpoint(
    "PATCH", "/automations/{id}", None, body=AutomationPatch, status=204, tag="Automations"
)
delete_automation: Endpoint[None] = Endpoint(
    "DELETE", "/automations/{id}", None, status=204, tag="Automations"
)
read_related_automations: Endpoint[list[Automation]] = Endpoint(
    "GET", "/automations/related-to/{resource_id}", list[Automation], tag="Automations"
)
delete_owned_automations: Endpoint[None] = Endpoint(
    "DELETE", "/automations/owned-by/{resource_id}", None, status=202, tag="Automations"
)
dry_run_automation: Endpoint[DryRunAnswer] = Endpoint(
    "POST",
    "/automations/dry-run",
    DryRunAnswer,
    body=DryRun,
    tag="Automations",
    summary="When an automation would have fired for past events",
    idempotent=True,
)
