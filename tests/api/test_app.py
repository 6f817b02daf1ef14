"""The life of a server: start, stop, what happens before and after, and the process around it."""

import asyncio
import contextlib
import http.client
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eparch.api.app import App, create_app, serve
from eparch.api.auth import basic
from eparch.api.listening import listen, run, url_of
from eparch.api.policy import Policy, exposure
from eparch.api.request import Services
from eparch.core.errors import DatabaseUnusable, SettingInvalid, Usage
from eparch.settings import load

from .calling import call, make_app, root_routes, served
from .test_router import ROUTES
from .test_sockets import hear, make, opened, say

SERVE = """
import sys
from eparch.settings import load
from eparch.api.app import serve
serve(load(), "127.0.0.1", 0, idle_seconds=float(sys.argv[1]))
"""


@contextlib.contextmanager
def process(
    home: Path, idle_seconds: float = 0
) -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    """A server in a process of its own, and a connection to it."""
    command = [sys.executable, "-c", SERVE, str(idle_seconds)]
    environ = {"EPARCH_HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        assert line.startswith("Eparch listens at http://127.0.0.1:")
        connection = http.client.HTTPConnection(line.split("//")[1].removesuffix("/api"), timeout=20)
        yield server, connection
    finally:
        server.kill()
        server.wait()
        server.stdout.close()  # type: ignore[union-attr]


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_process_serves_and_stops_on_a_signal(tmp_path: Path, sig: signal.Signals) -> None:
    with process(tmp_path) as (server, connection):
        assert get(connection, "/api/health") == (200, b"true")
        server.send_signal(sig)
        assert server.wait(20) == 0


def test_process_stops_when_idle(tmp_path: Path) -> None:
    with process(tmp_path, idle_seconds=0.2) as (server, _):
        assert server.wait(20) == 0


def test_too_large_a_body_is_told_although_it_is_not_read() -> None:
    with served(make_app(*ROUTES, max_body_bytes=1000)) as place:
        connection = http.client.HTTPConnection(place.partition("/")[0], timeout=20)
        for _ in range(2):
            connection.request("POST", "/api/flows/", b"x" * 3_000_000)
            answer = connection.getresponse()
            assert (answer.status, b"1000 bytes" in answer.read()) == (413, True)
        connection.close()


def test_sockets_and_http_over_one_store(tmp_path: Path) -> None:
    loaded = load({}, tmp_path, overrides={"home": tmp_path, "database_url": "sqlite://"})
    with served(create_app(loaded)) as place, opened(place, "events/out") as listener:
        say(listener, {"type": "filter", "filter": {"event": {"prefix": ["mine."]}}})
        with opened(place, "events/in") as sender:
            for n in range(300):
                say(sender, make(f"mine.{n}"))
        assert [hear(listener)["event"]["event"] for _ in range(300)] == [f"mine.{n}" for n in range(300)]
        with opened(place, "events/out") as late:
            say(late, {"type": "filter", "filter": {"event": {"name": ["mine.7", "mine.299"]}}})
            seen = [hear(late)["event"] for _ in range(2)]
            assert [event["event"] for event in seen] == ["mine.7", "mine.299"]
            assert seen[0]["received"]
        connection = http.client.HTTPConnection(place.partition("/")[0], timeout=20)
        assert get(connection, "/api/ready") == (200, b'{"message":"OK"}')
        connection.close()


def test_taken_port_says_so() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(Usage, match="Cannot listen") as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert "--port" in refused.value.fix
    with pytest.raises(Usage):
        listen("no such host", 0)


def test_url_is_one_that_this_machine_can_call() -> None:
    with listen("0.0.0.0", 0) as everywhere:
        assert url_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}/api"


def test_failure_at_the_start_is_the_error_of_the_process() -> None:
    @contextlib.asynccontextmanager
    async def opening(services: Services) -> AsyncIterator[None]:
        raise DatabaseUnusable("The database is of a newer version.")
        yield

    app = App(Policy(), root_routes(), opening=opening)
    with listen("127.0.0.1", 0) as sock, pytest.raises(DatabaseUnusable):
        run(app, sock)


def test_what_was_opened_is_closed() -> None:
    happened: list[str] = []

    @contextlib.asynccontextmanager
    async def opening(services: Services) -> AsyncIterator[None]:
        happened.append("open")
        services.on_stop.append(lambda: happened.append("stopping"))
        yield
        happened.append("closed")

    with served(App(Policy(), root_routes(), opening=opening)):
        assert happened == ["open"]
    assert happened == ["open", "stopping", "closed"]


