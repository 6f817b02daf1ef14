"""Every form of real files that is accepted and every one that is refused, with how often people write it.

The counts are files/repositories of public files (real-files 2 and 3); R is how many repositories.
"""

from __future__ import annotations

from typing import NamedTuple

GIT = "prefect.deployments.steps.git_clone"
CWD = "prefect.deployments.steps.set_working_directory"
BUILD = "prefect_docker.deployments.steps.build_docker_image"
HEAD = "deployments:\n  - name: a\n    entrypoint: f.py:f\n"
"""A deployment; the forms of a deployment follow it, indented by four."""


class Accepted(NamedTuple):
    """``body`` is read; ``note`` is part of the one note about it, empty for silence."""

    count: str
    body: str
    note: str = ""


class Refused(NamedTuple):
    """``body`` is refused at ``position`` with ``message``; ``help_`` is in its why or fix.

    ``plain`` are the mistakes that a JSON Schema can see: of keys and types.
    """

    body: str
    position: str
    message: str
    help_: str
    plain: bool = True


ACCEPTED_IN_DEPLOYMENT = [
    # Silently (3.1).
    *(
        Accepted("28 R", body)
        for body in [
            "    version: null\n    tags: null\n    description: null\n    flow_name: null\n",
            "    parameters: null\n    enforce_parameter_schema: null\n    paused: null\n",
            "    concurrency_limit: null\n    triggers: null\n",
            "    work_pool: null\n    build: null\n    push: null\n    pull: null\n    sla: null\n",
            "    work_pool: {name: null, work_queue_name: null, job_variables: null}\n",
            "    schedule: null\n",
            "    schedule: {}\n",
            "    schedule: []\n",
            "    schedules: {}\n",
            "    schedules: null\n",
            "    schedule: {cron: null, timezone: null}\n",
        ]
    ),
    Accepted("58/27", "    flow_name: null\n"),
    Accepted("58/27", "    flow_name: some-flow\n"),
    Accepted("103/14", "    enforce_parameter_schema: true\n"),
    Accepted("2/1", "    paused: true\n"),
    Accepted("183/17", "    schedules: []\n"),
    Accepted("357/51", "    schedules: [{cron: '0 3 * * *', timezone: Europe/Athens, active: false}]\n"),
    Accepted("36/14", "    schedules: [{cron: '0 3 1 * 1', day_or: false}]\n"),
    Accepted("1 R", "    schedules: [{cron: '0 3 * * SUN'}]\n"),
    Accepted("8/8", "    schedules: [{interval: 3600.0, anchor_date: '2024-01-01T00:00:00.123456+00:00'}]\n"),
    Accepted("H", "    schedules: [{interval: '86400'}]\n"),
    Accepted("6/2", "    schedules: [{rrule: 'RRULE:FREQ=DAILY'}, {rrule: 'FREQ=DAILY'}]\n"),
    Accepted("25/4", "    schedules: [{interval: 60, slug: every-minute, parameters: {n: 1}}]\n"),
    Accepted("0", "    schedules: [{interval: PT10M, slug: b, replaces: a}, {interval: '1:30:00'}]\n"),
    Accepted("21/6", "    schedules: [{interval: 60, catchup: false, max_active_runs: null}]\n"),
    Accepted("488/95", "    tags: [a, 3]\n"),
    Accepted("0", "    tags: '{{ $TAGS }}'\n"),
    Accepted("511/98", "    parameters: {n: 1, who: '{{ prefect.variables.who }}', deep: {a: [1, null]}}\n"),
    Accepted("9/6", "    concurrency_limit: 3\n"),
    Accepted(
        "62/7", "    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE, grace_period_seconds: 120}\n"
    ),
    Accepted("67/20", "    concurrency_limit: '3'\n"),
    Accepted("0", "    retry_on_crash: {count: 2, delay_seconds: 0.5}\n"),
    Accepted(
        "806/128", "    work_pool: {name: p, work_queue_name: q, job_variables: {image: 'x:1', cpu: 2}}\n"
    ),
    Accepted("76/19", "    work_pool: {name: p, job_variables: {env: {A: '{{ $A }}', N: 1, T: true}}}\n"),
    Accepted("23/4", "    work_pool: {name: p, job_variables: {t: '{{ prefect.blocks.secret.token }}'}}\n"),
    Accepted("78/10", f"    pull:\n      - {CWD}: {{directory: /opt/app}}\n"),
    Accepted(
        "6/1", f"    build:\n      - {BUILD}: {{id: build-image, image_name: x, platform: linux/amd64}}\n"
    ),
    Accepted("0", "    pull: []\n    push: null\n"),
    Accepted("18/4", "    triggers: [{expect: [a.b], match: {x: y}, parameters: {n: '{{ event.id }}'}}]\n"),
    Accepted(
        "3 of 4 R", "    triggers: [{type: event, enabled: true, name: n, expect: a.b, match_related: {}}]\n"
    ),
    Accepted("0", "    triggers: [{type: compound, require: all, within: 60, triggers: [{expect: [a]}]}]\n"),
    Accepted("0", "    triggers: [{type: sequence, within: 60, triggers: [{expect: [a]}, {expect: [b]}]}]\n"),
    Accepted("0", "    sla: [{name: quick, duration: 60, severity: high}]\n"),
    Accepted("0", "    sla: [{type: FrequencySla, name: often, stale_after: PT1H, enabled: false}]\n"),
    Accepted("0", "    sla: [{name: on-time, within: 600}]\n"),
    Accepted("0", "    version_type: vcs:git\n"),
    Accepted(
        "0", "    version: '{{ $SHA }}'\n    paused: '{{ $PAUSED }}'\n    concurrency_limit: '{{ $N }}'\n"
    ),
    # With a note (3.2).
    Accepted("329/74", "    schedule: {cron: '0 3 * * *'}\n", "list 'schedules' of one"),
    Accepted("2/1, H 2 R", "    schedule:\n      - {cron: '0 3 * * *'}\n", "list 'schedules' of one"),
    Accepted("5/3", "    schedules: {cron: '0 3 * * *'}\n", "'schedules' is a list"),
    Accepted("21/6", "    schedules: [{interval: 60, max_active_runs: 2}]\n", "concurrency_limit: 2"),
    Accepted("10/4, H 37/4", "    is_schedule_active: false\n    schedules: [{interval: 60}]\n", "'active'"),
    Accepted("2/1", "    is_paused: true\n", "now 'paused'"),
    Accepted("19 R", "    pull:\n      - prefect.projects.steps.git_clone_project: {repository: x}\n", GIT),
    Accepted("1 R", "    pull:\n      - prefect.deployments.steps.git_clone_project: {repository: x}\n", GIT),
    Accepted(
        "H 11/1",
        f"    build:\n      - {BUILD.replace('deployments', 'projects')}: {{image_name: x}}\n",
        BUILD,
    ),
    Accepted("1/1", f"    build:\n      - {BUILD}: {{image_name: x, push: false}}\n", "it is dropped"),
    Accepted("1/1", "    infra_overrides: {image: x}\n", "now 'work_pool.job_variables'"),
    Accepted("1 org", "    schedules: [{interval: 60, slug: a_b_c}]\n", "'_'"),
    Accepted("2 R", "    schedules: [{cron: '0 3 * * *', timezone: EST}]\n", "America/New_York"),
    Accepted("H 15/1", "    version: 1.0\n", "text '1.0'"),
    Accepted("H 3/3", f"    pull:\n      - {CWD}:\n        directory: /opt/app\n", "indented below it"),
    Accepted("H 7/2", "    work_pool: k8s\n", "{name: k8s}"),
    Accepted("7/1", "    tags: [a, [b, c]]\n", "list within 'tags'"),
    Accepted("7/2", "    parameters: {home: '${HOME}/x'}\n", "write '{{ $HOME }}'"),
    Accepted("H 1", "    parameters: {x: '{ { build.image } }'}\n", "write '{{ build.image }}'"),
    Accepted("0", "    parameters: {x: '{{ a b }}'}\n", "is text"),
]

