"""Questions on a terminal: rows to choose with the arrows, texts, yes or no. On stderr; data is on stdout.

Owns how a question looks and is answered. Which questions there are is the caller's. Leaves by
``KeyboardInterrupt`` and ``click.Abort`` with the terminal as it was.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from eparch.cli.output import fit, printable
from eparch.deploy.wizard import Answer, Question

_BOLD, _GREEN, _RED = "1", "32", "31"
_SEQUENCE_WAIT = 0.2
"""Seconds in which what follows an escape has come; alone it means nothing."""
_KEYS = {
    b"\r": "enter",
    b"\n": "enter",
    b"k": "up",
    b"\x10": "up",
    b"j": "down",
    b"\x0e": "down",
    b"\t": "down",
    b"\x04": "end",
    b"": "end",
}
_ARROWS = {b"A": "up", b"B": "down", b"H": "first", b"F": "last"}
_WORDS = {"y": True, "yes": True, "n": False, "no": False}


class Prompts:
    """Asks questions on this process's terminal."""

    def __init__(self, *, colored: bool) -> None:
        """``colored`` is whether colours are wanted; a terminal that is dumb gets none, nor moves."""
        self.colored = colored
        self.moves = os.environ.get("TERM", "dumb") != "dumb"

    def ask(self, question: Question) -> Answer:
        """The answer of the person; asked again until it can be used.

        Raises:
            click.Abort: there is no more input.
            KeyboardInterrupt: Ctrl-C.
        """
        for note in question.notes:
            self._write(printable(note) + "\n")
        while True:
            answer = self._answer(question)
            if answer is None:
                problem = "yes or no?" if question.is_flag else "an answer is needed"
            else:
                problem = question.problem(answer)
            if answer is not None and not problem:
                return answer
            self._write(self._paint(f"  {printable(problem)}", _RED) + "\n")

    def _answer(self, question: Question) -> Answer | None:
        if question.is_flag:
            return self._flag(question)
        if not question.choices:
            return self._text(question.text, question.default)
        values = [choice.value for choice in question.choices]
        labels = [printable(choice.label) for choice in question.choices]
        if question.other:
            labels.append(question.other)
        start = values.index(str(question.default)) if question.default in values else 0
        chosen = self._choose(question.text, labels, start)
        return values[chosen] if chosen < len(values) else self._text("Its name", None)

    def _flag(self, question: Question) -> bool | None:
        words = "Y/n" if question.default is True else "y/N" if question.default is False else "y/n"
        line = self._line(f"{question.text} [{words}] ").lower()
        if not line and isinstance(question.default, bool):
            return question.default
        return _WORDS.get(line)

    def _text(self, text: str, default: Answer | None) -> str | None:
        shown = f" [{printable(str(default))}]" if default else ""
        line = self._line(f"{text}{shown}: ")
        if line:
            return line
        return None if default is None else str(default)

    def _line(self, prompt: str) -> str:
        self._write(f"{self._paint('?', _GREEN)} {self._paint(prompt, _BOLD)}")
        _await(sys.stdin.fileno())
        line = sys.stdin.readline()
        if not line:
            raise click.Abort
        return line.strip()

    def _choose(self, text: str, labels: Sequence[str], start: int) -> int:
        """The place of the chosen label."""
        if not self.moves:
            return self._numbered(text, labels, start)
        at, drawn = start, 0
        with _unbuffered() as terminal:
            # Shown only now, so that no key is echoed among the rows.
            self._write(f"{self._paint('?', _GREEN)} {self._paint(_cut(text), _BOLD)}\n")
            while True:
                drawn = self._draw(labels, at, drawn)
                key = _read_key(terminal)
                if key == "end":
                    raise click.Abort
                if key == "enter":
                    break
                at = _moved(at, key, len(labels))
        self._write(f"\x1b[{drawn + 1}A\r\x1b[J{self._paint('?', _GREEN)} {_cut(f'{text} {labels[at]}')}\n")
        return at

    def _draw(self, labels: Sequence[str], at: int, drawn: int) -> int:
        """Draw the rows around ``at`` over the ``drawn`` ones; how many there are now."""
        height = max(min(len(labels), shutil.get_terminal_size().lines - 2), 1)
        top = min(max(at - height // 2, 0), len(labels) - height)
        lines = [f"\x1b[{drawn}A\r\x1b[J" if drawn else ""]
        for row in range(top, top + height):
            text = _cut(labels[row])
            lines.append(self._paint(f"> {text}", _BOLD) + "\n" if row == at else f"  {text}\n")
        self._write("".join(lines))
        return height

    def _numbered(self, text: str, labels: Sequence[str], start: int) -> int:
        for number, label in enumerate(labels, 1):
            self._write(f"  {number}) {label}\n")
        while True:
            line = self._line(f"{text} [{start + 1}]: ") or str(start + 1)
            if line.isascii() and line.isdigit() and 1 <= int(line) <= len(labels):
                return int(line) - 1
            self._write(f"  a number from 1 to {len(labels)}\n")

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colored and self.moves else text

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _cut(text: str) -> str:
    """``text`` as it fits on a line behind two columns, with one to spare."""
    return fit(text, max(shutil.get_terminal_size().columns - 3, 4))


def _moved(at: int, key: str, count: int) -> int:
    moves = {"up": at - 1, "down": at + 1, "first": 0, "last": count - 1}
    return moves.get(key, at) % count


@contextmanager
def _unbuffered() -> Iterator[int]:
    """The terminal, giving each key as it is pressed and not showing it; as it was afterwards."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _read_key(terminal: int) -> str:
    """The next key: up, down, first, last, enter, end, or empty for any other."""
    _await(terminal)
    key = os.read(terminal, 1)
    if key != b"\x1b":
        return _KEYS.get(key, "")
    # An arrow is ESC [ A, or ESC O A from some terminals; anything longer ends with a letter or ~ too.
    if _next(terminal) not in (b"[", b"O"):
        return ""
    while (last := _next(terminal)) and not (last.isalpha() or last == b"~"):
        pass
    return _ARROWS.get(last, "")


def _await(terminal: int) -> None:
    """Until there is something to read.

    A read that began just after Ctrl-C would not see it before the next key; a wait that ends does.
    """
    while not select.select([terminal], [], [], _SEQUENCE_WAIT)[0]:
        pass


def _next(terminal: int) -> bytes:
    """The next byte of a sequence; none if it does not come."""
    ready, _, _ = select.select([terminal], [], [], _SEQUENCE_WAIT)
    return os.read(terminal, 1) if ready else b""
