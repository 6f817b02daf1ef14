"""One deployment of a project's file as it would be stored, without a server and without its build steps.

What only these know stands as it is written: outputs of steps, blocks and variables.
"""

from __future__ import annotations

import os
from pathlib import Path

from eparch.core.errors import SourceError
from eparch.core.templates import Kind, Placeholder
from eparch.deploy.overrides import lay_over
from eparch.deploy.project import ProjectDeployment, examine, render_deployment
from eparch.deploy.request import DeployRequest
from eparch.deploy.scan import read_flow
from eparch.deploy.selection import select
from eparch.deploy.source import load


def read_entry(
    file: Path, name: str, *, pool: str | None = None, default_pool: str | None = None
) -> tuple[str, ProjectDeployment]:
    """The name of the flow, empty if its source cannot be read, and the deployment called ``name``.

    Raises:
        SourceErrors: mistakes in the file or in the deployment.
        NotFound: there is no such deployment; the nearest name is suggested.
    """
    request = DeployRequest(names=(name,), file=file, pool=pool)
    project = examine(load(file))
    root = Path.cwd()

    def flow_name(deployment: ProjectDeployment) -> str:
        try:
            return read_flow(deployment.entrypoint, root).name if deployment.entrypoint else ""
        except SourceError:
            return ""

    chosen = select(project, request, flow_name, _look_up)[0].deployment
    project.check([chosen])
    rendered = render_deployment(project, lay_over(chosen, request, default_pool), _look_up)
    return flow_name(rendered), rendered


def _look_up(found: Placeholder) -> str:
    return os.environ.get(found.key, found.text) if found.kind is Kind.ENV else found.text
