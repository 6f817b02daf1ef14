"""Applying a plan of deployments: all of it in one transaction, or none of it (row D12, ADR 12).

Owns the order and the refusal of a plan that was made from what is not so any more. A plan's deployments
come into the database as single requests would bring them: the same checks, events and versions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.change_events import labels_of, pool_labels, queue_labels
from eparch.core.deploy_plans import (
    Applied,
    AppliedDeployment,
    DeployPlan,
    PlannedDeployment,
    SeenDeployment,
    Standing,
    StandingQuery,
    Standings,
)
from eparch.core.deployment_versions import Content, ContentSchedule, VersionFacts, content_of, differences
from eparch.core.deployments import Deployment, is_settled_from, settled_schedule
from eparch.core.errors import Conflict, Invalid, NotFound
from eparch.core.events import ResourceLabels
from eparch.core.model import new_id
from eparch.core.pools import DEFAULT_QUEUE
from eparch.orchestration import announcing, automation_changes
from eparch.orchestration.announcing import Changed
from eparch.orchestration.deployment_versions import head_after, new_versions
from eparch.orchestration.deployments import check_fit, check_slugs, checked, runs_differ
from eparch.orchestration.pools import create_pool, new_queue
from eparch.store import applying as store
from eparch.store import deployment_versions as versions
from eparch.store.applying import FlowRow, PoolRow
from eparch.store.deployment_versions import Head
from eparch.store.statement import Note, Steps

STALE = "The plan is stale: "
AGAIN = "Plan again: what it was made from is not so any more."


@dataclass
class _Scene:
    """What is there while a plan is applied."""

    plan: DeployPlan
    now: datetime
    heads: dict[UUID, Head] = field(default_factory=dict)
    before: dict[UUID, Deployment] = field(default_factory=dict)
    flows: dict[str, FlowRow] = field(default_factory=dict)
    pools: dict[str, PoolRow] = field(default_factory=dict)
    queues: dict[tuple[UUID, str], UUID] = field(default_factory=dict)

    def is_kept(self, one: PlannedDeployment) -> bool:
        """Whether nothing about the deployment itself is to change."""
        known = self.before.get(one.id)
        return known is not None and not differences(content_of(known), one.content)

    def queue_id(self, content: Content) -> UUID | None:
        """The queue that a deployment of this content has."""
        if content.work_pool_name is None:
            return None
        pool = self.pools[content.work_pool_name]
        return self.queues[pool.id, content.work_queue_name or DEFAULT_QUEUE]

    def around(self, deployment: Deployment, flow_name: str) -> list[ResourceLabels]:
        """Who else a deployment's events are about."""
        related = [labels_of("flow", deployment.flow_id, flow_name, role="flow")]
        if deployment.work_queue_id is not None:
            related.append(queue_labels({"id": deployment.work_queue_id, "name": deployment.work_queue_name}))
        pool = self.pools.get(deployment.work_pool_name or "")
        if pool is not None:
            related.append(pool_labels(pool._asdict()))
        return related


def read_standing(query: StandingQuery, now: datetime) -> Steps[Standings]:
    """The deployments that are asked for, and those that the project owns, with all that a plan needs."""
    places = yield from store.places(query.deployments)
    ids = list(places.values())
    if query.project is not None:
        known = set(ids)
        ids += [id_ for id_ in (yield from store.owned(query.project)) if id_ not in known]
    found = yield from store.read_values(ids, now)
    named = yield from store.names_of(list(found))
    heads = yield from versions.heads(list(found))
    newest = yield from versions.newest(list(found))
    automations = yield from store.owned_automations([_resource(id_) for id_ in found])
    return Standings(
        deployments=[
            Standing(
                flow_name=named[id_][0],
                deployment=one,
                number=head.number,
                project=head.project,
                applied=head.applied,
                automations=automations.get(_resource(id_), []),
                changed=newest.get(id_),
            )
            for id_, one in found.items()
            for head in [heads.get(id_, _NO_HEAD)]
        ]
    )


_NO_HEAD = Head(0, None, None)


