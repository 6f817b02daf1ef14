"""The wizard's questions and what their answers make (rows D2, D3): a generator, so nothing is done here.

Owns which question follows which, what an answer may be, and the deployment that comes of them. Who answers
is the caller's: a person on a terminal, or a file. Pure: all that is known of the world is in ``Facts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from eparch.core.deployments import schedule_of, settled_schedule
from eparch.core.errors import EparchError, Usage, did_you_mean
from eparch.core.model import Json, Value
from eparch.core.schedules import check, occurrences
from eparch.deploy.grammar import NAME, SCHEDULE_KINDS
from eparch.deploy.recipes import BUCKETS, IMAGE_OUTPUT, Steps, bucket_steps, git_steps, image_steps
from eparch.deploy.scan import FoundFlow
from eparch.deploy.schedules import parse_interval

Answer = str | bool
Key = tuple[str | int, ...]
Check = Callable[[str], str]
"""What is wrong with an answer, as a sentence; empty: nothing."""

NONE = "none"
_NEXT = 5
_BLOCK = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_GLOB = frozenset("*?[{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A row to choose; ``value`` is the answer."""

    value: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. With ``choices`` the answer is one of them, or with ``other`` also another text."""

    key: Key
    text: str
    choices: tuple[Choice, ...] = ()
    other: str = ""
    """The row that lets another text be written."""
    is_flag: bool = False
    """Whether the answer is yes or no."""
    default: Answer | None = None
    notes: tuple[str, ...] = ()
    """What is told before it."""
    check: Check = field(default=lambda text: "")

    def problem(self, answer: Answer) -> str:
        """What is wrong with ``answer``; empty: it can be used."""
        if self.is_flag != isinstance(answer, bool):
            return "the answer is yes or no" if self.is_flag else "the answer is a text"
        if isinstance(answer, bool):
            return ""
        values = [choice.value for choice in self.choices]
        if answer in values:
            return ""
        if self.choices and not self.other:
            return f"'{answer}' is none of {', '.join(values)}. {did_you_mean(answer, values)}".rstrip()
        return self.check(answer)


class Pool(Value, frozen=True, kw_only=True):
    """A work pool of the server."""

    name: str
    type: str
    takes_image: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known before anything is asked."""

    flows: tuple[FoundFlow, ...]
    pools: tuple[Pool, ...] = ()
    types: Mapping[str, bool] = field(default_factory=dict)
    """The types of a new pool, and whether they take images."""
    taken: frozenset[tuple[str, str]] = frozenset()
    """Name and entrypoint of the deployments that the file has."""
    file: str = "prefect.yaml"
    folder: str = "project"
    image: str = ""
    """The output of the project's build step that is an image, as job variables name it."""
    has_pull: bool = False
    """Whether the project says where code is."""
    dockerfile: bool = False
    repository: str = ""
    branch: str = ""
    default_pool: str | None = None
    timezone: str = "UTC"
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided: the deployment as the file would have it, and what has to be there first."""

    entrypoint: str
    name: str
    pool: str
    pool_type: str | None = None
    """Of the pool that is to be made; None: it is there."""
    deployment: dict[str, Json]
    save: bool


Dialogue = Generator[Question, Answer, Decision]


def converse(dialogue: Generator[Question, Answer, Any], answer: Callable[[Question], Answer]) -> Any:
    """What ``dialogue`` comes to when ``answer`` answers; what it gives has to be without a problem."""
    try:
        question = next(dialogue)
        while True:
            question = dialogue.send(answer(question))
    except StopIteration as end:
        return end.value


def wizard(facts: Facts, given: Mapping[str, str] | None = None, *, schedules: bool = True) -> Dialogue:
    """Asks for a deployment. ``given`` are answers known already; without ``schedules`` none are asked for.

    Raises:
        Usage: there is no flow to choose, or a given answer cannot be used.
    """
    known = given or {}
    if not facts.flows:
        raise Usage(
            "There is no flow here.",
            why="No Python file below this folder has a function with @flow; hidden and ignored ones are "
            "not searched.",
            fix="Write one, or name it: eparch deploy path/to/file.py:function --name NAME",
        )
    entrypoint = yield from _ask(_flow(facts), known)
    name = yield from _ask(_name(facts, entrypoint), known)
    pool = yield from _ask(_pool(facts), known)
    there = {one.name: one for one in facts.pools}
    pool_type = None if pool in there else (yield from _ask(_pool_type(facts, pool), known))
    takes_image = facts.types.get(pool_type, False) if pool_type else there[pool].takes_image
    sections: dict[str, Steps] = {"build": [], "push": [], "pull": []}
    variables: dict[str, Json] = {}
    if takes_image and facts.image:
        variables["image"] = facts.image
    elif takes_image and (yield from _image(facts, sections)):
        variables["image"] = IMAGE_OUTPUT
    if not facts.has_pull:
        yield from _storage(facts, sections, name, built=bool(variables))
    chosen, notes = (yield from _schedules(facts)) if schedules else ([], ())
    save = yield Question(
        key=("save",), text=f"Save this deployment in {facts.file}?", is_flag=True, default=True, notes=notes
    )
    deployment: dict[str, Json] = {"name": name, "entrypoint": entrypoint}
    deployment |= {section: steps for section, steps in sections.items() if steps}
    if chosen:
        deployment["schedules"] = chosen
    deployment["work_pool"] = {"name": pool, **({"job_variables": variables} if variables else {})}
    return Decision(
        entrypoint=entrypoint,
        name=name,
        pool=pool,
        pool_type=pool_type,
        deployment=deployment,
        save=bool(save),
    )


def _ask(question: Question, given: Mapping[str, str]) -> Generator[Question, Answer, str]:
    key = str(question.key[0])
    if key not in given:
        return str((yield question))
    problem = question.problem(given[key])
    if problem:
        raise Usage(f"'{given[key]}' cannot be used: {problem}.".replace("..", "."))
    return given[key]


def _text(key: str, text: str, default: str, check: Check, **more: Any) -> Question:
    """A question for a text, whose default is only offered if it can be used."""
    usable = default if default and not check(default) else None
    return Question(key=(key,), text=text, default=usable, check=check, **more)


def _flow(facts: Facts) -> Question:
    width = max(len(flow.name) for flow in facts.flows)
    rows = [Choice(value=flow.entrypoint, label=f"{flow.name:{width}}  {flow.entrypoint}")
            for flow in facts.flows]  # fmt: skip
    return Question(key=("flow",), text="Which flow?", choices=tuple(rows), default=rows[0].value)


def _name(facts: Facts, entrypoint: str) -> Question:
    def check(text: str) -> str:
        if (text, entrypoint) in facts.taken:
            return f"{facts.file} has a deployment '{text}' of this flow already"
        fits = re.fullmatch(NAME, text) and text.isprintable() and text == text.strip()
        if not fits or _GLOB & set(text):
            return "a name has no / % & > < * ? [ { and no space around it"
        return ""

    return _text("name", "Name of the deployment", "default", check)


def _pool(facts: Facts) -> Question:
    names = [one.name for one in facts.pools]
    rows = tuple(Choice(value=one.name, label=f"{one.name}  ({one.type})") for one in facts.pools)
    if not rows:
        text = "There is no work pool yet. Name of the new one"
        return _text("pool", text, facts.default_pool or "local", _pool_problem)
    default = facts.default_pool if facts.default_pool in names else names[0]
    return Question(
        key=("pool",),
        text="Which work pool?",
        choices=rows,
        other="a new one ...",
        default=default,
        check=_pool_problem,
    )


def _pool_problem(text: str) -> str:
    problem = _word_problem(text)
    if not problem and (not re.fullmatch(NAME, text) or text.lower().startswith("prefect")):
        return "a work pool's name has no / % & > < and does not begin with 'prefect'"
    return problem


def _pool_type(facts: Facts, pool: str) -> Question:
    rows = tuple(Choice(value=name, label=name) for name in facts.types)
    return Question(
        key=("pool_type",), text=f"Type of the new work pool '{pool}'", choices=rows, default=rows[0].value
    )


def _word_problem(text: str) -> str:
    if not text or not text.isprintable() or any(c.isspace() for c in text):
        return "this has to be one word"
    return "this cannot have {{ or }}" if "{{" in text or "}}" in text else ""


def _block_problem(text: str) -> str:
    return "" if _BLOCK.fullmatch(text) else "a block's name has small letters, digits and hyphens"


def _empty_or(check: Check) -> Check:
    return lambda text: check(text) if text else ""


def _block(kind: str, name: str) -> str:
    return f"{{{{ prefect.blocks.{kind}.{name} }}}}"


def _image(facts: Facts, sections: dict[str, Steps]) -> Generator[Question, Answer, bool]:
    """Whether an image is built; its steps go to ``sections``."""
    rows = [Choice(value=NONE, label="no, the work pool's or one that is there")]
    rows.append(Choice(value="auto", label="yes, with all code of this folder"))
    if facts.dockerfile:
        rows.append(Choice(value="Dockerfile", label="yes, from the Dockerfile here"))
    dockerfile = yield Question(
        key=("image",), text="Build an image?", choices=tuple(rows), default=rows[-1].value
    )
    if dockerfile == NONE:
        return False
    name = str((yield _text("image_name", "Image, as team/name", facts.folder.lower(), _word_problem)))
    tag = str((yield _text("image_tag", "Tag", "latest", _word_problem)))
    push = bool((yield Question(key=("push",), text="Push it to a registry?", is_flag=True, default=True)))
    values = {"tag": tag, "dockerfile": str(dockerfile)}
    if push:
        text = "Registry, as registry.example.com; empty for Docker Hub"
        check = _empty_or(_word_problem)
        registry = str((yield Question(key=("registry",), text=text, default="", check=check))).rstrip("/")
        name = f"{registry}/{name}" if registry else name
        private = yield Question(
            key=("registry_private",), text="Does it want credentials?", is_flag=True, default=False
        )
        if private:
            text = "Block with them, of type docker-registry-credentials"
            block = str((yield _text("registry_credentials", text, "registry", _block_problem)))
            values["credentials"] = _block("docker-registry-credentials", block)
    sections["build"], sections["push"] = image_steps({**values, "image_name": name}, push=push)
    return True


def _storage(
    facts: Facts, sections: dict[str, Steps], name: str, *, built: bool
) -> Generator[Question, Answer, None]:
    """Where a job gets the code from; its steps go to ``sections``."""
    here = "in the image" if built else "this folder, on the machine of the worker"
    rows = [Choice(value="local", label=here), Choice(value="git", label="a git repository")]
    rows += [Choice(value=kind, label=bucket.title) for kind, bucket in BUCKETS.items()]
    kind = str(
        (
            yield Question(
                key=("storage",), text="Where does a job get the code?", choices=tuple(rows), default="local"
            )
        )
    )
    if kind == "git":
        sections["pull"] = yield from _git(facts)
    elif kind in BUCKETS:
        bucket, folder = BUCKETS[kind], f"{facts.folder}/{name}"
        place = str((yield _text("bucket", f"Name of the {bucket.place}", "", _word_problem)))
        folder = str((yield _text("folder", "Folder in it", folder, _word_problem)))
        text = f"Block with credentials, of type {bucket.credentials}; empty for none"
        check = _empty_or(_block_problem)
        block = str((yield Question(key=("credentials",), text=text, default="", check=check)))
        credentials = _block(bucket.credentials, block) if block else None
        push, sections["pull"] = bucket_steps(kind, place, folder, credentials)
        sections["push"] = [*sections["push"], *push]


def _git(facts: Facts) -> Generator[Question, Answer, Steps]:
    repository = str((yield _text("repository", "Repository", facts.repository, _word_problem)))
    branch = str((yield _text("branch", "Branch", facts.branch or "main", _word_problem)))
    private = yield Question(key=("private",), text="Does it want a token?", is_flag=True, default=False)
    token = None
    if private:
        text = "Block with the token, of type secret"
        block = str((yield _text("token", text, "git-token", _block_problem)))
        token = _block("secret", block)
    return git_steps(repository, branch, token)


def _schedules(facts: Facts) -> Generator[Question, Answer, tuple[list[Json], tuple[str, ...]]]:
    """The schedules, and when the last one runs next."""
    found: list[Json] = []
    notes: tuple[str, ...] = ()
    rows = (
        Choice(value=NONE, label="no"),
        Choice(value="cron", label="cron, as 0 3 * * *"),
        Choice(value="interval", label="interval, as 3600 or PT1H"),
        Choice(value="rrule", label="rrule, as FREQ=WEEKLY;BYDAY=MO"),
    )
    while True:
        text = "Another schedule?" if found else "A schedule?"
        at = len(found)
        kind = str((yield Question(key=("schedules", at, "kind"), text=text, choices=rows, default=NONE,
                                   notes=notes)))  # fmt: skip
        if kind == NONE:
            return found, notes
        written = str((yield _schedule(kind, at)))
        schedule: dict[str, Json] = {kind: written}
        if kind == "interval":
            seconds = parse_interval(written)
            schedule = {kind: int(seconds) if seconds.is_integer() else seconds}
        else:
            zone = yield _timezone(schedule, at, facts.timezone)
            schedule["timezone"] = str(zone)
        found.append(schedule)
        notes = next_times(schedule, facts.now)


def _schedule(kind: str, at: int) -> Question:
    def check_it(text: str) -> str:
        return schedule_problem({kind: text.strip()})

    words = {
        "cron": "Minute, hour, day, month, weekday",
        "interval": "Every so many seconds",
        "rrule": "Rule",
    }
    return Question(key=("schedules", at, kind), text=words[kind], check=check_it)


def _timezone(schedule: dict[str, Json], at: int, default: str) -> Question:
    def check_it(text: str) -> str:
        return schedule_problem({**schedule, "timezone": text}) if text.strip() else "a time zone is needed"

    usable = default if not check_it(default) else "UTC"
    return Question(key=("schedules", at, "timezone"), text="Time zone", default=usable, check=check_it)


def schedule_problem(fields: dict[str, Any]) -> str:
    """What is wrong with a schedule; empty: it can be used."""
    try:
        if "interval" in fields:
            fields = {**fields, "interval": parse_interval(fields["interval"])}
        check(schedule_of(fields))
    except EparchError as error:
        return ". ".join(part.rstrip(".") for part in (error.message, error.why, error.fix) if part)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        return str(error)
    return ""


def next_times(schedule: dict[str, Json], now: datetime) -> tuple[str, ...]:
    """A schedule's next five times from ``now`` on, one a line, after a line that says so."""
    zone = ZoneInfo(str(schedule.get("timezone") or "UTC"))
    moments = islice(occurrences(schedule_of(settled_schedule(schedule, now)), now), _NEXT)
    kind = next(kind for kind in SCHEDULE_KINDS if kind in schedule)
    lines = [f"  {moment.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}" for moment in moments]
    return (f"{kind} {schedule[kind]} runs next:", *(lines or ["  never"]))
