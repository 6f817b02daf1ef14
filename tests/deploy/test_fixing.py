"""``deploy --fix`` (real-files 3.2, 3.3): what is moved, what is left, and that nothing else changes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.core.errors import SourceErrors
from eparch.deploy.fixing import MOVES, fix
from eparch.deploy.project import Project, examine
from eparch.deploy.source import parse
from eparch.deploy.tolerance import DEPLOYMENT_HINTS

from .test_forms import ACCEPTED, REFUSED

BEFORE = """\
# the project
pull:
  - prefect.projects.steps.git_clone_project:
      repository: x   # code
  - prefect.deployments.steps.set_working_directory:
    directory: "/opt"
deployments:
  # nightly
  - name: a
    entrypoint: f.py:f   # where
    # the queue
    work_queue_name: fast # it matters
    job_variables:
      # image
      image: 'x:1'
      env:
        A: "1"
    work_pool:
      name: k8s

    # when
    schedule:
      cron: '0 3 * * *'   # night
      # zone
      active: false
    timezone: Europe/Athens

  - pool: p1
    name: b
    entrypoint: f.py:f
    image: y
    env: {B: '2'}
    cron: "0 1 * * *"
    timezone: UTC
    concurrency: 3
  - name: c
    entrypoint: f.py:f
    work_pool: {name: k8s}
    work_queue_name: q
    infra_overrides:
      image: z
    schedule: "*/5 * * * *"
  - name: d
    entrypoint: f.py:f
    work_pool: pool-d
    environment:
      X: 1
    is_paused: true
  - name: e
    entrypoint: f.py:f
    work_pool:
      name: q
      concurrency_limit: 2
      image: i
      job_variables: {}
    schedule: {interval: 60}
    is_schedule_active: false
"""
AFTER = """\
# the project
pull:
  - prefect.deployments.steps.git_clone:
      repository: x   # code
  - prefect.deployments.steps.set_working_directory:
      directory: "/opt"
deployments:
  # nightly
  - name: a
    entrypoint: f.py:f   # where
    work_pool:
      name: k8s
      # the queue
      work_queue_name: fast # it matters
      job_variables:
        # image
        image: 'x:1'
        env:
          A: "1"

    # when
    schedules:
      - cron: '0 3 * * *'   # night
        # zone
        active: false
        timezone: Europe/Athens

  - work_pool:
      name: p1
      job_variables:
        image: y
        env: {B: '2'}
    name: b
    entrypoint: f.py:f
    schedules:
      - cron: "0 1 * * *"
        timezone: UTC
    concurrency_limit: 3
  - name: c
    entrypoint: f.py:f
    work_pool:
      name: k8s
      work_queue_name: q
      job_variables:
        image: z
    schedules:
      - cron: "*/5 * * * *"
  - name: d
    entrypoint: f.py:f
    work_pool:
      name: pool-d
      job_variables:
        env:
          X: 1
    paused: true
  - name: e
    entrypoint: f.py:f
    work_pool:
      name: q
      job_variables:
        image: i
    schedules: [{interval: 60, active: false}]
    concurrency_limit: 2
