"""The sockets behind a real server, with the `websockets` client (wire 4.3)."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from eparch.api.app import App
from eparch.api.policy import Policy
from eparch.api.request import Services
from eparch.api.sockets import Feeds
from eparch.core.errors import Invalid, Unavailable
from eparch.core.events import Event, EventFilter, ReceivedEvent
from eparch.core.model import encode
from eparch.orchestration.broadcast import CAPACITY, Broadcast

from .calling import root_routes, served

WAIT = 15


@dataclass
class Memory:
    """What the store is for a server: keeps events, in order, and publishes them."""

    events: Broadcast[ReceivedEvent] = field(default_factory=Broadcast)
    kept: list[ReceivedEvent] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failure: Exception | None = None
    flood: int = 0
    reading: threading.Event = field(default_factory=threading.Event)
    during_read: list[ReceivedEvent] = field(default_factory=list)

    async def record(self, events: list[Event]) -> None:
        self.batches.append(len(events))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        for event in events:
            for _ in range(self.flood):
                self.events.publish(received(event))
            self.publish(received(event))
        self.flood = 0

    def publish(self, event: ReceivedEvent) -> None:
        self.kept.append(event)
        self.events.publish(event)
        self.arrived.release()

    async def read(self, wanted: EventFilter, after: ReceivedEvent | None, limit: int) -> list[ReceivedEvent]:
        for event in self.during_read:
            self.publish(event)
        self.during_read = []
        self.reading.set()
        found = [e for e in self.kept if wanted.admits(e) and wanted.admits_time(e.occurred)]
        start = found.index(after) + 1 if after is not None else 0
        return found[start : start + limit]

    def feeds(self, services: Services) -> Feeds:
        return Feeds(self.record, self.read, self.events)

    def wait(self, count: int) -> list[str]:
        for _ in range(count):
            assert self.arrived.acquire(timeout=WAIT)
        return [event.event for event in self.kept]


def make(name: str, ago: float = 0.0) -> Event:
    when = datetime.now(UTC) - timedelta(seconds=ago)
    return Event(occurred=when, event=name, resource={"prefect.resource.id": "prefect.flow-run.1"})


def received(event: Event) -> ReceivedEvent:
    return msgspec.convert({**msgspec.structs.asdict(event), "received": event.occurred}, ReceivedEvent)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Memory]]:
    memory = Memory()
    with served(App(Policy(), root_routes(), feeds=memory.feeds)) as place:
        yield place, memory


@pytest.fixture
def memory(server: tuple[str, Memory]) -> Memory:
    memory = server[1]
    memory.kept.clear()
    memory.batches.clear()
    memory.reading.clear()
    return memory


@contextlib.contextmanager
def opened(place: str, name: str, token: Any = None, **options: Any) -> Iterator[ClientConnection]:
    options.setdefault("subprotocols", ["prefect"])
    with connect(f"ws://{place}/{name}", **options) as socket:
        if options["subprotocols"]:
            say(socket, {"type": "auth", "token": token})
            assert hear(socket) == {"type": "auth_success"}
        yield socket


def say(socket: ClientConnection, value: Any) -> None:
    socket.send(encode(value).decode())


def hear(socket: ClientConnection) -> Any:
    return msgspec.json.decode(socket.recv(timeout=WAIT))


def listen(socket: ClientConnection, memory: Memory, filter: Any = None, **more: Any) -> None:
    say(socket, {"type": "filter", "filter": filter or {}, **more})
    assert memory.reading.wait(WAIT)


def closing(socket: ClientConnection) -> tuple[int, str]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=WAIT)
    return socket.close_code or 0, socket.close_reason or ""


def test_events_in_are_recorded_in_order(server: tuple[str, Memory], memory: Memory) -> None:
    with opened(server[0], "events/in") as socket:
        for n in range(1200):
            say(socket, make(f"e{n}"))
    assert memory.wait(1200) == [f"e{n}" for n in range(1200)]
    assert max(memory.batches) <= 500


def test_bad_frame_is_left_out_and_the_next_one_is_taken(server: tuple[str, Memory], memory: Memory) -> None:
    with opened(server[0], "events/in") as socket:
        for frame in ("{", "[]", "{}", '{"event":"x"}', "[" * 5000, b"\xff\x00"):
            socket.send(frame)
        say(socket, make("good"))
        assert memory.wait(1) == ["good"]


def test_nul_in_an_event_does_not_lose_it(server: tuple[str, Memory], memory: Memory) -> None:
    event = msgspec.structs.replace(make("e"), payload={"message": "a\x00b"})
    with opened(server[0], "events/in") as socket:
        say(socket, event)
        memory.wait(1)
    assert memory.kept[0].payload == {"message": "a\ufffdb"}


def test_events_that_can_never_be_recorded_do_not_end_the_socket(
    server: tuple[str, Memory], memory: Memory
) -> None:
    memory.failure = Invalid("no")
    with opened(server[0], "events/in") as socket:
        say(socket, make("bad"))
        while memory.failure is not None:
            socket.ping().wait(WAIT)
        say(socket, make("good"))
        assert memory.wait(1) == ["good"]


def test_socket_ends_when_the_store_cannot_record(server: tuple[str, Memory], memory: Memory) -> None:
    memory.failure = Unavailable("The database is busy.")
    with opened(server[0], "events/in") as socket:
        say(socket, make("lost"))
        assert closing(socket) == (1011, "The database is busy.")


def test_old_client_without_the_subprotocol(server: tuple[str, Memory], memory: Memory) -> None:
    with opened(server[0], "events/in", subprotocols=None) as socket:
        say(socket, make("old"))
        assert memory.wait(1) == ["old"]


def test_events_out_looks_back_and_then_follows(server: tuple[str, Memory], memory: Memory) -> None:
    old, recent = received(make("old", ago=3600)), [received(make(f"e{n}", ago=60)) for n in range(600)]
    memory.kept.extend([old, *recent])
    between = received(make("between"))
    memory.during_read = [between]
    with opened(server[0], "events/out") as socket, opened(server[0], "events/in") as sender:
        listen(socket, memory)
        seen = [hear(socket) for _ in range(601)]
        assert {message["type"] for message in seen} == {"event"}
        assert [m["event"]["event"] for m in seen] == [*(f"e{n}" for n in range(600)), "between"]
        assert UUID(seen[-1]["event"]["id"]) == between.id
        say(sender, make("live"))
        assert hear(socket)["event"]["event"] == "live"


def test_events_out_gives_what_the_filter_admits(server: tuple[str, Memory], memory: Memory) -> None:
    memory.kept.append(received(make("other.past")))
    with opened(server[0], "events/out") as socket, opened(server[0], "events/in") as sender:
        listen(
            socket, memory, {"event": {"prefix": ["wanted."]}, "occurred": {"since": "2020-01-01T00:00:00Z"}}
        )
        for name in ("other.live", "wanted.live"):
            say(sender, make(name))
        assert hear(socket)["event"]["event"] == "wanted.live"


def test_events_out_without_looking_back(server: tuple[str, Memory], memory: Memory) -> None:
    memory.kept.append(received(make("past")))
    with opened(server[0], "events/out") as socket, opened(server[0], "events/in") as sender:
        until_nobody_listens(sender, memory)
        say(socket, {"type": "filter", "filter": {}, "backfill": False})
        while not len(memory.events):
            assert socket.ping().wait(WAIT)
        say(sender, make("live"))
        assert hear(socket)["event"]["event"] == "live"


def test_listener_that_leaves_is_forgotten(server: tuple[str, Memory], memory: Memory) -> None:
    with opened(server[0], "events/in") as other:
        until_nobody_listens(other, memory)
        with opened(server[0], "events/out") as socket:
            listen(socket, memory)
            assert len(memory.events) == 1
        until_nobody_listens(other, memory)


def until_nobody_listens(socket: ClientConnection, memory: Memory) -> None:
    while len(memory.events):
        assert socket.ping().wait(WAIT)


def test_listener_that_falls_behind_is_told(server: tuple[str, Memory], memory: Memory) -> None:
    with opened(server[0], "events/out") as socket, opened(server[0], "events/in") as sender:
        listen(socket, memory)
        memory.flood = CAPACITY + 1
        say(sender, make("flood"))
        assert closing(socket) == (1013, "Too slow: events were lost. Connect again.")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "hello"}, "Expected 'filter' message"),
        ([], "Expected 'filter' message"),
        ({"type": "filter", "filter": {"nope": 1}}, "Invalid filter: Object contains unknown field `nope`"),
        ({"type": "filter"}, "Invalid filter: Expected `object`, got `null`"),
    ],
)
def test_first_message_must_be_a_filter(server: tuple[str, Memory], message: Any, reason: str) -> None:
    with opened(server[0], "events/out") as socket:
        say(socket, message)
        assert closing(socket) == (1002, reason)


def test_first_message_must_be_auth(server: tuple[str, Memory]) -> None:
    with connect(f"ws://{server[0]}/events/in", subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        say(socket, {"type": "filter"})
        assert closing(socket) == (1008, "Expected 'auth' message")


@pytest.mark.parametrize("name", ["work_pools/p/workers/connect", "nope", "logs/out", "events/in/x"])
def test_other_sockets_are_refused_so_that_clients_fall_back(server: tuple[str, Memory], name: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{server[0]}/{name}", subprotocols=["prefect"])  # type: ignore[list-item]
    assert refused.value.response.status_code == 403


def test_page_of_another_site_cannot_listen(server: tuple[str, Memory]) -> None:
    with pytest.raises(InvalidStatus):
        connect(f"ws://{server[0]}/events/out", origin="http://evil.example")  # type: ignore[arg-type]
    with opened(server[0], "events/out", origin=f"http://{server[0].partition('/')[0]}"):
        pass


def test_secret_of_a_socket() -> None:
    memory = Memory()
    with served(App(Policy(auth_string="u:p"), root_routes(), feeds=memory.feeds)) as place:
        with opened(place, "events/in", token="u:p") as socket:
            say(socket, make("in"))
            assert memory.wait(1) == ["in"]
        for token, reason in (
            (None, "Auth required but no token provided"),
            ("x", "Invalid token"),
            (5, "Invalid token"),
        ):
            with connect(f"ws://{place}/events/in", subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
                say(socket, {"type": "auth", "token": token})
                assert closing(socket) == (1008, reason)
        with pytest.raises(InvalidStatus):
            connect(f"ws://{place}/events/in")


def test_frame_that_is_too_large() -> None:
    memory = Memory()
    with (
        served(App(Policy(max_event_bytes=5000), root_routes(), feeds=memory.feeds)) as place,
        opened(place, "events/in") as socket,
    ):
        socket.send("x" * 6000)
        assert closing(socket)[0] == 1009


def test_a_server_that_stops_ends_its_sockets() -> None:
    memory = Memory()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.ExitStack())
        place = server.enter_context(served(App(Policy(), root_routes(), feeds=memory.feeds)))
        socket = stack.enter_context(opened(place, "events/out"))
        listen(socket, memory)
        server.close()
        assert closing(socket)[0] == 1012
