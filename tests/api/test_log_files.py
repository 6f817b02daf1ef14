"""A log is downloaded piece by piece: nothing is made before the client took what was there."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import pytest

from eparch.api import log_files
from eparch.api.log_files import csv_of
from eparch.api.request import Answer, Request
from eparch.api.router import Route
from eparch.core import calls
from eparch.core.errors import Unavailable

from .calling import call, call_in_loop, make_app

PATH = f"/api/flow_runs/{uuid4()}/logs/download"


class Lines:
    """A database with so many lines of one run."""

    def __init__(self, number: int) -> None:
        self.lines = [(UUID(int=n), n, 20, None, None, f"line, {n}") for n in range(number)]
        self.reads = 0

    async def scan(self, operation: Any, run: UUID, after: Any, limit: int) -> Any:
        self.reads += 1
        return [line for line in self.lines if line[0] > after[1] or self.reads == 1][:limit]


async def texts(chunks: AsyncGenerator[bytes, None]) -> list[str]:
    return [chunk.decode() async for chunk in chunks]


@pytest.mark.parametrize(("number", "pieces"), [(0, 1), (3, 1), (4, 1), (9, 3)])
def test_a_log_comes_in_pages_under_one_heading(
    number: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "PAGE", 4)
    found = asyncio.run(texts(csv_of(Lines(number), uuid4())))  # type: ignore[arg-type]
    assert len(found) == pieces
    lines = "".join(found).splitlines()
    assert lines[0] == "timestamp,level,flow_run_id,task_run_id,message"
    assert lines[1:] == [f'{n},20,,,"line, {n}"' for n in range(number)]


class Source:
    """Pieces, how many were made, and whether the rest was given up."""

    def __init__(self, number: int, error: Exception | None = None) -> None:
        self.number, self.error = number, error
        self.made = 0
        self.closed = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while self.made < self.number:
                self.made += 1
                yield b"x" * 10_000
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True

    def app(self) -> Any:
        async def handler(request: Request, id: UUID) -> Answer:
            return Answer(200, media="text/csv", chunks=self.chunks())

        return make_app(Route(calls.download_flow_run_logs, handler))


def test_pieces_are_sent_without_a_length() -> None:
    source = Source(5)
    response = asyncio.run(
        call_in_loop(source.app(), "GET", PATH, headers={"accept-encoding": "gzip"}, stay=True)
    )
    assert (response.status, len(response.body)) == (200, 50_000)
    assert response.headers["content-type"] == "text/csv"
    assert "content-length" not in response.headers
    assert "content-encoding" not in response.headers


def test_what_fails_at_once_is_answered_as_an_error() -> None:
    response = call(Source(0, Unavailable("The database does not answer.")).app(), "GET", PATH)
    assert response.status == 503
    assert response.headers["content-length"]


def test_what_fails_later_breaks_the_answer_off() -> None:
    source = Source(2, Unavailable("The database does not answer."))
    with pytest.raises(Unavailable):
        asyncio.run(call_in_loop(source.app(), "GET", PATH, stay=True))
    assert source.closed


def test_nothing_more_is_made_for_a_client_that_went_away() -> None:
    source = Source(1000)
    scope = {
        "type": "http", "method": "GET", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }  # fmt: skip
    sent = []

    async def receive() -> dict[str, Any]:
        while len(sent) < 4:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(source.app()(scope, receive, send))
    assert source.made < 20
    assert source.closed


def test_a_head_makes_only_the_first_piece() -> None:
    source = Source(1000)
    response = asyncio.run(call_in_loop(source.app(), "HEAD", PATH, stay=True))
    assert (response.status, response.body, source.made) == (200, b"", 1)
    assert source.closed
