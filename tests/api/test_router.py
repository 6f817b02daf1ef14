"""Paths, methods, parameters and bodies, as the wire has them (wire section 1)."""

import asyncio
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.api.request import Answer, Request
from eparch.api.router import Route, Router, handles, too_deep, without_nul
from eparch.core import calls
from eparch.core.calls import Endpoint, RenewLease
from eparch.core.deployments import Flow, FlowCreate
from eparch.core.errors import Conflict, NotFound
from eparch.core.filters import Query
from eparch.core.model import new_id
from eparch.core.pools import DueRuns
from eparch.core.records import LogCreate

from .calling import call, make_app

ID = UUID("0192f3b0-0000-7000-8000-000000000001")
JSON = {"content-type": "application/json"}


async def create_flow(request: Request, body: FlowCreate) -> Answer:
    return Answer(201, Flow(id=ID, name=body.name, tags=body.tags))


async def read_flow(request: Request, id: UUID) -> Flow:
    if id != ID:
        raise NotFound("Flow not found")
    return Flow(id=id, name="found")


async def read_flow_by_name(request: Request, name: str) -> Flow:
    return Flow(id=ID, name=name)


async def read_flows(request: Request, body: Query) -> list[Flow]:
    return [Flow(id=ID, name=f"{body.entity} {body.limit} {body.offset}")]


async def read_deployment_by_name(request: Request, flow_name: str, deployment_name: str) -> Any:
    return {"flow": flow_name, "deployment": deployment_name}


async def delete_flow_run(request: Request, id: UUID) -> None:
    return None


async def create_logs(request: Request, body: list[LogCreate]) -> None:
    LOGGED.extend(body)


async def read_due_runs(request: Request, name: str, body: DueRuns) -> Any:
    return [name, body.limit]


async def renew(request: Request, lease_id: str, body: RenewLease) -> None:
    raise Conflict(f"{lease_id} {body.lease_duration}")


async def read_work_pool(request: Request, name: str) -> Any:
    return {"name": name}


async def read_work_pools(request: Request, body: Query) -> Any:
    return []


async def delete_owned(request: Request, resource_id: str) -> None:
    return None


LOGGED: list[LogCreate] = []

ROUTES = [
    Route(calls.create_flow, create_flow),
    Route(calls.read_flow, read_flow),
    Route(calls.read_flow_by_name, read_flow_by_name),
    Route(calls.read_flows, read_flows),
    Route(calls.read_deployment_by_name, read_deployment_by_name),
    Route(calls.delete_flow_run, delete_flow_run),
    Route(calls.create_logs, create_logs),
    Route(calls.read_due_runs, read_due_runs),
    Route(calls.renew_concurrency_lease, renew),
    Route(calls.read_work_pool, read_work_pool),
    Route(calls.read_work_pools, read_work_pools),
    Route(calls.delete_owned_automations, delete_owned),
]
APP = make_app(*ROUTES, max_body_bytes=20_000)


@pytest.mark.parametrize("path", ["/api/flows/", "/api/flows"])
def test_post_answers_with_and_without_trailing_slash(path: str) -> None:
    answer = call(APP, "POST", path, b'{"name":"etl","tags":["a"]}', JSON)
    assert answer.status == 201
    assert answer.json()["name"] == "etl"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_uuid_parameter_in_both_spellings() -> None:
    assert call(APP, "GET", f"/api/flows/{ID}").json()["name"] == "found"
    assert call(APP, "GET", f"/api/flows/{ID.hex}/").json()["name"] == "found"


def test_malformed_uuid_is_not_found_and_says_why() -> None:
    answer = call(APP, "GET", "/api/flows/not-a-uuid")
    assert (answer.status, answer.json()) == (
        404,
        {"detail": "Not Found", "why": "'not-a-uuid' is not a UUID."},
    )


def test_error_of_a_handler_is_its_answer() -> None:
    answer = call(APP, "GET", f"/api/flows/{new_id()}")
    assert (answer.status, answer.json()) == (404, {"detail": "Flow not found"})


def test_unknown_path_is_not_found() -> None:
    for path in ("/api/nope", "/api", "/api/", "/nope", "//api//flows", "/api/flows//x", "/apiflows"):
        answer = call(APP, "GET", path)
        assert (answer.status, answer.json()) == (404, {"detail": "Not Found"}), path


