"""Deleting many at once, by conditions: what fits now, in one transaction, in the order of the ids."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from eparch.core.errors import NotFound
from eparch.core.filters import Query
from eparch.orchestration import deployments as deployment_changes
from eparch.orchestration import erasure
from eparch.orchestration import runs as run_changes
from eparch.store.statement import Steps
from eparch.store.where import ids_of


def matching(query: Query) -> Steps[list[UUID]]:
    """The ids of the rows that the query has, as many as it wants."""
    found = yield ids_of(query)
    return sorted(row[0] for row in found)


def delete_flow_runs(query: Query) -> Steps[list[UUID]]:
    """Delete the runs; whose they were is told that slots are free."""
    deleted = []
    for id_ in (yield from matching(query)):
        try:
            yield from run_changes.delete_flow_run(id_)
        except NotFound:  # somebody else was quicker
            continue
        deleted.append(id_)
    return deleted


def delete_deployments(query: Query, now: datetime) -> Steps[list[UUID]]:
    """Delete the deployments and the runs that their schedules have made for later."""
    deleted = []
    for id_ in (yield from matching(query)):
        try:
            yield from deployment_changes.delete_deployment(id_, now)
        except NotFound:
            continue
        deleted.append(id_)
    return deleted


def delete_flows(query: Query, now: datetime) -> Steps[list[UUID]]:
    """Delete the flows with their deployments and runs."""
    deleted = []
    for id_ in (yield from matching(query)):
        try:
            yield from erasure.delete_flow(id_, now)
        except NotFound:
            continue
        deleted.append(id_)
    return deleted
