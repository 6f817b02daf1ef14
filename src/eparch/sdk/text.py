"""Text that every database, encoder and terminal can hold, made of text that users give us."""

from __future__ import annotations

MAX_STATE_MESSAGE = 100_000
"""Characters of a state's message; the rest is cut and said to be."""


def printable(text: str, most: int = MAX_STATE_MESSAGE) -> str:
    """``text`` without NUL and lone surrogates, which are spelt out, and at most ``most`` characters long."""
    length = len(text)
    text = text[: most + 1]
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > most:
        cut = f"... [cut, {length} characters]"
        text = text[: max(most - len(cut), 0)] + cut
    return text[:most]
