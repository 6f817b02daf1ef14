"""The benchmark's own arithmetic and load generator: a table that nobody checks would be believed anyway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from bench.__main__ import MEASURES
from bench.load import Outcome, Plan, encode, execute, parse
from bench.report import make_page, record
from bench.rows import BUDGETS, Reading, Row, render

ID = "0199aa00-0000-7000-8000-000000000001"


def test_every_row_is_measured_once() -> None:
    assert sorted(measure.key for measure in MEASURES) == sorted(row.key for row in BUDGETS)


@pytest.mark.parametrize(
    ("unit", "budget", "theirs", "ours", "ratio", "met"),
    [("/s", 100, 50, 200, 4.0, True), ("/s", 100, 50, 99, 1.98, False), ("s", 1, 8, 2, 4.0, False)],
)
def test_a_ratio_says_how_many_times_better_we_are(
    unit: str, budget: float, theirs: float, ours: float, ratio: float, met: bool
) -> None:
    row = Row("k", "work", unit, budget, Reading(theirs), Reading(ours))
    assert (row.ratio, row.is_met) == (ratio, met)


def test_a_fast_answer_that_fails_keeps_no_budget() -> None:
    assert Row("k", "work", "/s", 1, None, Reading(5, {"503": 1})).is_met is False


def test_what_was_not_measured_shows_as_a_dash() -> None:
    assert render([Row("k", "work", "s", 0.5)])[2] == "| work | - | - | - | <= 0.500 s | - |"


def test_the_page_tells_which_rows_are_preliminary() -> None:
    book: dict[str, dict[str, object]] = {}
    about = {"version": "1", "date": "2026-01-01", "machine": "m"}
    record(book, "prefect", {**about, "preliminary": True}, "read", Reading(10))
    record(book, "prefect", {**about, "preliminary": False}, "list", Reading(10))
    page = make_page(book)
    assert "Preliminary: others used the machine. Rows: read." in page
    assert "on m. Rows: list." in page


def test_the_page_tells_what_a_filled_database_kept() -> None:
    about = {"date": "2026-01-01", "machine": "m", "size": {"flow_runs": 1000}, "preliminary": True}
    reading = {"median": 1.0, "p99": 2.0, "budget": 3.0, "failures": {}, "about": about}
    book = {
        "scale-sqlite": {
            "a": reading,
            "b": {**reading, "p99": 3.5},
            "c": {**reading, "failures": {"500": 1}},
        }
    }
    page = make_page(book)
    assert "### sqlite" in page
    assert "Preliminary: others used the machine. Rows: 1,000 flow runs." in page
    assert "| a | 1.0 | 2.0 | 3 | yes |" in page
    assert "| b | 1.0 | 3.5 | 3 | no |" in page
    assert "| c | 1.0 | 2.0 | 3 | no |" in page
    assert "## Scale" not in make_page({})


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", (201, b"{}")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            (200, b"2\r\n{}\r\n0\r\n\r\n"),
        ),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n{}", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", None),
        (b"HTTP/1.1 200 OK\r\nConte", None),
    ],
)
def test_an_answer_is_whole_or_awaited(raw: bytes, found: tuple[int, bytes] | None) -> None:
    assert parse(raw) == found


def test_the_length_of_a_request_counts_what_replaces_its_markers() -> None:
    head, _, body = encode("POST", "/x", '{"name": "{unique}"}').partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body.replace(b'{unique}', ID.encode()))}".encode() in head


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Path and body of one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
    return head.split()[1], await reader.readexactly(length)


@contextlib.asynccontextmanager
async def counting_server(seen: list[str], refuse: int) -> AsyncIterator[int]:
    """A server that makes an id for POST /api/make, refuses every ``refuse``-th request; yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path, body = await read_request(reader)
                seen.append(path)
                refused = refuse and len(seen) % refuse == 0
                text = f'{{"id": "{ID}", "size": {len(body)}}}'
                status = "503 Busy" if refused else "201 Created"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def load(count: int, connections: int, refuse: int = 0) -> tuple[Outcome, list[str]]:
    """Run conversations of two requests against the server above; the outcome and the paths it saw."""
    seen: list[str] = []

    async def go() -> Outcome:
        async with counting_server(seen, refuse) as port:
            steps = (("POST", "/make", '{"name": "{unique}"}'), ("POST", "/use/{id}", "{}"))
            return await execute(Plan(port, steps, connections, 30, count))

    return asyncio.run(go()), seen


def test_a_conversation_uses_the_id_that_it_was_given() -> None:
    outcome, seen = load(count=10, connections=3)
    assert (outcome.done, outcome.failures) == (10, {})
    assert seen.count("/api/make") == 10
    assert seen.count(f"/api/use/{ID}") == 10


def test_failed_conversations_are_counted_apart() -> None:
    outcome, seen = load(count=10, connections=1, refuse=5)
    assert outcome.done + outcome.failures["503"] == 10
    assert outcome.failures["503"] == len(seen) // 5
    assert ID in outcome.example