def test_before_the_start_nobody_is_answered() -> None:
    answer = call(App(Policy(), root_routes()), "GET", "/api/health")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_site_answers_what_is_not_of_the_api() -> None:
    asked: list[str] = []

    async def site(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    app = make_app()
    app._site = site
    assert call(app, "GET", "/").body == b"page"
    assert call(app, "GET", "/apis").body == b"page"
    assert call(app, "GET", "/api/nope").status == 404
    assert call(app, "GET", "/docs").body != b"page"
    assert asked == ["/", "/apis"]


def test_site_is_kept_safe_too() -> None:
    async def site(scope: Any, receive: Any, send: Any) -> None:
        own = [(b"Content-Security-Policy", b"default-src 'self'")] if scope["path"] == "/own" else []
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b"page"})

    app = make_app(hosts=())
    app._site = site
    page = call(app, "GET", "/")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    own = call(app, "GET", "/own")
    assert own.headers["Content-Security-Policy"] == "default-src 'self'"
    assert "content-security-policy" not in own.headers
    assert call(app, "GET", "/", headers={"host": "evil.example"}).status == 403
    assert call(app, "GET", "/" + "x" * 20_000).status == 414
    assert call(app, "GET", "/", headers={"x": "x" * 70_000}).status == 431


def test_api_below_another_path() -> None:
    app = make_app(base_path="/flows/api", auth_string="u:p")
    assert call(app, "GET", "/flows/api/health").json() is True
    assert call(app, "GET", "/api/health").status == 401
    headers = {"authorization": basic("u:p")}
    assert call(app, "GET", "/api/hello", headers=headers).status == 404
    assert call(app, "GET", "/flows/api/hello", headers=headers).json() == "👋"
    document = call(app, "GET", "/flows/api/openapi.json", headers=headers).json()
    assert document["servers"] == [{"url": "/flows/api"}]


@pytest.mark.parametrize("path", ["", "/", "/a//b", "/../x", "/a b", "/a?b", "/%2e", "/a\x00"])
def test_path_that_the_api_cannot_have(tmp_path: Path, path: str) -> None:
    found = load({"EPARCH_HOME": str(tmp_path)}, tmp_path, overrides={"server_api_base_path": "/ok/x/"})
    assert Policy.of(found).base_path == "/ok/x"
    with pytest.raises(SettingInvalid):
        Policy.of(msgspec.structs.replace(found, server_api_base_path=path))


def test_asking_for_health_does_not_keep_an_idle_server_alive() -> None:
    app = make_app()
    app.active_at -= 1000
    call(app, "GET", "/api/health")
    call(app, "GET", "/api/eparch")
    assert app.idle_seconds() > 900
    app.open_sockets = 1
    assert app.idle_seconds() == 0
    app.open_sockets = 0
    call(app, "GET", "/api/hello")
    assert app.idle_seconds() < 900


def test_facts_of_the_server() -> None:
    facts = call(make_app(idle_seconds=5.0, database_kind="postgresql"), "GET", "/api/eparch").json()
    assert facts["idle_seconds"] == 5.0
    assert facts["database"] == "postgresql"
    assert facts["started"].endswith("Z")
    assert call(make_app(), "GET", "/api/admin/version").json() == "3.9.1"
    assert call(make_app(), "GET", "/api/version").json() == "0.8.4"


def test_lifespan_is_that_of_asgi() -> None:
    async def go() -> list[str]:
        app, sent = App(Policy(), root_routes()), []
        incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(incoming)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(go()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("address", "secret", "said"),
    [
        ("0.0.0.0", None, "every address of this machine"),
        ("::", "", "every address of this machine"),
        ("192.0.2.7", None, "192.0.2.7"),
        ("192.0.2.7", "u:p", None),
        ("127.0.0.1", None, None),
        ("::1", None, None),
    ],
)
def test_a_server_on_a_network_without_a_secret_is_warned_of(
    address: str, secret: str | None, said: str | None
) -> None:
    warning = exposure(address, secret)
    assert (
        (warning is None) if said is None else (warning is not None and f"listens on {said} and" in warning)
    )


def test_the_warning_is_in_the_log_of_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environ = {"EPARCH_HOME": str(tmp_path), "EPARCH_SERVICES_ENABLED": "false"}
    loaded = load({**environ, "EPARCH_DATABASE_URL": "sqlite://"}, tmp_path)
    with caplog.at_level("WARNING"):
        serve(loaded, "0.0.0.0", 0, lambda url: None, idle_seconds=0.01)
    (record,) = [record for record in caplog.records if "asks nobody for a secret" in record.message]
    assert record.levelname == "WARNING"
    assert "EPARCH_SERVER_AUTH_STRING=user:password" in record.message
