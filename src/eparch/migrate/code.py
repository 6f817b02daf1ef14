"""Python that builds deployments with ``Deployment.build_from_flow`` becomes ``flow.deploy`` (row M8).

Owns what a caller says and is told. What cannot be proven to register the same deployment is left as it is,
with a note. Needs libcst (the extra ``migrate``), which is imported only for a file that has such a call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from eparch.core.errors import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Where what the old code names is now."""

    infrastructure: Mapping[str, str] = field(default_factory=dict)
    """``KubernetesJob/name`` of a block -> the work pool that it became."""
    storage: Mapping[str, str] = field(default_factory=dict)
    """``S3/name`` of a block -> the URL that ``from_source`` takes."""
    pools: Mapping[str, str] = field(default_factory=dict)
    """Old work pool -> new; a pool that is not here keeps its name."""
    default_pool: str | None = None
    """For deployments without infrastructure and pool, which were processes."""
    files: Collection[str] = ()
    """Python files of the repository, with ``/``: where a flow is that another file imports."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text after the change, and what a person has to know or to do, each with ``file:line``."""

    text: str
    notes: tuple[str, ...] = ()


def rewrite_code(text: str, path: str = "flow.py", targets: Targets | None = None) -> Rewritten:
    """``text`` of the file ``path`` (from the root of its repository) with ``flow.deploy``.

    Formatting and comments stay. A text without deployments of Prefect 2 comes back as it is.

    Raises:
        Usage: libcst is not installed.
    """
    if "Deployment" not in text or "prefect" not in text:
        return Rewritten(text)
    if find_spec("libcst") is None:
        raise Usage(
            "Python code cannot be rewritten",
            why="libcst is not installed",
            fix="pip install 'eparch[migrate]'",
        )
    from eparch.migrate.code_changes import change

    return change(text, path, targets or Targets())