ACCEPTED_AT_THE_TOP = [
    *(Accepted("4/1", f"prefect-version: {one}\n") for one in ("3", "3.x", "'>=3.4'", "3.14", "null")),
    Accepted("111/85", "build: null\npush: null\npull: null\n"),
    Accepted("3/3", "build: []\npush: []\npull: []\n"),
    Accepted("1/1", f"pull:\n  {CWD}: {{directory: /opt}}\n"),
    Accepted("13/12", "definitions: {anything: {at: [all]}}\nx-mine: 1\n"),
    Accepted("22/19", "name: no-deployments\n"),
    Accepted("0", "deployments: null\n"),
    Accepted("49/35", "name: no-final-newline"),
    Accepted("1/1", "---\nname: x\r\ndescription: y\r\n"),
    Accepted(
        "6/2", "pull:\n  - my_project.steps.fetch: {anything: 1, requires: [a, b]}\n  - retrieve.main:\n"
    ),
    Accepted(
        "18/16", f"pull:\n  - {GIT}: {{repository: x, access_token: null, include_submodules: false}}\n"
    ),
    Accepted("52/10", "deployments: [{name: a, entrypoint: './flows/f.py:f'}]\n"),
    Accepted("19/7", "deployments: [{name: a, entrypoint: 'src.flows:f'}]\n"),
    Accepted("2/1", "deployments: [{name: a, entrypoint: 'flows\\f.py:f'}]\n"),
    Accepted("4/4", "deployments: [{name: a, entrypoint: 'f.py:f'}, {name: a, entrypoint: 'f.py:g'}]\n"),
    Accepted("9/7", "version: 1\nname: x\n", "no meaning"),
    Accepted("16 R", "deployments:\n  - {name: null, entrypoint: null, schedule: {}}\n", "skipped"),
    Accepted("4/2", "required_inputs: {image: which}\nname: '{{ name }}'\n", "recipe"),
    Accepted("0", "name: yes\n", "read as text"),
]

