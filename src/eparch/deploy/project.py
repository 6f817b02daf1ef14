"""A ``prefect.yaml`` as typed values.

Owns the grammar of the file (features 1.5): what a project is, what a deployment is, and every mistake in
them, all at once and each with its place. YAML is in ``source``, old spellings in ``tolerance``, the parts in
``steps``, ``schedules`` and ``triggers``. Does not look at flows, servers or the environment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

import msgspec

from eparch.core.crash_retries import DEFAULT_DELAY, LONGEST_DELAY, MOST, CrashRetries
from eparch.core.deployments import CollisionStrategy, ConcurrencyOptions, DeploymentScheduleCreate
from eparch.core.errors import NotFound, SourceError, SourceErrors, TemplateInvalid, did_you_mean
from eparch.core.model import UNSET, Json, Value
from eparch.core.step_names import OUTPUTS
from eparch.core.templates import (
    RESOLVABLE,
    Kind,
    Lookup,
    Path,
    Placeholder,
    placeholders,
    refuse_filter,
    render,
)
from eparch.deploy.findings import Fields, Findings, as_text, is_blank, kind_of
from eparch.deploy.grammar import CONCURRENCY, GRACE, NAME, RETRY_ON_CRASH, SECTIONS, VERSION_TYPES
from eparch.deploy.outputs import Judge, Outputs, absent, placed, with_later
from eparch.deploy.schedules import read_schedules
from eparch.deploy.service_levels import read_service_levels
from eparch.deploy.source import Document, Note, Position, load, parse
from eparch.deploy.steps import Step, read_steps
from eparch.deploy.tolerance import (
    check_top,
    is_untouched,
    normalize,
    other_tool,
)
from eparch.deploy.triggers import read_triggers

_NAME = re.compile(NAME)
_IN_PULL = frozenset({Kind.OUTPUT})
_ENVIRONMENT = frozenset({Kind.ENV})


class WorkPoolChoice(Value, frozen=True, kw_only=True):
    """Where a deployment's runs go, and with which job variables."""

    name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Json] = {}


class ProjectDeployment(Value, frozen=True, kw_only=True):
    """One item of ``deployments:``.

    None is "not said": ``schedules=None`` leaves schedules alone, ``[]`` means none (row D14); ``pull=None``
    takes the project's. Before ``render_deployment`` values may hold placeholders, and what could not be
    typed because of them has its default; ``raw`` is the mapping in today's spelling and ``path`` its place.
    """

    name: str | None = None
    flow_name: str | None = None
    entrypoint: str | None = None
    version: str | None = None
    version_type: str | None = None
    tags: list[str] = []
    description: str | None = None
    parameters: dict[str, Json] = {}
    enforce_parameter_schema: bool | None = None
    paused: bool | None = None
    schedules: list[DeploymentScheduleCreate] | None = None
    concurrency_limit: int | None = None
    concurrency_options: ConcurrencyOptions | None = None
    retry_on_crash: CrashRetries = CrashRetries()
    work_pool: WorkPoolChoice = WorkPoolChoice()
    build: list[Step] | None = None
    push: list[Step] | None = None
    pull: list[Step] | None = None
    triggers: list[dict[str, Json]] = []
    sla: list[dict[str, Json]] = []
    raw: dict[str, Json] = {}
    path: Path = ()
    position: Position
    errors: tuple[SourceError, ...] = ()

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.name or f"the deployment on line {self.position.line}"


class Project(Value, frozen=True, kw_only=True):
    """A whole file. ``errors`` are those outside of the deployments; each of these has its own."""

    name: str | None = None
    description: str | None = None
    required_inputs: dict[str, Json] = {}
    build: list[Step] | None = None
    push: list[Step] | None = None
    pull: list[Step] | None = None
    deployments: list[ProjectDeployment] = []
    notes: list[Note] = []
    errors: tuple[SourceError, ...] = ()
    document: Document

    @property
    def is_recipe(self) -> bool:
        """Whether the file is a recipe that ``init`` fills in, not a project."""
        return bool(self.required_inputs)

    def check(self, selected: Iterable[ProjectDeployment] | None = None) -> None:
        """Refuse the mistakes of the file and of the ``selected`` deployments; of all, if None (row D11).

        Raises:
            SourceErrors: all of them, in the order of the file.
        """
        chosen = self.deployments if selected is None else list(selected)
        errors = [*self.errors, *(error for deployment in chosen for error in deployment.errors)]
        if errors:
            # Steps that several deployments share are wrong in each of them, and are told once.
            distinct = {(error.line, error.column, error.message): error for error in errors}
            raise SourceErrors(sorted(distinct.values(), key=lambda error: (error.line, error.column)))

    def steps(self, section: str, deployment: ProjectDeployment) -> list[Step] | None:
        """The ``build``, ``push`` or ``pull`` steps of a deployment: its own, else the project's."""
        own: list[Step] | None = getattr(deployment, section)
        shared: list[Step] | None = getattr(self, section)
        return shared if own is None else own


