"""Applies a plan to a database in processes that are killed, each at another point of the transaction.

``python -m tests.orchestration.killing URL PLAN POINTS``: ``PLAN`` is a file, ``POINTS`` are numbers of
statements before which a process is killed; at ``end`` one is killed when the database has answered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from eparch.core.deploy_plans import Applied, DeployPlan
from eparch.core.model import decode
from eparch.orchestration import applying
from eparch.store.database import open_database
from eparch.store.statement import Bound, Steps

NOW = datetime(2026, 3, 2, 12, 0, 7, tzinfo=UTC)


def die() -> None:
    """What no process can prepare for."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_before(point: int, plan: DeployPlan) -> Steps[Applied]:
    """Applying ``plan``, killed before its statement number ``point``."""
    steps = applying.apply_plan(plan, 50, NOW)
    try:
        request, ran = next(steps), 0
        while True:
            if isinstance(request, Bound):
                ran += 1
                if ran == point:
                    die()
            request = steps.send((yield request))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def _apply(url: str, plan: DeployPlan, point: str) -> None:
    database = await open_database(url)
    if point == "end":
        await database.write(applying.apply_plan, plan, 50, NOW)
        die()
    await database.write(killed_before, int(point), plan)
    await database.close()


def main(url: str, plan_file: str, points: str) -> None:
    """Kill one process for each point; print how each ended."""
    plan = decode(Path(plan_file).read_bytes(), DeployPlan)
    for point in points.split(","):
        child = os.fork()
        if child == 0:
            asyncio.run(_apply(url, plan, point))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(point, os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
