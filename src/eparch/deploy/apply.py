"""``eparch deploy``: from a request to deployments on a server.

Owns the order: read, select, check all, build and push once, plan, apply. Nothing is built before the checks
pass and nothing is applied before every selected deployment is known to be good (row D11). The rules are in
``selection``, ``overrides``, ``checks`` and ``plan``; Python's ``flow.deploy`` takes the same way (row D23).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.automations import Automation
from eparch.core.calls import Call, Endpoint
from eparch.core.crash_retries import labels_for
from eparch.core.deployments import Deployment, FlowCreate
from eparch.core.errors import (
    Conflict,
    EparchError,
    Invalid,
    SourceError,
    SourceErrors,
    TemplateInvalid,
    Unreachable,
    Usage,
)
from eparch.core.filters import MAX_LIMIT
from eparch.core.model import UNSET, Json
from eparch.core.pools import WorkPool
from eparch.core.templates import Kind, Lookup, Placeholder, find, placeholders
from eparch.deploy import plan as planning
from eparch.deploy.automations import automations_of, owner_of
from eparch.deploy.building import Builder, known_names
from eparch.deploy.checks import Checker, Pools, at_entrypoint
from eparch.deploy.overrides import lay_over, not_applied, refuse_unsupported
from eparch.deploy.plan import Action, Key, Wanted, plan
from eparch.deploy.project import Project, ProjectDeployment, examine, render_deployment
from eparch.deploy.pulling import default_pull
from eparch.deploy.request import Deployed, DeployRequest, DeployResult
from eparch.deploy.scan import FoundFlow, read_flow
from eparch.deploy.selection import Chosen, empty_project, refuse_two_ways, select
from eparch.settings import Settings
from eparch.steps.references import ServerReferences

T = TypeVar("T")
Tell = Callable[[str], None]

PROJECT_FILE = "prefect.yaml"


class Sender(Protocol):
    """A server's API: ``client.http.Client`` is one."""

    def send(self, call: Call[T]) -> T:
        """The answer to ``call``.

        Raises:
            EparchError: there is none, or the server refused.
        """


def deploy(
    request: DeployRequest, client: Sender, settings: Settings, tell: Tell, *, root: Path | None = None
) -> DeployResult:
    """Do what ``request`` asks for; ``tell`` gets notes and what steps print, ``root`` is where paths begin.

    Raises:
        SourceErrors: mistakes in the file or in flows, all at once; nothing was done.
        Usage: the request does not say what is meant.
        NotFound: there is no such deployment or work pool.
        StepFailed: a build or push step failed; nothing was applied.
        EparchError: the server refused a deployment; the message says which were applied and which not.
    """
    return _Deploying(request, client, settings, tell, (root or Path.cwd()).resolve()).run()


@dataclass
class _Draft:
    """One deployment on its way."""

    chosen: Chosen
    outputs: dict[str, Json] = field(default_factory=dict)
    rendered: ProjectDeployment | None = None
    flow: FoundFlow | None = None

    @property
    def steps(self) -> bool:
        """Whether something runs before its values are known."""
        return any(self.chosen.project.steps(name, self.chosen.deployment) for name in ("build", "push"))