def apply_plan(plan: DeployPlan, kept: int, now: datetime) -> Steps[Applied]:
    """Apply ``plan``; one that was applied already is only answered again. ``kept`` versions stay of each.

    Raises:
        Conflict: the plan is stale, or a deployment does not fit its schema or its pool.
        NotFound: there is no such work pool.
        Invalid: a schedule or an automation cannot be used.
    """
    known = yield from store.read_answer(plan.request_id)
    if known is not None:
        return known
    scene = _Scene(plan, now)
    yield from _refuse_stale(scene)
    yield from _prepare_pools(scene)
    yield from _prepare_flows(scene)
    changed = [one for one in plan.deployments if not scene.is_kept(one)]
    yield from _write_deployments(scene, changed)
    yield from _write_schedules(scene, changed)
    for one in plan.deployments:
        if one.automations is not None:
            yield from _replace_automations(one, now)
    answer = yield from _record(scene, changed, kept)
    yield from _delete(scene)
    for pool in scene.pools.values():
        yield Note("work", pool.id)
    yield from store.put_answer(plan.request_id, answer, now)
    return answer


# Whether the plan is of now


def _refuse_stale(scene: _Scene) -> Steps[None]:
    """Lock what the plan saw, and refuse the plan unless all of it is as it was seen."""
    plan = scene.plan
    changes = [
        SeenDeployment(id=one.id, number=one.number) for one in plan.deployments if one.number is not None
    ]
    seen = [*changes, *plan.unchanged, *plan.deletions]
    ids = [one.id for one in seen]
    if len(set(ids)) < len(ids):
        raise Invalid("A deployment stands in the plan twice.")
    there = yield from versions.lock(ids)
    scene.heads = yield from versions.heads(ids)
    scene.before = yield from store.read_values(
        [*(one.id for one in changes), *(one.id for one in plan.deletions)], scene.now
    )
    labels = {one.id: f"{one.flow_name}/{one.name}" for one in plan.deployments}
    stale = [
        one for one in seen if one.id not in there or scene.heads.get(one.id, _NO_HEAD).number != one.number
    ]
    found: list[str] = []
    if stale:
        newest = yield from versions.newest([one.id for one in stale])
        named = yield from store.names_of([one.id for one in stale])
        for one in stale:
            label = "/".join(named[one.id]) if one.id in named else labels.get(one.id, str(one.id))
            found.append(_said(label, one.id in there, newest.get(one.id)))
    new = [(one.flow_name, one.name) for one in plan.deployments if one.number is None]
    made = yield from store.places(new)
    newest = yield from versions.newest(list(made.values()))
    found += [_said("/".join(place), True, newest.get(id_), "was made") for place, id_ in made.items()]
    found += yield from _stale_pools(scene)
    found += yield from _stale_automations(plan)
    if found:
        raise Conflict(STALE + "; ".join(found) + ".", fix=AGAIN)


def _said(label: str, there: bool, facts: VersionFacts | None, what: str = "was changed") -> str:
    if not there:
        return f"'{label}' was deleted"
    if facts is None:
        return f"'{label}' {what}"
    origin = facts.origin
    who = origin.author or origin.client or "somebody"
    return f"'{label}' {what} by {who} ({origin.source.value}) at {facts.created:%Y-%m-%d %H:%M:%S} UTC"


def _stale_pools(scene: _Scene) -> Steps[list[str]]:
    plan = scene.plan
    wanted = {one.content.work_pool_name for one in plan.deployments} | {one.pool for one in plan.queues}
    wanted |= {one.name for one in plan.seen_pools} | {one.name for one in plan.pools}
    wanted |= {one.work_pool_name for one in scene.before.values()}
    scene.pools = yield from store.pools([name for name in wanted if name is not None])
    found = [f"the work pool '{one.name}' was made" for one in plan.pools if one.name in scene.pools]
    for seen in plan.seen_pools:
        pool = scene.pools.get(seen.name)
        if pool is None:
            found.append(f"the work pool '{seen.name}' was deleted")
        elif pool.updated != seen.updated:
            found.append(f"the work pool '{seen.name}' was changed at {pool.updated:%Y-%m-%d %H:%M:%S} UTC")
    return found


