"""Which deployments a request means: by name, glob, entrypoint, or because there is only one (row D6).

Owns the choice and a deployment that is made of flags alone. Does not read flows: real flow names come from
the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from eparch.core.errors import NotFound, Usage, did_you_mean
from eparch.core.templates import Lookup, render
from eparch.deploy.project import Project, ProjectDeployment
from eparch.deploy.request import DeployRequest
from eparch.deploy.source import Document, Position

FlowName = Callable[[ProjectDeployment], str]
"""The real name of a deployment's flow; empty if its source cannot be read."""

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A deployment that was asked for, and the project whose steps and places it has."""

    project: Project
    deployment: ProjectDeployment


def empty_project() -> Project:
    """The project of a folder without a file."""
    return Project(document=Document("", ""))


def select(project: Project, request: DeployRequest, flow_name: FlowName, lookup: Lookup) -> list[Chosen]:
    """The deployments that ``request`` means, in the order of the file.

    Raises:
        Usage: it does not say which.
        NotFound: there is no such deployment; the nearest name is suggested.
    """
    if request.entrypoint:
        return [_of_entrypoint(project, request, lookup)]
    if not project.deployments:
        raise Usage(
            "There is nothing to deploy.",
            why=f"{project.document.file or 'The project'} has no deployments.",
            fix="Name a flow: eparch deploy path/to/file.py:function --name NAME",
        )
    if request.all:
        found = project.deployments
    elif request.names:
        found = _of_names(project, request.names, flow_name, lookup)
    elif len(project.deployments) == 1:
        found = project.deployments
    else:
        known = ", ".join(named(one, lookup) for one in project.deployments)
        raise Usage(
            f"{project.document.file} has {len(project.deployments)} deployments.",
            why=f"They are: {known}",
            fix="Choose with --name NAME (repeatable, a glob or flow/name), or --all.",
        )
    return [Chosen(project, one) for one in found]


def named(deployment: ProjectDeployment, lookup: Lookup) -> str:
    """The deployment's name with what the environment says filled in."""
    name = render(deployment.name, lookup, unset="keep") if deployment.name else None
    return str(name) if name else deployment.label


def refuse_two_ways(request: DeployRequest) -> None:
    """Refuse a request that says in two ways what is meant.

    Raises:
        Usage: it does.
    """
    if request.all and request.names:
        raise Usage("--all and --name cannot be used together.", fix="Give one of them.")
    if request.entrypoint and request.all:
        raise Usage(
            "An entrypoint and --all cannot be used together.", fix="Leave one of them out; --name names it."
        )
    if request.entrypoint and len(request.names) > 1:
        raise Usage("One entrypoint makes one deployment.", fix="Give one --name.")


def _of_names(
    project: Project, patterns: tuple[str, ...], flow_name: FlowName, lookup: Lookup
) -> list[ProjectDeployment]:
    names = [named(one, lookup) for one in project.deployments]
    found: set[int] = set()
    for pattern in patterns:
        flow, slash, name = pattern.rpartition("/")
        matches = {
            index
            for index, one in enumerate(project.deployments)
            if fnmatchcase(names[index], name) and (not slash or fnmatchcase(flow_name(one), flow))
        }
        if not matches:
            raise _absent(project, pattern, names, flow_name)
        found |= matches
    return [one for index, one in enumerate(project.deployments) if index in found]


def _absent(project: Project, pattern: str, names: list[str], flow_name: FlowName) -> NotFound:
    known = names
    if "/" in pattern:
        known = [f"{flow_name(one)}/{name}" for one, name in zip(project.deployments, names, strict=True)]
    return NotFound(
        f"There is no deployment '{pattern}' in {project.document.file}.",
        why=f"It has: {', '.join(known)}",
        fix=did_you_mean(pattern, known) or "Choose one of them, or --all.",
    )


def _of_entrypoint(project: Project, request: DeployRequest, lookup: Lookup) -> Chosen:
    """The file's deployment of this entrypoint (and name), else a new one that has only the flags."""
    entrypoint = plain_entrypoint(request.entrypoint or "")
    name = request.names[0] if request.names else None
    same = [one for one in project.deployments if plain_entrypoint(one.entrypoint or "") == entrypoint]
    if name is not None:
        same = [
            one
            for one in project.deployments
            if named(one, lookup) == name and plain_entrypoint(one.entrypoint or "") in ("", entrypoint)
        ]
    if len(same) > 1:
        raise Usage(
            f"{project.document.file} has {len(same)} deployments of '{request.entrypoint}'.",
            why=f"They are: {', '.join(named(one, lookup) for one in same)}",
            fix="Choose with --name NAME.",
        )
    if same:
        return Chosen(project, same[0])
    if name is None or _GLOB & set(name) or "/" in name:
        why = f"'{name}' is not a name." if name else "No deployment of the file has this entrypoint."
        raise Usage(
            "The deployment needs a name.",
            why=why,
            fix=f"eparch deploy {request.entrypoint} --name NAME",
        )
    new = ProjectDeployment(name=name, raw={"name": name}, position=Position(file=""))
    return Chosen(msgspec.structs.replace(project, document=Document("", "")), new)


def plain_entrypoint(entrypoint: str) -> str:
    """``entrypoint`` in the one spelling by which two are compared."""
    return entrypoint.strip().replace("\\", "/").removeprefix("./")
