"""Secret, token against cross-site requests, origin, version (wire section 1)."""

from pathlib import Path
from typing import Any

import pytest

from eparch import settings
from eparch.api.auth import LEEWAY_SECONDS, Gate, basic
from eparch.api.policy import Policy
from eparch.api.request import Request
from eparch.api.router import Route
from eparch.core.calls import Endpoint
from eparch.core.errors import Forbidden, Locked, Unavailable

from .calling import call, make_app


async def change(request: Request) -> bool:
    return True


async def large(request: Request) -> Any:
    return ["x" * 100] * 100


CHANGE = Route(Endpoint("POST", "/change", bool), change)
LARGE = Route(Endpoint("GET", "/large", Any), large)


def test_without_a_secret_everybody_may_ask() -> None:
    assert call(make_app(), "GET", "/api/hello").json() == "👋"


def test_secret_is_asked_for() -> None:
    app = make_app(CHANGE, auth_string="user:pässword")
    for headers in (
        {},
        {"authorization": "Basic xx"},
        {"authorization": basic("user:wrong")},
        {"authorization": "Bearer wrong"},
        {"authorization": "Digest x"},
        {"authorization": ""},
    ):
        answer = call(app, "POST", "/api/change", headers=headers)
        assert (answer.status, answer.json()) == (401, {"exception_message": "Unauthorized"})
        assert answer.headers["www-authenticate"].startswith("Basic")
    assert call(app, "POST", "/api/change", headers={"authorization": basic("user:pässword")}).status == 200
    assert call(app, "GET", "/api/nope").status == 401


def test_secret_as_a_bearer_key() -> None:
    app = make_app(CHANGE, auth_string="key-1")
    assert call(app, "POST", "/api/change", headers={"authorization": "Bearer key-1"}).status == 200
    assert call(app, "POST", "/api/change", headers={"authorization": "bearer key-1"}).status == 200


def test_probes_need_no_secret() -> None:
    app = make_app(auth_string="u:p")
    assert call(app, "GET", "/api/health").json() is True
    assert call(app, "GET", "/api/ready").status == 404  # let in; this app has no database to ask
    assert call(app, "HEAD", "/api/health").status == 200
    assert call(app, "POST", "/api/health").status == 401
    assert call(app, "GET", "/api/hello").status == 401
    assert call(app, "GET", "/api/openapi.json").status == 401


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("0.8.4", 200),
        ("0.8.0", 200),
        ("1.0.0", 200),
        ("0.7.9", 400),
        ("abc", 400),
        ("1.2", 400),
        ("1.2.-3", 400),
        ("9" * 5000 + ".1.1", 400),
    ],
)
def test_version_of_the_api(version: str, status: int) -> None:
    app = make_app()
    for _ in range(2):
        answer = call(app, "GET", "/api/hello", headers={"X-PREFECT-API-VERSION": version})
        assert answer.status == status
    if status == 400:
        assert "API" in answer.json()["detail"]


def test_csrf_is_off() -> None:
    answer = call(make_app(), "GET", "/api/csrf-token?client=c1")
    assert (answer.status, answer.json()) == (422, {"detail": "CSRF protection is disabled."})


def test_csrf_token_is_asked_for_where_something_changes() -> None:
    app = make_app(CHANGE, csrf_enabled=True)
    assert call(app, "GET", "/api/hello").status == 200
    missing = call(app, "POST", "/api/change")
    assert (missing.status, missing.json()) == (403, {"detail": "Missing CSRF token."})
    token = call(app, "GET", "/api/csrf-token?client=c1").json()
    assert token["client"] == "c1"
    assert token["expiration"].endswith("Z")
    good = {"Prefect-Csrf-Token": token["token"], "Prefect-Csrf-Client": "c1"}
    assert call(app, "POST", "/api/change", headers=good).status == 200
    for bad in (
        {"Prefect-Csrf-Token": token["token"]},
        {**good, "Prefect-Csrf-Client": "c2"},
        {**good, "Prefect-Csrf-Token": "x"},
        {**good, "Prefect-Csrf-Token": "9" + token["token"]},
    ):
        assert call(app, "POST", "/api/change", headers=bad).status == 403
    answer = call(app, "POST", "/api/change", headers={**good, "Prefect-Csrf-Token": "x"})
    assert "Invalid CSRF token" in answer.json()["detail"]