REFUSED_IN_DEPLOYMENT = [
    ("    work_queue_name: q\n", "4:5", "no key 'work_queue_name'", "into 'work_pool:'"),
    ("    work_queue: q\n", "4:5", "no key 'work_queue'", "'work_queue_name'"),
    ("    job_variables: {image: x}\n", "4:5", "no key 'job_variables'", "into 'work_pool:'"),
    ("    timezone: UTC\n", "4:5", "no key 'timezone'", "'schedules:'"),
    ("    cron: '* * * * *'\n", "4:5", "no key 'cron'", "'schedules:'"),
    ("    schedule: '*/2 * * * *'\n", "4:15", "must be a mapping", 'schedules: [{cron: "*/2 * * * *"}]'),
    ("    concurrency: 1\n", "4:5", "no key 'concurrency'", "'concurrency_limit'"),
    ("    job_configuration: {}\n", "4:5", "no key", "work_pool.job_variables"),
    ("    environment: {}\n", "4:5", "no key", "job_variables.env"),
    ("    infrastructure: {}\n", "4:5", "no key", "eparch migrate"),
    ("    storage: {}\n", "4:5", "no key", "'pull' steps"),
    ("    pool: x\n", "4:5", "no key 'pool'", "work_pool: {name"),
    ("    flow_location: x\n", "4:5", "no key", "'entrypoint'"),
    ("    display_name: x\n", "4:5", "no key", "'tags'"),
    ("    entrypont: x\n", "4:5", "no key 'entrypont'", "Did you mean 'entrypoint'?"),
    ("    some_flow:\n", "4:5", "no key 'some_flow'", "stray line"),
    ("    schedulez: []\n", "4:5", "no key 'schedulez'", "Did you mean 'schedule"),
    ("    work_pool: {name: x, type: process}\n", "4:26", "no key 'type'", "--type"),
    ("    work_pool: {name: x, image: y}\n", "4:26", "no key 'image'", "job_variables: {image"),
    ("    work_pool: {name: x, concurrency_limit: 1}\n", "4:26", "no key", "one level up"),
    ("    work_pool: [x]\n", "4:16", "must be a mapping", ""),
    ("    work_pool: {job_variables: {env: [{name: A, value: b}]}}\n", "4:33", "'env' must", "'A: ...'"),
    ("    tags: urgent\n", "4:11", "must be a list", 'tags: ["urgent"]'),
    ("    tags: [{a: 1}]\n", "4:12", "A tag must be a text", ""),
    ("    parameters: [1]\n", "4:17", "'parameters' must be a mapping", ""),
    ("    description: [1]\n", "4:18", "'description' must be a text", ""),
    ("    paused: maybe\n", "4:13", "'paused' must be true or false", ""),
    ("    concurrency_limit: 0\n", "4:24", "above 0", ""),
    ("    concurrency_limit: true\n", "4:24", "above 0", ""),
    ("    concurrency_limit: {limt: 1}\n", "4:25", "no key 'limt'", "'limit'"),
    ("    concurrency_limit: {collision_strategy: X}\n", "4:45", "collision strategy", "CANCEL_NEW"),
    (
        "    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE, grace_period_seconds: 5}\n",
        "4:86",
        "from 60 to 86400",
        "",
    ),
    (
        "    schedule: {interval: 60}\n    schedules: [{interval: 90}]\n",
        "4:5",
        "Both 'schedule'",
        "line 5",
        False,
    ),
    ("    triggers: [{expct: [x]}]\n", "4:17", "no key 'expct'", "'expect'"),
    ("    triggers: [{type: webhook}]\n", "4:23", "no trigger of type 'webhook'", "event"),
    ("    triggers: [x]\n", "4:16", "must be a mapping", ""),
    ("    triggers: [{type: compound, require: all}]\n", "4:16", "needs 'triggers'", ""),
    ("    time_zone: UTC\n", "4:5", "no key 'time_zone'", "as 'timezone'"),
    ("    active: true\n", "4:5", "no key 'active'", "'schedules:'"),
    ("    day_or: true\n", "4:5", "no key 'day_or'", "'schedules:'"),
    ("    concurrency_options: {limit: 1}\n", "4:5", "no key", "concurrency_limit: {limit"),
    ("    code: x\n", "4:5", "no key 'code'", "'pull' steps"),
    ("    path: x\n", "4:5", "no key 'path'", "'entrypoint'"),
    ("    logging: x\n", "4:5", "no key 'logging'", "job_variables.env"),
    ("    priority: 1\n", "4:5", "no key 'priority'", "'tags'"),
    ("    work_pool: {name: x, flow_variables: {a: 1}}\n", "4:26", "no key", "write 'job_variables'"),
    ("    work_pool: {name: x, schedules: []}\n", "4:26", "no key", "one level up"),
    ("    schedules: ['*/2 * * * *']\n", "4:17", "must be a mapping", "cron:"),
    ("    schedules: [{interval: 60, late_runs: 1}]\n", "4:32", "no key 'late_runs'", "no such field"),
    ("    schedules: [{interval: 60, flow_run_name: x}]\n", "4:32", "no key", "@flow(flow_run_name"),
    ("    schedules: [{interval: 60, deployment_name: x}]\n", "4:32", "no key", "belongs to the deployment"),
    ("    schedules: [{interval: 60, catchup: true}]\n", "4:32", "not caught up", "remove 'catchup'"),
    ("    schedules: [{cron: '0 3 * * *', interval: 60}]\n", "4:17", "exactly one of", "cron and interval"),
    ("    schedules: [{timezone: UTC}]\n", "4:17", "exactly one of", "none of them"),
    ("    schedules: [{interval: '0 5 * * *'}]\n", "4:28", "not an interval", "cron: ", False),
    ("    schedules: [{cron: '61 * * * *'}]\n", "4:24", "61", "", False),
    ("    schedules: [{interval: 60, slug: Two Words}]\n", "4:38", "not a slug", "small letters"),
    ("    sla: [{name: x}]\n", "4:11", "exactly one of duration, stale_after, within", "none of them"),
    ("    sla: [{name: x, duration: 1, within: 1}]\n", "4:11", "exactly one of", "duration and within"),
    ("    sla: [{duration: 1}]\n", "4:11", "needs a name", ""),
    ("    sla: [{name: x, duration: 1, severity: hihg}]\n", "4:44", "no severity 'hihg'", "'high'"),
    ("    sla: [{name: x, duration: 1, type: LatenessSla}]\n", "4:40", "not of type", "TimeToCompletionSla"),
    ("    sla: [{name: x, duration: soon}]\n", "4:31", "'soon' is not a time", "PT1H", False),
    ("    sla: [{name: x, duration: 0}]\n", "4:31", "'duration' must be more than zero", "", False),
    (
        "    sla: [{name: x, duration: 1}, {name: x, within: 1}]\n",
        "4:42",
        "Two service levels",
        "rename",
        False,
    ),
    ("    sla: [{name: x, duraton: 1, within: 1}]\n", "4:21", "no key 'duraton'", "'duration'"),
    ("    sla: [x]\n", "4:11", "must be a mapping", ""),
    ("    version_type: vcs:githb\n", "4:19", "no version type", "'vcs:github'"),
    ("    entrypoint: [a]\n", "4:5", "written twice", "keep one", False),
]

