"""Saved searches: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.records import SavedSearch, SavedSearchCreate

save_search: Endpoint[SavedSearch] = Endpoint(
    "PUT", "/saved_searches/", SavedSearch, body=SavedSearchCreate, also=(201,), tag="SavedSearches"
)
read_saved_search: Endpoint[SavedSearch] = Endpoint(
    "GET", "/saved_searches/{id}", SavedSearch, tag="SavedSearches"
)
read_saved_searches: Endpoint[list[SavedSearch]] = Endpoint(
    "POST",
    "/saved_searches/filter",
    list[SavedSearch],
    body=filters.READ_SAVED_SEARCHES,
    tag="SavedSearches",
    idempotent=True,
)
delete_saved_search: Endpoint[None] = Endpoint(
    "DELETE", "/saved_searches/{id}", None, status=204, tag="SavedSearches"
)
