"""``eparch deploy`` where it is not said what to deploy: asks, shows the plan, and then does it (row D2).

Owns what is known before the questions, and the order in which the answers are carried out: nothing is made
or written before the plan was agreed to. The questions are in ``deploy.wizard``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eparch.core import calls
from eparch.core.errors import EparchError, Usage, did_you_mean
from eparch.core.model import new_id
from eparch.deploy.flags import equivalent_commands
from eparch.deploy.project import Project, ProjectDeployment, examine
from eparch.deploy.request import DeployRequest, DeployResult
from eparch.deploy.selection import plain_entrypoint
from eparch.deploy.wizard import Answer, Choice, Decision, Facts, Key, Pool, Question, converse, wizard

if TYPE_CHECKING:
    from eparch.cli.session import Session
    from eparch.core.calls import Call
    from eparch.core.pools import WorkPool
    from eparch.deploy.apply import ReadFlow

_GLOB = frozenset("*?[/")
_NEW = "new"


def can_ask(session: Session) -> bool:
    """Whether there is a person at a terminal who may be asked (row D4)."""
    return session.interactive and sys.stdin.isatty() and sys.stderr.isatty()


class Guide:
    """One use of the wizard."""

    def __init__(
        self,
        session: Session,
        request: DeployRequest,
        read: ReadFlow,
        answers: Path | None,
        save: Path | None,
    ) -> None:
        """``answers`` is a file that answers, ``save`` one that the answers are written to."""
        from eparch.cli.project_file import read_text
        from eparch.deploy.apply import PROJECT_FILE
        from eparch.deploy.source import parse

        self.session, self.request, self.read = session, request, read
        self.answers, self.save_answers = answers, save
        self.root = Path.cwd().resolve()
        self.file = request.file or Path(PROJECT_FILE)
        self.before = read_text(self.file)
        if self.before is None and request.file is not None:
            from eparch.deploy.source import load

            load(request.file)
        document = parse(self.before or "", str(self.file))
        self.project: Project | None = None
        if document.data is not None:
            self.project = examine(document, lenient=request.lenient)
            self.project.check([])
        self.given: list[tuple[Key, Answer]] = []
        self.is_acting = False
        """Whether the plan was agreed to, and things are done."""

    # What is wanted

    def is_needed(self) -> bool:
        """Whether the request does not say which deployment is meant, or means one that is not there."""
        request, there = self.request, self.project.deployments if self.project else []
        if self.answers is not None:
            return True
        if request.entrypoint:
            known = [plain_entrypoint(one.entrypoint or "") for one in there]
            return not request.names and plain_entrypoint(request.entrypoint) not in known
        if request.names:
            names = [one.name or "" for one in there]
            [name, *more] = request.names
            is_known = name in names or bool(did_you_mean(name, names))
            return not more and not is_known and not _GLOB & set(name)
        return len(there) != 1

    def choose(self) -> DeployRequest | None:
        """The request for the deployment of the file that is chosen; None if it is to be a new one."""
        there = self.project.deployments if self.project else []
        if not there or self.answers is not None or self.request.entrypoint or self.request.names:
            return None
        rows = [Choice(value=str(number), label=f"{one.name}  {one.entrypoint or one.flow_name}")
                for number, one in enumerate(there)]  # fmt: skip
        rows.append(Choice(value=_NEW, label="a new one ..."))
        question = Question(key=("deployment",), text="Which deployment?", choices=tuple(rows), default="0")
        chosen = self._ask(question)
        if chosen == _NEW:
            return None
        one = there[int(str(chosen))]
        if one.name is None:
            raise Usage(f"{one.label} of {self.file} has no name.", fix="Give it one in the file.")
        entrypoint = None if not one.entrypoint or "{{" in one.entrypoint + one.name else one.entrypoint
        return replace(self.request, names=(one.name,), entrypoint=entrypoint)

    def decide(self) -> Decision:
        """Ask everything; nothing is done."""
        from eparch.deploy.answers import Answers
        from eparch.deploy.source import load

        known = {"name": self.request.names[0]} if self.request.names else {}
        known |= {"pool": self.request.pool} if self.request.pool else {}
        facts = self._facts()
        if self.request.entrypoint:
            known["flow"] = facts.flows[0].entrypoint
        dialogue = wizard(facts, known, schedules=not self.request.schedules)
        answer: Callable[[Question], Answer] = self._ask
        if self.answers is not None:
            replay = Answers(load(self.answers))
            otherwise = self._ask if can_ask(self.session) else None

            def answer(question: Question) -> Answer:
                return replay.answer(question, otherwise)

        def remember(question: Question) -> Answer:
            found = answer(question)
            self.given.append((question.key, found))
            return found

        decision: Decision = converse(dialogue, remember)
        return decision

    def _ask(self, question: Question) -> Answer:
        from eparch.cli.prompts import Prompts

        return Prompts(colored=_is_colored(self.session)).ask(question)

    def _facts(self) -> Facts:
        from eparch.core.infrastructure_types import NAMES
        from eparch.deploy.origin import read_checkout
        from eparch.deploy.recipes import IMAGE_STEP
        from eparch.deploy.scan import find_flows
        from eparch.workers.infrastructure import default_template, types

        entrypoint, project = self.request.entrypoint, self.project
        flows = [self.read(entrypoint, self.root)] if entrypoint else find_flows(self.root)
        installed = types()
        kinds = [name for name in NAMES if name in installed] + sorted(installed.keys() - {*NAMES})
        pools = sorted(self.session.pages(calls.read_work_pools, {}), key=lambda pool: pool.name)
        repository, branch = read_checkout(self.root)
        build = (project.build or []) if project else []
        images = [step.id for step in build if step.function == IMAGE_STEP and step.id]
        return Facts(
            flows=tuple(flows),
            pools=tuple(
                Pool(name=one.name, type=one.type, takes_image=_takes_image(one.base_job_template))
                for one in pools
            ),
            types={kind: _takes_image(default_template(kind)) for kind in kinds},
            taken=frozenset(
                (one.name or "", one.entrypoint or "") for one in (project.deployments if project else [])
            ),
            file=str(self.file),
            folder=self.root.name or "project",
            image=f"{{{{ {images[0]}.image }}}}" if images else "",
            has_pull=project is not None and project.pull is not None,
            dockerfile=(self.root / "Dockerfile").is_file(),
            repository=repository,
            branch=branch,
            default_pool=self.session.settings.default_work_pool,
            timezone=_timezone(),
            now=datetime.now(UTC),
        )

    # What is done

    def carry_out(self, decision: Decision, *, yes: bool) -> DeployResult:
        """Show the plan, and after a yes make the pool, deploy, and write the files."""
        from eparch.cli.plan_view import agree
        from eparch.cli.project_file import read_text, write_project
        from eparch.deploy.answers import write_answers
        from eparch.deploy.apply import deploy

        raw, text = self._written(decision)
        project = self._project(text)
        project.check([project.deployments[-1]])
        request = DeployRequest(entrypoint=decision.entrypoint, names=(decision.name,), file=self.file,
                                lenient=self.request.lenient, plan_only=True)  # fmt: skip
        session, told = self.session, []

        def tell(line: str) -> None:
            if line not in told:
                session.note(line)
            told.append(line)

        pool = self._new_pool(decision)
        client = session.client if pool is None else _WithPool(session.client, pool)
        shown = deploy(request, client, session.settings, tell, read=self.read, project=project)
        if self.request.plan_only:
            return shown
        if pool is not None:
            session.note(f"+ work pool {pool.name}  create ({pool.type})")
        if decision.save:
            session.note(f"+ {self.file}  {'a deployment more' if self.before else 'write'}")
        agree(session, yes)(shown)
        answers_before = read_text(self.save_answers) if self.save_answers else None
        self.is_acting = True
        with self._made(pool):
            done = deploy(
                replace(request, plan_only=False), session.client, session.settings, tell, read=self.read,
                project=project,
            )  # fmt: skip
        if decision.save:
            write_project(self.file, self.before, text)
            session.note(f"{self.file} was written.")
        if self.save_answers:
            write_project(self.save_answers, answers_before, write_answers(self.given))
        session.note("The same without questions:")
        file = str(self.file) if decision.save or self.request.file else None
        for line in equivalent_commands(decision, raw, file if file != "prefect.yaml" else None):
            session.note(f"  {line}")
        return done

    def _written(self, decision: Decision) -> tuple[dict[str, Any], str]:
        """The deployment with what the flags say, and the text of the file that has it."""
        from eparch.deploy.overrides import lay_over
        from eparch.deploy.source import Position
        from eparch.deploy.writing import add_deployment, write_mapping

        new = ProjectDeployment(
            name=decision.name, raw=dict(decision.deployment), position=Position(file=str(self.file))
        )
        raw = lay_over(new, replace(self.request, entrypoint=None, pool=None)).raw
        head = "".join(write_mapping({"name": self.root.name or "project"})) + "\n" if decision.save else ""
        return raw, add_deployment(head if self.before is None else self.before, raw, str(self.file))

    def _project(self, text: str) -> Project:
        from eparch.deploy.source import parse

        return examine(parse(text, str(self.file)), lenient=self.request.lenient)

    def _new_pool(self, decision: Decision) -> WorkPool | None:
        """The pool that has to be made, as it will be."""
        if decision.pool_type is None:
            return None
        from eparch.core.pools import WorkPool
        from eparch.workers.infrastructure import default_template

        template = default_template(decision.pool_type)
        return WorkPool(id=new_id(), name=decision.pool, type=decision.pool_type, base_job_template=template)

    @contextmanager
    def _made(self, pool: WorkPool | None) -> Iterator[None]:
        """The pool is there within; it goes again if that fails and nothing is in it."""
        if pool is None:
            yield
            return
        from eparch.core.pools import WorkPoolCreate

        body = WorkPoolCreate(name=pool.name, type=pool.type, base_job_template=pool.base_job_template)
        client = self.session.client
        client.send(calls.create_work_pool(body=body))
        try:
            yield
        except BaseException:
            used = {"work_pools": {"name": {"any_": [pool.name]}}, "limit": 1, "offset": 0}
            try:
                if not client.send(calls.read_deployments(body=used)):
                    client.send(calls.delete_work_pool(name=pool.name))
            except EparchError as error:
                self.session.note(f"The new work pool {pool.name!r} could not be taken away: {error.message}")
            raise


class _WithPool:
    """A server as it will be with one more work pool."""

    def __init__(self, client: Any, pool: WorkPool) -> None:
        self.client, self.pool = client, pool

    def send(self, call: Call[Any]) -> Any:
        """The server's answer, in which the pool is there."""
        if call.endpoint is calls.read_pool_queues and f"/{self.pool.name}/" in call.path:
            return []
        answer = self.client.send(call)
        return [*answer, self.pool] if call.endpoint is calls.read_work_pools else answer


