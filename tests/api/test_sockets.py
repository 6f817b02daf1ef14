"""The sockets behind a real server, with the `websockets` client (wire 4.3)."""

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
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
from eparch.core.filters import Query
from eparch.core.model import encode
from eparch.core.records import Log
from eparch.orchestration.tail import Item, Tail
from eparch.store.positions import BEGINNING, Following, Place

from .calling import root_routes, served

WAIT = 15


class Memory:
    """What the store is for a server: keeps events, in order, and shows them."""

    def __init__(self) -> None:
        self.kept: list[ReceivedEvent] = []
        self.batches: list[int] = []
        self.arrived = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.reading = threading.Event()
        self.during_read: list[ReceivedEvent] = []
        self.events: Tail[ReceivedEvent] = Tail(
            self.read, self.newest, lambda row: ReceivedEvent(**row), lambda event: event.received
        )
        self.logs: Tail[Any] = Tail(self.read, self.newest, lambda row: row, lambda row: row)

    async def record(self, events: list[Event]) -> None:
        self.batches.append(len(events))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        for event in events:
            self.publish(received(event))

    def publish(self, event: ReceivedEvent) -> None:
        self.kept.append(event)
        self.events.wake()
        self.arrived.release()

    def rows(self) -> list[dict[str, Any]]:
        return [{**msgspec.structs.asdict(event), "position": at} for at, event in enumerate(self.kept)]

    async def newest(self) -> Place:
        self.reading.set()
        return Place(len(self.kept) - 1, self.kept[-1].id) if self.kept else BEGINNING

    async def read(self, place: Place, limit: int) -> Following:
        return Following(self.rows()[place.position + 1 :][:limit], unsettled=False)

    def feeds(self, services: Services) -> Feeds:
        return Feeds(self.record, self.events, self.logs, Before(self))

    def wait(self, count: int) -> list[str]:
        for _ in range(count):
            assert self.arrived.acquire(timeout=WAIT)
        return [event.event for event in self.kept]


class Before:
    """The past: what is kept already, in two pages, between which something more may happen."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    async def events(self, wanted: EventFilter) -> AsyncIterator[list[Item[ReceivedEvent]]]:
        memory = self.memory
        found = [e for e in memory.kept if wanted.admits(e) and wanted.admits_time(e.occurred)]
        yield [self.item(event) for event in found[:250]]
        for event in memory.during_read:
            memory.publish(event)
        rest = [*found[250:], *memory.during_read]
        memory.during_read = []
        yield [self.item(event) for event in rest]

    def item(self, event: ReceivedEvent) -> Item[ReceivedEvent]:
        row = msgspec.structs.asdict(event)
        return self.memory.events.item({**row, "position": self.memory.kept.index(event)})

    async def logs(self, wanted: Query) -> AsyncIterator[list[Item[Log]]]:
        yield []


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


def test_listener_goes_on_after_a_place(server: tuple[str, Memory], memory: Memory) -> None:
    memory.kept += [received(make(f"e{n}")) for n in range(3)]
    with opened(server[0], "events/out") as socket:
        listen(socket, memory)
        seen = [hear(socket) for _ in range(3)]
    assert ["place" in message for message in seen] == [False, False, True]
    memory.kept += [received(make(f"e{n}")) for n in range(3, 6)]
    with opened(server[0], "events/out") as socket:
        listen(socket, memory, after=seen[-1]["place"])
        assert [hear(socket)["event"]["event"] for _ in range(3)] == ["e3", "e4", "e5"]


def test_listener_that_is_too_far_behind_is_told(server: tuple[str, Memory], memory: Memory) -> None:
    memory.kept += [received(make(f"e{n}", ago=16 * 60)) for n in range(2)]
    with opened(server[0], "events/out") as socket:
        listen(socket, memory, after=f"0:{memory.kept[0].id}")
        assert closing(socket) == (1013, "Too far behind. Connect again, without 'after'.")


@pytest.mark.parametrize("after", ["", "x", "1:2", 5, "-1:" + str(UUID(int=0)), "9" * 30 + ":x"])
def test_a_place_that_was_not_made_here(server: tuple[str, Memory], memory: Memory, after: Any) -> None:
    with opened(server[0], "events/out") as socket:
        say(socket, {"type": "filter", "filter": {}, "after": after})
        assert closing(socket) == (1002, "Invalid place in 'after'")


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


@pytest.mark.parametrize("name", ["work_pools/p/workers/connect", "nope", "events/in/x"])
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