class _Deploying:
    """The work of one command."""

    def __init__(
        self, request: DeployRequest, client: Sender, settings: Settings, tell: Tell, root: Path
    ) -> None:
        self.request, self.client, self.settings, self.tell, self.root = request, client, settings, tell, root
        self.flows: dict[str, FoundFlow] = {}
        self.pools = Pools()
        self._offline = False
        self.references = ServerReferences(client)

    def run(self) -> DeployResult:
        refuse_two_ways(self.request)
        refuse_unsupported(self.request)
        project = self._project()
        chosen = select(project, self.request, self._flow_name, _lookup({}, references=self.references))
        for note in project.notes:
            self.tell(f"{note.position}: {note.message}")
        drafts = [self._draft(one) for one in chosen]
        self._check(drafts, project, later=True)
        if not self.request.plan_only and any(draft.steps for draft in drafts):
            self._build(drafts)
            self._check(drafts, project, later=False)
        wanted = [self._wanted(draft) for draft in drafts]
        flow_ids, current = self._current(wanted)
        actions = plan(wanted, current, self._related(wanted, current))
        if self.request.plan_only:
            return DeployResult(deployments=[_deployed(action, action.kind, action.id) for action in actions])
        done = self._apply(actions, flow_ids)
        return DeployResult(deployments=done, hints=self._hints(done))

    # Reading

    def _project(self) -> Project:
        path = self.request.file or Path(PROJECT_FILE)
        if self.request.file is None and not (self.root / path).is_file():
            if self.request.entrypoint:
                return empty_project()
            raise Usage(
                f"There is no {PROJECT_FILE} in {self.root}.",
                fix="Name a flow: eparch deploy path/to/file.py:function --name NAME",
            )
        from eparch.deploy.source import load

        full, here = self.root / path, Path.cwd()
        return examine(load(full.relative_to(here) if full.is_relative_to(here) else full))

    def _flow_name(self, deployment: ProjectDeployment) -> str:
        """The real name of the flow (row D6); empty where it cannot be read."""
        entrypoint = self.request.entrypoint or deployment.entrypoint
        try:
            return self._flow(entrypoint).name if entrypoint else ""
        except SourceError:
            return ""

    def _flow(self, entrypoint: str) -> FoundFlow:
        if entrypoint not in self.flows:
            self.flows[entrypoint] = read_flow(entrypoint, self.root)
        return self.flows[entrypoint]

    def _draft(self, chosen: Chosen) -> _Draft:
        laid = lay_over(chosen.deployment, self.request, self.settings.default_work_pool)
        for path, note in not_applied(chosen.deployment):
            self.tell(f"{chosen.project.document.key(path)}: {note}")
        return _Draft(Chosen(chosen.project, laid))

    # Checking

    def _check(self, drafts: list[_Draft], project: Project, *, later: bool) -> None:
        """Render and check every draft; with ``later`` what steps will give is not known yet.

        Raises:
            EparchError: all that is wrong.
        """
        errors: list[EparchError] = [*project.errors]
        checkers: list[tuple[_Draft, Checker]] = []
        for draft in drafts:
            errors += draft.chosen.deployment.errors
            draft.rendered = self._render(draft, later and draft.steps, errors)
            if draft.rendered is not None:
                checkers.append((draft, Checker(draft.chosen, draft.rendered, self.request)))
        for draft, checker in checkers:
            checker.check_identity()
            checker.check_triggers()
            self._check_flow(draft, checker)
        found = [error for _, checker in checkers for error in checker.errors]
        self._read_pools([checker.rendered for _, checker in checkers], known_bad=bool(errors or found))
        for _, checker in checkers:
            if not self._offline:
                checker.check_pool(self.pools)
            errors += checker.errors
        errors += _twins([draft for draft, _ in checkers])
        _refuse(errors)
        if not any(draft.steps for draft in drafts) or not later:
            for note in dict.fromkeys(note for _, checker in checkers for note in checker.notes):
                self.tell(note)

    def _render(self, draft: _Draft, later: bool, errors: list[EparchError]) -> ProjectDeployment | None:
        chosen = draft.chosen
        if chosen.deployment.errors:
            return None
        lookup = _lookup(draft.outputs, later=later, references=self.references)
        try:
            return render_deployment(
                chosen.project, chosen.deployment, lookup, known=known_names(draft.outputs)
            )
        except SourceErrors as error:
            # A text that stands in for an output fits no number; what it is will be known after the steps.
            if not (later and _waits(chosen.deployment)) or any(map(_is_template, error.errors)):
                errors += error.errors
            return None

    def _check_flow(self, draft: _Draft, checker: Checker) -> None:
        entrypoint = checker.rendered.entrypoint
        if not entrypoint or placeholders(entrypoint):
            return
        try:
            draft.flow = self._flow(entrypoint)
        except SourceError as error:
            checker.errors.append(at_entrypoint(error, draft.chosen, self.request))
            return
        checker.check_flow(draft.flow)

    def _read_pools(self, rendered: list[ProjectDeployment], *, known_bad: bool) -> None:
        """The work pools that are named; a server that is away does not hide mistakes of the file."""
        names = {one.work_pool.name for one in rendered if one.work_pool.name} - self.pools.found.keys()
        wanted = sorted(name for name in names if not placeholders(name))
        if not wanted:
            return
        try:
            found = {pool.name: pool for pool in self._pages(calls.read_work_pools, _named_pools(wanted))}
            known: tuple[str, ...] = ()
            if len(found) < len(wanted):
                known = tuple(pool.name for pool in self._pages(calls.read_work_pools, {}))
        except Unreachable:
            if not known_bad:
                raise
            self._offline = True
            return
        self.pools = Pools({**self.pools.found, **found}, known)

    # Building

    def _build(self, drafts: list[_Draft]) -> None:
        builder = Builder(self.root, self.tell, self.references)
        for draft in drafts:
            for section in ("build", "push"):
                steps = draft.chosen.project.steps(section, draft.chosen.deployment) or []
                draft.outputs = builder.run(section, steps, draft.outputs)

    # Planning

    def _wanted(self, draft: _Draft) -> Wanted:
        rendered, flow = draft.rendered, draft.flow
        if rendered is None or flow is None or rendered.name is None or rendered.entrypoint is None:
            raise Usage(
                f"'{draft.chosen.deployment.label}' cannot be planned before its build steps have run.",
                fix="Deploy it without --plan.",
            )
        choice, pull = rendered.work_pool, rendered.pull
        if pull is None:
            steps, note = default_pull(
                self.root,
                build=draft.chosen.project.steps("build", draft.chosen.deployment) or [],
                image=bool(choice.job_variables.get("image")),
                pool_type=pool.type if (pool := self._pool(choice.name)) else None,
            )
            if note:
                self.tell(f"{rendered.name}: {note}")
        else:
            steps = [step.stored() for step in pull]
        return Wanted(
            flow_name=flow.name,
            name=rendered.name,
            entrypoint=rendered.entrypoint,
            version=rendered.version,
            description=flow.description if rendered.description is None else rendered.description,
            paused=rendered.paused,
            schedules=rendered.schedules,
            silent=_silent(rendered),
            concurrency_limit=rendered.concurrency_limit,
            concurrency_options=rendered.concurrency_options,
            labels=labels_for(rendered.retry_on_crash),
            enforce_parameter_schema=rendered.enforce_parameter_schema is not False,
            parameter_openapi_schema=flow.parameter_schema,
            parameters=rendered.parameters,
            tags=rendered.tags,
            pull_steps=steps,
            work_pool_name=choice.name,
            work_queue_name=choice.work_queue_name,
            job_variables=choice.job_variables,
            triggers=rendered.triggers if rendered.raw.get("triggers") is not None else None,
        )

    def _pool(self, name: str | None) -> WorkPool | None:
        return self.pools.found.get(name) if name else None

    def _current(self, wanted: list[Wanted]) -> tuple[dict[str, UUID], dict[Key, Deployment]]:
        """Ids of the flows that the server knows, and the deployments of them that are wanted."""
        names = sorted({one.flow_name for one in wanted})
        flows = [
            flow
            for begin in range(0, len(names), MAX_LIMIT)
            for flow in self._pages(
                calls.read_flows, {"flows": {"name": {"any_": names[begin : begin + MAX_LIMIT]}}}
            )
        ]
        by_id = {flow.id: flow.name for flow in flows}
        if not by_id:
            return {}, {}
        body = {
            "flows": {"id": {"any_": [str(id_) for id_ in by_id]}},
            "deployments": {"name": {"any_": sorted({one.name for one in wanted})}},
        }
        found = self._pages(calls.read_deployments, body)
        current = {(by_id[one.flow_id], one.name): one for one in found if one.flow_id in by_id}
        return {name: id_ for id_, name in by_id.items()}, current

    def _related(self, wanted: list[Wanted], current: dict[Key, Deployment]) -> dict[UUID, list[Automation]]:
        """The automations of the deployments whose file has triggers."""
        known = [current[one.key] for one in wanted if one.triggers is not None and one.key in current]
        return {
            one.id: self.client.send(calls.read_related_automations(resource_id=owner_of(one.id)))
            for one in known
        }

    def _pages(self, endpoint: Endpoint[list[T]], body: dict[str, Any]) -> Iterator[T]:
        offset = 0
        while True:
            page = self.client.send(endpoint(body={**body, "limit": MAX_LIMIT, "offset": offset}))
            yield from page
            offset += len(page)
            if len(page) < MAX_LIMIT:
                return

    # Applying

    def _apply(self, actions: list[Action], flow_ids: dict[str, UUID]) -> list[Deployed]:
        """Send what differs, in order.

        Raises:
            EparchError: one was refused; those before it stay applied.
        """
        done: list[Deployed] = []
        words = {planning.Kind.CREATE: "created", planning.Kind.CHANGE: "changed"}
        for action in actions:
            if action.kind is planning.Kind.UNCHANGED:
                done.append(_deployed(action, "unchanged", action.id))
                continue
            try:
                made = self._send(action.wanted, flow_ids)
                if "triggers" in action.changes or (action.id is None and action.wanted.triggers):
                    self._replace_automations(action.wanted, made.id)
            except EparchError as error:
                raise _halfway(actions, len(done), error) from error
            done.append(_deployed(action, words[action.kind], made.id))
        return done

    def _send(self, wanted: Wanted, flow_ids: dict[str, UUID]) -> Deployment:
        if wanted.flow_name not in flow_ids:
            flow = self.client.send(calls.create_flow(body=FlowCreate(name=wanted.flow_name)))
            flow_ids[wanted.flow_name] = flow.id
        made = self.client.send(calls.create_deployment(body=wanted.body(flow_ids[wanted.flow_name])))
        if not wanted.schedules:
            # A stock server reads an empty list as "leave them"; here it means none (row D14).
            for schedule in made.schedules:
                gone = calls.delete_deployment_schedule(id=made.id, schedule_id=schedule.id)
                self.client.send(gone)
        return made

    def _replace_automations(self, wanted: Wanted, deployment_id: UUID) -> None:
        self.client.send(calls.delete_owned_automations(resource_id=owner_of(deployment_id)))
        for body in automations_of(wanted.triggers or [], deployment_id, wanted.label):
            self.client.send(calls.create_automation(body=body))

    def _hints(self, done: list[Deployed]) -> list[str]:
        """What a person does next (rows D18, P21)."""
        hints = []
        for name in dict.fromkeys(one.work_pool_name for one in done if one.work_pool_name):
            pool = self._pool(name)
            if pool is not None and not pool.type.endswith((":push", ":managed")) and self._is_idle(name):
                hints.append(f"No worker of '{name}' is online. Start one: eparch worker start --pool {name}")
        if any(one.work_pool_name for one in done):
            first = next(one for one in done if one.work_pool_name)
            hints.append(f"Run it: eparch deployment run '{first.name}'")
        return hints

    def _is_idle(self, pool: str) -> bool:
        body = {"workers": {"status": {"any_": ["ONLINE"]}}, "limit": 1, "offset": 0}
        try:
            return not self.client.send(calls.read_workers(work_pool_name=pool, body=body))
        except EparchError:
            return False  # it was applied; that a hint cannot be given is no failure