def guide(
    session: Session,
    request: DeployRequest,
    read: ReadFlow,
    *,
    answers: Path | None,
    save: Path | None,
    yes: bool,
) -> DeployRequest | DeployResult:
    """What was deployed by questions; the request, perhaps for the one that was chosen, if there were none.

    Raises:
        click.Abort, KeyboardInterrupt: somebody wanted no more; everything is as it was.
        EparchError: nothing was done.
    """
    is_clear = request.all or request.prune or bool(request.entrypoint and request.names)
    if is_clear and answers is not None:
        raise Usage("--answers says what to deploy, and so does the line.", fix="Leave one of them out.")
    if answers is None and not can_ask(session):
        if save is not None:
            raise Usage("--save-answers needs a person who answers.", fix="Run it on a terminal.")
        return request
    guided = None if is_clear else Guide(session, request, read, answers, save)
    if guided is None or not guided.is_needed():
        if save is not None:
            raise Usage(
                "--save-answers has nothing to save.", why="It is known what to deploy: nothing is asked."
            )
        return request
    try:
        chosen = guided.choose()
        return chosen if chosen is not None else guided.carry_out(guided.decide(), yes=yes)
    except (KeyboardInterrupt, click.Abort):
        session.note("\nStopped." if guided.is_acting else "\nStopped. Nothing was changed.")
        raise


def _takes_image(template: dict[str, Any]) -> bool:
    """Whether jobs of a pool have an image."""
    variables = template.get("variables")
    properties = variables.get("properties") if isinstance(variables, dict) else None
    return isinstance(properties, dict) and "image" in properties


def _is_colored(session: Session) -> bool:
    """Colours for stderr: as for data, but also where data goes elsewhere."""
    if session.settings.color != "auto":
        return session.settings.color == "always"
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _timezone() -> str:
    """The zone of this machine, as far as its name is known."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        try:
            name = os.readlink("/etc/localtime").partition("zoneinfo/")[2]
        except OSError:
            name = ""
    return name or "UTC"
