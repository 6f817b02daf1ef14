"""The contract of both clients, against a real server that misbehaves on demand."""

import base64
import os
import threading
from uuid import UUID

import pytest

from eparch import settings
from eparch.client.http import Client, authorization_of, connect, serves_us
from eparch.client.retries import Retries
from eparch.core import calls
from eparch.core.deployments import FlowCreate
from eparch.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    Locked,
    NotFound,
    ServerFault,
    SettingInvalid,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
    VersionMismatch,
)
from eparch.core.pools import WorkPoolCreate
from eparch.version import __version__

from .conftest import FAST
from .misbehaving import Misbehaving, Reply, closed_port

HEALTH = calls.read_health()
FLOW_ID = "0198c1a2-0000-7000-8000-000000000001"
UNSAFE = calls.create_work_pool(body=WorkPoolCreate(name="p", type="process"))
POOL = {"id": FLOW_ID, "name": "p", "type": "process"}


def test_call_is_sent_and_its_answer_decoded(send, server):
    server.replies = [Reply(201, {"id": FLOW_ID, "name": "f", "newer_field": 1})]
    flow = send(calls.create_flow(body=FlowCreate(name="f"), headers={"x-mine": "1"}))
    assert flow.id == UUID(FLOW_ID)
    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("POST", "/api/flows/")
    assert body == b'{"name":"f","tags":[],"labels":null}'
    assert headers["Content-Type"] == "application/json"
    assert headers["x-mine"] == "1"
    assert headers["X-PREFECT-API-VERSION"] == "0.8.4"
    assert headers["User-Agent"] == f"eparch/{__version__}"


def test_answer_without_content(send, server):
    server.replies = [Reply(204, raw=b"")]
    assert send(calls.delete_work_pool(name="a b")) is None
    assert server.requests[0][:2] == ("DELETE", "/api/work_pools/a%20b")


def test_large_answers_come_gzipped(send, server):
    server.replies = [Reply(body=[], headers={"Content-Encoding": "gzip"})]
    assert send(calls.read_flows(body={})) == []
    assert server.requests[0][2]["Accept-Encoding"] == "gzip"


def test_connection_is_kept(send, server):
    for _ in range(3):
        send(HEALTH)
    assert server.connections == 1


def test_connection_that_the_server_closed_is_replaced_without_a_failed_attempt(server):
    server.replies = [Reply(close_after=True), Reply(201, POOL)]
    with Client(server.url, retries=Retries(attempts=0)) as client:
        assert client.send(HEALTH) is True
        assert server.closed.wait(10)
        assert client.send(UNSAFE).name == "p"
    assert server.connections == 2


def test_dropped_connection_is_retried_where_that_is_safe(send, server):
    server.replies = [Reply(drop=True), Reply(drop=True), Reply()]
    assert send(HEALTH) is True
    assert len(server.requests) == 3


def test_dropped_connection_is_not_retried_where_it_may_do_harm(send, server):
    server.replies = [Reply(drop=True), Reply(201, POOL)]
    with pytest.raises(Unreachable, match="the connection was lost"):
        send(UNSAFE)
    assert len(server.requests) == 1


def test_broken_off_answer_is_retried(send, server):
    server.replies = [Reply(short=True), Reply()]
    assert send(HEALTH) is True


@pytest.mark.parametrize("status", [429, 502, 503])
def test_busy_server_is_asked_again_also_for_unsafe_calls(send, server, status):
    server.replies = [Reply(status, {}, {"Retry-After": "0.001"}), Reply(201, POOL)]
    assert send(UNSAFE).name == "p"
    assert len(server.requests) == 2


def test_server_that_stays_busy(send, server):
    server.replies = [Reply(503, {"detail": "locked"}) for _ in range(4)]
    with pytest.raises(Unavailable) as caught:
        send(HEALTH)
    assert "503" in caught.value.message
    assert caught.value.why == "locked"
    assert len(server.requests) == 1 + FAST.attempts


def test_retry_after_beyond_the_bound_is_not_waited_for(send, server):
    server.replies = [Reply(503, {}, {"Retry-After": "3600"})]
    with pytest.raises(Unavailable):
        send(HEALTH)
    assert len(server.requests) == 1


def test_slow_server(send, server):
    hold = threading.Event()
    server.replies = [Reply(hold=hold)]
    with pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
        send(HEALTH, timeout=0.05, retries=Retries(attempts=0))
    hold.set()