def _named_pools(names: list[str]) -> dict[str, Any]:
    return {"work_pools": {"name": {"any_": names}}}


def _lookup(outputs: dict[str, Json], *, later: bool = False, references: ServerReferences) -> Lookup:
    """What placeholders stand for; with ``later`` an output that is missing stands for itself."""

    def look_up(found: Placeholder) -> Any:
        if found.kind is Kind.ENV:
            return os.environ.get(found.key, UNSET)
        if found.kind is Kind.BLOCK:
            return _block(found, references)
        if found.kind is Kind.VARIABLE:
            return references.variable(found.key)
        if found.kind is Kind.OUTPUT:
            value = find(outputs, found.name)
            return found.text if value is UNSET and later else value
        return UNSET

    return look_up


def _block(found: Placeholder, references: ServerReferences) -> Any:
    """What a block holds, for a part of a deployment that is stored as it is: nothing secret goes there.

    Raises:
        NotFound: there is no such block.
        TemplateInvalid: it is secret.
    """
    try:
        if not references.is_secret(found.key):
            return references.block(found.key)
    except Invalid as error:
        raise TemplateInvalid(error.message, why=error.why, fix=error.fix) from error
    raise TemplateInvalid(
        f"'{found.text}' is secret",
        why="it would be stored in the deployment in clear",
        fix="name it in the job variables or in a pull step, where it is read when a run begins",
    )


