"""The load generator: a process of its own that drives one HTTP server over keep-alive connections.

It reads a ``Plan`` as JSON on stdin and prints what happened as JSON. Requests are encoded before the clock
starts; a connection sends its next request when the last is answered. A conversation is one walk through
``steps``; ``{id}`` in a later step is the id that the first step's answer carried, ``{unique}`` a fresh UUID.
Only what ends with 2xx throughout counts; an error ends its conversation and is counted by its status.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.stock import ROOT

ID = re.compile(rb'"id"\s*:\s*"([0-9a-f-]{36})"')


@dataclass(frozen=True)
class Plan:
    """What to send where: at most ``count`` conversations or ``seconds``, whichever is first."""

    port: int
    steps: tuple[tuple[str, str, str], ...]  # method, path under /api, body
    connections: int = 8
    seconds: float = 8.0
    count: int = 1_000_000
    ids: tuple[str, ...] = ()  # what {id} is in a plan whose first step makes none, in turn


@dataclass(frozen=True)
class Outcome:
    """How it went: conversations a second, failures by status, latency of a conversation in milliseconds."""

    done: int
    seconds: float
    failures: dict[str, int] = field(default_factory=dict)
    median: float = 0.0
    p99: float = 0.0
    example: str = ""  # one failed answer

    @property
    def rate(self) -> float:
        """Conversations a second that ended well."""
        return self.done / self.seconds if self.seconds else 0.0


def drive(plan: Plan) -> Outcome:
    """Run ``plan`` in a process of its own, so that this one's work does not disturb it."""
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(
        command, input=json.dumps(asdict(plan)), text=True, capture_output=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise RuntimeError(f"the load generator ended with code {done.returncode}: {done.stderr[-500:]}")
    return Outcome(**json.loads(done.stdout))


def encode(method: str, path: str, body: str) -> bytes:
    """A whole HTTP/1.1 request; the length is right for any UUID put in place of a marker."""
    marks = body.count("{id}") * (36 - len("{id}")) + body.count("{unique}") * (36 - len("{unique}"))
    head = f"{method} /api{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body.encode()) + marks}\r\n\r\n{body}".encode()


class Wire(asyncio.Protocol):
    """One keep-alive connection: ``send`` one request, await its ``(status, body)``."""

    def __init__(self) -> None:
        self.buffer = b""
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, data: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Write a request; the future is its answer. Raises ``ConnectionError`` when it cannot be sent."""
        if self.transport.is_closing():
            raise ConnectionError("the server closed the connection")
        self.buffer = b""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(data)  # type: ignore[attr-defined]
        return self.answer

    def data_received(self, data: bytes) -> None:
        if self.answer is None or self.answer.done():
            return
        self.buffer += data
        whole = parse(self.buffer)
        if whole is not None:
            self.answer.set_result(whole)

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("the server closed the connection"))


def parse(buffer: bytes) -> tuple[int, bytes] | None:
    """Status and body of a complete HTTP/1.1 answer, None while it is not complete."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, rest = buffer[:end].lower(), buffer[end + 4 :]
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head:
        return (status, rest) if rest.endswith(b"0\r\n\r\n") else None
    mark = head.find(b"content-length:")
    length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
    return (status, rest[:length]) if len(rest) >= length else None


@dataclass
class Tally:
    """What all connections share while they run."""

    plan: Plan
    deadline: float
    begun: int = 0
    done: int = 0
    times: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def take(self) -> int | None:
        """Number of the next conversation, None when there shall be no more."""
        if self.begun >= self.plan.count or time.perf_counter() >= self.deadline:
            return None
        self.begun += 1
        return self.begun - 1


async def converse(wire: Wire, requests: Sequence[bytes], given: bytes, tally: Tally) -> bool:
    """Walk through one conversation; whether every answer was 2xx."""
    known = given
    for number, request in enumerate(requests):
        data = request.replace(b"{id}", known).replace(b"{unique}", str(uuid.uuid4()).encode())
        status, body = await wire.send(data)
        if not 200 <= status < 300:
            tally.failures[str(status)] += 1
            tally.example = tally.example or body[:300].decode(errors="replace")
            return False
        if number == 0 and len(requests) > 1 and (found := ID.search(body)):
            known = found[1]
    return True


async def connect_and_talk(tally: Tally, requests: Sequence[bytes]) -> None:
    """One connection: conversations until the plan is done; a lost connection is opened again."""
    loop = asyncio.get_running_loop()
    ids = [i.encode() for i in tally.plan.ids] or [b""]
    wire: Wire | None = None
    while (number := tally.take()) is not None:
        begun = time.perf_counter()
        try:
            if wire is None or wire.transport.is_closing():
                _, wire = await loop.create_connection(Wire, "127.0.0.1", tally.plan.port)
            if await asyncio.wait_for(converse(wire, requests, ids[number % len(ids)], tally), 60):
                tally.done += 1
                tally.times.append(time.perf_counter() - begun)
            else:  # servers close a connection after some errors, and say so too late
                wire.transport.close()
                wire = None
        except (OSError, TimeoutError) as error:
            tally.failures[type(error).__name__] += 1
            wire = None
    if wire is not None:
        wire.transport.close()


async def execute(plan: Plan) -> Outcome:
    """Run ``plan`` in this process."""
    requests = [encode(*step) for step in plan.steps]
    begun = time.perf_counter()
    tally = Tally(plan, begun + plan.seconds)
    await asyncio.gather(*(connect_and_talk(tally, requests) for _ in range(plan.connections)))
    seconds = time.perf_counter() - begun
    times = sorted(tally.times) or [0.0]
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return Outcome(
        tally.done, seconds, dict(tally.failures), statistics.median(times) * 1e3, p99 * 1e3, tally.example
    )  # fmt: skip


def main() -> None:
    """Read a plan from stdin, run it, print the outcome."""
    given: dict[str, Any] = json.load(sys.stdin)
    given["steps"] = tuple(tuple(step) for step in given["steps"])
    plan = Plan(**given)
    try:
        import uvloop
    except ImportError:
        outcome = asyncio.run(execute(plan))
    else:
        outcome = uvloop.run(execute(plan))
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
