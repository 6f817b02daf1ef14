"""Automations: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint

delete_owned_automations: Endpoint[None] = Endpoint(
    "DELETE", "/automations/owned-by/{resource_id}", None, status=202, tag="Automations"
)
