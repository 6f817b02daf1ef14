"""Saving base job templates and job variables over the wire: what is refused, what is warned of."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.infrastructure_types import NAMES, shipped_template
from eparch.core.job_templates import WARNING_HEADER
from eparch.core.model import encode

from .application import Client, start


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = start(tmp_path_factory.mktemp("home"), "sqlite+aiosqlite:///:memory:")
    yield client
    client.close()


def template(configuration: dict[str, Any], **variables: Any) -> dict[str, Any]:
    return {
        "job_configuration": configuration,
        "variables": {"type": "object", "properties": variables},
    }


def create(ask: Client, base: dict[str, Any]) -> Any:
    name = f"pool-{uuid4().hex[:8]}"
    body = encode({"name": name, "type": "process", "base_job_template": base})
    return name, ask.send("POST", "/work_pools/", body)


def test_p1_the_type_of_a_pool_cannot_be_changed(ask: Client) -> None:
    name, made = create(ask, template({}))
    assert made.status == 201
    assert ask.send("PATCH", f"/work_pools/{name}", b'{"type": "docker"}').status == 422
    assert ask(calls.read_work_pool(name=name))["type"] == "process"


def test_p2_a_placeholder_without_a_variable_is_refused_with_its_place(ask: Client) -> None:
    _, refused = create(ask, template({"spec": {"args": ["{{ imge }}"]}}, image={}))
    assert refused.status == 422
    said = refused.json()["detail"]
    assert "'{{ imge }}' has no variable 'imge'" in said
    assert "at job_configuration.spec.args.0" in said
    assert "Did you mean 'image'?" in said


def test_p6_a_variable_without_effect_is_warned_of_in_a_header(ask: Client) -> None:
    name, made = create(ask, template({"a": "{{ a }}"}, a={}, unused={}))
    assert made.status == 201
    assert "variable 'unused' has no effect" in made.headers[WARNING_HEADER]
    bad = template({"a": "{{ a }}"}, a={}, **{"añ\n" + "x" * 3000: {}})
    body = encode({"base_job_template": bad})
    changed = ask.send("PATCH", f"/work_pools/{name}", body)
    assert changed.status == 204
    assert "?" in changed.headers[WARNING_HEADER]
    assert len(changed.headers[WARNING_HEADER]) <= 2000
    paused = ask.send("PATCH", f"/work_pools/{name}", b'{"is_paused": true}')
    assert (paused.status, WARNING_HEADER in paused.headers) == (204, False)


@pytest.mark.parametrize("type_", NAMES)
def test_p12_the_shipped_templates_are_saved_as_they_are(ask: Client, type_: str) -> None:
    given = shipped_template(type_)
    assert given is not None
    name, made = create(ask, given)
    assert made.status == 201
    assert ask(calls.read_work_pool(name=name))["base_job_template"] == given


def test_p5_p11_p22_what_does_not_fit_a_pool_is_refused_by_name(ask: Client) -> None:
    cpu = {"type": "integer", "minimum": 1, "maximum": 8}
    size = {"enum": ["small", "large"]}
    narrow, _ = create(ask, template({"c": "{{ cpu }}", "s": "{{ size }}"}, cpu=cpu, size=size))
    wide_template = template({"c": "{{ cpu }}"}, cpu={})
    wide_template["variables"]["additionalProperties"] = True
    wide, _ = create(ask, wide_template)
    flow = ask(calls.create_flow(body={"name": "f"}))
    body = {"name": uuid4().hex, "flow_id": flow["id"], "work_pool_name": wide}
    made = ask(calls.create_deployment(body={**body, "job_variables": {"cpu": 9, "siz": "small"}}))
    moved = ask(calls.update_deployment(id=made["id"], body={"work_pool_name": narrow}), 409)
    assert f"do not fit the work pool '{narrow}'" in moved["detail"]
    assert "no job variable 'siz'" in moved["detail"]
    assert "maximum of 8" in moved["detail"]
    assert "Did you mean 'size'?" in moved["detail"] + moved.get("fix", "")
    assert ask(calls.read_deployment(id=made["id"]))["work_pool_name"] == wide
    ask(calls.update_deployment(id=made["id"], body={"job_variables": {"cpu": 8, "size": "small"}}))
    ask(calls.update_deployment(id=made["id"], body={"work_pool_name": narrow}))
    run = calls.create_deployment_flow_run(id=made["id"], body={"job_variables": {"size": "huge"}})
    assert "'size'" in (said := ask(run, 409)["detail"])
    assert "given by the run" in said