def read_project(path: FilePath, *, lenient: bool = False) -> Project:
    """The project in the file at ``path``; ``lenient`` turns unknown keys into notes.

    Raises:
        SourceErrors: every mistake in the file.
    """
    project = examine(load(path), lenient=lenient)
    project.check()
    return project


def parse_project(text: str, file: str = "prefect.yaml", *, lenient: bool = False) -> Project:
    """The project that ``text`` describes; ``file`` is the name that positions carry.

    Raises:
        SourceErrors: every mistake in the text.
    """
    project = examine(parse(text, file), lenient=lenient)
    project.check()
    return project


def examine(document: Document, *, lenient: bool = False) -> Project:
    """The project in ``document``, its mistakes beside it, so that a good deployment can be used (row D11).

    Raises:
        SourceErrors: the file is not a project at all.
    """
    data = document.data
    strange = other_tool(data)
    if data is None or strange or not isinstance(data, dict):
        why = strange or ("it is empty" if data is None else f"it is {kind_of(data)}")
        fix = "name the right file with --prefect-file, or write one with 'eparch init'"
        raise SourceErrors([document.error((), "This is not a project file", why=why, fix=fix)])
    findings = Findings(document, lenient=lenient)
    findings.notes += document.notes
    check_top(data, findings)
    fields = Fields(data, (), findings, final=False)
    deployments = [
        deployment
        for index, item in _items(data.get("deployments"), findings)
        if (deployment := _examine_deployment(item, ("deployments", index), findings)) is not None
    ]
    deployments = _refuse_twins(deployments, document)
    _note_once(data, findings)
    required = fields.mapping("required_inputs") or {}
    if required:
        findings.note(("required_inputs",), "this is a recipe: 'eparch init' asks for its inputs")
    name, description = fields.text("name"), fields.text("description")
    shared = {section: read_steps(data.get(section), (section,), findings) for section in SECTIONS}
    judge = Judge(document)
    if not required:
        deployments = [_judged(deployment, shared, judge) for deployment in deployments]
        if not deployments:
            findings.errors += judge.judge(shared, ())
    return Project(
        name=name,
        description=description,
        required_inputs=required,
        **shared,
        deployments=deployments,
        notes=sorted(findings.notes, key=lambda note: (note.position.line, note.position.column)),
        errors=tuple(findings.errors),
        document=document,
    )


def render_deployment(
    project: Project, deployment: ProjectDeployment, lookup: Lookup, *, known: Collection[str] = ()
) -> ProjectDeployment:
    """``deployment`` with its placeholders resolved, every type checked (row D9), and the pull steps it has.

    ``lookup`` answers for step outputs, environment, blocks and variables; ``known`` are names to suggest.
    Blocks and variables in job variables and all but outputs in pull steps stay references: the worker
    resolves them, so no secret is stored. Build and push steps and what a trigger hands to a run stay as
    they are.

    Raises:
        SourceErrors: placeholders that nothing stands for, filters, and values that do not fit; all of them.
    """
    findings = Findings(project.document)
    raw = dict(deployment.raw)
    for part, kinds in _parts(raw):
        path = (*deployment.path, *part)
        value = _get(raw, part)
        _refuse_unresolved(value, path, lookup, kinds, known, findings)
        if not findings.errors:
            _put(raw, part, render(value, lookup, kinds=kinds))
    _refuse_absent_environment(project, deployment, lookup, findings)
    pull, in_job, steps = project.steps("pull", deployment), Outputs(), []
    for step in pull or ():
        look_up = with_later(lookup, in_job)
        _refuse_unresolved(step.arguments, step.path, look_up, _IN_PULL, known, findings)
        if not findings.errors:
            arguments = render(step.arguments, look_up, kinds=_IN_PULL, unescape=False)
            steps.append(msgspec.structs.replace(step, arguments=arguments))
        in_job = in_job.copy()
        in_job.add(step)
    if findings.errors:
        raise SourceErrors(findings.errors)
    rendered = _type(raw, deployment.path, findings, final=True)
    if findings.errors:
        raise SourceErrors(findings.errors)
    return msgspec.structs.replace(rendered, pull=None if pull is None else steps)