def _stale_automations(plan: DeployPlan) -> Steps[list[str]]:
    replacing = [one for one in plan.deployments if one.automations is not None and one.number is not None]
    owned = yield from store.owned_automations([_resource(one.id) for one in replacing])
    found = []
    for one in replacing:
        now = {automation.id: automation for automation in owned.get(_resource(one.id), [])}
        seen = {automation.id: automation.updated for automation in one.seen_automations}
        for id_ in [*seen, *(id_ for id_ in now if id_ not in seen)]:
            if id_ not in now:
                found.append(f"an automation of '{one.flow_name}/{one.name}' was deleted")
            elif id_ not in seen or now[id_].updated != seen[id_]:
                what = "changed" if id_ in seen else "made"
                found.append(f"the automation '{now[id_].name}' was {what}")
    return found


# Pools, queues and flows


def _prepare_pools(scene: _Scene) -> Steps[None]:
    """Make the pools and queues that are asked for, and those queues that deployments name."""
    plan, now = scene.plan, scene.now
    for body in plan.pools:
        yield from create_pool(body, now)
    if plan.pools:
        made = yield from store.pools([body.name for body in plan.pools])
        scene.pools = {**scene.pools, **made}
    wanted = {(one.pool, one.name) for one in plan.queues}
    for one in plan.deployments:
        if one.content.work_pool_name is not None:
            wanted.add((one.content.work_pool_name, one.content.work_queue_name or DEFAULT_QUEUE))
    missing = sorted({pool for pool, _ in wanted} - scene.pools.keys())
    if missing:
        raise NotFound(f'Work pool "{missing[0]}" not found.')
    scene.queues = yield from store.queues(pool.id for pool in scene.pools.values())
    for pool_name, name in sorted(wanted):
        pool_id = scene.pools[pool_name].id
        if (pool_id, name) not in scene.queues:
            scene.queues[pool_id, name] = yield from new_queue(pool_id, name, now)


def _prepare_flows(scene: _Scene) -> Steps[None]:
    names = {one.flow_name for one in scene.plan.deployments}
    found = yield from store.flows(names)
    now = scene.now
    new = [FlowRow(new_id(), name, {}) for name in sorted(names - found.keys())]
    yield from store.insert_flows(
        [
            {"id": one.id, "created": now, "updated": now, "name": one.name, "tags": [], "labels": {}}
            for one in new
        ]
    )
    scene.flows = {**found, **{one.name: one for one in new}}


# Deployments and their schedules


_COLUMNS = tuple(
    name
    for name in Content.__struct_fields__
    if name not in ("schedules", "labels", "work_pool_name", "work_queue_name")
)


def _columns(scene: _Scene, one: PlannedDeployment) -> dict[str, Any]:
    flow = scene.flows[one.flow_name]
    own = {name: getattr(one.content, name) for name in _COLUMNS}
    return {
        **own,
        "flow_id": flow.id,
        "labels": {**(flow.labels or {}), "prefect.flow.id": str(flow.id), **one.content.labels},
        "work_queue_id": scene.queue_id(one.content),
        "updated": scene.now,
    }


def _write_deployments(scene: _Scene, changed: list[PlannedDeployment]) -> Steps[None]:
    made, written, forgotten = [], [], []
    for one in changed:
        columns = _columns(scene, one)
        pool = scene.pools.get(one.content.work_pool_name or "")
        try:
            check_fit(columns, pool.base_job_template if pool else None, pool.name if pool else None)
            check_slugs(one.content.schedules)
        except Conflict as error:
            raise Conflict(f"'{one.flow_name}/{one.name}': {error.message}", fix=error.fix) from error
        before = scene.before.get(one.id)
        if before is None:
            made.append({**columns, "id": one.id, "name": one.name, "created": scene.now})
            continue
        written.append((one.id, columns))
        if runs_differ(before, columns):
            forgotten.append(one.id)
    yield from store.insert_deployments(made)
    yield from store.write_deployments(written)
    yield from store.forget_runs(forgotten, [], scene.now)


