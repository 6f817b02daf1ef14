"""The steps that a ``prefect.yaml`` lists under ``build``, ``push`` and ``pull``.

Owns their shape in the file: one dotted name, its arguments, ``id`` and ``requires``. Does not run them.
"""

from __future__ import annotations

import re

from eparch.core.errors import did_you_mean
from eparch.core.model import Json, Value
from eparch.core.step_names import ARGUMENTS, SHIPPED, canonical, is_deprecated
from eparch.core.templates import Path
from eparch.deploy.findings import Findings, kind_of
from eparch.deploy.source import Position

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_DEEPER = ("prefect.deployments.steps.", "eparch.steps.")


class Step(Value, frozen=True, kw_only=True):
    """One step: ``function`` is the name that is stored, ``path`` where its arguments stand in the file."""

    function: str
    arguments: dict[str, Json] = {}
    id: str | None = None
    requires: list[str] = []
    path: Path = ()
    position: Position

    def stored(self) -> dict[str, Json]:
        """The step as the wire has it: one key, the function, and everything else below it."""
        reserved: dict[str, Json] = {}
        if self.id is not None:
            reserved["id"] = self.id
        if self.requires:
            reserved["requires"] = self.requires[0] if len(self.requires) == 1 else self.requires
        return {self.function: {**reserved, **self.arguments}}


def read_steps(value: Json, path: Path, findings: Findings) -> list[Step] | None:
    """The steps at ``path``: None if absent or null, ``[]`` if the list is empty.

    A single mapping is a list of one step. Mistakes go to ``findings``.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        if not value:
            return None
        steps = [_read_step(value, path, findings)]
    elif isinstance(value, list):
        steps = [_read_step(item, (*path, index), findings) for index, item in enumerate(value)]
    else:
        message = f"'{path[-1]}' must be a list of steps, not {kind_of(value)}"
        findings.error(path, message, fix="write '- dotted.name.of.step:' and its arguments below")
        return []
    found = [step for step in steps if step is not None]
    _check_ids(found, findings)
    return found


def _check_ids(steps: list[Step], findings: Findings) -> None:
    seen: dict[str, Step] = {}
    for step in steps:
        if step.id is None:
            continue
        if step.id in seen:
            first = seen[step.id].position.line
            message = f"Two steps have the id '{step.id}', the first is on line {first}"
            findings.error((*step.path, "id"), message, why="outputs are found by the id", fix="rename one")
        seen.setdefault(step.id, step)


def _read_step(value: Json, path: Path, findings: Findings) -> Step | None:
    if value is None:
        findings.note(path, "an empty step is skipped")
        return None
    if not isinstance(value, dict) or not value:
        fix = f"write '- {value}:' and its arguments below" if isinstance(value, str) else ""
        findings.error(path, f"A step must be a mapping, not {kind_of(value)}", fix=fix)
        return None
    written, *others = value
    arguments = value[written]
    where = (*path, written)
    if others:
        if arguments is not None or not _DOTTED.fullmatch(written):
            _refuse_two_keys(written, others, path, findings)
            return None
        # Several pages of Prefect's documentation print arguments at the indent of the step's name.
        arguments = {key: value[key] for key in others}
        for key in others:
            findings.document.moved((*where, key), (*path, key))
        lines = "; ".join([f"- {written}:", *(f"    {key}: ..." for key in others)])
        findings.note(where, f"the arguments of '{written}' should be indented below it: {lines}")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        findings.error(where, f"The arguments of '{written}' must be a mapping, not {kind_of(arguments)}")
        return None
    return _step(written, dict(arguments), where, findings)


def _step(written: str, arguments: dict[str, Json], where: Path, findings: Findings) -> Step:
    function = canonical(written)
    if is_deprecated(written):
        findings.note(where, f"'{written}' is now '{function}'")
    _check_name(written, function, where, findings)
    identity = arguments.pop("id", None)
    if identity is not None and not isinstance(identity, str):
        findings.error((*where, "id"), f"'id' must be a text, not {kind_of(identity)}")
        identity = None
    requires = arguments.pop("requires", None)
    wanted = [requires] if isinstance(requires, str) else requires or []
    if not (isinstance(wanted, list) and all(isinstance(item, str) for item in wanted)):
        findings.error((*where, "requires"), "'requires' must be a requirement or a list of requirements")
        wanted = []
    if function.endswith(".build_docker_image") and "push" in arguments:
        if arguments.pop("push"):
            fix = "add a 'push_docker_image' step under 'push:'"
            findings.error((*where, "push"), "'build_docker_image' does not push", fix=fix, key=True)
        else:
            findings.note((*where, "push"), "'push: false' is an argument of the old step; it is dropped")
    taken = ARGUMENTS.get(function)
    if taken is not None:
        short = function.rpartition(".")[2]
        findings.check_keys(arguments, where, taken, {}, f"The step '{short}'")
    return Step(
        function=function,
        arguments=arguments,
        id=identity,
        requires=wanted,
        path=where,
        position=findings.document.key(where),
    )


def _check_name(written: str, function: str, where: Path, findings: Findings) -> None:
    if not _DOTTED.fullmatch(written):
        ends = {name.rpartition(".")[2]: name for name in SHIPPED}
        fix = f"write '{ends[written]}'" if written in ends else did_you_mean(written, SHIPPED)
        findings.error(
            where,
            f"'{written}' is not the name of a step",
            why="a step is the dotted path of a function: package.module.function",
            fix=fix,
            key=True,
        )
    elif written.startswith(_DEEPER) and function not in SHIPPED:
        short = written.rpartition(".")[2]
        ends = {name.rpartition(".")[2]: name for name in SHIPPED}
        hint = did_you_mean(short, ends) or f"there are: {', '.join(ends)}"
        findings.error(where, f"There is no step '{written}'", fix=hint, key=True)


def _refuse_two_keys(written: str, others: list[str], path: Path, findings: Findings) -> None:
    fix = f"indent '{others[0]}' below '{written}:', or start it with '- ' if it is a step of its own"
    findings.error(
        (*path, others[0]),
        f"A step has one key, but '{others[0]}' stands beside '{written}'",
        fix=fix,
        key=True,
    )