def test_csrf_token_expires() -> None:
    app = make_app(CHANGE, csrf_enabled=True, csrf_seconds=-LEEWAY_SECONDS - 5.0)
    token = call(app, "GET", "/api/csrf-token?client=c1").json()["token"]
    headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "c1"}
    assert call(app, "POST", "/api/change", headers=headers).status == 403


@pytest.mark.parametrize(
    "shared",
    [{"EPARCH_SERVER_AUTH_STRING": "u:p"}, {"EPARCH_DATABASE_URL": "postgresql://u:p@db/eparch"}],
)
def test_servers_of_one_installation_know_each_others_tokens(tmp_path: Path, shared: dict[str, str]) -> None:
    environ = {"EPARCH_HOME": str(tmp_path), "EPARCH_CSRF_ENABLED": "true", **shared}
    first, second = (Gate(Policy.of(settings.load(environ, tmp_path))) for _ in range(2))
    headers = {
        b"prefect-csrf-token": first.issue("c").token.encode(),
        b"prefect-csrf-client": b"c",
        b"authorization": basic("u:p").encode(),
    }
    second.admit("POST", headers)
    with pytest.raises(Forbidden):
        Gate(Policy(csrf_enabled=True)).admit("POST", headers)


def test_page_of_another_site_changes_nothing() -> None:
    app = make_app(CHANGE)
    assert call(app, "POST", "/api/change", headers={"origin": "http://evil.example"}).status == 403
    assert call(app, "POST", "/api/change", headers={"origin": "null"}).status == 403
    assert call(app, "POST", "/api/change", headers={"origin": "http://[bad"}).status == 403
    assert call(app, "POST", "/api/change", headers={"origin": "http://testserver"}).status == 200
    proxied = {"origin": "https://flows.example", "x-forwarded-host": "flows.example"}
    assert call(app, "POST", "/api/change", headers=proxied).status == 200


PREFLIGHT = {
    "origin": "https://a.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type, x-mine",
}


