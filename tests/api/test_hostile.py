"""Whatever arrives, at every operation: an answer below 500, in the shape that clients know (wire section 1).

``hostile`` makes the requests: each parameter, each header and each field of a body in turn holds what it
should not. Half of them go to each database. Broken HTTP is in ``test_attacks``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from eparch import settings
from eparch.api.app import create_app
from eparch.api.openapi import document
from eparch.api.request import Request
from eparch.api.router import Route
from eparch.core import calls
from eparch.core.endpoint import Endpoint

from .application import DATABASES, Client, seed, started
from .calling import Response, call, call_in_loop, make_app
from .hostile import Known, Maker, Sent

SERVED = {f"{r.endpoint.method} {r.endpoint.path}": r for r in create_app(settings.load({})).router.routes}
LISTED: list[str] = msgspec.json.decode(Path(__file__).with_name("operations.json").read_bytes())
TRIGGER = {"type": "event", "posture": "Reactive", "expect": ["a"], "threshold": 1, "within": 0}
AUTOMATION = {"name": "a", "trigger": TRIGGER, "actions": [{"type": "do-nothing"}]}
OWN: dict[str, Any] = {
    "POST /automations/": AUTOMATION,
    "PUT /automations/{id}": AUTOMATION,
    "POST /automations/dry-run": {"automation": AUTOMATION},
    "POST /block_documents/": {"name": "hostile"},
    "POST /ui/task_runs/dashboard/counts": {"task_runs": {"start_time": {"after_": "2026-11-22T12:00:00Z"}}},
}
"""Bodies of those operations whose rules are more than a schema says."""

REFUSED = {
    "GET /csrf-token": 422,  # it is off
    "GET /events/filter/next": 403,  # it takes what was sealed
    "GET /artifacts/{key}/latest": 404,
}
"""Operations that refuse what is right but for the state of this server, and how."""

HANGS_ON = {"POST /work_pools/{name}/claim", "POST /deployments/claim"}
"""Who goes away while it waits for work gets no answer."""


def _weight(name: str) -> tuple[bool, int]:
    """What deletes comes last, and parts before the whole."""
    method, path = name.split()
    return method == "DELETE" or path.endswith("/bulk_delete"), -path.count("/")


ORDER = sorted(SERVED, key=_weight)


class Place:
    """A server with something in it, and what to send to it."""

    def __init__(self, client: Client, parity: int) -> None:
        self.client = client
        self.parity = parity
        self.maker = Maker(
            document(route.endpoint for route in SERVED.values()), Known(furnish(client)), each=2
        )

    def send_all(self, name: str) -> list[tuple[Sent, Response | None]]:
        """Send every second request of an operation, and the first."""
        method, path = name.split()
        return self.client.runner.run(
            self._send_all(list(self.maker.requests(method, path, OWN.get(name))), name)
        )

    async def _send_all(self, requests: list[Sent], name: str) -> list[tuple[Sent, Response | None]]:
        return [(r, await self._send(r, name)) for r in (requests[0], *requests[1 + self.parity :: 2])]

    async def _send(self, sent: Sent, name: str) -> Response | None:
        asked = call_in_loop(self.client.app, sent.method, f"/api{sent.path}", sent.body, sent.headers)
        try:
            async with asyncio.timeout(60):
                return await asked  # type: ignore[no-any-return]
        except ValueError:  # no message at all
            assert name in HANGS_ON, sent
            return None


def furnish(ask: Client) -> dict[str, list[str]]:
    """``seed``, and what it does not make."""
    found = seed(ask)
    tag = ask(calls.create_tag_limit(body={"tag": "t", "concurrency_limit": 5}))
    limit = ask(calls.create_concurrency_limit(body={"name": "hostile", "limit": 5}))
    lease = ask(calls.lease_slots(body={"names": ["hostile"], "slots": 1, "lease_duration": 3600}))
    worker = {
        "id": str(uuid4()),
        "name": "worker",
        "started_at": "2026-11-22T12:00:00Z",
        "heartbeat_interval_seconds": 30,
    }
    ask(calls.report_worker(work_pool_name=found["pool_name"][0], body=worker))
    daily = {
        "schedule": {"cron": "0 0 * * *", "timezone": "UTC"},
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-03T00:00:00Z",
    }
    backfill = ask(calls.create_backfill(id=found["deployment"][0], body=daily))
    states = ask(calls.read_task_run_states(task_run_id=found["task_run"][0]))
    ask(calls.create_default_pool_queue(body={"name": "fast"}))
    schema = ask(calls.read_block_schema(id=found["block_schema"][0]))
    return found | {
        "concurrency_limit": [tag["id"]],
        "tag": ["t"],
        "id_or_name": [limit["name"]],
        "resource_id": ["prefect.deployment.1"],
        "number": ["1"],
        "lease_id": [lease["lease_id"]],
        "worker_instance": [worker["id"]],
        "backfill": [backfill["id"]],
        "task_run_state": [state["id"] for state in states],
        "checksum": [schema["checksum"]],
    }


@pytest.fixture(scope="module", params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield Place(client, DATABASES.index(request.param))


def judge(response: Response, name: str) -> None:
    """What holds of every answer.

    Raises:
        AssertionError: it does not.
    """
    assert response.status < 500
    if response.status in (204, 304):
        assert response.body == b""
        return
    endpoint = SERVED[name].endpoint
    assert response.headers["content-type"].startswith(
        endpoint.media if response.status < 300 else "application/json"
    )
    if response.status >= 300:
        said = response.json()
        assert isinstance(said.get("detail") or said.get("exception_message"), str)
        if response.status == 422 and "exception_message" in said:
            assert {"loc", "msg", "type"} <= set(said["exception_detail"][0])
            assert "request_body" in said
    elif endpoint.media == "application/json":
        msgspec.convert(response.json(), Any if endpoint.answer is None else endpoint.answer)


def test_every_operation_is_asked() -> None:
    assert set(LISTED) <= set(ORDER)
    assert len(ORDER) == len(set(ORDER)) == len(SERVED)


@pytest.mark.parametrize("name", ORDER)
def test_hostile_requests_are_answered(place: Place, name: str) -> None:
    answers = place.send_all(name)
    first, right = answers[0]
    assert right is not None
    if name in LISTED:
        gone = name.startswith("DELETE")  # it may have gone with what it was a part of
        assert right.status < 300 or right.status == REFUSED.get(name, 404 * gone), (str(first), right.body)
    for sent, response in answers:
        if response is not None:
            try:
                judge(response, name)
            except Exception as error:
                raise AssertionError(f"{sent} -> {response.status} {response.body[:500]!r}") from error


HEADER_NAMES = (
    "authorization",
    "origin",
    "content-type",
    "content-length",
    "x-prefect-api-version",
    "prefect-csrf-token",
    "accept-encoding",
    "host",
    calls.CLAIM_HEADER,
)


@pytest.mark.parametrize("name", HEADER_NAMES)
def test_hostile_header_at_a_server_with_a_secret(name: str) -> None:
    app = make_app(Route(Endpoint("POST", "/claim", Any), read_claim), auth_string="u:p", csrf_enabled=True)
    for value in (
        "",
        " ",
        "\x7f",
        "\xff" * 100,
        "a" * 8000,
        "Basic",
        "Basic dTpw",
        "Basic ====",
        "Bearer \xe9",
        "http://[",
        "-1",
    ):
        headers = {"prefect-csrf-client": "c", name: value}
        assert 400 <= call(app, "POST", "/api/claim", b"{}", headers).status < 500


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
