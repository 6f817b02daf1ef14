"""The reporter: batches, back-pressure, outages, what the server refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import Forbidden, Invalid, TooLarge, Unreachable
from eparch.core.model import decode, encode
from eparch.sdk import reporter as reporters
from eparch.sdk.reporter import Reporter


class Post:
    """Takes batches, or does what it is told first."""

    def __init__(self, trouble: Callable[[list[Any]], None] = lambda items: None) -> None:
        self.trouble = trouble
        self.states: list[list[Any]] = []
        self.lines: list[list[Any]] = []

    def __call__(self, call: Call[Any]) -> None:
        items: list[Any] = decode(encode(call.body))
        self.trouble(items)
        (self.states if call.endpoint is calls.create_events else self.lines).append(items)

    @property
    def all_states(self) -> list[Any]:
        return [item for batch in self.states for item in batch]


def test_flush_returns_when_everything_is_acknowledged() -> None:
    post = Post()
    reporter = Reporter(post, interval=60)
    for n in range(3):
        reporter.report(n)
    reporter.log("line")
    reporter.flush()
    assert (post.all_states, post.lines) == ([0, 1, 2], [["line"]])
    reporter.close()


def test_order_is_kept_and_batches_are_bounded() -> None:
    post = Post()
    reporter = Reporter(post)
    for n in range(2_000):
        reporter.report(n)
    reporter.flush()
    assert post.all_states == list(range(2_000))
    assert max(len(batch) for batch in post.states) <= reporters.BATCH


def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters, "BATCH_BYTES", 100)
    post = Post()
    reporter = Reporter(post)
    for text in ("a" * 60, "b" * 60, "c" * 500):
        reporter.report(text)
    reporter.flush()
    assert [len(batch) for batch in post.states] == [1, 1, 1]


def test_a_full_queue_holds_back_who_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters, "MAX_QUEUED", 10)
    open_, entered = threading.Event(), threading.Event()

    def hold(items: list[Any]) -> None:
        entered.set()
        open_.wait(10)

    post = Post(hold)
    reporter = Reporter(post)
    done = threading.Event()

    def work() -> None:
        for n in range(30):
            reporter.report(n)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert entered.wait(10)
    assert not done.wait(0.02)
    assert reporter.full
    open_.set()
    assert done.wait(10)
    reporter.flush()
    assert post.all_states == list(range(30))


def test_log_lines_never_hold_anybody_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporters, "MAX_QUEUED", 5)
    open_, entered = threading.Event(), threading.Event()

    def hold(items: list[Any]) -> None:
        entered.set()
        open_.wait(10)

    post = Post(hold)
    reporter = Reporter(post)
    reporter.log(0)
    assert entered.wait(10)
    for n in range(1, 50):
        reporter.log(n)
    open_.set()
    reporter.flush()
    sent = [line for batch in post.lines for line in batch]
    assert sent == [0, *range(45, 50)]
    assert "44 log lines were dropped" in capsys.readouterr().err


def test_an_outage_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters.time, "sleep", lambda seconds: None)
    left = [3]

    def away(items: list[Any]) -> None:
        if left[0]:
            left[0] -= 1
            raise Unreachable("away")

    post = Post(away)
    reporter = Reporter(post)
    for n in range(10):
        reporter.report(n)
    reporter.flush()
    assert post.all_states == list(range(10))


def test_states_are_given_up_after_patience_and_flush_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters.time, "sleep", lambda seconds: None)

    def away(items: list[Any]) -> None:
        raise Unreachable("away", fix="Start it.")

    post = Post(away)
    reporter = Reporter(post, patience=0.0)
    reporter.report(1)
    with pytest.raises(Unreachable, match="task states could not be recorded: away") as caught:
        reporter.flush()
    assert caught.value.fix == "Start it."
    post.trouble = lambda items: None
    reporter.report(2)
    reporter.flush()
    assert post.all_states == [2]


@pytest.mark.parametrize("error", [Forbidden("not you"), TypeError("a bug")])
def test_what_waiting_cannot_mend_is_given_up_at_once(error: Exception) -> None:
    def refuse(items: list[Any]) -> None:
        raise error

    reporter = Reporter(Post(refuse))
    reporter.report(1)
    with pytest.raises(Exception, match=str(error)):
        reporter.flush()


@pytest.mark.parametrize("kind", [Invalid, TooLarge])
def test_one_refused_state_does_not_take_the_others_along(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(items: list[Any]) -> None:
        if 13 in items:
            raise kind("number 13")

    post = Post(refuse)
    reporter = Reporter(post)
    for n in range(100):
        reporter.report(n)
    reporter.flush()
    assert post.all_states == [n for n in range(100) if n != 13]
    assert "refused a task state: number 13" in capsys.readouterr().err


def test_lines_that_cannot_be_sent_are_told_of_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(items: list[Any]) -> None:
        raise Unreachable("away")

    reporter = Reporter(Post(refuse))
    reporter.log("line")
    reporter.flush()
    assert "1 log lines could not be sent: away" in capsys.readouterr().err


def test_flush_does_not_wait_longer_than_it_may() -> None:
    open_ = threading.Event()
    reporter = Reporter(Post(lambda items: open_.wait(10) and None))
    reporter.report(1)
    assert reporter.flush(timeout=0.01) is False
    open_.set()
    assert reporter.flush() is True


def test_close_sends_what_is_left() -> None:
    post = Post()
    reporter = Reporter(post, interval=60)
    reporter.report(1)
    reporter.close()
    assert post.all_states == [1]
