"""Finds the commands that start an agent in a text, in the three ways that commands are written.

Owns the patterns: a shell's words, a list in brackets, the items of a YAML list. Where such a
command is split over two keys (``command`` and ``args``, ENTRYPOINT and CMD) both halves are one command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from eparch.migrate import operations_words as reading
from eparch.migrate.operations_options import Word

Form = Literal["shell", "list", "block"]

_PREFECT_1 = "docker|ecs|kubernetes|local|vertex"
_OLD = "this starts an agent of Prefect 1, which has no work pools; its flows have to be ported first"
_NO_PROGRAM = (
    "the program is named elsewhere; change 'agent' to 'worker' here if it is Prefect, and add --pool"
)

_S = r"(?:[ \t]|[\\^`]?\r?\n)+"
_SHELL = re.compile(
    rf"(?<![\w.-])(?<!\w@)(?P<program>prefect)(?P<exe>\.exe)?(?:\\?[\"']|&quot;)?"
    rf"(?:{_S}--?[a-zA-Z][\w-]*(?:=\S+|{_S}[^\s-]\S*)?){{0,3}}?"
    rf"{_S}(?P<agent>agent)(?:{_S}(?P<old>{_PREFECT_1}))?{_S}(?P<start>start)(?![\w.=:/-])"
)
_KEYED = re.compile(
    r"(?:\bargs|\barguments|\bcommand|\bCMD|-ArgumentList|-Args)[\"'>]?\s*[:= ]?\s*\\?[\"']?"
    r"(?P<agent>agent)[ \t]+(?P<start>start)(?![\w.=:/-])"
)
_LIST = re.compile(
    r"(?P<agent>(?P<q>\\?[\"']|(?<![\w-]))agent(?P=q))(?P<sep>\s*,\s*(?:#[^\n]*\n\s*)*)"
    rf"(?:(?P<old>(?P=q)(?:{_PREFECT_1})(?P=q))\s*,\s*)?(?P<start>(?P=q)start(?P=q))(?=\s*(?:[,\])}}#]|\Z|[\r\n;]))"
)
_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*)-[ \t]+(?P<agent>(?P<q>[\"']?)agent(?P=q))[ \t]*(?:#[^\n]*)?"
    r"(?P<sep>\r?\n(?P=indent)-[ \t]+)(?P<start>(?P<r>[\"']?)start(?P=r))(?=[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z))",
    re.MULTILINE,
)
_BEFORE_IN_LIST = re.compile(
    r"(?<![\w.-])(?<!\w@)(?P<program>prefect)(?P<exe>\.exe)?(?:\\?[\"'])?\s*,\s*"
    r"(?:\\?[\"']?--?[\w-]+(?:=[^\"',\n]*)?\\?[\"']?\s*,\s*(?:\\?[\"'][^\"'\n-][^\"'\n]*\\?[\"']\s*,\s*)?){0,3}\Z"
)
_BEFORE_IN_BLOCK = re.compile(
    r"(?<![\w.-])(?<!\w@)(?P<program>prefect)(?P<exe>\.exe)?[\"']?[ \t]*\r?\n"
    r"[ \t]*(?:-[ \t]+--?[\w-]+[^\n]*\n[ \t]*){0,3}\Z"
)
_BEFORE_KEY = re.compile(
    r"(?<![\w.-])(?<!\w@)(?P<program>prefect)(?P<exe>\.exe)?\\?[\"']?\s*[\])]?\s*,?\s*(?:</\w+>)?\s*[\"'<]?"
    r"(?:args|arguments|command|cmd|-ArgumentList|-Args)[\"'>]?\s*[:=]?\s*(?:@?[\[(]|[>|][+-]?\s*)?\s*\\?[\"']?\s*\Z",
    re.IGNORECASE,
)
_SECOND_HALF = re.compile(
    r"[ \t]*\]?[ \t]*(?:#[^\n]*)?\r?\n[ \t]*(?:args|CMD|command)[ \t]*:?(?P<open>[ \t]*\[|[ \t]*\r?\n)"
)
_FAR = 400


@dataclass(frozen=True, slots=True)
class Command:
    """A command that starts an agent: ``words`` are the program, ``agent``, ``start`` and what follows."""

    form: Form
    words: tuple[Word, ...]
    end: int
    separator: str
    """What stands between two words of a list."""
    quote: str = ""
    """The quote around the whole command, for a shell's words."""
    problem: str = ""

    @property
    def arguments(self) -> tuple[Word, ...]:
        """What follows ``start``."""
        return self.words[3:]


def commands_in(text: str, *, yaml: bool) -> list[Command]:
    """The agent commands in a text, in their order; none overlaps another."""
    if "agent" not in text:
        return []
    found = [*_shell(text, yaml=yaml), *_keyed(text, yaml=yaml), *_lists(text), *_blocks(text)]
    kept: list[Command] = []
    for command in sorted(found, key=lambda one: (one.words[0].start, -one.end)):
        if not kept or command.words[0].start >= kept[-1].end:
            kept.append(command)
    return kept