REFUSED_AT_THE_TOP = [
    ("entrypoint: x\n", "1:1", "no key 'entrypoint'", "an item of 'deployments:'"),
    ("work_pools: {}\n", "1:1", "no key 'work_pools'", "'definitions:'"),
    ("project: {name: x}\n", "1:1", "no key 'project'", "'name'"),
    ("pull_steps: []\n", "1:1", "no key 'pull_steps'", "'pull'"),
    ("prefect-version': 3\n", "1:1", "no key", "prefect-version"),
    ("=name: x\n", "1:1", "no key '=name'", "'name'"),
    ("deployments: {a: {entrypoint: x}}\n", "1:1", "must be a list", "'- name: ...'"),
    ("deployments: [x]\n", "1:15", "must be a mapping", ""),
    ("deployments:\n  - {name: a/b, entrypoint: x}\n", "2:12", "cannot be the name", ""),
    ("- hosts: all\n", "1:1", "not a project file", "Ansible"),
    ("jobs: {}\n", "1:1", "not a project file", "CI"),
    ("", "", "not a project file", "it is empty"),
    ("# nothing\n", "", "not a project file", "it is empty"),
    ("just text\n", "1:1", "not a project file", "a text"),
    ("name: [x]\n", "1:7", "'name' must be a text", ""),
    *(
        (f"{key}: {{}}\n", "1:1", f"no key '{key}'", "an item of 'deployments:'")
        for key in ("flow_name", "schedule", "parameters", "work_pool", "tags")
    ),
    *(
        (f"{key}: {{}}\n", "1:1", f"no key '{key}'", "no such section")
        for key in (
            "variables",
            "env",
            "server",
            "logging",
            "database",
            "storage",
            "monitoring",
            "resources",
            "flows",
            "secrets",
            "notifications",
            "retries",
            "security",
            "something_else",
        )
    ),
]