def _refuse_absent_environment(
    project: Project, deployment: ProjectDeployment, lookup: Lookup, findings: Findings
) -> None:
    """Build and push steps find their environment, which a function of the project may set for later ones."""
    for step in (*(project.steps("build", deployment) or ()), *(project.steps("push", deployment) or ())):
        _refuse_unresolved(step.arguments, step.path, lookup, _ENVIRONMENT, (), findings)
        if step.function not in OUTPUTS:
            return


def _items(value: Json, findings: Findings) -> Iterator[tuple[int, dict[str, Json]]]:
    if value is None:
        return
    if not isinstance(value, list):
        fix = "write a list: '- name: ...'"
        findings.error(
            ("deployments",), f"'deployments' must be a list, not {kind_of(value)}", fix=fix, key=True
        )
        return
    for index, item in enumerate(value):
        if isinstance(item, dict) and not is_untouched(item):
            yield index, item
        elif item is None or isinstance(item, dict):
            findings.note(("deployments", index), "a deployment with nothing filled in is skipped")
        else:
            fix = "write '- name: ...'"
            message = f"A deployment must be a mapping, not {kind_of(item)}"
            findings.error(("deployments", index), message, fix=fix)


def _examine_deployment(item: dict[str, Json], path: Path, findings: Findings) -> ProjectDeployment:
    own = Findings(findings.document, lenient=findings.lenient)
    raw = normalize(item, path, own)
    deployment = _type(raw, path, own, final=False)
    findings.notes += own.notes
    return _with_errors(deployment, own.errors)


def _judged(
    deployment: ProjectDeployment, shared: dict[str, list[Step] | None], judge: Judge
) -> ProjectDeployment:
    """``deployment`` with the mistakes in its placeholders, and in those of the steps that it has."""
    own = {section: getattr(deployment, section) for section in SECTIONS}
    steps = {section: shared[section] if own[section] is None else own[section] for section in SECTIONS}
    parts = [((*deployment.path, *part), _get(deployment.raw, part)) for part, _ in _parts(deployment.raw)]
    return _with_errors(deployment, judge.judge(steps, parts))


def _with_errors(deployment: ProjectDeployment, errors: Iterable[SourceError]) -> ProjectDeployment:
    return msgspec.structs.replace(deployment, errors=(*deployment.errors, *errors))


def _refuse_twins(deployments: list[ProjectDeployment], document: Document) -> list[ProjectDeployment]:
    """One name may stand for several flows, but not twice for one (real-files 2.2)."""
    seen: dict[tuple[str | None, str], ProjectDeployment] = {}
    checked = []
    for deployment in deployments:
        entrypoint = (deployment.entrypoint or deployment.flow_name or "").replace("\\", "/")
        twin = (deployment.name, entrypoint.removeprefix("./"))
        if deployment.name is None or twin not in seen:
            seen[twin] = deployment
            checked.append(deployment)
            continue
        lines = f"lines {seen[twin].position.line} and {deployment.position.line}"
        message = f"Two deployments of one flow are called '{deployment.name}', on {lines}"
        error = document.error((*deployment.path, "name"), message, fix="rename one or remove it")
        checked.append(_with_errors(deployment, [error]))
    return checked


def _note_once(data: dict[str, Json], findings: Findings) -> None:
    items = data.get("deployments")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and not is_blank(item.get("schedule")):
            message = "'schedule' is read as a list 'schedules' of one; other deployments likewise"
            findings.note(("deployments", index, "schedule"), message)
            return