def test_refused_connection_is_one_clear_line(send):
    url = f"http://127.0.0.1:{closed_port()}/api"
    with pytest.raises(Unreachable) as caught:
        send(HEALTH, url=url)
    assert caught.value.message == f"Cannot reach the server at {url}: connection refused."
    assert caught.value.fix == "Start one with `eparch server start` or set EPARCH_API_URL."


def test_unknown_host(send):
    with pytest.raises(Unreachable, match="not known"):
        send(HEALTH, url="http://no-such-host.invalid/api", retries=Retries(attempts=0))


@pytest.mark.parametrize("status", [200, 404, 405])
def test_page_instead_of_an_api(send, server, status):
    server.replies = [Reply(status, raw=b"<html>", content_type="text/html; charset=utf-8")]
    with pytest.raises(Unreachable) as caught:
        send(HEALTH)
    assert caught.value.message == f"There is no API at {server.url}."
    assert caught.value.why == f"It answered text/html with status {status}, not JSON."
    assert "ends in /api" in caught.value.fix


def test_wrong_base_url_that_answers_json(send, server):
    server.replies = [Reply(404, {"detail": "Not Found"})]
    with pytest.raises(NotFound) as caught:
        send(calls.read_flows(body={}))
    assert caught.value.message == f"The server at {server.url} has no POST /flows/filter."


def test_redirect_names_its_target(send, server):
    server.replies = [Reply(301, raw=b"", headers={"Location": "https://other/api"})]
    with pytest.raises(Unreachable, match="redirects to https://other/api"):
        send(HEALTH)


def test_something_that_does_not_speak_http(send):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-x\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(Unreachable, match="does not speak HTTP"):
            send(
                HEALTH,
                url=f"http://127.0.0.1:{listener.getsockname()[1]}",
                retries=Retries(attempts=0),
            )
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (418, BadRequest),
        (422, Invalid),
        (423, Locked),
        (500, ServerFault),
    ],
)
def test_error_of_a_status_with_the_message_of_the_server(send, server, status, kind):
    server.replies = [Reply(status, {"detail": "Flow run not found"})]
    with pytest.raises(kind, match="Flow run not found"):
        send(calls.read_flow_run(id=FLOW_ID))
    assert len(server.requests) == 1


def test_validation_errors_say_where(send, server):
    detail = [{"loc": ["body", "name"], "msg": "too long"}, {"msg": "bad"}, "worse"]
    server.replies = [
        Reply(422, {"exception_message": "Invalid request received.", "exception_detail": detail}),
        Reply(422, {"detail": detail}),
        Reply(409, {"exception_message": "It is there.", "why": "Made before.", "fix": "Use --overwrite."}),
    ]
    with pytest.raises(Invalid, match="Invalid request received") as caught:
        send(UNSAFE)
    assert caught.value.why == "body.name: too long; bad; worse"
    with pytest.raises(Invalid, match="not valid") as caught:
        send(UNSAFE)
    assert caught.value.why.startswith("body.name: too long")
    with pytest.raises(Conflict) as told:
        send(UNSAFE)
    assert (told.value.why, told.value.fix) == ("Made before.", "Use --overwrite.")


def test_401_says_what_to_set(send, server):
    server.replies = [Reply(401, {"exception_message": "Unauthorized"})]
    with pytest.raises(Unauthorized) as caught:
        send(HEALTH)
    assert "EPARCH_AUTH_STRING" in caught.value.fix


def test_answer_of_another_shape(send, server):
    server.replies = [Reply(body={"id": 3})]
    with pytest.raises(VersionMismatch) as caught:
        send(calls.read_flow(id=FLOW_ID))
    assert "$.id" in caught.value.why


def test_csrf_token_is_fetched_only_when_asked_for(send, server):
    token = {"token": "t", "client": "c", "expiration": "2030-01-01T00:00:00Z"}
    server.replies = [
        Reply(403, {"detail": "Missing CSRF token"}),
        Reply(body=token),
        Reply(201, POOL),
        Reply(201, POOL),
    ]
    send(UNSAFE)
    send(UNSAFE)
    asked = [path.partition("?")[0] for _, path, _, _ in server.requests]
    assert asked == ["/api/work_pools/", "/api/csrf-token", "/api/work_pools/", "/api/work_pools/"]
    headers = server.requests[-1][2]
    assert headers["Prefect-Csrf-Token"] == "t"
    assert headers["Prefect-Csrf-Client"] in server.requests[1][1]


