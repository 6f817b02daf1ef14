"""Variables: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.variables import Variable, VariableCreate, VariableUpdate

create_variable: Endpoint[Variable] = Endpoint(
    "POST", "/variables/", Variable, body=VariableCreate, status=201, tag="Variables"
)
read_variable: Endpoint[Variable] = Endpoint("GET", "/variables/{id}", Variable, tag="Variables")
read_variable_by_name: Endpoint[Variable] = Endpoint(
    "GET", "/variables/name/{name}", Variable, tag="Variables"
)
read_variables: Endpoint[list[Variable]] = Endpoint(
    "POST", "/variables/filter", list[Variable], body=filters.READ_VARIABLES, tag="Variables", idempotent=True
)
count_variables: Endpoint[int] = Endpoint(
    "POST", "/variables/count", int, body=filters.COUNT_VARIABLES, tag="Variables", idempotent=True
)
update_variable: Endpoint[None] = Endpoint(
    "PATCH", "/variables/{id}", None, body=VariableUpdate, status=204, tag="Variables"
)
update_variable_by_name: Endpoint[None] = Endpoint(
    "PATCH", "/variables/name/{name}", None, body=VariableUpdate, status=204, tag="Variables"
)
delete_variable: Endpoint[None] = Endpoint("DELETE", "/variables/{id}", None, status=204, tag="Variables")
delete_variable_by_name: Endpoint[None] = Endpoint(
    "DELETE", "/variables/name/{name}", None, status=204, tag="Variables"
)
