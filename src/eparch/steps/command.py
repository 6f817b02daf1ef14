"""Running one command of a step: its output is told line by line and kept.

Owns the child process of a step and where a step's lines go. Does not own what is run.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from eparch.core.errors import StepFailed

Output = Callable[[str], None]
"""Takes one line, without its end."""

LAST_LINES = 20
"""How many lines of output an error shows."""

MAX_KEPT = 10_000_000
"""Characters of each stream that are kept; what follows is told, not kept."""


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201  a step's output belongs on the terminal when nobody else takes it


OUTPUT: ContextVar[Output] = ContextVar("OUTPUT", default=_print)
"""Where the lines of the step that runs now go; the runner sets it."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What a command wrote."""

    stdout: str
    stderr: str


def run_command(
    argv: Sequence[str],
    *,
    directory: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stream_output: bool = True,
    shown: str | None = None,
    hidden: Iterable[str] = (),
) -> Captured:
    """Run ``argv`` and wait for it.

    ``env`` is laid over this process's environment. ``shown`` stands for the command in errors; the texts in
    ``hidden`` are secrets and are replaced wherever output is told or kept.

    Raises:
        StepFailed: it cannot be started, or its exit code is not 0; with its last lines.
    """
    name = shown if shown is not None else " ".join(argv)
    if directory is not None and not Path(directory).is_dir():
        raise StepFailed(
            f"'{name}' cannot run in '{directory}'",
            why="there is no such directory",
            fix="correct 'directory'",
        )
    try:
        # The environment of a step is that of its job; a step has no settings of its own.
        process = subprocess.Popen(
            list(argv),
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise StepFailed(
            f"'{name}' could not be started",
            why=error.strerror or str(error),
            fix=f"install '{argv[0]}', or correct the command",
        ) from error
    out, err = _Capture(stream_output, hidden), _Capture(stream_output, hidden)
    with process:
        try:
            _read_both(process, out, err)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        last = [*out.lines[-LAST_LINES:], *err.lines[-LAST_LINES:]][-LAST_LINES:]
        raise StepFailed(f"'{name}' ended with exit code {process.returncode}", why="\n".join(last))
    return Captured(out.text, err.text)


def tell(line: str) -> None:
    """Give one line to whoever takes the output of the step that runs now."""
    OUTPUT.get()(line)


class _Capture:
    """The lines of one stream."""

    def __init__(self, stream: bool, hidden: Iterable[str]) -> None:
        self.lines: list[str] = []
        self.kept = 0
        self.hidden = [secret for secret in hidden if secret]
        self.output = OUTPUT.get() if stream else None

    def read(self, source: IO[str]) -> None:
        for raw in source:
            line = raw.rstrip("\r\n")
            for secret in self.hidden:
                line = line.replace(secret, "***")
            self.kept += len(line)
            if self.kept <= MAX_KEPT:
                self.lines.append(line)
            if self.output is not None:
                self.output(line)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


def _read_both(process: subprocess.Popen[str], out: _Capture, err: _Capture) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=err.read, args=(process.stderr,), daemon=True)
    reader.start()
    out.read(process.stdout)
    reader.join()
    process.wait()
