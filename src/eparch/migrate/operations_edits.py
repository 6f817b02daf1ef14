"""What has to change in an agent's command so that it starts a worker: places and new text.

Owns how a word is written where it stands: quotes, commas, lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eparch.core.errors import Usage
from eparch.migrate.operations_forms import Command
from eparch.migrate.operations_options import Part, Word, choose_queues, gather, read_parts

Edit = tuple[int, int, str]
"""From, to, and what stands there then."""

_SAFE = re.compile(r"[A-Za-z0-9_@%+:./-]+")
_SAFE_IN_YAML = re.compile(r"-{0,2}[A-Za-z][A-Za-z0-9_./-]*")
_WORDS_OF_YAML = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def edits_of(
    command: Command, written: str, offset: int, pool: str, known: Sequence[str] | None
) -> list[Edit]:
    """The changes that make the command start a worker of ``pool``; ``known`` are the pool's queues.

    ``written`` is the command as it stands at ``offset`` of its text.

    Raises:
        Usage: a worker cannot be told what this agent was.
    """
    program, agent, start = command.words[:3]
    arguments = command.arguments
    parts = read_parts(arguments)
    options = gather(parts)
    queues = choose_queues(options, known)

    def raw(word: Word) -> str:
        return written[word.start - offset : word.end - offset]

    edits: list[Edit] = [
        _within(program, raw(program), "prefect", "eparch"),
        _within(agent, raw(agent), "agent", "worker"),
    ]
    added: list[str] = [] if options.pool is not None else ["--pool", pool]
    if options.prefixes or options.tags:
        added += [word for queue in queues for word in ("-q", queue)]
    space = _separator(command)
    new = "".join(space + _render(word, raw(start), command) for word in added)
    if new:
        edits.append((start.end, start.end, new))
    for part in parts:
        first = arguments[_first(part)]
        last = arguments[part.value if part.value is not None else _first(part)]
        if part.kind == "argument":
            edits.append((first.start, first.start, _render("-q", raw(start), command) + space))
        elif part.kind == "api":
            edits.append(_within(first, raw(first), "--api", "--api-url"))
        elif part.kind == "pool" and part.text != pool and last.known:
            edits.append(_replaced(part, last, raw(last), pool, raw(start), command))
    return edits + _removals(command, parts, written, offset)


def _removals(command: Command, parts: Sequence[Part], written: str, offset: int) -> list[Edit]:
    """What a worker has no option for, with the space or the comma that goes with it.

    Raises:
        Usage: nothing would be left of the half of the command that it stands in.
    """
    edits: list[Edit] = []
    before = command.words[2]
    removed: list[Word] = []
    for word, gone in [*_which_go(command.arguments, parts), (None, False)]:
        if gone and word is not None:
            removed.append(word)
            continue
        if removed and word is not None:
            edits.append((removed[0].start, word.start, ""))
        elif removed:
            between = written[before.end - offset : removed[0].start - offset]
            halves = command.form != "shell" and ("[" in between or ":" in between)
            if halves and command.form == "block":
                raise Usage("nothing would be left of this list", fix="change this command by hand")
            edits.append((removed[0].start if halves else before.end, removed[-1].end, ""))
        removed = []
        before = word or before
    return edits


def _which_go(arguments: Sequence[Word], parts: Sequence[Part]) -> list[tuple[Word | None, bool]]:
    gone = {
        index
        for part in parts
        if part.kind in ("hide_welcome", "prefix", "tag")
        for index in (part.flag, part.value)
        if index is not None
    }
    return [(word, index in gone) for index, word in enumerate(arguments)]


def _first(part: Part) -> int:
    index = part.flag if part.flag is not None else part.value
    assert index is not None
    return index


def _within(word: Word, raw: str, old: str, new: str) -> Edit:
    at = word.start + raw.index(old)
    return (at, at + len(old), new)


def _replaced(part: Part, word: Word, raw: str, pool: str, like: str, command: Command) -> Edit:
    """The pool's name in the place of another's; the option before it, as in ``--pool=x``, stays."""
    if part.flag != part.value:
        return (word.start, word.end, _render(pool, raw if raw[:1] in "\\\"'" else like, command))
    option = word.value[: len(word.value) - len(part.text)]
    if command.form == "shell":
        return (word.start, word.end, option + _render(pool, "", command))
    return (word.start, word.end, _render(option + pool, raw, command))


def _separator(command: Command) -> str:
    if command.form == "shell":
        return " "
    if "#" in command.separator:
        return ", "
    return command.separator


def _render(value: str, like: str, command: Command) -> str:
    """``value`` as a word of the command, quoted as the word ``like`` is.

    Raises:
        Usage: it cannot be written inside these quotes.
    """
    if command.form == "shell":
        return _for_shell(value, command.quote)
    quote = re.match(r"\\?[\"']|", like)
    mark = quote.group() if quote else ""
    if not mark and (not _SAFE_IN_YAML.fullmatch(value) or value.lower() in _WORDS_OF_YAML):
        mark = '"'
    if mark and (mark[-1] in value or "\\" in value):
        raise Usage(f"{value!r} cannot be written here", fix="change this command by hand")
    return mark + value + mark


def _for_shell(value: str, enclosing: str) -> str:
    if _SAFE.fullmatch(value):
        return value
    mark = "'" if enclosing.endswith('"') or enclosing == "&quot;" else '"'
    if any(char in value for char in "\"'\\$`%!"):
        raise Usage(f"{value!r} cannot be written here", fix="change this command by hand")
    return mark + value + mark
