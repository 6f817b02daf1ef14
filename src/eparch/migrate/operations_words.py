"""Takes the words of a command out of text, each with its place: of a shell, of a list, of YAML's lines.

Owns where a command ends. What the words mean is known elsewhere.
"""

from __future__ import annotations

import re

from eparch.migrate.operations_options import Word

MOST_WORDS = 200
"""Nobody starts an agent with more; what is longer is no command."""

_FAR = 2000
"""How many characters of its line decide what a command is in."""

_NEAR = 200
"""How many lines around it do."""

_SPACE = re.compile(r"(?:[ \t]|\\\r?\n|\^\r?\n|`\r?\n)+")
_ENDS = frozenset(";&|<>)],\r\n`")
_QUOTES = ('\\"', "\\'", "&quot;", '"', "'")
_TEMPLATES = (("${{", "}}"), ("{{", "}}"), ("${", "}"), ("$(", ")"))
_FOLDED = re.compile(r"(?:^|[:\-]\s*|\s)>[+-]?\d?[+-]?\s*(?:\s#.*)?$")
_LITERAL = re.compile(r"(?:[:\-]\s*|\s)\|[+-]?\d?[+-]?\s*(?:\s#.*)?$")
_NEXT_ITEM = re.compile(r"[ \t]*(?:- |#|[\w.\"'-]+:(?:\s|$))")
_BETWEEN = re.compile(r"(?:\s|#[^\n]*\n)*")
_STRING = re.compile(r"[A-Za-z]{0,2}(\\?[\"'])(.*?)(?<!\\)\1", re.DOTALL)


def line_start(text: str, at: int) -> int:
    """Where the line begins that ``at`` is in."""
    return text.rfind("\n", 0, at) + 1


def open_quote(text: str, at: int) -> str:
    """The quote that is open at ``at``, of those that began in its line; empty if none is."""
    stack: list[str] = []
    place = max(line_start(text, at), at - _FAR)
    while place < at:
        quote = next((one for one in _QUOTES if text.startswith(one, place)), "")
        if quote and stack and stack[-1] == quote:
            stack.pop()
        elif quote and (not stack or (len(quote) > 1 and len(stack) < 2) or _may_nest(stack, quote)):
            stack.append(quote)
        place += len(quote) or (2 if text[place] == "\\" else 1)
    return stack[-1] if stack else ""


def _may_nest(stack: list[str], quote: str) -> bool:
    return len(stack) == 1 and {stack[0], quote} == {'"', "'"}


def shell_words(text: str, at: int, quote: str, joined: int) -> list[Word]:
    """The words from ``at`` to the end of the command.

    ``quote`` is the quote around the whole command; newlines before ``joined`` are spaces (folded YAML).
    """
    words: list[Word] = []
    while len(words) < MOST_WORDS:
        at = _skip(text, at, joined)
        if at >= len(text) or text[at] in _ENDS or text[at] == "#" or (quote and text.startswith(quote, at)):
            break
        end, value = _shell_word(text, at, quote)
        if end == at:
            break
        if value.isdigit() and text[end : end + 1] in ("<", ">"):
            break
        words.append(Word(at, end, value))
        at = end
    return words


def _skip(text: str, at: int, joined: int) -> int:
    while True:
        space = _SPACE.match(text, at)
        if space:
            at = space.end()
        elif at < joined and text[at : at + 1] in ("\r", "\n"):
            at += 1
        else:
            return at


def _shell_word(text: str, at: int, enclosing: str) -> tuple[int, str]:
    value: list[str] = []
    start = at
    while at < len(text) and not text[at].isspace() and not (enclosing and text.startswith(enclosing, at)):
        template = next((pair for pair in _TEMPLATES if text.startswith(pair[0], at)), None)
        quote = next((one for one in _QUOTES if text.startswith(one, at)), "")
        if template or quote:
            opens, closes = template or (quote, quote)
            end = text.find(closes, at + len(opens))
            if end < 0 or "\n" in text[at:end]:
                break
            value.append(text[at : end + len(closes)] if template else text[at + len(quote) : end])
            at = end + len(closes)
        elif text[at] in _ENDS or re.match(r"[\\^`]\r?\n", text[at : at + 3]):
            break
        else:
            value.append(text[at])
            at += 1
    return (at, "".join(value)) if at > start else (start, "")


