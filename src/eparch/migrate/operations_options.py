"""What the options of ``prefect agent start`` mean to a worker (rows M9, W28).

Owns the table of options and what they come to. Where a command stands in a file is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eparch.core.errors import Usage

_TAKES_VALUE = {
    "-q": "queue",
    "--work-queue": "queue",
    "-m": "prefix",
    "--match": "prefix",
    "-p": "pool",
    "--pool": "pool",
    "-t": "tag",
    "--tag": "tag",
    "-l": "limit",
    "--limit": "limit",
    "--prefetch-seconds": "prefetch",
    "--api": "api",
}
_SWITCHES = {
    "--run-once": "run_once",
    "--no-run-once": "run_once",
    "--hide-welcome": "hide_welcome",
    "--no-hide-welcome": "hide_welcome",
}
_UNKNOWN_UNTIL_RUN = re.compile(r"[$%`]|\{\{|<\w")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command: where it is in the text, quotes and all, and what it says."""

    start: int
    end: int
    value: str
    plain: bool = True
    """False: an expression of the program that makes the command, so ``value`` is not what it comes to."""

    @property
    def known(self) -> bool:
        """Whether the value is what the agent was given; not so with a variable in it."""
        return self.plain and not _UNKNOWN_UNTIL_RUN.search(self.value)


@dataclass(frozen=True, slots=True)
class Part:
    """An option with its value, or an argument: indexes of words. ``value == flag`` is ``--pool=x``."""

    kind: str
    flag: int | None
    value: int | None
    text: str


def read_parts(words: Sequence[Word]) -> list[Part]:
    """The options and arguments after ``start``.

    Raises:
        Usage: an option that agents do not have, or one without its value.
    """
    parts: list[Part] = []
    at = 0
    while at < len(words):
        word = words[at]
        name, equals, attached = word.value.partition("=")
        if not word.value.startswith("-") or word.value == "-":
            parts.append(Part("argument", None, at, word.value))
        elif word.value in _SWITCHES:
            parts.append(Part(_SWITCHES[word.value], at, None, ""))
        elif equals and name in _TAKES_VALUE and name.startswith("--"):
            parts.append(Part(_TAKES_VALUE[name], at, at, attached))
        elif word.value in _TAKES_VALUE:
            at += 1
            if at == len(words):
                raise Usage(f"{word.value} has no value")
            parts.append(Part(_TAKES_VALUE[word.value], at - 1, at, words[at].value))
        elif word.value[:2] in _TAKES_VALUE and len(word.value) > 2:
            parts.append(Part(_TAKES_VALUE[word.value[:2]], at, at, word.value[2:]))
        else:
            raise Usage(f"agents have no option {name}", fix="change this command by hand")
        at += 1
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What an agent was told to serve, all of its ways to say so."""

    pool: str | None = None
    queues: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def gather(parts: Sequence[Part]) -> AgentOptions:
    """What the options say of pool and queues.

    Raises:
        Usage: more than one argument, which no agent takes.
    """

    def texts(*kinds: str) -> tuple[str, ...]:
        return tuple(part.text for part in parts if part.kind in kinds)

    if len(texts("argument")) > 1:
        raise Usage("agents take one argument, a queue", fix="change this by hand if it is a command at all")
    return AgentOptions(
        pool=next(iter(texts("pool")), None),
        queues=texts("queue", "argument"),
        prefixes=texts("prefix"),
        tags=texts("tag"),
    )


def choose_queues(options: AgentOptions, known: Sequence[str] | None) -> tuple[str, ...]:
    """The queues that a worker has to name to serve what the agent served; none: all of the pool.

    ``known`` are the names of the pool's queues, None where nobody has asked.

    Raises:
        Usage: a worker cannot be told this; what to do is named.
    """
    if bool(options.queues) + bool(options.prefixes) + bool(options.tags) > 1:
        raise Usage("an agent takes queues, --match or --tag, not two of them")
    if options.prefixes:
        return _matching(options.prefixes, known)
    if options.tags:
        return _of_tags(options.tags, known)
    return options.queues


def _matching(prefixes: tuple[str, ...], known: Sequence[str] | None) -> tuple[str, ...]:
    said = " and ".join(f"'{prefix}'" for prefix in prefixes)
    if known is None:
        raise Usage(
            f"workers have no --match, and which queues begin with {said} is not known here",
            fix="name each queue with -q, or leave it out to serve all queues of the pool",
        )
    found = tuple(name for name in known if name.startswith(prefixes))
    if not found:
        raise Usage(
            f"no queue of the pool begins with {said}",
            fix="name each queue with -q, or leave it out to serve all queues of the pool",
        )
    return found


def _of_tags(tags: tuple[str, ...], known: Sequence[str] | None) -> tuple[str, ...]:
    """Agents with tags made a queue with a filter, named so; queues have had no filters since."""
    name = f"Agent queue {'-'.join(sorted(tags))}"
    if known is None or name not in known:
        raise Usage(
            "workers do not choose runs by --tag (-t is the type of a pool)",
            fix=f"give the deployments tagged {', '.join(sorted(tags))} a work queue, and serve it with -q",
        )
    return (name,)