def test_wrong_method_names_the_right_ones() -> None:
    answer = call(APP, "PUT", "/api/flows/filter")
    assert (answer.status, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == "POST"
    assert call(APP, "GET", "/api/flows/filter").status == 405
    assert call(APP, "QUERY", "/api/flows/filter").status == 405


def test_a_name_may_be_the_name_of_a_path() -> None:
    assert call(APP, "GET", "/api/work_pools/filter").json() == {"name": "filter"}
    assert call(APP, "POST", "/api/work_pools/filter").json() == []


def test_head_is_get_without_a_body() -> None:
    full, head = call(APP, "GET", f"/api/flows/{ID}"), call(APP, "HEAD", f"/api/flows/{ID}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(full.body))


def test_path_parameters_are_decoded_by_segment() -> None:
    answer = call(APP, "GET", "/api/deployments/name/my%20flow/a%2Fb%C3%A9")
    assert answer.json() == {"flow": "my flow", "deployment": "a/bé"}
    assert call(APP, "GET", "/api/flows/name/%FF").status == 404
    assert call(APP, "GET", "/api/flows/name/a%00b").status == 404


def test_no_content_has_no_body() -> None:
    answer = call(APP, "DELETE", f"/api/flow_runs/{ID}")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert "content-type" not in answer.headers


def test_none_with_another_status_is_null() -> None:
    answer = call(APP, "DELETE", "/api/automations/owned-by/prefect.deployment.1")
    assert (answer.status, answer.json()) == (202, None)


def test_missing_content_type_is_json_another_one_is_refused() -> None:
    assert call(APP, "POST", "/api/flows/", b'{"name":"etl"}').status == 201
    answer = call(APP, "POST", "/api/flows/", b'{"name":"etl"}', {"content-type": "text/plain"})
    assert answer.status == 422
    assert "application/json" in answer.json()["fix"]
    assert (
        call(
            APP, "POST", "/api/flows/", b'{"name":"e"}', {"content-type": "application/json; charset=utf-8"}
        ).status
        == 201
    )


def test_chunked_body() -> None:
    assert call(APP, "POST", "/api/flows/", chunks=[b'{"na', b'me":"e', b'tl"}']).json()["name"] == "etl"


def test_body_that_is_not_there() -> None:
    answer = call(APP, "POST", "/api/flows/")
    assert (answer.status, answer.json()) == (
        422,
        {
            "exception_message": "Invalid request received.",
            "exception_detail": [
                {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
            ],
            "request_body": None,
        },
    )


def test_body_that_is_not_there_where_every_field_has_a_default() -> None:
    assert call(APP, "POST", "/api/work_pools/p/get_scheduled_flow_runs").json() == ["p", None]
    assert call(APP, "POST", "/api/flows/filter").json()[0]["name"] == "flows 200 0"


def test_filter_body() -> None:
    assert call(APP, "POST", "/api/flows/filter", b'{"limit":5,"offset":7}').json()[0]["name"] == "flows 5 7"
    answer = call(APP, "POST", "/api/flows/filter", b'{"limit":201}')
    assert (answer.status, answer.json()["detail"]) == (
        422,
        "Invalid limit: must be less than or equal to 200.",
    )
    assert call(APP, "POST", "/api/flows/filter", b'{"work_queues":null}').status == 200
    assert "Did you mean 'flows'?" in call(APP, "POST", "/api/flows/filter", b'{"flws":{}}').json()["detail"]


def test_unknown_field_suggests_the_nearest() -> None:
    answer = call(APP, "POST", "/api/flows/", b'{"nme":"x"}')
    assert answer.status == 422
    (detail,) = answer.json()["exception_detail"]
    assert detail["loc"] == ["body", "nme"]
    assert detail["type"] == "extra_forbidden"
    assert "Did you mean 'name'?" in detail["msg"]
    assert answer.json()["request_body"] == {"nme": "x"}


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        (b"{}", ["body", "name"], "missing"),
        (b'{"name":5}', ["body", "name"], "type_error"),
        (b'{"name":"a/b"}', ["body", "name"], "value_error"),
        (b'{"name":"x","tags":["a",1]}', ["body", "tags", 1], "type_error"),
        (b"[]", ["body"], "type_error"),
        (b"{bad", ["body"], "json_invalid"),
        (b'"\\ud800"', ["body"], "json_invalid"),
        (b"[" * 9000, ["body"], "recursion_loop"),
        (b'{"tags":' + b"[" * 200 + b"]" * 200 + b"}", ["body"], "recursion_loop"),
        (b'{"name":"a\\u0000b"}', ["body"], "string_nul"),
        (b'{"name":"x","labels":{"n":1e999}}', ["body", "labels", "..."], "value_error"),
    ],
)
def test_place_of_a_mistake(body: bytes, loc: list[Any], kind: str) -> None:
    answer = call(APP, "POST", "/api/flows/", body)
    assert answer.status == 422
    (detail,) = answer.json()["exception_detail"]
    assert detail["loc"] == loc
    assert detail["type"] == kind


def test_body_that_is_not_utf8() -> None:
    assert call(APP, "POST", "/api/flows/", b'{"name":"\xff"}').status == 400


def test_escaped_backslash_is_no_nul() -> None:
    assert call(APP, "POST", "/api/flows/", b'{"name":"a\\\\u0000b"}').json()["name"] == "a\\u0000b"
    assert without_nul(b'"\\u0000\\\\u0000\\\\\\u0000"') == b'"\\ufffd\\\\u0000\\\\\\ufffd"'


def test_depth_is_counted_outside_of_texts() -> None:
    assert not too_deep(b"[" * 128 + b"]" * 128)
    assert too_deep(b"[" * 129 + b"]" * 129)
    assert not too_deep(b'["' + b"[{" * 500 + b'\\"\\\\"]')
    assert not too_deep(b"[" + b'{"a":[]},' * 500 + b"{}]")


def test_nul_in_a_report_does_not_lose_it() -> None:
    LOGGED.clear()
    line = b'[{"name":"x","level":20,"message":"a\\u0000b","timestamp":"2026-11-22 12:38:39.96+00:00"}]'
    answer = call(APP, "POST", "/api/logs/", line)
    assert (answer.status, answer.json()) == (201, None)
    assert LOGGED[0].message == "a\ufffdb"


def test_too_large() -> None:
    assert call(APP, "POST", "/api/flows/", b"x" * 20_001).status == 413
    assert call(APP, "POST", "/api/flows/", chunks=[b" " * 15_000, b" " * 15_000]).status == 413
    assert call(APP, "POST", "/api/flows/", b"{}", {"content-length": "9" * 5000}).status == 413
    assert call(APP, "POST", "/api/flows/", b"{}", {"content-length": "-1"}).status == 413
    assert call(APP, "GET", "/api/" + "x" * 20_000).status == 414
    assert call(APP, "GET", "/api/hello", headers={f"x-{n}": "y" for n in range(300)}).status == 431
    assert call(APP, "GET", "/api/hello", headers={"x-long": "y" * 100_000}).status == 431


def test_lost_client_is_not_answered() -> None:
    async def go() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-length", b"5")]
        scope = {"type": "http", "method": "POST", "path": "/api/flows/", "headers": headers}
        await APP(scope, receive, send)
        return sent

    assert asyncio.run(go()) == []


def test_failure_is_logged_with_the_id_that_the_client_sees(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> bool:
        raise ZeroDivisionError("secret detail")

    app = make_app(Route(Endpoint("GET", "/fails", bool), fail))
    answer = call(app, "GET", "/api/fails")
    assert answer.status == 500
    assert answer.json()["exception_message"] == "Internal Server Error"
    assert b"secret" not in answer.body
    assert answer.json()["error_id"] in caplog.text


def test_stored_value_that_cannot_be_decoded_is_not_the_mistake_of_the_client() -> None:
    async def read(request: Request) -> Any:
        return msgspec.convert("x", int)

    assert call(make_app(Route(Endpoint("GET", "/v", Any), read)), "GET", "/api/v").status == 500


def test_answer_that_cannot_be_encoded_is_a_failure() -> None:
    async def give(request: Request) -> Any:
        return object()

    assert call(make_app(Route(Endpoint("GET", "/odd", Any), give)), "GET", "/api/odd").status == 500


def test_number_out_of_range_of_the_store_is_refused() -> None:
    async def overflow(request: Request) -> bool:
        raise OverflowError

    assert call(make_app(Route(Endpoint("GET", "/o", bool), overflow)), "GET", "/api/o").status == 422


def test_a_handler_that_does_not_fit_is_refused_when_registered() -> None:
    async def wrong_name(request: Request, ident: UUID) -> Flow: ...  # type: ignore[empty-body]

    async def wrong_type(request: Request, id: str) -> Flow: ...  # type: ignore[empty-body]

    async def wrong_body(request: Request, body: Flow) -> Flow: ...  # type: ignore[empty-body]

    with pytest.raises(TypeError, match="takes"):
        Route(calls.read_flow, wrong_name)
    with pytest.raises(TypeError, match="UUID"):
        Route(calls.read_flow, wrong_type)
    with pytest.raises(TypeError, match="FlowCreate"):
        Route(calls.create_flow, wrong_body)
    with pytest.raises(ValueError, match="has a handler"):
        handles(calls.read_health)(wrong_name)
    with pytest.raises(ValueError, match="twice"):
        Router("/api", [ROUTES[0], ROUTES[0]])


def test_text_parameter_that_ends_in_id() -> None:
    answer = call(APP, "POST", "/api/v2/concurrency_limits/leases/abc/renew")
    assert (answer.status, answer.json()) == (409, {"detail": "abc 300.0"})


def test_query_parameter() -> None:
    answer = call(APP, "GET", "/api/csrf-token")
    assert answer.status == 422
    assert answer.json()["exception_detail"][0]["loc"] == ["query", "client"]
    assert call(APP, "GET", "/api/csrf-token?client=%FF").status == 422
    assert call(APP, "GET", "/api/csrf-token?client=%00").status == 422
    assert call(APP, "GET", "/api/csrf-token?" + "a=1&" * 100).status == 422


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


TEXTS = st.text('[]{}"\\a', max_size=6)
JSONS = st.recursive(
    TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


@given(JSONS, st.integers(0, 130))
def test_depth_is_that_of_the_value_whatever_its_texts_hold(value: object, more: int) -> None:
    for _ in range(more):
        value = [value]
    assert too_deep(json.dumps(value).encode()) == (depth_of(value) > 128)
