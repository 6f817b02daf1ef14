"""Checking templates over the wire: statuses and bodies as Prefect's server answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eparch.core import calls

from .application import DATABASES, Client, started


@pytest.fixture(scope="module", params=DATABASES[:1])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.mark.parametrize("endpoint", [calls.validate_template, calls.validate_automation_template])
def test_a_template_is_checked(ask: Client, endpoint: calls.Endpoint[None]) -> None:
    ask(endpoint(body="Flow {{ flow.name }} failed"))
    source = "one\n{% if %}"
    error = ask(endpoint(body=source), 422)["error"]
    assert (error["line"], error["source"]) == (2, source)
    assert error["message"]
    deep = "{% for a in b %}" * 3 + "{% endfor %}" * 3
    assert "2 deep" in ask(endpoint(body=deep), 422)["error"]["message"]
    ask(endpoint(body={"not": "a text"}), 422)
