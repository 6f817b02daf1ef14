"""Whatever arrives, the answer is never a 500 (issue: bad input)."""

from typing import Any
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eparch.api.request import Request
from eparch.api.router import Route
from eparch.core import calls
from eparch.core.calls import Endpoint
from eparch.core.deployments import DeploymentCreate
from eparch.core.events import Event
from eparch.core.filters import FIELDS, FilterBody, Query
from eparch.core.runs import FlowRunCreate, SetState

from .calling import call, make_app


async def create_flow_run(request: Request, body: FlowRunCreate) -> Any:
    return body


async def create_deployment(request: Request, body: DeploymentCreate) -> Any:
    return body


async def set_state(request: Request, id: UUID, body: SetState) -> Any:
    return body


async def create_events(request: Request, body: list[Event]) -> Any:
    return None


async def echo_query(request: Request, body: Query) -> Any:
    return str(body.shape())


async def read_pool(request: Request, name: str) -> Any:
    return name


APP = make_app(
    Route(calls.create_flow_run, create_flow_run),
    Route(calls.create_deployment, create_deployment),
    Route(calls.set_flow_run_state, set_state),
    Route(calls.create_events, create_events),
    Route(calls.read_flow_runs, echo_query),
    Route(calls.read_artifacts, echo_query),
    Route(calls.read_work_pool, read_pool),
    csrf_enabled=False,
)
BODIES = [
    "/flow_runs/",
    "/deployments/",
    "/flow_runs/0192f3b0-0000-7000-8000-000000000001/set_state",
    "/events",
    "/flow_runs/filter",
    "/artifacts/filter",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def _fields(path: str) -> st.SearchStrategy[dict[str, Any]]:
    endpoint = next(e for e in calls.ENDPOINTS if e.path == path)
    keys = endpoint.body.keys() if isinstance(endpoint.body, FilterBody) else endpoint.body.__struct_fields__
    return st.dictionaries(st.sampled_from(list(keys)), JSON)


@FEW
@given(st.sampled_from(BODIES), st.binary(max_size=200))
def test_any_bytes(path: str, body: bytes) -> None:
    assert call(APP, "POST", f"/api{path}", body).status < 500


@FEW
@given(st.sampled_from(BODIES), JSON)
def test_any_json(path: str, body: Any) -> None:
    assert call(APP, "POST", f"/api{path}", msgspec.json.encode(body)).status < 500


@FEW
@given(st.sampled_from(["/flow_runs/", "/deployments/", "/flow_runs/filter", "/artifacts/filter"]), st.data())
def test_any_value_of_known_fields(path: str, data: st.DataObject) -> None:
    body = data.draw(_fields(path))
    assert call(APP, "POST", f"/api{path}", msgspec.json.encode(body)).status < 500


@FEW
@given(
    st.sampled_from(sorted(FIELDS["flow_runs"])),
    st.sampled_from(["any_", "before_", "like_", "is_null_"]),
    JSON,
)
def test_any_condition(field: str, op: str, value: Any) -> None:
    body = msgspec.json.encode({"flow_runs": {field: {op: value}}})
    assert call(APP, "POST", "/api/flow_runs/filter", body).status < 500


@FEW
@given(
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "X"]),
    st.text(st.characters(max_codepoint=255), max_size=60),
)
def test_any_path(method: str, path: str) -> None:
    assert call(APP, method, f"/api/{path}").status < 500
    assert call(APP, method, f"/api/work_pools/{path}").status < 500


HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)


@FEW
@given(
    st.sampled_from(
        [
            "authorization",
            "origin",
            "content-type",
            "content-length",
            "x-prefect-api-version",
            "prefect-csrf-token",
            "accept-encoding",
            "host",
            calls.CLAIM_HEADER,
        ]
    ),
    HEADER,
)
def test_any_header(name: str, value: str) -> None:
    strict = make_app(
        Route(Endpoint("POST", "/claim", Any), read_claim), auth_string="u:p", csrf_enabled=True
    )
    loose = make_app(Route(Endpoint("POST", "/claim", Any), read_claim))
    headers = {name: value, "prefect-csrf-client": "c"}
    assert call(strict, "POST", "/api/claim", b"{}", headers).status < 500
    assert call(loose, "POST", "/api/claim", b"{}", {name: value}).status < 500


async def read_claim(request: Request) -> Any:
    return [request.claim_token, request.header("authorization")]


def test_claim_token() -> None:
    app = make_app(Route(Endpoint("POST", "/claim", Any), read_claim))
    assert call(app, "POST", "/api/claim", headers={calls.CLAIM_HEADER: "17"}).json()[0]["token"] == 17
    sent = f"{UUID(int=5)}:17"
    assert call(app, "POST", "/api/claim", headers={calls.CLAIM_HEADER: sent}).json()[0] == {
        "token": 17,
        "flow_run_id": str(UUID(int=5)),
    }
    assert call(app, "POST", "/api/claim").json()[0] is None
    assert call(app, "POST", "/api/claim", headers={calls.CLAIM_HEADER: "x"}).status == 400
    assert call(app, "POST", "/api/claim", headers={calls.CLAIM_HEADER: "x:17"}).status == 400
    assert call(app, "POST", "/api/claim", headers={calls.CLAIM_HEADER: "9" * 30}).status == 400