def test_csrf_token_is_fetched_for_any_request_as_well(server):
    token = {"token": "t", "client": "c", "expiration": "2030-01-01T00:00:00Z"}
    server.replies = [Reply(403, {"detail": "Missing CSRF token"}), Reply(body=token), Reply(201, POOL)]
    with Client(server.url, retries=FAST) as client:
        assert client.request("POST", "/work_pools/", {"name": "a"}).status == 201
    assert server.requests[-1][2]["Prefect-Csrf-Token"] == "t"


def test_csrf_that_is_never_satisfied_ends(send, server):
    token = {"token": "t", "client": "c", "expiration": "2030-01-01T00:00:00Z"}
    refusal = Reply(403, {"detail": "Invalid CSRF token"})
    server.replies = [refusal, Reply(body=token), refusal]
    with pytest.raises(Forbidden):
        send(UNSAFE)


def test_b24_version_of_the_api_is_checked(server):
    server.replies = [Reply(body="3.9.1"), Reply(body="2.20.1"), Reply(404, {"detail": "Not Found"})]
    with Client(server.url, retries=FAST) as client:
        assert client.check_version() == "3.9.1"
        with pytest.raises(VersionMismatch, match=r"'2\.20\.1'"):
            client.check_version()
        with pytest.raises(NotFound, match="/admin/version"):
            client.check_version()


def test_own_server_is_told_from_a_stock_one(server):
    facts = {"version": "0.1.0", "database": "sqlite", "started": "2030-01-01T00:00:00Z"}
    server.replies = [Reply(body=facts), Reply(404, {"detail": "Not Found"})]
    with Client(server.url, retries=FAST) as client:
        found = serves_us(client)
        assert found is not None
        assert found.database == "sqlite"
        assert serves_us(client) is None
    with pytest.raises(Unreachable):
        serves_us(Client(f"http://127.0.0.1:{closed_port()}", retries=Retries(attempts=0)))


def test_any_request(server):
    server.replies = [Reply(body={"a": 1}), Reply(409, {"detail": "no"})]
    with Client(server.url, retries=FAST) as client:
        answer = client.request("POST", "/flows/filter", {"limit": 1})
        assert answer.body == b'{"a": 1}'
        with pytest.raises(Conflict):
            client.request("GET", "/x")


def test_impatient_client_does_not_wait_for_a_server_that_is_not_there():
    # without `connect=False` the ten hours of this policy would be waited for
    patience = Retries(attempts=10, first=3600, most=3600, total=36000, connect=False)
    with pytest.raises(Unreachable):
        Client(f"http://127.0.0.1:{closed_port()}", retries=patience).send(HEALTH)


def test_settings_become_a_client(server, tmp_path):
    environ = {"EPARCH_HOME": str(tmp_path), "EPARCH_API_URL": server.url}
    found = settings.load({**environ, "EPARCH_CUSTOM_HEADERS": '{"x-a": "1"}', "EPARCH_AUTH_STRING": "u:p"})
    with connect(found) as client:
        client.send(HEALTH)
    headers = server.requests[0][2]
    assert headers["x-a"] == "1"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert authorization_of(settings.load({**environ, "EPARCH_API_KEY": "k"})) == "Bearer k"
    assert authorization_of(settings.load(environ)) is None


def test_header_that_cannot_be_sent_is_refused_without_showing_it(server):
    with pytest.raises(SettingInvalid) as caught:
        Client(server.url, auth="Bearer geheim\r\nx: y")
    assert "geheim" not in str(caught.value)
    assert "'Authorization'" in caught.value.message


def test_url_that_is_none():
    with pytest.raises(Unreachable):
        Client("ftp://x")


def test_many_threads_share_a_client(server):
    with Client(server.url, retries=FAST) as client:
        seen = []
        threads = [
            threading.Thread(target=lambda: seen.extend(client.send(HEALTH) for _ in range(20)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 160
    assert server.connections <= 8


def test_forked_child_has_its_own_connections(server):
    with Client(server.url, retries=FAST) as client:
        client.send(HEALTH)
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                client.send(HEALTH)
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.send(HEALTH)
    assert server.connections == 2
    assert len(server.requests) == 3


def test_https_is_spoken_and_strangers_are_not_trusted(tmp_path):
    import ssl
    import subprocess

    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    server = Misbehaving()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    environ = {"EPARCH_HOME": str(tmp_path), "EPARCH_API_URL": url}
    try:
        for extra in ({"EPARCH_TLS_CA_FILE": str(cert)}, {"EPARCH_TLS_INSECURE": "1"}):
            with connect(settings.load({**environ, **extra})) as client:
                assert client.send(HEALTH) is True
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            connect(settings.load(environ), retries=Retries(attempts=0)).send(HEALTH)
    finally:
        server.close()
