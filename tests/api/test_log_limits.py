"""What is too much for the log is refused with the wire's error bodies; nothing of it is kept (wire 1)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.model import encode
from eparch.core.records import MAX_MESSAGE

from .application import DATABASES, Client, started

NOW = datetime(2026, 3, 1, tzinfo=UTC).isoformat()


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


def line(message: str, run: str, **more: Any) -> dict[str, Any]:
    return {"name": "n", "level": 20, "message": message, "timestamp": NOW, "flow_run_id": run, **more}


def kept(ask: Client, run: str) -> int:
    return len(ask(calls.read_logs(body={"logs": {"flow_run_id": {"any_": [run]}}})))


def test_a_line_that_is_too_long_is_refused_with_its_batch(ask: Client) -> None:
    run = str(uuid4())
    batch = [line("fits", run), line("x" * (MAX_MESSAGE + 1), run)]
    response = ask.send("POST", "/logs/", encode(batch), None)
    assert response.status == 422
    body = response.json()
    assert body["exception_message"] == "Invalid request received."
    assert body["exception_detail"][0]["loc"] == ["body", 1, "message"]
    assert len(response.body) < 2000
    assert kept(ask, run) == 0


def test_a_line_of_the_greatest_length_is_kept(ask: Client) -> None:
    run = str(uuid4())
    assert ask.send("POST", "/logs/", encode([line("x" * MAX_MESSAGE, run)]), None).status == 201
    assert kept(ask, run) == 1


def test_a_batch_that_is_too_large_is_refused_before_it_is_read(ask: Client) -> None:
    run = str(uuid4())
    batch = encode([line("x" * 900_000, run) for _ in range(20)])
    response = ask.send("POST", "/logs/", batch, None)
    assert response.status == 413
    assert "larger than" in response.json()["detail"]
    assert kept(ask, run) == 0