REFUSED_STEPS = [
    (f"  - {GIT}: {{repository: x}}\n    {CWD}: {{directory: y}}\n", "3:5", "stands beside", "'- '"),
    ("  - prefect.deployments.steps.get_clone:\n", "2:5", "no step", "'git_clone'"),
    ("  - prefect.deployments.steps.clone_repo:\n", "2:5", "no step", "there are: "),
    ("  - git_clone: {repository: x}\n", "2:5", "not the name of a step", f"write '{GIT}'"),
    ("  - prefect-docker/docker: {}\n", "2:5", "not the name of a step", "package.module.function"),
    (f"  - {GIT}\n", "2:5", "must be a mapping", f"write '- {GIT}:'"),
    (f"  - {GIT}: {{repository: x, directory: y}}\n", "2:58", "no key 'directory'", "'directories'"),
    (f"  - {GIT}: [x]\n", "2:42", "must be a mapping", ""),
    (f"  - {BUILD}: {{push: true}}\n", "2:59", "does not push", "push_docker_image"),
    (f"  - {CWD}: {{directory: x, id: 3}}\n", "2:73", "'id' must be a text", ""),
    (f"  - {CWD}: {{directory: x, requires: {{a: 1}}}}\n", "2:79", "'requires'", ""),
    ("  - a.b: {id: x}\n  - a.c: {id: x}\n", "3:15", "Two steps have the id 'x'", "line 2", False),
    ("  text\n", "2:3", "must be a list of steps", ""),
    ("  - prefect.deployments.steps.clone_repo: {}\n", "2:5", "no step", "git_clone"),
    ("  - prefect-gcp/gcr: {}\n", "2:5", "not the name of a step", "package.module.function"),
]
