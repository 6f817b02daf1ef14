"""What is looked at from outside: states that were seen, values of a form, metrics (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.exposition import MEDIA
from eparch.core.form_values import FormErrors, FormValues
from eparch.core.observed_states import ObservedState

read_observed_states: Endpoint[list[ObservedState]] = Endpoint(
    "GET",
    "/observed-states",
    list[ObservedState],
    query=("query", "order_by", "limit"),
    tag="Observed States",
)
check_form_values: Endpoint[FormErrors] = Endpoint(
    "POST", "/ui/schemas/validate", FormErrors, body=FormValues, tag="UI", idempotent=True
)
read_metrics: Endpoint[str] = Endpoint("GET", "/metrics", str, media=MEDIA, tag="Admin")