def _waits(deployment: ProjectDeployment) -> bool:
    return any(found.kind is Kind.OUTPUT for found in placeholders(deployment.raw))


def _is_template(error: SourceError) -> bool:
    return isinstance(error, TemplateInvalid)


def _silent(rendered: ProjectDeployment) -> frozenset[int]:
    """The numbers of the schedules whose ``active`` is not in the file."""
    from eparch.deploy.findings import is_blank

    if rendered.raw.get("is_schedule_active") is not None:
        return frozenset()
    written = [item for item in rendered.raw.get("schedules") or () if not is_blank(item)]
    return frozenset(number for number, item in enumerate(written) if item.get("active") is None)


def _twins(drafts: Iterable[_Draft]) -> Iterator[EparchError]:
    """Two deployments of one request that are the same one on the server."""
    seen: dict[Key, ProjectDeployment] = {}
    for draft in drafts:
        rendered, flow = draft.rendered, draft.flow
        if rendered is None or flow is None or not rendered.name:
            continue
        key = (flow.name, rendered.name)
        if key in seen:
            message = f"Two deployments are called '{flow.name}/{rendered.name}'"
            why = f"the other one is on line {seen[key].position.line}"
            document = draft.chosen.project.document
            yield document.error((*rendered.path, "name"), message, why=why, fix="rename one")
        seen.setdefault(key, rendered)


