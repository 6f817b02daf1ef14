"""Which placeholders of a file can stand for something, told before anything runs (row D9).

Owns what steps give to those after them: shipped steps give what ``core.step_names`` says, own functions may
give anything. Whether a block, a variable or an environment variable is there is asked when it is rendered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eparch.core.errors import SourceError, TemplateInvalid, did_you_mean
from eparch.core.model import UNSET, Json
from eparch.core.step_names import OUTPUTS
from eparch.core.templates import Kind, Lookup, Path, Placeholder, find, placeholders, refuse_filter
from eparch.deploy.source import Document
from eparch.deploy.steps import Step

_OF_A_RUN = ("flow_run", "flow", "task_run", "deployment")


class Outputs:
    """What the steps that ran before a place give, as far as it is known without running them."""

    def __init__(self) -> None:
        self.known: dict[str, Json] = {}
        self.is_open = False
        """Whether a function of the project ran, whose outputs nobody knows."""
        self._open_ids: set[str] = set()

    def add(self, step: Step) -> None:
        """``step`` ran."""
        given = OUTPUTS.get(step.function)
        if given is None:
            self.is_open = True
            if step.id is not None:
                self._open_ids.add(step.id)
                self.known.pop(step.id, None)
            return
        outputs: dict[str, Json] = dict.fromkeys(given, "")
        self.known |= outputs
        if step.id is not None:
            self.known[step.id] = outputs

    def have(self, name: str) -> bool:
        """Whether the placeholder called ``name`` may stand for something."""
        if find(self.known, name) is not UNSET:
            return True
        owner = next((key for key in self._ids() if name.startswith((f"{key}.", f"{key}["))), None)
        return self.is_open if owner is None else owner in self._open_ids

    def names(self) -> list[str]:
        """Every name that is known, for a suggestion."""
        below = [
            f"{key}.{name}" for key, value in self.known.items() if isinstance(value, dict) for name in value
        ]
        return [*self.known, *below, *self._open_ids]

    def copy(self) -> Outputs:
        """The same; what is added to it is not added to this one."""
        twin = Outputs()
        twin.known, twin.is_open, twin._open_ids = dict(self.known), self.is_open, set(self._open_ids)
        return twin

    def _ids(self) -> list[str]:
        owners = [*self._open_ids, *(key for key, value in self.known.items() if isinstance(value, dict))]
        return sorted(owners, key=len, reverse=True)


class Judge:
    """The placeholders of a deployment, judged by the steps that it has.

    Steps that are shared by many deployments are judged once.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._judged: dict[tuple[int, int, int], tuple[Outputs, list[Step], list[SourceError]]] = {}

    def judge(
        self, steps: Mapping[str, list[Step] | None], parts: Iterable[tuple[Path, Json]]
    ) -> list[SourceError]:
        """The mistakes in the ``steps`` of each section and in ``parts``: values, each with its place."""
        build, push, pull = (steps[section] for section in ("build", "push", "pull"))
        key = (id(build), id(push), id(pull))
        if key not in self._judged:
            self._judged[key] = self._steps(build or [], push or [], pull or [])
        outputs, later, errors = self._judged[key]
        found = [error for path, value in parts for error in self._within(value, path, outputs, later)]
        return [*errors, *found]

    def _steps(
        self, build: list[Step], push: list[Step], pull: list[Step]
    ) -> tuple[Outputs, list[Step], list[SourceError]]:
        errors: list[SourceError] = []
        outputs, local = Outputs(), [*build, *push]
        for number, step in enumerate(local):
            errors += self._within(step.arguments, step.path, outputs, [*local[number:], *pull])
            outputs.add(step)
        in_job = outputs.copy()
        for number, step in enumerate(pull):
            errors += self._within(step.arguments, step.path, in_job, pull[number:])
            in_job.add(step)
        return outputs, pull, errors

    def _within(self, value: Json, path: Path, outputs: Outputs, later: list[Step]) -> list[SourceError]:
        errors: list[SourceError] = []
        for found in placeholders(value):
            error = _judge(found, outputs, later)
            if error is not None:
                errors.append(placed(error, found, path, self.document))
        return errors


def with_later(lookup: Lookup, later: Outputs) -> Lookup:
    """``lookup``, but what the steps in ``later`` will give stands for itself."""

    def look_up(found: Placeholder) -> Json:
        value = lookup(found)
        return (
            found.text if value is UNSET and found.kind is Kind.OUTPUT and later.have(found.name) else value
        )

    return look_up


def placed(error: TemplateInvalid, found: Placeholder, path: Path, document: Document) -> TemplateInvalid:
    """``error`` with the place of the placeholder ``found`` in the value at ``path``."""
    place = document.find((*path, *found.path), found.text, found.start)
    error.file, error.line, error.column = place.file, place.line, place.column
    return error


def absent(
    found: Placeholder, known: Iterable[str], *, why: str = "no step before it gives this"
) -> TemplateInvalid:
    """The error for an output that no step gives; ``known`` are names to suggest."""
    message = f"Nothing stands for '{found.text}'"
    if found.name.partition(".")[0] in _OF_A_RUN and "." in found.name:
        fix = f"what the worker knows of a run is '{{{{ ctx.{found.name} }}}}', in job variables"
        return TemplateInvalid(message, why=why, fix=fix)
    environment, braces = f"'{{{{ ${found.name} }}}}'", f"'{{{{{found.text}}}}}'"
    fix = did_you_mean(found.name, known) or f"for the environment write {environment}, for text {braces}"
    return TemplateInvalid(message, why=why, fix=fix)


def _judge(found: Placeholder, outputs: Outputs, later: list[Step]) -> TemplateInvalid | None:
    if found.kind is Kind.FILTER:
        return refuse_filter(found)
    if found.kind in (Kind.BLOCK, Kind.VARIABLE):
        return _judge_reference(found)
    if found.kind is not Kind.OUTPUT:
        return None
    if found.name.startswith("prefect.") or found.name == "prefect":
        return _no_space(found)
    if outputs.have(found.name):
        return None
    after = next((step for step in later if _gives(step, found.name)), None)
    if after is None:
        return absent(found, outputs.names())
    where = f"the step on line {after.position.line}, which runs later"
    if "pull" in after.path:
        where += ", in the job"
    return TemplateInvalid(
        f"Nothing stands for '{found.text}' yet", why=f"it comes from {where}", fix="name an earlier step"
    )


def _gives(step: Step, name: str) -> bool:
    """Whether ``step`` has the id in ``name``, or gives the output of that name."""
    if step.id is not None and (name == step.id or name.startswith((f"{step.id}.", f"{step.id}["))):
        return True
    return name in OUTPUTS.get(step.function, ())


def _judge_reference(found: Placeholder) -> TemplateInvalid | None:
    if found.kind is Kind.VARIABLE:
        if found.key:
            return None
        return TemplateInvalid(
            f"'{found.text}' does not name a variable", fix="write '{{ prefect.variables.<name> }}'"
        )
    if len([part for part in found.parts if part]) >= 2:
        return None
    return TemplateInvalid(
        f"'{found.text}' does not name a block",
        why="a block is named by its type and its name",
        fix="write '{{ prefect.blocks.<type>.<name> }}'",
    )


def _no_space(found: Placeholder) -> TemplateInvalid:
    space = found.name.split(".")[1] if "." in found.name else ""
    near = did_you_mean(space, ("blocks", "variables"))
    fix = near or "there are 'prefect.blocks.<type>.<name>' and 'prefect.variables.<name>'"
    return TemplateInvalid(f"There is nothing called '{found.name}'", fix=fix)