def joined_until(text: str, at: int) -> int:
    """In YAML: up to where newlines are spaces, for a scalar that ``at`` is in."""
    start = line_start(text, at)
    indent = _indent(text, start)
    folded = False
    header, inner = start, indent
    for _ in range(_NEAR):
        if header == 0:
            break
        header = line_start(text, header - 1)
        line = text[header : text.find("\n", header)].rstrip("\r")
        if not line.strip() or _indent(text, header) >= inner:
            continue
        if _LITERAL.search(line):
            return at
        if inner == indent and _FOLDED.search(line):
            folded = True
        inner = _indent(text, header)
        if inner == 0:
            break
    end = text.find("\n", at)
    for _ in range(_NEAR):
        if end < 0:
            return len(text)
        following = end + 1
        stop = text.find("\n", following)
        line = text[following : stop if stop >= 0 else len(text)]
        deep = _indent(text, following)
        fits = deep == indent if folded else deep > indent and not _NEXT_ITEM.match(line)
        if not line.strip() or not fits:
            return end
        end = stop
    return end


def _indent(text: str, start: int) -> int:
    at = start
    while at < len(text) and text[at] in " \t":
        at += 1
    return at - start


def list_words(text: str, at: int, *, bare: bool) -> tuple[list[Word], int]:
    """The items of a list in brackets from ``at``, which is where an item begins, and where the list ends.

    Of JSON, Python, HCL, YAML in flow style and PowerShell, which has no bracket: a missing comma ends it.
    ``bare``: words without quotes are text, as in YAML; elsewhere they are expressions.
    """
    words: list[Word] = []
    while len(words) < MOST_WORDS:
        at = skip_space(text, at)
        if at >= len(text) or text[at] in "])}":
            return words, at
        word = _item(text, at, bare)
        if word is None:
            return words, at
        words.append(word)
        at = skip_space(text, word.end)
        if text[at : at + 1] != ",":
            return words, at if text[at : at + 1] in ("]", ")") else word.end
        at += 1
    return words, at


def skip_space(text: str, at: int) -> int:
    """Past spaces, newlines and comments of a list."""
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _item(text: str, at: int, bare: bool) -> Word | None:
    string = _STRING.match(text, at)
    if string and "\n" not in string.group():
        prefix = text[at : string.start(1)].lower()
        following = text[string.end() : string.end() + 2]
        if not following or following[0].isspace() or following[0] in ",])}<#;":
            return Word(at, string.end(), string.group(2), "f" not in prefix)
    depth, end = 0, at
    while end < len(text):
        char = text[end]
        if depth == 0 and char in ",])}\n":
            break
        depth += (char in "([{") - (char in ")]}")
        end += 1
    value = text[at:end].rstrip()
    return Word(at, at + len(value), value, bare) if value else None


_LINE = re.compile(
    r"(?P<lead>[ \t]*-[ \t]+)"
    r"(?P<item>\"[^\"\n]*\"|'[^'\n]*'|[^\s#][^\n\r#]*?)[ \t]*(?:#[^\n]*)?(?=\r?\n|\r?\Z)"
)


def block_words(text: str, at: int) -> tuple[list[Word], int]:
    """The items of YAML's ``- item`` lines from the line at ``at`` on, and where the last one ends."""
    words: list[Word] = []
    indent = _indent(text, at)
    end = at
    while at < len(text) and len(words) < MOST_WORDS:
        found = _LINE.match(text, at)
        stop = text.find("\n", at)
        if found and _indent(text, at) == indent and ": " not in found["item"]:
            item = found["item"]
            value = item[1:-1] if item[0] in "\"'" and item[-1] == item[0] else item
            words.append(Word(found.start("item"), found.end("item"), value))
            end = found.end("item")
        elif not text[at : stop if stop >= 0 else len(text)].lstrip().startswith("#"):
            break
        if stop < 0:
            break
        at = stop + 1
    return words, end
