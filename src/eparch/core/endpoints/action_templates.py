"""Templates of actions: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint

validate_template: Endpoint[None] = Endpoint(
    "POST", "/templates/validate", None, body=str, status=204, tag="Automations", idempotent=True
)
validate_automation_template: Endpoint[None] = Endpoint(
    "POST", "/automations/templates/validate", None, body=str, status=204, tag="Automations", idempotent=True
)
