"""Reading what a server has and applying a plan to it: in one transaction on a server of ours (ADR 12).

A stock server has no such endpoint: there it is call by call, as Prefect's own command does it, and a failure
in the middle leaves what was sent before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.calls import Call, Endpoint
from eparch.core.deploy_plans import DeployPlan, SeenPool, Standing, StandingQuery
from eparch.core.deployment_versions import Origin
from eparch.core.deployments import Deployment, FlowCreate
from eparch.core.errors import Conflict, EparchError, Unreachable
from eparch.core.filters import MAX_LIMIT
from eparch.core.model import new_id
from eparch.core.pools import WorkPool
from eparch.deploy.automations import automations_of, owner_of
from eparch.deploy.plan import Action, Key, Kind, Wanted

T = TypeVar("T")


class Sender(Protocol):
    """A server's API: ``client.http.Client`` is one."""

    def send(self, call: Call[T]) -> T:
        """The answer to ``call``.

        Raises:
            EparchError: there is none, or the server refused.
        """


class Server:
    """What is asked of a server to deploy, whichever it is."""

    def __init__(self, client: Sender) -> None:
        self.client = client
        self._ours: bool | None = None
        self._flow_ids: dict[str, UUID] = {}

    @property
    def is_ours(self) -> bool:
        """Whether it applies a plan in one transaction."""
        if self._ours is None:
            try:
                self.client.send(calls.read_server())
                self._ours = True
            except Unreachable:
                raise
            except EparchError:
                self._ours = False
        return self._ours

    def pages(self, endpoint: Endpoint[list[T]], body: dict[str, Any]) -> Iterator[T]:
        """All that a ``/filter`` endpoint finds."""
        offset = 0
        while True:
            page = self.client.send(endpoint(body={**body, "limit": MAX_LIMIT, "offset": offset}))
            yield from page
            offset += len(page)
            if len(page) < MAX_LIMIT:
                return

    # Reading

    def standings(self, wanted: Sequence[Wanted], project: str | None) -> list[Standing]:
        """What the server has of ``wanted``, and all that ``project`` owns where the server knows owners."""
        if self.is_ours:
            query = StandingQuery(deployments=[one.key for one in wanted], project=project)
            return self.client.send(calls.read_standing(body=query)).deployments
        return self._stock_standings(wanted)

    def _stock_standings(self, wanted: Sequence[Wanted]) -> list[Standing]:
        names = sorted({one.flow_name for one in wanted})
        for begin in range(0, len(names), MAX_LIMIT):
            body = {"flows": {"name": {"any_": names[begin : begin + MAX_LIMIT]}}}
            self._flow_ids |= {flow.name: flow.id for flow in self.pages(calls.read_flows, body)}
        by_id = {id_: name for name, id_ in self._flow_ids.items()}
        if not by_id:
            return []
        body = {
            "flows": {"id": {"any_": [str(id_) for id_ in by_id]}},
            "deployments": {"name": {"any_": sorted({one.name for one in wanted})}},
        }
        with_triggers = {one.key for one in wanted if one.triggers is not None}
        asked = {one.key for one in wanted}
        found = []
        for one in self.pages(calls.read_deployments, body):
            key: Key = by_id.get(one.flow_id, ""), one.name
            if key in asked:
                related = []
                if key in with_triggers:
                    related = self.client.send(calls.read_related_automations(resource_id=owner_of(one.id)))
                found.append(Standing(flow_name=key[0], deployment=one, automations=related))
        return found

    def queue_names(self, pool: str) -> frozenset[str]:
        """The names of the pool's queues."""
        call = calls.read_pool_queues(work_pool_name=pool, body={"limit": MAX_LIMIT, "offset": 0})
        return frozenset(queue.name for queue in self.client.send(call))

    # Applying

    def apply(
        self, actions: Sequence[Action], pools: Sequence[WorkPool], project: str | None, origin: Origin
    ) -> dict[UUID, UUID]:
        """Do all of ``actions``; ids that the server gave to deployments other than those of the plan.

        Raises:
            Conflict: the plan is stale; nothing was done.
            EparchError: the server refused; on a stock server the message says what was done before.
        """
        if not self.is_ours:
            return self._apply_each(actions)
        sent = [
            one
            for one in actions
            if one.wanted and not (one.kind is Kind.UNCHANGED and one.is_remembered(project))
        ]
        deletions = [one.seen() for one in actions if one.kind is Kind.DELETE]
        if not sent and not deletions:
            return {}
        seen = {one.id for one in sent}
        plan = DeployPlan(
            request_id=new_id(),
            project=project,
            origin=origin,
            deployments=[one.planned() for one in sent],
            deletions=deletions,
            unchanged=[one.seen() for one in actions if one.kind is Kind.UNCHANGED and one.id not in seen],
            seen_pools=[SeenPool(name=one.name, updated=one.updated) for one in pools if one.updated],
        )
        self.client.send(calls.apply_plan(body=plan))
        return {}

    def _apply_each(self, actions: Sequence[Action]) -> dict[UUID, UUID]:
        made: dict[UUID, UUID] = {}
        left = [one for one in actions if one.kind is not Kind.UNCHANGED]
        for number, action in enumerate(left):
            try:
                if action.wanted is not None:
                    made[action.id] = self._send(action, action.wanted).id
            except EparchError as error:
                raise _halfway(left, number, error) from error
        return made

    def _send(self, action: Action, wanted: Wanted) -> Deployment:
        if wanted.flow_name not in self._flow_ids:
            flow = self.client.send(calls.create_flow(body=FlowCreate(name=wanted.flow_name)))
            self._flow_ids[wanted.flow_name] = flow.id
        body = wanted.body(self._flow_ids[wanted.flow_name])
        made = self.client.send(calls.create_deployment(body=body))
        if not wanted.schedules:
            # A stock server reads an empty list as "leave them"; here it means none (row D14).
            for schedule in made.schedules:
                gone = calls.delete_deployment_schedule(id=made.id, schedule_id=schedule.id)
                self.client.send(gone)
        if action.automations is not None:
            self.client.send(calls.delete_owned_automations(resource_id=owner_of(made.id)))
            for automation in automations_of(wanted.triggers or [], made.id, wanted.label):
                self.client.send(calls.create_automation(body=automation))
        return made


def _halfway(actions: Sequence[Action], position: int, cause: EparchError) -> EparchError:
    """The error for a refusal in the middle: which were applied, and which not."""
    labels = [action.label for action in actions]
    applied, left = labels[:position], labels[position:]
    kind = type(cause) if isinstance(cause, Conflict | Unreachable) else EparchError
    message = f"'{left[0]}' could not be deployed: {cause.message}"
    if not applied:
        return kind(message, why=cause.why or "Nothing was applied.", fix=cause.fix)
    why = f"applied: {', '.join(applied)}; not applied: {', '.join(left)}"
    fix = " ".join(filter(None, [cause.fix, "Correct it and deploy again; what was applied stays."]))
    return kind(message, why=". ".join(filter(None, [cause.why.rstrip("."), why])), fix=fix)