def _word(match: re.Match[str], name: str, offset: int = 0) -> Word:
    value = match.group(name).strip("\"'\\")
    return Word(match.start(name) + offset, match.end(name) + offset, value)


def _shell(text: str, *, yaml: bool) -> Iterator[Command]:
    end = 0
    for match in _SHELL.finditer(text):
        if match.start() < end:
            continue
        words = (_word(match, "program"), _word(match, "agent"), _word(match, "start"))
        command = _of_shell(text, words, yaml=yaml, old=bool(match["old"]))
        end = command.end
        yield command


def _keyed(text: str, *, yaml: bool) -> Iterator[Command]:
    """``agent start ...`` as the arguments of a program that is named before, or nowhere near."""
    for match in _KEYED.finditer(text):
        agent, start = _word(match, "agent"), _word(match, "start")
        program = _before(_BEFORE_KEY, text, agent.start)
        problem = "" if program else _NO_PROGRAM
        yield _of_shell(text, (program or agent, agent, start), yaml=yaml, problem=problem)


def _of_shell(
    text: str, words: tuple[Word, Word, Word], *, yaml: bool, old: bool = False, problem: str = ""
) -> Command:
    start = words[2]
    quote = reading.open_quote(text, words[1].start)
    joined = reading.joined_until(text, start.start) if yaml else 0
    more = reading.shell_words(text, start.end, quote, joined)
    end = more[-1].end if more else start.end
    return Command("shell", (*words, *more), end, " ", quote, _OLD if old else problem)


def _before(pattern: re.Pattern[str], text: str, at: int) -> Word | None:
    begin = max(0, at - _FAR)
    match = pattern.search(text[begin:at])
    return _word(match, "program", begin) if match else None


def _lists(text: str) -> Iterator[Command]:
    ended = 0
    for match in _LIST.finditer(text):
        if match.start() < ended:
            continue
        agent, start = _word(match, "agent"), _word(match, "start")
        at = agent.start
        program = _before(_BEFORE_IN_LIST, text, at) or _before(_BEFORE_KEY, text, at)
        if program is None and not _is_argument_list(text, at):
            continue
        after = reading.skip_space(text, start.end)
        more: list[Word] = []
        end = start.end
        if text[after : after + 1] == ",":
            more, end = reading.list_words(text, after + 1, bare=not match["q"])
        elif text[after : after + 1] == "]":
            more, end = _second_half(text, after, bare=not match["q"])
        ended = end = more[-1].end if more else start.end
        problem = _OLD if match["old"] else "" if program else _NO_PROGRAM
        problem = problem or _made_by_program(text, more, end)
        yield Command("list", (program or agent, agent, start, *more), end, match["sep"], "", problem)


def _is_argument_list(text: str, at: int) -> bool:
    return bool(
        re.search(
            r"(?:args|command|CMD|-ArgumentList)[\"']?\s*[:=]?\s*@?[\[(]?\s*\Z", text[max(0, at - _FAR) : at]
        )
    )


def _made_by_program(text: str, words: list[Word], end: int) -> str:
    """Code that adds to the list, which cannot be read here."""
    spread = any(not word.plain and word.value.startswith("*") for word in words)
    adds = re.match(r"\s*,?\s*\]\s*\+", text[end : end + 80])
    return "code adds more options to this list; change 'agent' to 'worker' by hand" if spread or adds else ""


def _second_half(text: str, at: int, *, bare: bool) -> tuple[list[Word], int]:
    found = _SECOND_HALF.match(text, at)
    if found is None:
        return [], at
    if found["open"].endswith("["):
        words, end = reading.list_words(text, found.end(), bare=bare)
    else:
        words, end = reading.block_words(text, found.end())
    return words, end


def _blocks(text: str) -> Iterator[Command]:
    end = 0
    for match in _BLOCK.finditer(text):
        if match.start() < end:
            continue
        agent, start = _word(match, "agent"), _word(match, "start")
        at = match.start()
        program = _before(_BEFORE_IN_BLOCK, text, at) or _before(_BEFORE_KEY, text, at)
        following = text.find("\n", start.end)
        more: list[Word] = []
        if following >= 0 and text.startswith(match["indent"], following + 1):
            more, _ = reading.block_words(text, following + 1)
            more = more if more and _same_list(text, more[0], match["indent"]) else []
        if not more and following >= 0:
            more, _ = _second_half(text, following - (text[following - 1] == "\r"), bare=True)
        end = more[-1].end if more else start.end
        problem = "" if program else _NO_PROGRAM
        yield Command("block", (program or agent, agent, start, *more), end, match["sep"], "", problem)


def _same_list(text: str, word: Word, indent: str) -> bool:
    line = text[reading.line_start(text, word.start) : word.start]
    return line.startswith(indent + "-")