def _type(raw: dict[str, Json], path: Path, findings: Findings, *, final: bool) -> ProjectDeployment:
    """The deployment that ``raw``, in today's spelling, describes; mistakes go to ``findings``."""
    fields = Fields(raw, path, findings, final=final)
    name = fields.text("name")
    if name is not None and not fields.is_open(name) and not _NAME.fullmatch(name):
        fix = "use a name without / % & > <"
        findings.error((*path, "name"), f"'{name}' cannot be the name of a deployment", fix=fix)
    limit, options = _concurrency(fields, findings)
    active = fields.flag("is_schedule_active")
    if "is_schedule_active" in raw and not final:
        message = "'is_schedule_active' is now 'active' of each schedule"
        findings.note((*path, "is_schedule_active"), message)
    schedules = fields.items("schedules")
    triggers = fields.items("triggers") or []
    return ProjectDeployment(
        name=name,
        flow_name=fields.text("flow_name") or None,
        entrypoint=fields.text("entrypoint") or None,
        version=fields.text("version") or None,
        version_type=read_version_type(fields, findings),
        tags=_tags(fields),
        description=fields.text("description"),
        parameters=fields.mapping("parameters") or {},
        enforce_parameter_schema=fields.flag("enforce_parameter_schema"),
        paused=fields.flag("paused"),
        schedules=None
        if schedules is None
        else read_schedules(schedules, (*path, "schedules"), findings, active=active, final=final),
        concurrency_limit=limit,
        concurrency_options=options,
        retry_on_crash=_retry_on_crash(fields, findings),
        work_pool=_work_pool(fields, findings, final=final),
        build=read_steps(raw.get("build"), (*path, "build"), findings),
        push=read_steps(raw.get("push"), (*path, "push"), findings),
        pull=read_steps(raw.get("pull"), (*path, "pull"), findings),
        triggers=read_triggers(triggers, (*path, "triggers"), findings),
        sla=read_service_levels(fields.items("sla") or [], (*path, "sla"), findings, final=final),
        raw=raw,
        path=path,
        position=findings.document.at(path),
    )


def read_version_type(fields: Fields, findings: Findings) -> str | None:
    """The ``version_type`` among ``fields``, if there is such a one."""
    value = fields.text("version_type") or None
    if value is None or value in VERSION_TYPES or fields.is_open(value):
        return value
    fix = did_you_mean(value, VERSION_TYPES) or f"one of {', '.join(VERSION_TYPES)}"
    findings.error((*fields.path, "version_type"), f"There is no version type '{value}'", fix=fix)
    return None


def _tags(fields: Fields) -> list[str]:
    value = fields.given.get("tags")
    if isinstance(value, str) and not fields.is_open(value):
        fields.wrong("tags", "a list", fix=f"write 'tags: [\"{value}\"]'")
        return []
    document = fields.findings.document
    tags = fields.items("tags") or []
    return [as_text(tag, document, (*fields.path, "tags", index)) for index, tag in enumerate(tags)]


def _work_pool(fields: Fields, findings: Findings, *, final: bool) -> WorkPoolChoice:
    value = fields.mapping("work_pool") or {}
    inner = Fields(value, (*fields.path, "work_pool"), findings, final=final)
    return WorkPoolChoice(
        name=inner.text("name") or None,
        work_queue_name=inner.text("work_queue_name") or None,
        job_variables=inner.mapping("job_variables") or {},
    )


def _concurrency(fields: Fields, findings: Findings) -> tuple[int | None, ConcurrencyOptions | None]:
    value = fields.given.get("concurrency_limit")
    where = (*fields.path, "concurrency_limit")
    if value is None or value == {} or fields.is_open(value):
        return None, None
    if not isinstance(value, dict):
        return _limit(value, where, findings), None
    findings.check_keys(value, where, CONCURRENCY, {}, "'concurrency_limit'")
    inner = Fields(value, where, findings, final=fields.final)
    if any(inner.is_open(item) for item in value.values()):
        return None, None
    limit = None if value.get("limit") is None else _limit(value["limit"], (*where, "limit"), findings)
    strategy, grace = value.get("collision_strategy"), value.get("grace_period_seconds")
    if strategy is None and grace is None:
        return limit, None
    names = [choice.value for choice in CollisionStrategy]
    if strategy is not None and str(strategy).upper() not in names:
        message = f"There is no collision strategy '{strategy}'"
        findings.error((*where, "collision_strategy"), message, fix=f"one of {', '.join(names)}")
        return limit, None
    if grace is not None and not (_is_count(grace) and GRACE[0] <= grace <= GRACE[1]):
        message = f"'grace_period_seconds' must be a whole number from {GRACE[0]} to {GRACE[1]}"
        findings.error((*where, "grace_period_seconds"), message)
        return limit, None
    chosen = CollisionStrategy(str(strategy or CollisionStrategy.ENQUEUE.value).upper())
    return limit, ConcurrencyOptions(collision_strategy=chosen, grace_period_seconds=grace)


