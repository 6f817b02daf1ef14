"""A plan against one server: made, shown, reviewed, applied. The file's and Python's way meet here (row D23).

Owns what is told of a plan. What differs is decided in ``plan``, and done in ``sending``.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from eparch.core import calls
from eparch.core.deploy_plans import Standing
from eparch.core.deployment_versions import Origin, Source, VersionFacts
from eparch.core.errors import EparchError
from eparch.core.pools import DEFAULT_QUEUE, WorkPool
from eparch.core.service_levels import ServiceLevelSpec
from eparch.deploy import plan as planning
from eparch.deploy.automations import owner_of
from eparch.deploy.plan import Action, Kind, Wanted
from eparch.deploy.preview import Uses, compare_jobs, mask_changes
from eparch.deploy.request import Deployed, DeployResult
from eparch.deploy.sending import Server
from eparch.steps.references import ServerReferences

Review = Callable[[DeployResult], None]
"""Is shown what will be done, and raises when it is not to be."""

ONE_BY_ONE = (
    "This server is none of Eparch's, so the deployments are sent one after the other: if one is refused, "
    "those before it stay."
)


class Proposal:
    """What is to be done so that the server has ``wanted``."""

    def __init__(
        self,
        server: Server,
        references: ServerReferences,
        wanted: Sequence[Wanted],
        *,
        pools: dict[str, WorkPool],
        project: str | None = None,
        commit: str | None = None,
        prune: bool = False,
    ) -> None:
        """``pools`` are those that ``wanted`` name; asks the server what it has.

        Raises:
            EparchError: the server cannot be asked.
        """
        self.server, self.references, self.pools = server, references, pools
        self.project = project
        self.origin = Origin(source=Source.DEPLOY, author=author(), commit=commit)
        found = server.standings(wanted, project if prune else None)
        standings = {(one.flow_name, one.deployment.name): one for one in found}
        owned = [one for one in found if prune and one.project == project]
        self.actions = planning.plan(wanted, standings, owned=owned)
        foreign = {one.wanted.key: one.standing for one in self.actions if one.wanted and one.standing}
        self.notes = [
            f"'{flow}/{name}' was owned by the project {standing.project!r}; it is this one's from now on."
            for (flow, name), standing in foreign.items()
            if standing.project not in (None, project) and project is not None
        ]

    @property
    def differs(self) -> bool:
        """Whether something is to be done."""
        return any(one.kind is not Kind.UNCHANGED for one in self.actions)

    def shown(self) -> DeployResult:
        """The plan as people and programs read it, with jobs and what is used; nothing is changed."""
        self._read_pools_before()
        uses, queues = Uses(self.references, self.pools), self._queues()
        return DeployResult(
            deployments=[self._deployed(one, one.kind.value, uses, queues) for one in self.actions],
            hints=self.notes,
        )

    def apply(self, tell: Callable[[str], None], review: Review | None) -> DeployResult:
        """Do it, after ``review`` has seen it.

        Raises:
            Conflict: somebody changed meanwhile what the plan was made from; nothing was done.
            EparchError: the server refused.
        """
        if review is not None and self.differs:
            review(self.shown())
        if not self.server.is_ours and sum(one.kind is not Kind.UNCHANGED for one in self.actions) > 1:
            tell(ONE_BY_ONE)
        used = {one.content.work_pool_name for one in self.actions if one.wanted}
        pools = [pool for name, pool in sorted(self.pools.items()) if name in used]
        ids = self.server.apply(self.actions, pools, self.project, self.origin)
        self._apply_service_levels(tell)
        done = [self._deployed(one, _DONE[one.kind], id_=ids.get(one.id)) for one in self.actions]
        return DeployResult(deployments=done, hints=[*self.notes, *self._hints(done)])

    def _apply_service_levels(self, tell: Callable[[str], None]) -> None:
        """Those of each deployment, by name: doing it again changes nothing (row D17)."""
        for action in self.actions:
            wanted = action.wanted
            if wanted is None or wanted.service_levels is None:
                continue
            if not self.server.is_ours:
                tell(f"'sla' of '{wanted.name}' is not applied: this server does not watch service levels.")
                continue
            levels = [msgspec.convert(one, ServiceLevelSpec) for one in wanted.service_levels]
            resource = owner_of(action.id)
            self.server.client.send(calls.apply_service_levels(resource_id=resource, body=levels))

    def _deployed(
        self,
        action: Action,
        word: str,
        uses: Uses | None = None,
        queues: Mapping[str, frozenset[str]] | None = None,
        *,
        id_: UUID | None = None,
    ) -> Deployed:
        changed = action.kind in (Kind.CREATE, Kind.CHANGE)
        known: UUID | None = id_ or action.id
        if uses is not None and action.kind is Kind.CREATE:
            known = None  # it is not there yet
        return Deployed(
            name=action.label,
            action=word,
            id=known,
            work_pool_name=_pool_name(action),
            changes=mask_changes(action.changes),
            drift=action.drift,
            changed_by=_words(action.standing.changed) if action.standing else None,
            uses=uses.of(action, queues or {}) if uses is not None else [],
            job=compare_jobs(action, self.pools) if uses is not None and changed else [],
        )

    def _read_pools_before(self) -> None:
        """The pools that deployments are in now and will not be in: for the job before."""
        before = {_standing_pool(one.standing) for one in self.actions if one.kind is Kind.CHANGE}
        missing = sorted(name for name in before if name and name not in self.pools)
        if missing:
            body = {"work_pools": {"name": {"any_": missing}}}
            found = self.server.pages(calls.read_work_pools, body)
            self.pools = {**self.pools, **{pool.name: pool for pool in found}}

    def _queues(self) -> dict[str, frozenset[str]]:
        """The queues of those pools of which deployments name one."""
        named = {
            one.content.work_pool_name
            for one in self.actions
            if one.content.work_queue_name not in (None, DEFAULT_QUEUE)
        }
        return {name: self.server.queue_names(name) for name in sorted(name for name in named if name)}

    def _hints(self, done: Sequence[Deployed]) -> list[str]:
        """What a person does next (rows D18, P21)."""
        hints = []
        placed = [one for one in done if one.work_pool_name and one.action != _DONE[Kind.DELETE]]
        for name in dict.fromkeys(one.work_pool_name for one in placed if one.work_pool_name):
            pool = self.pools.get(name)
            if pool is not None and not pool.type.endswith((":push", ":managed")) and self._is_idle(name):
                hints.append(f"No worker of '{name}' is online. Start one: eparch worker start --pool {name}")
        if placed:
            hints.append(f"Run it: eparch deployment run '{placed[0].name}'")
        return hints

    def _is_idle(self, pool: str) -> bool:
        body = {"workers": {"status": {"any_": ["ONLINE"]}}, "limit": 1, "offset": 0}
        try:
            return not self.server.client.send(calls.read_workers(work_pool_name=pool, body=body))
        except EparchError:
            return False  # it was applied; that a hint cannot be given is no failure


_DONE = {
    Kind.CREATE: "created",
    Kind.CHANGE: "changed",
    Kind.DELETE: "deleted",
    Kind.UNCHANGED: "unchanged",
}


def _standing_pool(standing: Standing | None) -> str | None:
    return standing.deployment.work_pool_name if standing else None


def _pool_name(action: Action) -> str | None:
    return action.wanted.work_pool_name if action.wanted else _standing_pool(action.standing)


def _words(facts: VersionFacts | None) -> str | None:
    if facts is None:
        return None
    who = facts.origin.author or facts.origin.client or "somebody"
    return f"{who} ({facts.origin.source.value}), {facts.created:%Y-%m-%d %H:%M:%S} UTC"


def author() -> str | None:
    """Who deploys, as this machine knows: ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None
    return f"{user}@{socket.gethostname()}"[:200]