def test_allowed_site() -> None:
    app = make_app(CHANGE, origins=("https://a.example",), auth_string="u:p")
    headers = {"origin": "https://a.example", "authorization": basic("u:p")}
    answer = call(app, "POST", "/api/change", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-credentials" not in answer.headers
    answer = call(app, "OPTIONS", "/api/change", headers=PREFLIGHT)  # a browser sends no secret with it
    assert answer.status == 200
    assert answer.headers["access-control-allow-headers"] == "content-type, x-mine"
    assert "POST" in answer.headers["access-control-allow-methods"]
    refused = call(app, "OPTIONS", "/api/change", headers={**PREFLIGHT, "origin": "https://b.example"})
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers
    assert call(app, "OPTIONS", "/api/change", headers={"authorization": basic("u:p")}).status == 405


def test_no_site_is_allowed_unless_it_is_named() -> None:
    assert call(make_app(CHANGE), "OPTIONS", "/api/change", headers=PREFLIGHT).status == 403
    answer = call(make_app(), "GET", "/api/hello", headers={"origin": "https://a.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_every_site_is_allowed_without_credentials() -> None:
    answer = call(make_app(CHANGE, origins=("*",)), "POST", "/api/change", headers={"origin": "null"})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("methods", "names", "status"),
    [
        (("POST",), ("x-mine",), 200),
        (("GET", "PUT"), ("*",), 403),
        (("*",), ("x-other",), 403),
        (("*",), ("x-mine",), 200),
    ],
)
def test_methods_and_headers_of_allowed_sites(
    methods: tuple[str, ...], names: tuple[str, ...], status: int
) -> None:
    app = make_app(CHANGE, origins=("https://a.example",), cors_methods=methods, cors_headers=names)
    answer = call(app, "OPTIONS", "/api/change", headers=PREFLIGHT)
    assert answer.status == status
    if status == 200 and methods != ("*",):
        assert answer.headers["access-control-allow-methods"] == ", ".join(methods)


@pytest.mark.parametrize("prefix", ["EPARCH_SERVER_", "PREFECT_SERVER_API_", "PREFECT_SERVER_"])
def test_policy_from_settings(tmp_path: Path, prefix: str) -> None:
    environ = {
        "EPARCH_HOME": str(tmp_path),
        f"{prefix}CORS_ALLOWED_ORIGINS": "https://a.example/, https://b.example",
        f"{prefix}CORS_ALLOWED_METHODS": "get,POST",
        f"{prefix}CORS_ALLOWED_HEADERS": "X-Mine",
    }
    policy = Policy.of(settings.load(environ, tmp_path))
    assert policy.origins == ("https://a.example", "https://b.example")
    assert (policy.cors_methods, policy.cors_headers) == (("GET", "POST"), ("x-mine",))


LOCAL = [
    "localhost:4200",
    "127.0.0.1:4200",
    "[::1]:4200",
    "eparch",
    "host.docker.internal:4200",
    "A.localhost.",
]
PUBLIC = [
    "evil.example:4200",
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example:80",
    "a b.c",
    "",
]


@pytest.mark.parametrize("host", LOCAL)
def test_server_of_this_machine_answers_to_local_names(tmp_path: Path, host: str) -> None:
    Gate(Policy.of(settings.load({"EPARCH_HOME": str(tmp_path)}, tmp_path))).admit(
        "GET", {b"host": host.encode()}
    )


@pytest.mark.parametrize("host", PUBLIC)
def test_page_that_leads_its_name_here_is_refused(tmp_path: Path, host: str) -> None:
    policy = Policy.of(settings.load({"EPARCH_HOME": str(tmp_path)}, tmp_path))
    with pytest.raises(Forbidden, match="not called"):
        Gate(policy).admit("GET", {b"host": host.encode()})


@pytest.mark.parametrize(
    ("environ", "admitted"),
    [
        ({"EPARCH_SERVER_ALLOWED_HOSTS": "flows.example"}, True),
        ({"EPARCH_SERVER_ALLOWED_HOSTS": "*"}, True),
        ({"EPARCH_SERVER_ALLOWED_HOSTS": "other.example", "EPARCH_SERVER_HOST": "0.0.0.0"}, False),
        ({"EPARCH_SERVER_HOST": "0.0.0.0"}, True),
        ({"EPARCH_SERVER_AUTH_STRING": "u:p"}, True),
    ],
)
def test_public_names_of_a_server(tmp_path: Path, environ: dict[str, str], admitted: bool) -> None:
    policy = Policy.of(settings.load({"EPARCH_HOME": str(tmp_path), **environ}, tmp_path))
    headers = {b"host": b"flows.example", b"authorization": basic("u:p").encode()}
    if admitted:
        Gate(policy).admit("GET", headers)
    else:
        with pytest.raises(Forbidden):
            Gate(policy).admit("GET", headers)


def test_answers_are_safe_for_a_browser() -> None:
    for path, status in (("/api/hello", 200), ("/api/nope", 404), ("/api/docs", 200)):
        answer = call(make_app(), "GET", path)
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in answer.headers
        assert "server" not in answer.headers
        assert len([name for name in answer.headers if name == "content-security-policy"]) == 1


def test_wrong_secrets_are_told_to_the_log_but_do_not_fill_it(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(CHANGE, auth_string="user:right-one")
    call(app, "POST", "/api/change")  # who sends none does not guess
    assert not caplog.records
    for _ in range(50):
        call(app, "POST", "/api/change", headers={"authorization": basic("user:guess")})
    assert len(caplog.records) == 1
    assert "Wrong credentials" in caplog.text
    assert "guess" not in caplog.text
    assert "right-one" not in caplog.text
    assert "right-one" not in repr(app.policy)


def test_answers_are_compressed_when_asked_for() -> None:
    app = make_app(LARGE)
    plain = call(app, "GET", "/api/large")
    packed = call(app, "GET", "/api/large", headers={"accept-encoding": "deflate, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-length"] == str(len(packed.body))
    assert len(packed.body) < len(plain.body) / 5
    assert packed.json() == plain.json()
    small = call(app, "GET", "/api/hello", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


@pytest.mark.parametrize(
    ("error", "status", "retry"), [(Locked(retry_after=2.5), 423, "2.5"), (Unavailable("busy"), 503, "1")]
)
def test_error_that_passes_says_when_to_come_again(error: Exception, status: int, retry: str) -> None:
    async def refuse(request: Request) -> bool:
        raise error

    answer = call(make_app(Route(Endpoint("GET", "/r", bool), refuse)), "GET", "/api/r")
    assert (answer.status, answer.headers["retry-after"]) == (status, retry)
