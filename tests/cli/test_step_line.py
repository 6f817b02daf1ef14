"""The line that says which steps run."""

from __future__ import annotations

import io

import pytest

from eparch.cli.step_line import StepLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_below_everything_what_runs_and_for_how_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eparch.cli.step_line.EVERY", 3600)
    monkeypatch.setenv("COLUMNS", "60")
    stream, now = Terminal(), [100.0]
    with StepLine(lambda text: stream.write(text + "\n"), stream, lambda: now[0]) as line:
        line.note("before")
        assert stream.getvalue() == "before\n"
        line.watch(("image:3",))
        now[0] = 112.0
        line.watch(("image:3", "push:9"))
        assert stream.getvalue().endswith("⠋ image:3 12 s · push:9 0 s")
        line.note("a line")
        wiped, _, last = stream.getvalue().rpartition("a line\n")
        assert wiped.endswith("\r\x1b[2K")
        assert last.endswith("⠋ image:3 12 s · push:9 0 s")
        line.watch(("a" * 100,))
        assert len(stream.getvalue().rpartition("\x1b[2K")[2]) < 60
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_elsewhere_there_are_only_lines() -> None:
    stream = io.StringIO()
    with StepLine(lambda text: stream.write(text + "\n"), stream) as line:
        line.watch(("image:3",))
        line.note("a line")
    assert stream.getvalue() == "a line\n"
