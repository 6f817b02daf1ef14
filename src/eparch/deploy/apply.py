"""``eparch deploy``: from a request to deployments on a server.

Owns the order: read, select, check all, build and push once, plan, review, apply. Nothing is built before the
checks pass and nothing is applied before every selected deployment is known to be good (row D11). The rules
are in ``selection``, ``overrides``, ``checks`` and ``plan``, the server is asked in ``sending``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eparch.core import calls
from eparch.core.crash_retries import labels_for
from eparch.core.errors import (
    EparchError,
    Invalid,
    SourceError,
    SourceErrors,
    TemplateInvalid,
    Unreachable,
    Usage,
)
from eparch.core.model import UNSET, Json
from eparch.core.pools import WorkPool
from eparch.core.templates import Kind, Lookup, Placeholder, find, placeholders
from eparch.deploy.building import Builder, Watch, known_names
from eparch.deploy.checks import Checker, Pools, at_entrypoint
from eparch.deploy.origin import inferred_version, project_id, read_origin
from eparch.deploy.overrides import check_flags, lay_over
from eparch.deploy.plan import Key, Wanted
from eparch.deploy.project import Project, ProjectDeployment, examine, render_deployment
from eparch.deploy.proposal import Proposal, Review
from eparch.deploy.pulling import default_pull
from eparch.deploy.request import DeployRequest, DeployResult
from eparch.deploy.scan import FoundFlow, read_flow
from eparch.deploy.selection import Chosen, empty_project, refuse_two_ways, select
from eparch.deploy.sending import Sender as Sender
from eparch.deploy.sending import Server
from eparch.settings import Settings
from eparch.steps.references import ServerReferences

Tell = Callable[[str], None]

ReadFlow = Callable[[str, Path], FoundFlow]

PROJECT_FILE = "prefect.yaml"


def deploy(
    request: DeployRequest,
    client: Sender,
    settings: Settings,
    tell: Tell,
    *,
    root: Path | None = None,
    review: Review | None = None,
    read: ReadFlow = read_flow,
    project: Project | None = None,
    watch: Watch | None = None,
) -> DeployResult:
    """Do what ``request`` asks for; ``tell`` gets notes and what steps print, ``root`` is where paths begin.

    ``review`` is shown what will be done before it is; when it raises, nothing is done. ``read`` finds the
    flow of an entrypoint, from its source unless given. ``project`` is used instead of the file.
    ``watch`` is told which build and push steps run.

    Raises:
        SourceErrors: mistakes in the file or in flows, all at once; nothing was done.
        Usage: the request does not say what is meant.
        NotFound: there is no such deployment or work pool.
        StepFailed: a build or push step failed; nothing was applied.
        Conflict: somebody changed what the plan was made from; nothing was applied.
        EparchError: the server refused; nothing was applied, on a stock server the message says what was.
    """
    refuse_two_ways(request)
    check_flags(request)
    work = _Deploying(request, client, settings, tell, (root or Path.cwd()).resolve(), read)
    work.watch = watch
    return work.run(project or work.project(), review)


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
        self,
        request: DeployRequest,
        client: Sender,
        settings: Settings,
        tell: Tell,
        root: Path,
        read: ReadFlow,
    ) -> None:
        self.request, self.settings, self.tell, self.root = request, settings, tell, root
        self.server = Server(client)
        self.read = read
        self.watch: Watch | None = None
        self.flows: dict[str, FoundFlow] = {}
        self.pools = Pools()
        self._offline = False
        self.references = ServerReferences(client)
        self.origin = read_origin(root)

    def run(self, project: Project, review: Review | None) -> DeployResult:
        self._check_prune(project)
        chosen = select(project, self.request, self._flow_name, _lookup({}, references=self.references))
        for note in project.notes:
            self.tell(f"{note.position}: {note.message}")
        drafts = [self._draft(one) for one in chosen]
        self._check(drafts, project, later=True)
        if not self.request.plan_only and any(draft.steps for draft in drafts):
            self._build(drafts)
            self._check(drafts, project, later=False)
        wanted = [self._wanted(draft) for draft in drafts]
        origin = self.origin
        proposal = Proposal(
            self.server,
            self.references,
            wanted,
            pools=dict(self.pools.found),
            project=project_id(project.name, origin.repository),
            commit=origin.commit,
            prune=self.request.prune,
        )
        if self.request.plan_only:
            return proposal.shown()
        return proposal.apply(self.tell, review)

    def _check_prune(self, project: Project) -> None:
        if not self.request.prune:
            return
        if not self.request.all:
            raise Usage(
                "--prune needs --all.",
                why="What the file no longer has is known only when all of it is deployed.",
                fix="Add --all, or leave --prune out.",
            )
        if not project.name:
            raise Usage(
                f"{project.document.file} has no name.",
                why="A project is known by the 'name' at the top of its file and by its repository.",
                fix="Write 'name: my-project' at the top of the file, and deploy once without --prune.",
            )
        if not self.server.is_ours:
            raise Usage(
                "--prune cannot be used with this server.",
                why="It does not keep which project owns a deployment; a server of Eparch does.",
                fix="Delete what is not wanted: eparch deployment delete NAME",
            )

    # Reading

    def project(self) -> Project:
        """The project of the request's file."""
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
        shown = full.relative_to(here) if full.is_relative_to(here) else full
        return examine(load(shown), lenient=self.request.lenient)

    def _flow_name(self, deployment: ProjectDeployment) -> str:
        """The real name of the flow (row D6); empty where it cannot be read."""
        entrypoint = self.request.entrypoint or deployment.entrypoint
        try:
            return self._flow(entrypoint).name if entrypoint else ""
        except SourceError:
            return ""

    def _flow(self, entrypoint: str) -> FoundFlow:
        if entrypoint not in self.flows:
            self.flows[entrypoint] = self.read(entrypoint, self.root)
        return self.flows[entrypoint]

    def _draft(self, chosen: Chosen) -> _Draft:
        laid = lay_over(chosen.deployment, self.request, self.settings.default_work_pool)
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
            found = {
                pool.name: pool for pool in self.server.pages(calls.read_work_pools, _named_pools(wanted))
            }
            known: tuple[str, ...] = ()
            if len(found) < len(wanted):
                known = tuple(pool.name for pool in self.server.pages(calls.read_work_pools, {}))
        except Unreachable:
            if not known_bad:
                raise
            self._offline = True
            return
        self.pools = Pools({**self.pools.found, **found}, known)

    # Building

    def _build(self, drafts: list[_Draft]) -> None:
        builder = Builder(
            self.root, self.tell, self.references, watch=self.watch, install=self.settings.steps_install
        )
        chains = [
            [
                (section, step)
                for section in ("build", "push")
                for step in draft.chosen.project.steps(section, draft.chosen.deployment) or ()
            ]
            for draft in drafts
        ]
        for draft, outputs in zip(drafts, builder.run(chains), strict=True):
            draft.outputs = outputs

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
            version=inferred_version(rendered.version, rendered.version_type, self.origin),
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
            service_levels=rendered.sla if rendered.raw.get("sla") is not None else None,
        )

    def _pool(self, name: str | None) -> WorkPool | None:
        return self.pools.found.get(name) if name else None


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
