"""Following a server through lost connections: each line once, none lost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from eparch.client import following
from eparch.client.following import EVENTS, LOGS, Feed, follow
from eparch.core.errors import Disconnected, Unreachable

from .test_socket import WAIT, serving, settings, welcome


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(following, "LONGEST_PAUSE", 0.01)


Turn = Callable[[ServerConnection], None]


@contextlib.contextmanager
def taking_turns(*turns: Turn) -> Iterator[tuple[str, list[Any]]]:
    """A server that treats each connection in its own way; the list is what each said first."""
    waiting, said = list(turns), list[Any]()

    def handle(connection: ServerConnection) -> None:
        welcome(connection)
        said.append(json.loads(connection.recv(WAIT)))
        waiting.pop(0)(connection)

    with serving(handle) as url:
        yield url, said


def line(number: int, **more: Any) -> str:
    shown = {"id": f"id{number}", "message": f"m{number}", "timestamp": f"2026-01-01T00:00:0{number}Z"}
    return json.dumps({"type": "log", "log": shown, **more})


def shows(*messages: str, code: int = 0) -> Turn:
    def turn(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message)
        if code:
            connection.close(code, "because")
        else:
            with contextlib.suppress(Exception):
                connection.recv(WAIT)

    return turn


def take(home: Path, url: str, number: int, feed: Feed = LOGS, **options: Any) -> list[str]:
    found: list[str] = []
    for value in follow(settings(home, EPARCH_API_URL=url), feed, {}, quiet=0.05, **options):
        if value is not None:
            found.append(value["message"])
            if len(found) == number:
                return found
    raise AssertionError


def test_it_goes_on_from_the_place_that_was_named(tmp_path: Path) -> None:
    turns = (shows(line(1), line(2, place="7:x"), code=1012), shows(line(3, place="8:y")))
    with taking_turns(*turns) as (url, said):
        assert take(tmp_path, url, 3, backfill=True) == ["m1", "m2", "m3"]
        assert said == [
            {"type": "filter", "filter": {}, "backfill": True},
            {"type": "filter", "filter": {}, "after": "7:x"},
        ]


def test_without_a_place_it_goes_on_from_the_newest_time(tmp_path: Path) -> None:
    """A connection that is lost while the past is shown, or a server that names no places."""
    turns = (shows(line(1), line(2), code=1012), shows(line(2), line(3)))
    with taking_turns(*turns) as (url, said):
        assert take(tmp_path, url, 3, backfill=False) == ["m1", "m2", "m3"]
        since = {"timestamp": {"after_": "2026-01-01T00:00:02Z"}}
        assert said[1] == {"type": "filter", "filter": since, "backfill": True}


def test_who_is_too_far_behind_begins_again_from_the_newest_time(tmp_path: Path) -> None:
    turns = (
        shows(line(1, place="1:x"), code=1011),
        shows(code=1013),
        shows(line(1), line(2, place="2:x")),
    )
    with taking_turns(*turns) as (url, said):
        assert take(tmp_path, url, 2, backfill=False) == ["m1", "m2"]
        assert "after" in said[1]
        assert said[2]["filter"]["timestamp"] == {"after_": "2026-01-01T00:00:01Z"}


def test_a_filter_that_is_refused_is_not_tried_again(tmp_path: Path) -> None:
    with taking_turns(shows(code=1002)) as (url, _), pytest.raises(Disconnected, match="over"):
        take(tmp_path, url, 1, backfill=False)


def test_it_gives_up_when_nothing_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ATTEMPTS", 2)
    with taking_turns(*(shows(code=1011) for _ in range(3))) as (url, said):
        with pytest.raises(Disconnected):
            take(tmp_path, url, 1, backfill=False)
        assert len(said) == 3


def test_nobody_is_there_at_first(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        take(tmp_path, "http://127.0.0.1:1/api", 1, EVENTS, backfill=False)


def test_silence_is_told(tmp_path: Path) -> None:
    with taking_turns(shows()) as (url, _):
        stream = follow(settings(tmp_path, EPARCH_API_URL=url), LOGS, {}, backfill=False, quiet=0.01)
        assert next(stream) is None
        stream.close()  # type: ignore[attr-defined]