def _retry_on_crash(fields: Fields, findings: Findings) -> CrashRetries:
    """A number of retries, or ``{count, delay_seconds}`` (row B2)."""
    value = fields.given.get("retry_on_crash")
    where = (*fields.path, "retry_on_crash")
    given = value if isinstance(value, dict) else {"count": value}
    if value is None or any(fields.is_open(item) for item in given.values()):
        return CrashRetries()
    findings.check_keys(given, where, RETRY_ON_CRASH, {}, "'retry_on_crash'")
    count: Any = given.get("count")
    delay: Any = given.get("delay_seconds", DEFAULT_DELAY)
    if not _is_count(count) or not 0 <= count <= MOST:
        findings.error(where, f"'retry_on_crash' must be a whole number up to {MOST}, not '{count}'")
        return CrashRetries()
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= LONGEST_DELAY:
        findings.error(where, f"'delay_seconds' must be a number of seconds up to {LONGEST_DELAY:g}")
        return CrashRetries()
    return CrashRetries(count=count, delay_seconds=float(delay))


def _limit(value: Json, path: Path, findings: Findings) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if _is_count(value) and value > 0:
        limit: int = value
        return limit
    findings.error(path, f"'{path[-1]}' must be a whole number above 0, not '{value}'")
    return None


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _parts(raw: dict[str, Json]) -> Iterator[tuple[Path, frozenset[Kind]]]:
    """The parts of a deployment that are rendered, each with the kinds that are resolved in it."""
    stored = RESOLVABLE - {Kind.BLOCK, Kind.VARIABLE}
    for key, value in raw.items():
        if key == "work_pool" and isinstance(value, dict):
            for inner in value:
                yield (key, inner), stored if inner == "job_variables" else RESOLVABLE
        elif key == "triggers" and isinstance(value, list):
            for index, trigger in enumerate(value):
                for inner in trigger if isinstance(trigger, dict) else ():
                    if inner not in ("parameters", "job_variables", "triggers"):
                        yield (key, index, inner), RESOLVABLE
        elif key not in SECTIONS:
            yield (key,), RESOLVABLE


def _get(value: Json, path: Path) -> Json:
    for key in path:
        value = value[key]
    return value


def _put(raw: dict[str, Json], path: Path, value: Json) -> None:
    """Set the value at ``path``, or remove it; containers on the way are copied, ``raw`` itself is not."""
    target: Json = raw
    for key in path[:-1]:
        target[key] = target[key].copy()
        target = target[key]
    if value is UNSET:
        target.pop(path[-1], None)
    else:
        target[path[-1]] = value


def _refuse_unresolved(
    value: Json,
    path: Path,
    lookup: Lookup,
    kinds: Collection[Kind],
    known: Collection[str],
    findings: Findings,
) -> None:
    for found in placeholders(value):
        if found.kind not in kinds:
            continue
        if found.kind is Kind.FILTER:
            findings.errors.append(placed(refuse_filter(found), found, path, findings.document))
        elif (error := _missing(found, lookup, known)) is not None:
            findings.errors.append(placed(error, found, path, findings.document))


def _missing(found: Placeholder, lookup: Lookup, known: Collection[str]) -> TemplateInvalid | None:
    try:
        return _unresolved(found, known) if lookup(found) is UNSET else None
    except (NotFound, TemplateInvalid) as error:
        return TemplateInvalid(error.message, why=error.why, fix=error.fix)


def _unresolved(found: Placeholder, known: Collection[str]) -> TemplateInvalid:
    message = f"Nothing stands for '{found.text}'"
    if found.kind is Kind.ENV:
        return TemplateInvalid(message, why=f"the environment has no '{found.key}'", fix=f"set {found.key}")
    if found.kind is Kind.OUTPUT:
        return absent(found, known, why="no step that ran has this output")
    return TemplateInvalid(
        message,
        why=f"a {found.kind.value} cannot be read here yet",
        fix="use an environment variable instead: '{{ $NAME }}'",
    )
