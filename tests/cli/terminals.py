"""A real terminal with a command of ours on it, for tests that drive it key by key."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

DOWN, UP, ENTER, CTRL_C, CTRL_D = "\x1b[B", "\x1b[A", "\r", "\x03", "\x04"

_START = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from eparch.cli.app import main; main(sys.argv[1:])"
)
_PATIENCE = 60
"""Seconds that a busy machine gets to show what is waited for."""


class Terminal:
    """A pseudo-terminal; what it shows is in ``seen``."""

    def __init__(self, *arguments, columns=100, rows=40, env=None):
        self.screen, theirs = pty.openpty()
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**environ, "TERM": "xterm-256color", **(env or {})},
        )
        os.close(theirs)
        self.seen = ""
        self.mark = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.screen)

    def wait(self, text):
        """Until ``text`` is shown after all that was waited for before."""
        end = time.monotonic() + _PATIENCE
        while (at := self.plain.find(text, self.mark)) < 0:
            assert self._read(end - time.monotonic()), f"{text!r} is not shown: {self.seen!r}"
        self.mark = at + len(text)

    def type(self, keys):
        """Press ``keys``."""
        os.write(self.screen, keys.encode())

    def answer(self, text, keys):
        """Wait for the question ``text`` and press ``keys``."""
        self.wait(text)
        self.type(keys)

    def interrupt(self, text):
        """Wait for ``text`` and press Ctrl-C; the exit code. Again if it was not seen: just before a read."""
        self.wait(text)
        for _ in range(_PATIENCE // 4):
            self.type(CTRL_C)
            end = time.monotonic() + 4
            while self._read(end - time.monotonic()):
                pass
            if time.monotonic() < end:
                break
        return self.end()

    def end(self):
        """The exit code, when all is shown."""
        end = time.monotonic() + _PATIENCE
        while self._read(end - time.monotonic()):
            pass
        return self.process.wait(timeout=_PATIENCE)

    @property
    def plain(self):
        """What was shown without colours and moves."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen).replace("\r", "")

    def _read(self, seconds):
        if seconds <= 0 or not select.select([self.screen], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.screen, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)