def _refuse(errors: list[EparchError]) -> None:
    """Raise all that is wrong: one by itself, several as mistakes of a file.

    Raises:
        EparchError: there is something.
    """
    if not errors:
        return
    distinct = list({(str(error), error.why): error for error in errors}.values())
    if len(distinct) == 1 and not isinstance(distinct[0], SourceError):
        raise distinct[0]
    found = [
        error if isinstance(error, SourceError) else SourceError(error.message, why=error.why, fix=error.fix)
        for error in distinct
    ]
    raise SourceErrors(sorted(found, key=lambda error: (error.file, error.line, error.column)))


def _deployed(action: Action, word: str, id_: UUID | None) -> Deployed:
    return Deployed(
        name=action.wanted.label,
        action=word,
        id=id_,
        work_pool_name=action.wanted.work_pool_name,
        changes=action.changes,
    )


def _halfway(actions: list[Action], position: int, cause: EparchError) -> EparchError:
    """The error for a refusal in the middle: which were applied, and which not."""
    labels = [action.wanted.label for action in actions]
    applied, left = labels[:position], labels[position:]
    kind = type(cause) if isinstance(cause, Conflict | Unreachable) else EparchError
    message = f"'{left[0]}' could not be deployed: {cause.message}"
    if not applied:
        return kind(message, why=cause.why or "Nothing was applied.", fix=cause.fix)
    why = f"applied: {', '.join(applied)}; not applied: {', '.join(left)}"
    fix = " ".join(filter(None, [cause.fix, "Correct it and deploy again; what was applied stays."]))
    return kind(message, why=". ".join(filter(None, [cause.why.rstrip("."), why])), fix=fix)