def _write_schedules(scene: _Scene, changed: list[PlannedDeployment]) -> Steps[None]:
    """Bring schedules to those of the plan; only runs of those that changed are forgotten (row D15)."""
    added: list[dict[str, Any]] = []
    written: list[tuple[UUID, dict[str, Any]]] = []
    gone: list[UUID] = []
    replaced: list[tuple[UUID, UUID]] = []
    others: list[UUID] = []
    for one in changed:
        before = scene.before.get(one.id)
        left = {schedule.id: schedule for schedule in before.schedules} if before else {}
        for planned in one.content.schedules:
            twin = left.pop(planned.id, None)
            fields = _schedule_columns(planned, twin.schedule if twin else None, scene.now)
            if twin is None:
                added.append({**fields, "id": planned.id, "created": scene.now, "deployment_id": one.id})
            elif any(fields[name] != getattr(twin, name) for name in _OF_SCHEDULE):
                written.append((twin.id, fields))
                replaced.append((one.id, twin.id))
                if fields["schedule"] != twin.schedule:
                    others.append(twin.id)
        gone += left
        replaced += [(one.id, id_) for id_ in left]
    yield from store.change_schedules(added, written, gone)
    yield from store.forget_missed(others)
    yield from store.forget_runs([], replaced, scene.now)
    yield from store.reschedule([one.id for one in changed])
    for one in changed:
        yield Note("schedules", one.id)


_OF_SCHEDULE = tuple(name for name in ContentSchedule.__struct_fields__ if name != "id")


def _schedule_columns(
    planned: ContentSchedule, stored: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    wanted = checked(planned.schedule)
    keeps = stored is not None and is_settled_from(stored, wanted)
    own = {name: getattr(planned, name) for name in _OF_SCHEDULE}
    return {**own, "schedule": stored if keeps else settled_schedule(wanted, now), "updated": now}


def _replace_automations(one: PlannedDeployment, now: datetime) -> Steps[None]:
    """All automations that go with the deployment at once, so that no event meets none (row D16)."""
    owner = _resource(one.id)
    yield from automation_changes.delete_owned(owner, now)
    for body in one.automations or ():
        owned = msgspec.structs.replace(body, owner_resource=owner)
        yield from automation_changes.create_automation(owned, now)


def _resource(deployment_id: UUID) -> str:
    return f"prefect.deployment.{deployment_id}"


# Versions, owners, events


def _record(scene: _Scene, changed: list[PlannedDeployment], kept: int) -> Steps[Applied]:
    plan, now = scene.plan, scene.now
    after = yield from store.read_values([one.id for one in changed], now)
    written, heads, answers, told = [], [], [], []
    for one in plan.deployments:
        known = scene.heads.get(one.id)
        number = known.number if known else 0
        before = scene.before.get(one.id)
        if one.id in after:
            fresh = new_versions(before, content_of(after[one.id]), number, plan.origin, now)
            number = fresh[-1].number
            written += [(one.id, version) for version in fresh]
            told.append(Changed(before, after[one.id], scene.around(after[one.id], one.flow_name)))
        heads.append((one.id, head_after(known, number, plan.project, one.applied)))
        answers.append(
            AppliedDeployment(
                id=one.id, flow_name=one.flow_name, name=one.name, number=number, created=before is None
            )
        )
    yield from versions.put_versions(written, kept)
    yield from versions.put_heads(heads)
    yield from announcing.deployments_changed(told, now)
    return Applied(deployments=answers, deleted=[one.id for one in plan.deletions])


def _delete(scene: _Scene) -> Steps[None]:
    """Delete what the plan wants gone, with its automations; runs stay, but not those only planned."""
    ids = [one.id for one in scene.plan.deletions]
    if not ids:
        return
    named = yield from store.names_of(ids)
    yield from store.forget_runs(ids, [], scene.now)
    for id_ in ids:
        yield from automation_changes.delete_owned(_resource(id_), scene.now)
    yield from store.delete_deployments(ids)
    told = [Changed(scene.before[id_], None, scene.around(scene.before[id_], named[id_][0])) for id_ in ids]
    yield from announcing.deployments_changed(told, scene.now)
