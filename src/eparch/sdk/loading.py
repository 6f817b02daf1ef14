"""Finds the flow that an entrypoint names: ``path/to/file.py:function`` or ``package.module.function``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from eparch.core.errors import SourceError, did_you_mean
from eparch.sdk.flow import Flow
from eparch.sdk.task import Task

if TYPE_CHECKING:
    from eparch.sdk.blocks.block import Block


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """The flow at ``entrypoint``; its module is executed. A path is relative to the working directory.

    Raises:
        SourceError: there is no such file, module or flow.
        Exception: whatever the module raises.
    """
    place, name = _parts(entrypoint)
    module = load_file(place) if place.endswith(".py") else _import(place)
    flows = {key: value for key, value in vars(module).items() if isinstance(value, Flow)}
    if not name:
        if len(flows) == 1:
            return next(iter(flows.values()))
        raise SourceError(
            f"There are {len(flows)} flows.",
            file=place,
            fix=f"Name one: {place}:{next(iter(flows), 'function')}",
        )
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            hint = did_you_mean(name, flows) or f"It has: {', '.join(flows) or 'no flow'}."
            raise SourceError(f"There is no flow {name!r}.", file=place, fix=hint)
    if isinstance(found, Flow):
        return found
    raise SourceError(f"{name!r} is not a flow.", file=place, fix=_why_not(found))


def load_tasks(place: str, name: str = "") -> list[Task[..., Any]]:
    """The task called ``name`` of a file or module, all that it defines when no name is given.

    Raises:
        SourceError: there is no such file, module or task.
        Exception: whatever the module raises.
    """
    module = load_file(place) if place.endswith(".py") else _import(place)
    tasks = {key: value for key, value in vars(module).items() if isinstance(value, Task)}
    if name:
        if name not in tasks:
            hint = did_you_mean(name, tasks) or f"It has: {', '.join(tasks) or 'no task'}."
            raise SourceError(f"There is no task {name!r}.", file=place, fix=hint)
        return [tasks[name]]
    if not tasks:
        raise SourceError("There is no task.", file=place, fix="Decorate functions with @task.")
    return list(dict.fromkeys(tasks.values()))


def load_blocks(place: str) -> list[type[Block]]:
    """The classes of blocks that a file or module defines or imports by name.

    Raises:
        SourceError: there is no such file or module, or no such class in it.
        Exception: whatever the module raises.
    """
    from eparch.sdk.blocks.block import Block

    module = load_file(place) if place.endswith(".py") else _import(place)
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Block)]
    if kinds := [one for one in dict.fromkeys(found) if one.block_fields()]:
        return kinds
    raise SourceError("There is no class of blocks.", file=place, fix="Derive one from eparch.blocks.Block.")


def _why_not(found: Any) -> str:
    if type(found).__module__.partition(".")[0] == "prefect":
        return "It is a flow of Prefect's, which is installed here: run it in an environment without Prefect."
    return "Decorate it with @flow."


def _parts(entrypoint: str) -> tuple[str, str]:
    """Where, and the name there; the name is empty for a file alone."""
    if ":" in entrypoint:
        place, _, name = entrypoint.rpartition(":")
        return place, name
    if entrypoint.endswith(".py"):
        return entrypoint, ""
    place, _, name = entrypoint.rpartition(".")
    if not place:
        raise SourceError(
            f"{entrypoint!r} is not an entrypoint.", fix="Write path/to/file.py:function or module.function."
        )
    return place, name


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise SourceError(
            f"There is no module {name!r}.", why=f"The working directory is {os.getcwd()}."
        ) from error


def load_file(path: str) -> ModuleType:
    """Execute the file as a module named after it; its folder and the working directory can be imported from.

    Raises:
        SourceError: there is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise SourceError("There is no such file.", file=path, why=f"The working directory is {os.getcwd()}.")
    for folder in (os.getcwd(), str(file.resolve().parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    name = file.stem if file.stem not in sys.modules else f"eparch_flow_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
