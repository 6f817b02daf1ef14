"""Secret, token against cross-site requests, origin, version (wire section 1)."""

from typing import Any

import pytest

from eparch.api.auth import Gate, basic
from eparch.api.policy import Policy
from eparch.api.request import Request
from eparch.api.router import Route
from eparch.core.calls import Endpoint
from eparch.core.errors import Locked, Unavailable

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
    app = make_app(CHANGE, csrf_enabled=True, csrf_seconds=-5.0)
    token = call(app, "GET", "/api/csrf-token?client=c1").json()["token"]
    headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "c1"}
    assert call(app, "POST", "/api/change", headers=headers).status == 403


def test_replicas_with_the_same_secret_know_each_others_tokens() -> None:
    policy = Policy(auth_string="u:p", csrf_enabled=True)
    token = Gate(policy).issue("c").token.encode()
    headers = {
        b"prefect-csrf-token": token,
        b"prefect-csrf-client": b"c",
        b"authorization": basic("u:p").encode(),
    }
    Gate(policy).admit("POST", headers)


def test_page_of_another_site_changes_nothing() -> None:
    app = make_app(CHANGE)
    assert call(app, "POST", "/api/change", headers={"origin": "http://evil.example"}).status == 403
    assert call(app, "POST", "/api/change", headers={"origin": "null"}).status == 403
    assert call(app, "POST", "/api/change", headers={"origin": "http://[bad"}).status == 403
    assert call(app, "POST", "/api/change", headers={"origin": "http://testserver"}).status == 200
    proxied = {"origin": "https://flows.example", "x-forwarded-host": "flows.example"}
    assert call(app, "POST", "/api/change", headers=proxied).status == 200


def test_allowed_site() -> None:
    app = make_app(CHANGE, origins=("https://a.example",))
    answer = call(app, "POST", "/api/change", headers={"origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    preflight = {
        "origin": "https://a.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    answer = call(app, "OPTIONS", "/api/change", headers=preflight)
    assert answer.status == 200
    assert answer.headers["access-control-allow-headers"] == "content-type"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert (
        call(app, "OPTIONS", "/api/change", headers={**preflight, "origin": "https://b.example"}).status
        == 403
    )
    assert call(app, "OPTIONS", "/api/change").status == 405


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
