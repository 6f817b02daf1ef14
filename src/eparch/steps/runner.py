"""Running steps in order: placeholders filled, functions found, outputs handed on (features 1.5).

Owns the order, ``id``, ``requires`` and which function a step's name means. Does not own what a step does,
nor where blocks and variables come from: that is the caller's ``References``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from eparch.core.annotations import signature_of
from eparch.core.errors import EparchError, StepFailed, did_you_mean
from eparch.core.model import UNSET, Json
from eparch.core.step_names import canonical
from eparch.core.templates import RESOLVABLE, Kind, Placeholder, find, render, unresolved
from eparch.steps.command import OUTPUT, Output, run_command, tell

if TYPE_CHECKING:
    from eparch.core.blocks import BlockDocument

_HOME = "prefect.deployments.steps."
_AZURE = "prefect_azure.deployments.steps."

FUNCTIONS: dict[str, str] = {
    _HOME + "set_working_directory": "eparch.steps.builtin.set_working_directory",
    _HOME + "run_shell_script": "eparch.steps.builtin.run_shell_script",
    _HOME + "pip_install_requirements": "eparch.steps.builtin.pip_install_requirements",
    _HOME + "git_clone": "eparch.steps.git.git_clone",
    _HOME + "pull_with_block": "eparch.steps.storage.pull_with_block",
    _HOME + "pull_from_remote_storage": "eparch.steps.storage.pull_from_remote_storage",
    "prefect_docker.deployments.steps.build_docker_image": "eparch.steps.image.build_docker_image",
    "prefect_docker.deployments.steps.push_docker_image": "eparch.steps.image.push_docker_image",
    "prefect_aws.deployments.steps.push_to_s3": "eparch.steps.aws.push_to_s3",
    "prefect_aws.deployments.steps.pull_from_s3": "eparch.steps.aws.pull_from_s3",
    "prefect_gcp.deployments.steps.push_to_gcs": "eparch.steps.gcp.push_to_gcs",
    "prefect_gcp.deployments.steps.pull_from_gcs": "eparch.steps.gcp.pull_from_gcs",
    _AZURE + "push_to_azure_blob_storage": "eparch.steps.azure.push_to_azure_blob_storage",
    _AZURE + "pull_from_azure_blob_storage": "eparch.steps.azure.pull_from_azure_blob_storage",
}
"""Stored name of a shipped step -> the function that does it."""

RESERVED = ("id", "requires")
"""Keys of a step that are not arguments of its function."""


class References(Protocol):
    """Where the values of ``{{ prefect.blocks... }}`` and ``{{ prefect.variables... }}`` come from."""

    def block(self, name: str) -> Any:
        """What ``<type-slug>.<name>[.path]`` holds.

        Raises:
            EparchError: it cannot be found.
        """

    def variable(self, name: str) -> Any:
        """The value of a variable.

        Raises:
            EparchError: it cannot be found.
        """

    def read(self, type_: str, name: str) -> BlockDocument:
        """The block of that type and name, with its secrets.

        Raises:
            EparchError: it cannot be found.
        """

    def hide(self, text: str) -> str:
        """``text`` without the secrets of all that was read."""


class NoReferences:
    """For a caller that can fetch neither blocks nor variables: every reference is refused."""

    def block(self, name: str) -> Any:
        """Refuse the block."""
        raise _unconnected("block", name)

    def variable(self, name: str) -> Any:
        """Refuse the variable."""
        raise _unconnected("variable", name)

    def read(self, type_: str, name: str) -> BlockDocument:
        """Refuse the block."""
        raise _unconnected("block", f"{type_}/{name}")

    def hide(self, text: str) -> str:
        """``text``: nothing was read."""
        return text


def _unconnected(kind: str, name: str) -> StepFailed:
    return StepFailed(
        f"The {kind} '{name}' cannot be read here",
        why=f"nothing that keeps {kind}s is connected",
        fix="use an environment variable instead: {{ $NAME }}",
    )


REFERENCES: ContextVar[References] = ContextVar("REFERENCES", default=NoReferences())  # noqa: B039  has no state
"""What the step that runs now can read; the runner sets it."""


def run_steps(
    steps: Sequence[Mapping[str, Json]],
    *,
    upstream: Mapping[str, Json] | None = None,
    on_output: Output | None = None,
    references: References | None = None,
    environ: Mapping[str, str] | None = None,
    install: bool = True,
) -> dict[str, Any]:
    """Run ``steps`` one after the other; nothing runs after one that failed.

    A step is ``{name: arguments}``. Secrets of the blocks that it names are in no line and no error that it
    causes. Its outputs are known to those after it by their own names, where the
    last step wins, and by its ``id``. ``upstream`` holds outputs from before; ``environ`` is
    ``os.environ`` unless given, read anew for each step, as steps may change it. Without ``install`` what a
    step ``requires`` is never installed.

    Returns:
        All outputs, those of ``upstream`` among them.

    Raises:
        StepFailed: a step cannot be run, or failed; the message begins with its place and name.
    """
    outputs: dict[str, Any] = dict(upstream or {})
    known = references or NoReferences()
    resolved = _Resolver(outputs, known, environ, install)
    output = on_output or OUTPUT.get()
    told, read = OUTPUT.set(lambda line: output(known.hide(line))), REFERENCES.set(known)
    try:
        for number, step in enumerate(steps, 1):
            if not step:
                continue
            try:
                name, arguments = read_step(step)
            except StepFailed as error:
                raise StepFailed(f"Step {number}: {error.message}", why=error.why, fix=error.fix) from error
            _run_step(f"Step {number} ({name.rpartition('.')[2]})", name, arguments, resolved)
    finally:
        OUTPUT.reset(told)
        REFERENCES.reset(read)
    return outputs


def read_step(step: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
    """The name and the arguments of a step.

    Arguments may stand beside a name without a value, as several of Prefect's examples are indented.

    Raises:
        StepFailed: it is not one name with its arguments.
    """
    name = next(iter(step))
    rest = {key: value for key, value in step.items() if key != name}
    arguments = step[name]
    if arguments is None:
        return name, rest
    if not isinstance(arguments, Mapping):
        raise StepFailed(f"The arguments of '{name}' must be a mapping, not {type(arguments).__name__}")
    if rest:
        raise StepFailed(
            f"The step '{name}' has additional keys: {', '.join(rest)}",
            why="a step is one name with its arguments below it",
            fix=f"indent them below '{name}', or begin a new step with '- '",
        )
    return name, dict(arguments)


def _run_step(label: str, name: str, arguments: dict[str, Json], resolved: _Resolver) -> None:
    reserved = {key: arguments.pop(key, None) for key in RESERVED}
    try:
        function = find_function(name, _requirements(reserved["requires"]), install=resolved.install)
        given = resolved.fill(arguments)
        _check_arguments(function, name, given)
        result = _finish(function(**given))
    except Exception as error:
        failed = _failed(label, name, error, resolved.references.hide)
        # A traceback also shows what led to an error; a secret in it must not.
        raise failed from (error if _is_fit(error, resolved.references.hide) else None)
    if isinstance(result, Mapping):
        if reserved["id"]:
            resolved.outputs[str(reserved["id"])] = dict(result)
        resolved.outputs.update(result)


def _failed(label: str, name: str, error: Exception, hide: Callable[[str], str]) -> StepFailed:
    if isinstance(error, EparchError):
        message, why, fix = error.message, error.why, error.fix
    else:
        message, why, fix = f"{type(error).__name__}: {error}", f"'{name}' raised it", ""
    return StepFailed(f"{label}: {hide(message)}", why=hide(why), fix=hide(fix))


def _is_fit(error: Exception, hide: Callable[[str], str]) -> bool:
    """Whether the traceback of ``error``, with all that led to it, shows no secret."""
    from traceback import format_exception

    text = "".join(format_exception(error))
    return hide(text) == text


class _Resolver:
    """What placeholders stand for while steps run."""

    def __init__(
        self,
        outputs: dict[str, Any],
        references: References,
        environ: Mapping[str, str] | None,
        install: bool,
    ) -> None:
        self.outputs, self.references, self.environ = outputs, references, environ
        self.install = install

    def fill(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """The arguments with their placeholders replaced.

        Raises:
            EparchError: a placeholder stands for nothing (row D9).
        """
        for found in unresolved(arguments, self.lookup):
            raise self.missing(found)
        filled: dict[str, Any] = render(arguments, self.lookup, kinds=RESOLVABLE)
        return filled

    def lookup(self, found: Placeholder) -> Any:
        if found.kind is Kind.OUTPUT:
            return find(self.outputs, found.name)
        if found.kind is Kind.ENV:
            environ = os.environ if self.environ is None else self.environ
            return environ.get(found.key, UNSET)
        if found.kind is Kind.BLOCK:
            return self.references.block(found.key)
        if found.kind is Kind.VARIABLE:
            return self.references.variable(found.key)
        return UNSET

    def missing(self, found: Placeholder) -> StepFailed:
        if found.kind is Kind.ENV:
            return StepFailed(
                f"'{found.text}' stands for nothing",
                why=f"the environment variable '{found.key}' is not set where this step runs",
                fix=f"set it there, for a job through its 'env' variable: env: {{{found.key}: ...}}",
            )
        known = ", ".join(sorted(self.outputs)) or "none"
        return StepFailed(
            f"'{found.text}' stands for nothing",
            why=f"no step before this one has the output '{found.name}'; known: {known}",
            fix=did_you_mean(found.name, _paths(self.outputs))
            or "give the step that makes it an 'id' and put it first",
        )


def find_function(name: str, requirements: Sequence[str] = (), *, install: bool = True) -> Callable[..., Any]:
    """The function that the step ``name`` means: a shipped one, or any importable one.

    ``requirements`` are installed if what they name, or the function, cannot be imported, unless ``install``
    forbids it. Those that only bring a shipped step's own package are not needed here.

    Raises:
        StepFailed: there is no such function, or it could not be installed.
    """
    shipped = FUNCTIONS.get(canonical(name))
    if shipped is not None:
        return _imported(shipped)
    if "." not in name:
        raise StepFailed(
            f"There is no step '{name}'",
            why="a step is named by its module and function",
            fix=_nearest(name) or "write it as 'package.module.function'",
        )
    try:
        for requirement in requirements:
            importlib.import_module(_module_of(requirement))
        return _imported(name)
    except ImportError as error:
        if not requirements:
            raise _unknown(name, error) from error
        missing = error
    wanted = " ".join(requirements)
    if not install:
        raise StepFailed(
            f"The step '{name}' requires {wanted}, which is not installed",
            why=f"{missing}; installing is forbidden by 'steps_install'",
            fix=f"install it where the step runs: pip install {wanted}",
        )
    tell(f"Installing {wanted} into {sys.prefix}, as the step '{name}' requires it")
    run_command([*_installer(), *requirements])
    importlib.invalidate_caches()
    try:
        return _imported(name)
    except ImportError as error:
        raise _unknown(name, error) from error


def _installer() -> list[str]:
    """What installs into the Python that runs this: its pip, or uv where it has none."""
    if importlib.util.find_spec("pip") is None and (uv := shutil.which("uv")):
        return [uv, "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(module), attribute, None)
    if not callable(function):
        raise ImportError(f"the module '{module}' has no function '{attribute}'")
    return function  # type: ignore[no-any-return]


def _unknown(name: str, error: ImportError) -> StepFailed:
    hint = _nearest(name)
    return StepFailed(
        f"The step '{name}' cannot be imported",
        why=str(error),
        fix=hint or "install what it is in, for example with 'requires:' in the step",
    )


def _nearest(name: str) -> str:
    """A hint at the shipped step whose last part is nearest."""
    from eparch.core.step_names import SHIPPED

    last = {shipped.rpartition(".")[2]: shipped for shipped in SHIPPED}
    tail = name.rpartition(".")[2]
    hint = did_you_mean(tail, last)
    return next((f"Did you mean '{last[known]}'?" for known in last if f"'{known}'" in hint), "")


def _requirements(requires: Json) -> list[str]:
    if not requires:
        return []
    found = [requires] if isinstance(requires, str) else [str(item) for item in requires]
    for requirement in found:
        if requirement.startswith("-"):
            raise StepFailed(f"'{requirement}' is not a requirement", why="pip would read it as an option")
    return found


def _module_of(requirement: str) -> str:
    """The module that a requirement brings, as people name both alike: ``my-steps[x]>=1`` is my_steps."""
    return re.split(r"[\s<>=!~;\[@(]", requirement.strip())[0].replace("-", "_")


def _check_arguments(function: Callable[..., Any], name: str, given: Mapping[str, Any]) -> None:
    try:
        signature = signature_of(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**given)
    except TypeError as error:
        known = [key for key in signature.parameters if key not in given]
        wrong = next((key for key in given if key not in signature.parameters), "")
        raise StepFailed(
            f"'{name}' does not take these arguments",
            why=str(error),
            fix=(did_you_mean(wrong, known) if wrong else "")
            or f"it takes: {', '.join(signature.parameters)}",
        ) from error


def _finish(result: Any) -> Any:
    if not inspect.isawaitable(result):
        return result
    import asyncio

    async def wait() -> Any:
        return await result

    return asyncio.run(wait())


def _paths(outputs: Mapping[str, Any]) -> list[str]:
    below = [
        f"{key}.{name}" for key, value in outputs.items() if isinstance(value, Mapping) for name in value
    ]
    return [*outputs, *below]