"""


def project(text: str) -> Project:
    return examine(parse(text, "prefect.yaml"))


def messages(text: str) -> Counter[str]:
    found = project(text)
    return Counter(e.message for e in (*found.errors, *(e for d in found.deployments for e in d.errors)))


def test_comments_order_and_quotes_stay() -> None:
    assert fix(BEFORE) == AFTER
    assert fix(AFTER) == AFTER
    project(AFTER).check()


def test_line_ends_and_a_missing_last_one_stay() -> None:
    assert fix(BEFORE.replace("\n", "\r\n")) == AFTER.replace("\n", "\r\n")
    assert fix("name: x") == "name: x"


DEPLOYMENT = "deployments:\n- name: a\n  entrypoint: f.py:f\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  work_pool: *p\n  work_queue_name: q\n", "  work_pool:\n    <<: *p\n    work_queue_name: q\n"),
        ("  work_pool:\n  job_variables: {a: 1}\n", "  work_pool:\n    job_variables: {a: 1}\n"),
        (
            "  work_pool:\n    name: x\n    job_variables: {a: 1}\n  job_variables:\n    b: 2 # two\n",
            "  work_pool:\n    name: x\n    job_variables:\n      a: 1\n      b: 2 # two\n",
        ),
        ("  job_variables: {}\n  work_pool: p\n", "  work_pool:\n    name: p\n    job_variables: {}\n"),
        ("  schedule:\n  - cron: '1 * * * *'\n", "  schedules:\n  - cron: '1 * * * *'\n"),
        ("  schedules: null\n  schedule: {interval: 9}\n", "  schedules: [{interval: 9}]\n"),
        ("  concurrency_options: {limit: 2}\n", "  concurrency_limit: {limit: 2}\n"),
        (
            "  concurrency_limit: 2\n  concurrency_options: {collision_strategy: ENQUEUE}\n",
            "  concurrency_limit:\n    limit: 2\n    collision_strategy: ENQUEUE\n",
        ),
        (
            "  work_pool:\n    name: x\n    job_variables:\n      env:\n"
            "      - name: A\n        value: '1'\n",
            "  work_pool:\n    name: x\n    job_variables:\n      env:\n        A: '1'\n",
        ),
        ("  job_variables:\n    s: |\n      # text\n\n      end\n",
         "  work_pool:\n    job_variables:\n      s: |\n        # text\n\n        end\n"),
        ("  tags:\n  - x\n  work_pool_name: p\n", "  tags:\n  - x\n  work_pool:\n    name: p\n"),
    ],
)  # fmt: skip
def test_moved(before: str, after: str) -> None:
    head = "definitions: &p {name: x}\n" if "*p" in before else ""
    assert fix(head + DEPLOYMENT + before) == head + DEPLOYMENT + after


@pytest.mark.parametrize(
    "body",
    [
        "  work_queue_name: a\n  work_pool: {name: x, work_queue_name: b}\n",
        "  job_variables: {a: 1}\n  work_pool: {name: x, job_variables: {a: 2}}\n",
        "  timezone: UTC\n  schedules: [{interval: 60}, {interval: 90}]\n",
        "  timezone: UTC\n",
        "  schedule: {interval: 60}\n  schedules: [{interval: 90}]\n",
        "  work_queue_name: null\n",
        "  schedule: {}\n",
        "  job_configuration: {a: 1}\n",
        "  schedulez: []\n",
        "  environment: production\n",
        "  work_pool:\n    name: null # to be said\n  work_queue_name: q\n",
        "  job_variables: none\n",
        "  flow_location: flows\n",
    ],
)
def test_what_is_not_certain_is_left(body: str) -> None:
    assert fix(DEPLOYMENT + body) == DEPLOYMENT + body


def test_what_came_in_by_an_anchor_is_left() -> None:
    text = "definitions: &d\n  job_variables: {a: 1}\n" + DEPLOYMENT + "  <<: *d\n"
    assert fix(text) == text


def test_text_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(SourceErrors):
        fix("a: [\n")


@pytest.mark.parametrize("text", [form.body for form in (*ACCEPTED, *REFUSED)])
def test_no_form_gets_worse(text: str) -> None:
    try:
        before = messages(text)
    except SourceErrors:
        return
    fixed = fix(text)
    assert fix(fixed) == fixed
    assert not messages(fixed) - before


_MORE = ("concurrency_options", "flow_location", "work_queue", "environment")
SIMPLE = [
    source[0]
    for source, target in MOVES
    if len(source) == 1
    and source[0] not in ("concurrency_options", "flow_location", "work_queue", "environment")
]
VALUES: dict[str, Any] = {
    "concurrency": "3", "is_paused": "true", "job_variables": "\n{i}  cpu: 2 # {c}\n{i}  env2: {{}}",
    "infra_overrides": " # {c}\n{i}  memory: 3", "env": "\n{i}# {c}\n{i}  E: '1'",
}  # fmt: skip
REST = {
    "tags": "\n{i}- x\n{i}- y", "parameters": " {{a: [1, 2]}} # {c}",
    "description": " >-\n{i}  long\n{i}  # text",
    "version": " 1.0", "work_pool": "\n{i}  name: k8s # {c}", "schedules": " []",
}  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(SIMPLE), unique=True, min_size=1).filter(
        lambda keys: len({"pool", "work_pool_name"} & set(keys)) < 2
    ),
    st.lists(st.sampled_from(sorted(REST)), unique=True),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 2, 4]),
)
def test_fixing_moves_every_key_keeps_every_comment_and_is_idempotent(
    misplaced: list[str], others: list[str], random: Any, indent: int
) -> None:
    keys = ["name", "entrypoint", *misplaced, *others]
    random.shuffle(keys)
    if "work_pool" in keys:
        keys = [key for key in keys if key not in ("pool", "work_pool_name")]
    inner = " " * (indent + 2)
    lines = ["deployments:"]
    for number, key in enumerate(keys):
        if number and random.random() < 0.3:
            lines.append(f"{inner}# above-{number}")
        value = {"name": " a", "entrypoint": " 'f.py:f' # {c}", **REST}.get(key) or VALUES.get(
            key, "text # {c}"
        )
        value = value if value.startswith((" ", "\n")) else f" {value}"
        head = " " * indent + "- " if not number else inner
        lines.append(f"{head}{key}:{value.format(i=inner, c=f'c-{number}')}")
    text = "\n".join(lines) + "\n"
    fixed = fix(text)
    assert fix(fixed) == fixed
    moved = {key for key in misplaced if key in DEPLOYMENT_HINTS}
    assert not [m for m in messages(fixed) if any(m == f"A deployment has no key '{key}'" for key in moved)]
    assert not messages(fixed) - messages(text)
    comments = re.compile(r"# (?:c|above)-\d+")
    assert sorted(comments.findall(fixed)) == sorted(comments.findall(text))
    before, after = project(text).deployments, project(fixed).deployments
    for name in ("name", "entrypoint", "tags", "parameters", "description", "version", "paused"):
        assert getattr(before[0], name) == getattr(after[0], name)
