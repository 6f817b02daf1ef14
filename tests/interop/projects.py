"""What is deployed and run here: a project as a user of Prefect has it, and an ad-hoc flow."""

from __future__ import annotations

from pathlib import Path

FLOWS = """
from prefect import flow, task


@task
def square(number: int) -> int:
    return number * number


@flow(log_prints=True)
def pipeline(count: int = 2, word: str = "squares") -> int:
    total = sum(future.result() for future in square.map(list(range(count))))
    print(f"{word} add up to {total}")
    return total
"""

PROJECT = """
name: interop
deployments:
  - name: small
    description: two numbers
    entrypoint: flows.py:pipeline
    tags: [interop]
    work_pool:
      name: {pool}
  - name: large
    entrypoint: flows.py:pipeline
    parameters:
      count: 5
      word: five squares
    schedules:
      - cron: "0 4 * * *"
        timezone: Europe/Athens
        active: false
    work_pool:
      name: {pool}
      job_variables:
        env:
          INTEROP: "1"
"""

AD_HOC = """
from prefect import flow, task

attempts = []


@task(retries=2, retry_delay_seconds=0.1)
def flaky():
    attempts.append(1)
    if len(attempts) == 1:
        raise ValueError("the first attempt fails")
    return "second attempt"


@task
def double(number: int) -> int:
    return 2 * number


@flow
def child(number: int) -> int:
    return double(number)


@flow(log_prints=True)
def adhoc() -> int:
    print(flaky())
    doubled = [double(number) for number in range(9)]
    spread = double.map(list(range(9)))
    total = sum(doubled) + sum(future.result() for future in spread) + child(21)
    print(f"the total is {total}")
    return total


if __name__ == "__main__":
    assert adhoc() == 2 * 36 * 2 + 42
"""


def write_project(folder: Path, pool: str) -> Path:
    """Write the project with two deployments to ``pool`` into ``folder``; returns ``folder``."""
    folder.mkdir()
    (folder / "flows.py").write_text(FLOWS)
    (folder / "prefect.yaml").write_text(PROJECT.format(pool=pool))
    return folder
