"""What has to be so before a worker begins: its pool, the pool's type, its queues (rows W2-W5).

Owns what is created and what is refused. Does not own the work itself.
"""

from __future__ import annotations

import logging
import shlex
from copy import deepcopy
from typing import Any

import msgspec

from eparch.core import calls
from eparch.core.agents import check_served_by
from eparch.core.errors import Conflict, EparchError, NotFound, Usage, did_you_mean
from eparch.core.job_templates import Severity, check_template
from eparch.core.model import Json, decode
from eparch.core.pools import WorkPool, WorkPoolCreate, WorkPoolUpdate, WorkQueueCreate
from eparch.workers.infrastructure import Infrastructure, default_template
from eparch.workers.installing import bring_type
from eparch.workers.options import WorkerOptions
from eparch.workers.sources import Sender

logger = logging.getLogger("eparch.worker")


def prepare_pool(
    sender: Sender, options: WorkerOptions, kind: type[Infrastructure[Any]] | None = None
) -> WorkPool:
    """The pool that the worker serves, created if it is to be, with its queues.

    ``kind`` is what the worker starts jobs on, where it is not found by the pool's type.

    Raises:
        NotFound: it is not there and may not be created, or its type is not installed.
        Usage: its type is not the wanted one, is an agent's, or the template file is wrong.
    """
    pool = _read_or_create(sender, options)
    check_served_by("worker", pool.name, pool.type)
    if options.type is not None and options.type != pool.type:
        raise Usage(
            f"The work pool '{pool.name}' has the type '{pool.type}', not '{options.type}'",
            why="a worker serves pools of its own type",
            fix=f"leave '--type' out, or choose a pool of the type '{options.type}'",
        )
    kind = kind or bring_type(sender, pool.type, options.install_policy)
    if not pool.base_job_template:
        template = deepcopy(kind.base_job_template)
        update = WorkPoolUpdate(base_job_template=template)
        sender.send(calls.update_work_pool(name=pool.name, body=update))
        pool = msgspec.structs.replace(pool, base_job_template=template)
    for queue in options.queues:
        _ensure_queue(sender, pool.name, queue)
    return pool


def _read_or_create(sender: Sender, options: WorkerOptions) -> WorkPool:
    try:
        found = sender.send(calls.read_work_pool(name=options.pool))
    except NotFound as error:
        if options.type is None or not options.create_pool_if_not_found:
            raise _missing(sender, options) from error
    else:
        if options.base_job_template is not None:
            logger.warning("The pool '%s' keeps its template: a file is for a pool that is new", found.name)
        return found
    check_served_by("worker", options.pool, options.type)
    bring_type(sender, options.type, options.install_policy)
    template = read_template(options) or default_template(options.type)
    body = WorkPoolCreate(name=options.pool, type=options.type, base_job_template=template)
    try:
        return sender.send(calls.create_work_pool(body=body))
    except Conflict:
        # Another worker that started with this one was faster (row W3).
        return sender.send(calls.read_work_pool(name=options.pool))


def read_template(options: WorkerOptions) -> dict[str, Json] | None:
    """The base job template in the file that was given; None if none was.

    Raises:
        Usage: it cannot be read, is not JSON, or is not a template.
    """
    path = options.base_job_template
    if path is None:
        return None
    try:
        template: dict[str, Json] = decode(path.read_bytes(), dict[str, Json])
    except OSError as error:
        raise Usage(f"The template '{path}' cannot be read", why=error.strerror or str(error)) from error
    except msgspec.DecodeError as error:
        raise Usage(f"The template '{path}' is not a JSON object", why=str(error)) from error
    for problem in check_template(template):
        if problem.severity is Severity.ERROR:
            raise Usage(f"The template '{path}' is wrong: {problem.message}", fix=problem.fix)
    return template


def _missing(sender: Sender, options: WorkerOptions) -> EparchError:
    known = [pool.name for pool in sender.send(calls.read_work_pools(body={"limit": 200}))]
    fix = f"eparch work-pool create {shlex.quote(options.pool)} --type {options.type or 'process'}"
    why = ""
    if not options.create_pool_if_not_found:
        why = "it may not be created: '--no-create-pool-if-not-found'"
    elif options.type is None:
        why = "a pool is created for a worker only with '--type'"
        fix = f"{fix}, or add '--type process' here"
    return NotFound(
        f"There is no work pool '{options.pool}'", why=why, fix=did_you_mean(options.pool, known) or fix
    )


def _ensure_queue(sender: Sender, pool: str, name: str) -> None:
    try:
        sender.send(calls.read_work_queue_by_name(work_pool_name=pool, name=name))
    except NotFound:
        try:
            sender.send(calls.create_work_queue(work_pool_name=pool, body=WorkQueueCreate(name=name)))
        except Conflict:
            return
