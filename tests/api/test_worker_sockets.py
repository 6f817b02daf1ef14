"""The socket of a worker behind a real server and its database (wire 4.3)."""

from __future__ import annotations

import contextlib
import http.client
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from eparch import settings
from eparch.api.app import App, create_app
from eparch.core.model import encode
from eparch.core.worker_channel import CleanupKind
from eparch.orchestration.worker_channels import CLEANUP_LEASE, MAX_CLEANUPS, MAX_DELIVERIES, Desk, Teardown

from .application import TEMPLATE
from .calling import served

WAIT = 15
NEEDED = ["worker_heartbeat.v1", "work_pool_snapshot.v1"]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Server:
    """A running server, over HTTP and over sockets."""

    def __init__(self, app: App, place: str) -> None:
        self.app = app
        self.place = place

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        host, _, base = self.place.partition("/")
        connection = http.client.HTTPConnection(host, timeout=WAIT)
        connection.request(method, f"/{base}{path}", encode(body) if body is not None else None)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status < 300, data
        return msgspec.json.decode(data) if data else None

    def pool(self, **more: Any) -> Any:
        body = {"name": f"pool-{uuid4().hex}", "type": "process", "base_job_template": TEMPLATE, **more}
        return self.ask("POST", "/work_pools/", body)

    def worker(self, pool: str) -> Any:
        found = self.ask("POST", f"/work_pools/{pool}/workers/filter", {})
        return found[0] if found else None

    @contextlib.contextmanager
    def opened(self, pool: str, token: str | None = None) -> Iterator[ClientConnection]:
        url = f"ws://{self.place}/work_pools/{pool}/workers/connect"
        with connect(url, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
            say(socket, {"type": "auth", "token": token})
            assert hear(socket) == {"type": "auth_success"}
            yield socket


@contextlib.contextmanager
def started(**more: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as home:
        given = {"EPARCH_HOME": home, "EPARCH_DATABASE_URL": "sqlite://", "EPARCH_SERVICES_ENABLED": "false"}
        app = create_app(settings.load({**given, **more}, Path(home)))
        with served(app) as place:
            yield Server(app, place)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as found:
        yield found


def say(socket: ClientConnection, value: Any) -> None:
    socket.send(encode(value).decode())


def hear(socket: ClientConnection, type_: str | None = None) -> Any:
    frame = msgspec.json.decode(socket.recv(timeout=WAIT))
    if type_ is None:
        return frame
    assert frame["type"] == type_, frame
    assert set(frame) == {"type", "id", "sent_at", "payload"}
    assert UUID(frame["id"])
    return frame["payload"]


def frame(type_: str, payload: Any) -> dict[str, Any]:
    return {"type": type_, "id": str(uuid4()), "sent_at": "2026-11-22T12:00:00Z", "payload": payload}


def hello(**changes: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "consumer_id": str(uuid4()),
        "worker_name": "worker",
        "worker_type": "process",
        "heartbeat_interval_seconds": 30,
        "supported_channel_versions": ["work_pool_worker_channel.v1"],
        "requested_capabilities": NEEDED,
        "work_queue_names": [],
        "handled_cleanup_kinds": [],
        "max_cleanup_concurrency": 0,
        "create_pool_if_not_found": False,
        "default_base_job_template": {},
        "worker_metadata": {"integrations": []},
    }
    return frame("worker.hello.v1", {**payload, **changes})


def closing(socket: ClientConnection) -> tuple[int, str]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=WAIT)
    return socket.close_code or 0, socket.close_reason or ""


def test_w11_each_process_on_a_channel_is_an_instance_and_a_name_alone_is_another(server: Server) -> None:
    pool = server.pool()
    said = [hello(), hello()]
    for one in said:
        with server.opened(pool["name"]) as socket:
            say(socket, one)
            hear(socket, "worker.ready.v1")
    server.ask("POST", f"/work_pools/{pool['name']}/workers/heartbeat", {"name": "over-http"})
    found = server.ask("POST", "/worker_instances/filter", {"work_pool_name": pool["name"]})
    assert [one["name"] for one in found] == ["over-http", "worker", "worker"]
    assert {one["id"] for one in found[1:]} == {one["payload"]["consumer_id"] for one in said}
    assert {one["status"] for one in found} == {"ONLINE"}
    assert (found[1]["about"]["software"], found[1]["about"]["types"]) == ("prefect", ["process"])


def test_hello_makes_the_worker_online_and_is_answered_with_the_pool(server: Server) -> None:
    pool = server.pool()
    said = hello(requested_capabilities=[*NEEDED, "later.v9"])
    with server.opened(pool["name"]) as socket:
        say(socket, said)
        ready = hear(socket, "worker.ready.v1")
    worker = server.worker(pool["name"])
    assert (worker["name"], worker["status"], worker["heartbeat_interval_seconds"]) == (
        "worker",
        "ONLINE",
        30,
    )
    snapshot = ready.pop("initial_snapshot")
    assert ready == {
        "consumer_id": said["payload"]["consumer_id"],
        "worker_id": None,
        "selected_channel_version": "work_pool_worker_channel.v1",
        "effective_heartbeat_interval_seconds": 30,
        "accepted_capabilities": NEEDED,
        "rejected_capabilities": ["later.v9"],
        "effective_max_cleanup_concurrency": 0,
        "resolved_work_queues": [{"id": pool["default_queue_id"], "name": "default"}],
    }
    assert (snapshot["snapshot_sequence"], snapshot["reason"]) == (1, "initial")
    assert snapshot["work_pool"] == {**pool, "status": "READY"}


def test_heartbeats_are_recorded_with_their_interval(server: Server) -> None:
    pool = server.pool()
    said = hello()
    with server.opened(pool["name"]) as socket:
        say(socket, said)
        hear(socket, "worker.ready.v1")
        first = server.worker(pool["name"])["last_heartbeat_time"]
        who = {"consumer_id": said["payload"]["consumer_id"], "worker_name": "worker"}
        say(socket, frame("worker.heartbeat.v1", {**who, "heartbeat_interval_seconds": 7}))
        say(socket, frame("cleanup.ack.v1", {"message_id": str(uuid4()), "reservation_token": "x"}))
        hear(socket, "cleanup.operation_result.v1")  # so the heartbeat before it was heard
        worker = server.worker(pool["name"])
        assert worker["heartbeat_interval_seconds"] == 7
        assert worker["last_heartbeat_time"] > first


def test_change_of_the_pool_is_told_and_a_heartbeat_is_not(server: Server) -> None:
    pool = server.pool()
    with server.opened(pool["name"]) as socket:
        say(socket, hello())
        hear(socket, "worker.ready.v1")
        path = f"/work_pools/{pool['name']}"
        server.ask("POST", f"{path}/workers/heartbeat", {"name": "another"})
        server.ask("PATCH", path, {"is_paused": True})
        told = hear(socket, "work_pool.snapshot.v1")
        assert (told["snapshot_sequence"], told["reason"]) == (2, "work_pool_updated")
        assert (told["work_pool"]["is_paused"], told["work_pool"]["status"]) == (True, "PAUSED")
        server.ask("PATCH", path, {"concurrency_limit": 3})
        told = hear(socket, "work_pool.snapshot.v1")
        assert (told["snapshot_sequence"], told["work_pool"]["concurrency_limit"]) == (3, 3)


def test_worker_of_a_deleted_pool_is_sent_away(server: Server) -> None:
    pool = server.pool()
    with server.opened(pool["name"]) as socket:
        say(socket, hello())
        hear(socket, "worker.ready.v1")
        server.ask("DELETE", f"/work_pools/{pool['name']}")
        assert closing(socket) == (1008, "authorization_failed")


def test_pool_is_made_only_for_who_asks_for_it(server: Server) -> None:
    name = f"new-{uuid4().hex}"
    with server.opened(name) as socket:
        say(socket, hello())
        assert closing(socket) == (1008, "authorization_failed")
    with server.opened(name) as socket:
        say(socket, hello(create_pool_if_not_found=True, default_base_job_template=TEMPLATE))
        made = hear(socket, "worker.ready.v1")["initial_snapshot"]["work_pool"]
    assert (made["name"], made["type"], made["base_job_template"]) == (name, "process", TEMPLATE)
    assert server.ask("GET", f"/work_pools/{name}")["id"] == made["id"]


def test_pool_without_a_template_gets_that_of_its_worker(server: Server) -> None:
    pool = server.pool(base_job_template={})
    with server.opened(pool["name"]) as socket:
        say(socket, hello(default_base_job_template=TEMPLATE))
        told = hear(socket, "worker.ready.v1")["initial_snapshot"]["work_pool"]
    assert told["base_job_template"] == TEMPLATE
    given = server.pool()
    with server.opened(given["name"]) as socket:
        say(socket, hello(default_base_job_template={"job_configuration": {}, "variables": {}}))
        told = hear(socket, "worker.ready.v1")["initial_snapshot"]["work_pool"]
    assert told["base_job_template"] == TEMPLATE


@pytest.mark.parametrize(
    ("name", "changes", "end"),
    [
        ("prefect-own", {"create_pool_if_not_found": True}, (1008, "authorization_failed")),
        ("bad%26name", {"create_pool_if_not_found": True}, (1002, "protocol_error")),
        (
            "bad-template",
            {"create_pool_if_not_found": True, "default_base_job_template": {"x": 1}},
            (1002, "protocol_error"),
        ),
        (None, {"work_queue_names": ["default", "nope"]}, (1008, "authorization_failed")),
        (None, {"supported_channel_versions": ["v9"]}, (1008, "unsupported_version")),
        (None, {"requested_capabilities": NEEDED[:1]}, (1002, "protocol_error")),
        (None, {"max_cleanup_concurrency": 1}, (1002, "protocol_error")),
        (None, {"heartbeat_interval_seconds": 0}, (1002, "protocol_error")),
        (None, {"surprise": 1}, (1002, "protocol_error")),
        (None, {"worker_name": "a\x00b"}, (1002, "protocol_error")),
    ],
)
def test_worker_that_is_refused_is_told_why(
    server: Server, name: str | None, changes: dict[str, Any], end: tuple[int, str]
) -> None:
    name = name or server.pool()["name"]
    with server.opened(name) as socket:
        say(socket, hello(**changes))
        assert closing(socket) == end
    found = server.ask("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [name]}}})
    assert not found or server.worker(name) is None


@pytest.mark.parametrize("text", ["{", "[]", "[" * 3000, '{"type": "worker.bye.v1"}', b"\xff"])
def test_what_is_no_frame_ends_the_channel(server: Server, text: str | bytes) -> None:
    pool = server.pool()["name"]
    for first in (None, hello()):
        with server.opened(pool) as socket:
            if first:
                say(socket, first)
            socket.send(text)
            assert closing(socket) == (1002, "protocol_error")


def test_heartbeat_of_somebody_else_and_a_second_hello_end_the_channel(server: Server) -> None:
    pool = server.pool()["name"]
    other = {"consumer_id": str(uuid4()), "worker_name": "worker", "heartbeat_interval_seconds": 30}
    for wrong in (frame("worker.heartbeat.v1", other), hello()):
        with server.opened(pool) as socket:
            say(socket, hello())
            say(socket, wrong)
            assert closing(socket) == (1002, "protocol_error")


def test_secret_of_the_channel_and_the_end_of_the_server() -> None:
    with contextlib.ExitStack() as stack:
        running = contextlib.ExitStack()
        server = running.enter_context(started(EPARCH_SERVER_AUTH_STRING="u:p"))
        url = f"ws://{server.place}/work_pools/p/workers/connect"
        with connect(url, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
            say(socket, {"type": "auth", "token": "wrong"})
            assert closing(socket) == (1008, "authentication_failed")
        with pytest.raises(InvalidStatus):
            connect(url)
        socket = stack.enter_context(server.opened("p", "u:p"))
        say(socket, hello(create_pool_if_not_found=True))
        hear(socket, "worker.ready.v1")
        running.close()
        assert closing(socket)[0] == 1012


def test_clean_up_is_given_once_renewed_and_acknowledged(server: Server) -> None:
    pool = server.pool()
    kinds = {"handled_cleanup_kinds": ["cancelling_timeout_teardown.v1"], "max_cleanup_concurrency": 1}
    said = hello(requested_capabilities=[*NEEDED, "cleanup_delivery.v1"], **kinds)
    run = uuid4()
    assert server.app.services is not None
    for run_id in (run, uuid4()):
        teardown = Teardown(run_id, UUID(pool["id"]), UUID(pool["default_queue_id"]), "host:1")
        server.app.services.cleanups.put(teardown)
    with server.opened(pool["name"]) as socket:
        say(socket, said)
        ready = hear(socket, "worker.ready.v1")
        assert ready["accepted_capabilities"][-1] == "cleanup_delivery.v1"
        assert ready["effective_max_cleanup_concurrency"] == 1
        given = hear(socket, "cleanup.message.v1")
        assert given["target"] == {"flow_run_id": str(run), "infrastructure_pid": "host:1"}
        assert (given["kind"], given["delivery_count"]) == ("cancelling_timeout_teardown.v1", 1)
        held = {"message_id": given["message_id"], "reservation_token": given["reservation_token"]}
        asked = frame("cleanup.renew.v1", held)
        say(socket, asked)
        result = hear(socket, "cleanup.operation_result.v1")
        assert (result["request_frame_id"], result["status"]) == (asked["id"], "accepted")
        assert result["lease_expires_at"] > given["lease_expires_at"]
        say(socket, frame("cleanup.ack.v1", held))
        result = hear(socket, "cleanup.operation_result.v1")
        assert (result["operation"], result["status"], result["reason"]) == ("ack", "accepted", None)
        assert hear(socket, "cleanup.message.v1")["target"]["flow_run_id"] != str(run)
        say(socket, frame("cleanup.ack.v1", held))
        assert hear(socket, "cleanup.operation_result.v1")["status"] == "not_found"


def test_worker_that_takes_no_clean_ups_cannot_answer_one(server: Server) -> None:
    with server.opened(server.pool()["name"]) as socket:
        say(socket, hello())
        hear(socket, "worker.ready.v1")
        body = {"message_id": str(uuid4()), "reservation_token": "x", "reason": "r"}
        say(socket, frame("cleanup.release.v1", body))
        result = hear(socket, "cleanup.operation_result.v1")
        assert (result["status"], result["reason"]) == ("unauthorized", "unauthorized")


def test_worker_that_is_deleted_is_forgotten(server: Server) -> None:
    pool = server.pool()["name"]
    server.ask("POST", f"/work_pools/{pool}/workers/heartbeat", {"name": "gone"})
    server.ask("DELETE", f"/work_pools/{pool}/workers/gone")
    assert server.worker(pool) is None
    with pytest.raises(AssertionError, match="not found"):
        server.ask("DELETE", f"/work_pools/{pool}/workers/gone")


# The desk


POOL, QUEUE = uuid4(), uuid4()
KINDS = list(CleanupKind)


def put(desk: Desk, queue: UUID = QUEUE, pool: UUID = POOL) -> UUID:
    run = uuid4()
    desk.put(Teardown(run, pool, queue, None))
    return run


def test_own_queues_come_first_and_other_pools_not_at_all() -> None:
    desk = Desk()
    put(desk, pool=uuid4())
    elsewhere, own = put(desk, queue=uuid4()), put(desk)
    found = [desk.take(POOL, KINDS, {QUEUE}, NOW) for _ in range(3)]
    assert [one and one.target["flow_run_id"] for one in found] == [str(own), str(elsewhere), None]
    assert desk.take(POOL, [CleanupKind.PENDING_CLAIM], {QUEUE}, NOW + 2 * CLEANUP_LEASE) is None


def test_clean_up_that_nobody_finishes_is_tried_a_few_times() -> None:
    desk, now = Desk(), NOW
    put(desk)
    tokens = set()
    for _ in range(MAX_DELIVERIES):
        given = desk.take(POOL, KINDS, (), now)
        assert given is not None
        tokens.add(given.reservation_token)
        assert desk.take(POOL, KINDS, (), now) is None
        now += CLEANUP_LEASE
    assert len(tokens) == MAX_DELIVERIES
    assert desk.take(POOL, KINDS, (), now) is None
    assert len(desk) == 0


def test_desk_is_bounded() -> None:
    desk = Desk()
    first = put(desk)
    for _ in range(MAX_CLEANUPS):
        put(desk)
    assert len(desk) == MAX_CLEANUPS
    given = desk.take(POOL, KINDS, (), NOW)
    assert given is not None
    assert given.target["flow_run_id"] != str(first)


def answer(desk: Desk, type_: str, given: Any, at: datetime = NOW, **changes: Any) -> str:
    from eparch.core.worker_channel import WorkerFrame

    payload = {"message_id": str(given.message_id), "reservation_token": given.reservation_token, **changes}
    said: Any = msgspec.convert(frame(type_, payload), WorkerFrame, strict=False)
    return desk.answer(POOL, said, at).status


def test_only_the_holder_may_answer_and_only_in_time() -> None:
    desk = Desk()
    put(desk)
    given = desk.take(POOL, KINDS, (), NOW)
    assert answer(desk, "cleanup.ack.v1", given, reservation_token="x") == "invalid_token"
    assert answer(desk, "cleanup.ack.v1", given, at=NOW + CLEANUP_LEASE) == "expired"
    assert answer(desk, "cleanup.renew.v1", given, at=NOW + timedelta(seconds=20)) == "accepted"
    assert answer(desk, "cleanup.release.v1", given, at=NOW + CLEANUP_LEASE, reason="r") == "accepted"
    assert answer(desk, "cleanup.ack.v1", given) == "invalid_token"
    again = desk.take(POOL, KINDS, (), NOW)
    assert again is not None
    assert again.delivery_count == 2
