"""Limits of concurrency, and their leases: the endpoints (wire section 3).

The operations below ``/concurrency_limits`` are the older ones: they know limits on tags of task runs only.
"""

from __future__ import annotations

from eparch.core import concurrency as values
from eparch.core.concurrency import RenewLease as RenewLease
from eparch.core.endpoint import Endpoint

_V2 = "/v2/concurrency_limits"
_V1 = "/concurrency_limits"
_TAG_2 = "Concurrency Limits V2"
_TAG_1 = "Concurrency Limits"

create_concurrency_limit: Endpoint[values.NewConcurrencyLimit] = Endpoint(
    "POST",
    f"{_V2}/",
    values.NewConcurrencyLimit,
    body=values.ConcurrencyLimitCreate,
    status=201,
    tag=_TAG_2,
)
read_concurrency_limit: Endpoint[values.ConcurrencyLimit] = Endpoint(
    "GET", f"{_V2}/{{id_or_name}}", values.ConcurrencyLimit, tag=_TAG_2
)
update_concurrency_limit: Endpoint[None] = Endpoint(
    "PATCH",
    f"{_V2}/{{id_or_name}}",
    None,
    body=values.ConcurrencyLimitUpdate,
    status=204,
    tag=_TAG_2,
)
delete_concurrency_limit: Endpoint[None] = Endpoint(
    "DELETE", f"{_V2}/{{id_or_name}}", None, status=204, tag=_TAG_2
)
read_concurrency_limits: Endpoint[list[values.ConcurrencyLimit]] = Endpoint(
    "POST",
    f"{_V2}/filter",
    list[values.ConcurrencyLimit],
    body=values.LimitPage,
    tag=_TAG_2,
    idempotent=True,
)
take_slots: Endpoint[list[values.LimitName]] = Endpoint(
    "POST", f"{_V2}/increment", list[values.LimitName], body=values.TakeSlots, tag=_TAG_2
)
lease_slots: Endpoint[values.Lease] = Endpoint(
    "POST", f"{_V2}/increment-with-lease", values.Lease, body=values.LeaseSlots, tag=_TAG_2
)
return_slots: Endpoint[list[values.LimitName]] = Endpoint(
    "POST", f"{_V2}/decrement", list[values.LimitName], body=values.ReturnSlots, tag=_TAG_2
)
end_concurrency_lease: Endpoint[None] = Endpoint(
    "POST",
    f"{_V2}/decrement-with-lease",
    None,
    body=values.EndLease,
    status=204,
    tag=_TAG_2,
    idempotent=True,
)
renew_concurrency_lease: Endpoint[None] = Endpoint(
    "POST",
    f"{_V2}/leases/{{lease_id}}/renew",
    None,
    body=RenewLease,
    status=204,
    tag=_TAG_2,
    idempotent=True,
)

create_tag_limit: Endpoint[values.TagLimit] = Endpoint(
    "POST",
    f"{_V1}/",
    values.TagLimit,
    body=values.TagLimitCreate,
    status=201,
    also=(200,),
    tag=_TAG_1,
    idempotent=True,
)
read_tag_limit_by_id: Endpoint[values.TagLimit] = Endpoint(
    "GET", f"{_V1}/{{id}}", values.TagLimit, tag=_TAG_1
)
read_tag_limit: Endpoint[values.TagLimit] = Endpoint("GET", f"{_V1}/tag/{{tag}}", values.TagLimit, tag=_TAG_1)
read_tag_limits: Endpoint[list[values.TagLimit]] = Endpoint(
    "POST", f"{_V1}/filter", list[values.TagLimit], body=values.LimitPage, tag=_TAG_1, idempotent=True
)
reset_tag_limit: Endpoint[None] = Endpoint(
    "POST", f"{_V1}/tag/{{tag}}/reset", None, body=values.ResetTag, tag=_TAG_1, idempotent=True
)
delete_tag_limit_by_id: Endpoint[None] = Endpoint("DELETE", f"{_V1}/{{id}}", None, tag=_TAG_1)
delete_tag_limit: Endpoint[None] = Endpoint("DELETE", f"{_V1}/tag/{{tag}}", None, tag=_TAG_1)
take_tag_slots: Endpoint[list[values.LimitName]] = Endpoint(
    "POST",
    f"{_V1}/increment",
    list[values.LimitName],
    body=values.TagSlotsOf,
    tag=_TAG_1,
    idempotent=True,  # a task run holds one slot of a tag, however often it asks
)
return_tag_slots: Endpoint[list[values.LimitName]] = Endpoint(
    "POST", f"{_V1}/decrement", list[values.LimitName], body=values.TagSlotsOf, tag=_TAG_1, idempotent=True
)
