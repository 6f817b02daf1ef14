"""``eparch deployment render``: the exact job of a deployment's run, each value with where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Command
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import EparchError, InfrastructureError, Invalid, NotFound, Usage

if TYPE_CHECKING:
    from eparch.core.deployments import Deployment, Flow
    from eparch.core.job_origins import Origin
    from eparch.core.pools import WorkPool
    from eparch.core.runs import FlowRun

NOBODY = UUID(int=0)
"""The id of what is only thought of."""

FilePath = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is rendered, from a server or from a file."""

    deployment: Deployment
    flow: Flow
    pool: WorkPool


@click.command(
    "render", cls=Command, example="eparch deployment render report/nightly --job-variable image=repo:2"
)
@click.argument("name", shell_complete=names.deployments)
@click.option(
    "-jv", "--job-variable", "--jv", "variables", metavar="KEY=VALUE|JSON", multiple=True,
    help="A job variable of the run; repeatable.",
)  # fmt: skip
@click.option("-p", "--param", "pairs", metavar="KEY=VALUE", multiple=True, help="A parameter; repeatable.")
@click.option("--params", "--run-params", metavar="JSON", help="Parameters of the run: a JSON object, @FILE.")
@click.option("--flow-run-name", default="example-run", show_default=True, help="Name of the run.")
@click.option("--prefect-file", "file", type=FilePath, help="Take the deployment NAME from this file.")
@click.option("--base-job-template", "template_file", type=FilePath, help="JSON file to use as the template.")
@click.option("-t", "--type", "type_", metavar="TYPE", help="Use the template that this type begins with.")
@click.pass_obj
def render(
    session: Session,
    name: str,
    variables: tuple[str, ...],
    pairs: tuple[str, ...],
    params: str | None,
    flow_run_name: str,
    file: Path | None,
    template_file: Path | None,
    type_: str | None,
) -> None:
    """Show the job of a run of a deployment without starting it (row P7).

    Blocks, variables and secrets are shown as they are referred to. With --prefect-file and a template, or
    --type, no server is asked.
    """
    from eparch.cli.values import read_job_variables, read_object, read_pairs
    from eparch.core.runs import FlowRun

    subject = _from_file(session, file, name, template_file, type_) if file else _from_server(session, name)
    pool = _with_template(subject.pool, template_file, type_)
    run = FlowRun(
        id=NOBODY,
        name=flow_run_name,
        flow_id=subject.flow.id,
        deployment_id=subject.deployment.id,
        parameters={
            **subject.deployment.parameters,
            **(read_object(params, "--params") if params else {}),
            **read_pairs(pairs, "--param"),
        },
        job_variables=read_job_variables(variables),
    )
    _show(session, _Subject(subject.deployment, subject.flow, pool), run)


def _from_server(session: Session, name: str) -> _Subject:
    full, found = lookup.find_deployment(session, name)
    if found.work_pool_name is None:
        raise Usage(
            f"The deployment {full!r} has no work pool.",
            why="A job is what a worker starts, and no worker reads it.",
            fix="Deploy it to a work pool.",
        )
    flow = session.send(calls.read_flow(id=found.flow_id))
    return _Subject(found, flow, session.send(calls.read_work_pool(name=found.work_pool_name)))


def _from_file(
    session: Session, file: Path, name: str, template_file: Path | None, type_: str | None
) -> _Subject:
    from eparch.core.deployments import Deployment, Flow
    from eparch.core.pools import WorkPool
    from eparch.deploy.entry import read_entry

    default = session.settings.default_work_pool
    flow_name, entry = read_entry(file, name, default_pool=default)
    flow = Flow(id=NOBODY, name=flow_name or entry.flow_name or "flow")
    choice = entry.work_pool
    deployment = Deployment(
        id=NOBODY,
        name=entry.name or name,
        flow_id=NOBODY,
        parameters=entry.parameters,
        tags=entry.tags,
        work_pool_name=choice.name,
        job_variables=choice.job_variables,
    )
    if template_file is not None or type_ is not None:
        pool = WorkPool(id=NOBODY, name=choice.name or "pool", type=type_ or "process")
    elif choice.name is not None:
        pool = lookup.find_pool(session, choice.name)
    else:
        raise Usage(
            f"The deployment {entry.label!r} names no work pool.", fix="Give --type, or --base-job-template."
        )
    return _Subject(deployment, flow, pool)


def _with_template(pool: WorkPool, file: Path | None, type_: str | None) -> WorkPool:
    """``pool`` with the template that was asked for; with its type's own where it has none."""
    from msgspec.structs import replace

    from eparch.cli.values import read_object_file
    from eparch.workers.infrastructure import default_template

    type_ = type_ or pool.type
    if file is not None:
        return replace(pool, type=type_, base_job_template=read_object_file(file))
    if type_ != pool.type or not pool.base_job_template:
        return replace(pool, type=type_, base_job_template=default_template(type_))
    return pool


def _show(session: Session, subject: _Subject, run: FlowRun) -> None:
    """Print the job, and then refuse it where a server or a worker would."""
    from eparch.core.job_templates import check_layers, parts_of
    from eparch.workers.dry_run import explain_assignment, render_as
    from eparch.workers.jobs import Assignment, client_environment, layers_of

    pool = subject.pool
    assignment = Assignment(
        flow_run=run, pool=pool, worker_name="worker", deployment=subject.deployment, flow=subject.flow
    )
    environment = client_environment(session.settings, secrets=False)
    job, origins = explain_assignment(assignment, environment, pool.base_job_template)
    refused: EparchError | None = None
    rendered = None
    try:
        rendered = render_as(pool.type, job)
    except (NotFound, InfrastructureError) as error:
        session.note(f"What a worker of type {pool.type!r} makes of it is not shown: {error.message}")
    except Invalid as error:
        refused = error
    _print(session, job, origins, rendered)
    schema, _ = parts_of(pool.base_job_template)
    problems = check_layers(schema, layers_of(assignment), required=True)
    if problems:
        said = ". ".join(problem.text for problem in problems)
        raise Invalid(f"A run with these job variables would be refused: {said}.")
    if refused is not None:
        raise refused


def _print(session: Session, job: dict[str, Any], origins: dict[Any, Origin], rendered: Any) -> None:
    from eparch.core.job_origins import leaves

    by_key = {_key(path): origin for path, origin in origins.items()}
    if not session.output.is_table:
        session.output.one(
            {"job": job, "origins": by_key, "rendered": rendered}, name=lambda one: one["job"].get("name")
        )
        return
    columns = [
        Column("KEY", lambda row: row[0]),
        Column("VALUE", lambda row: "(removed)" if row[1] is None else row[1]),
        Column("FROM", lambda row: ", ".join(row[2].layers)),
        Column("VARIABLE", lambda row: ", ".join(row[2].variables)),
    ]
    session.output.rows([(_key(path), value, origins[path]) for path, value in leaves(job)], columns)


def _key(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))
