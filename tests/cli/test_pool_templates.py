"""Acceptance: ``eparch work-pool template``, and what saving a template tells people."""

import json
from copy import deepcopy
from uuid import uuid4

import pytest

from eparch.core import calls, infrastructure_types
from eparch.core.infrastructure_types import shipped_template


@pytest.fixture
def older(environ):
    """The template of a release before this one: ``stream_output`` was off and there was ``nice``."""
    old = shipped_template("process")
    old["variables"]["properties"]["stream_output"] |= {"default": False, "title": "Stream"}
    old["variables"]["properties"]["nice"] = {"type": "integer"}
    old["job_configuration"]["nice"] = "{{ nice }}"
    newest = shipped_template("process")
    environ.setattr(infrastructure_types, "past_templates", lambda _: (old, newest))
    return old


def make(client, base):
    name = f"pool-{uuid4().hex[:8]}"
    client.send(calls.create_work_pool(body={"name": name, "type": "process", "base_job_template": base}))
    return name


def now(client, name):
    return client.send(calls.read_work_pool(name=name)).base_job_template


def test_p13_a_pool_of_an_older_release_is_compared_and_upgraded(run, client, older):
    mine = deepcopy(older)
    mine["variables"]["properties"]["working_dir"]["default"] = "/srv"
    name = make(client, mine)
    flow = client.send(calls.create_flow(body={"name": f"f-{uuid4().hex}"}))
    body = {"name": "n", "flow_id": flow.id, "work_pool_name": name, "job_variables": {"nice": 5}}
    client.send(calls.create_deployment(body=body))
    changes = {
        ".".join(one["path"]): one["kind"]
        for one in run("work-pool", "template", "diff", name, "-o", "json").json()
    }
    assert changes == {
        "job_configuration.nice": "default",
        "variables.properties.nice": "default",
        "variables.properties.stream_output.default": "default",
        "variables.properties.stream_output.title": "default",
        "variables.properties.working_dir.default": "pool",
    }
    table = run("work-pool", "template", "diff", name).out
    assert "the type's, is taken" in table
    assert "stream_output.title" not in table
    tried = run("work-pool", "template", "upgrade", name, "--dry-run", code=0)
    assert "Would take over 4 changes." in tried.err
    assert f"{flow.name}/n: The work pool has no job variable 'nice'" in tried.err
    assert now(client, name) == mine
    assert "Add --yes." in run("work-pool", "template", "upgrade", name, code=2).err
    run("work-pool", "template", "upgrade", name, "-y", code=0)
    newest = shipped_template("process")
    newest["variables"]["properties"]["working_dir"]["default"] = "/srv"
    assert now(client, name) == newest
    again = run("work-pool", "template", "upgrade", name, "-y", code=0)
    assert "has all that is new" in again.err


def test_p13_a_conflict_is_named_and_kept(run, client, older):
    mine = deepcopy(older)
    mine["variables"]["properties"]["stream_output"]["default"] = None
    name = make(client, mine)
    done = run("work-pool", "template", "upgrade", name, "-y", "-o", "json", code=0)
    assert [".".join(one["path"]) for one in done.json() if one["kind"] == "conflict"] == [
        "variables.properties.stream_output.default"
    ]
    assert "1 conflicts stay as they are" in done.err
    assert now(client, name)["variables"]["properties"]["stream_output"]["default"] is None


def test_p13_what_cannot_work_together_is_refused_and_nothing_changes(run, client, older):
    mine = deepcopy(older)
    mine["job_configuration"]["priority"] = "{{ nice }}"
    name = make(client, mine)
    done = run("work-pool", "template", "upgrade", name, "-y", code=2)
    assert "has no variable 'nice'" in done.err
    assert now(client, name) == mine


def test_p13_a_new_pool_has_the_newest(eparch, client):
    name = make(client, shipped_template("docker"))
    client.send(calls.delete_work_pool(name=name))
    body = {"name": name, "type": "docker", "base_job_template": shipped_template("docker")}
    client.send(calls.create_work_pool(body=body))
    done = eparch("work-pool", "template", "diff", name)
    assert (done.out, done.err) == ("", "The template is the type's newest.\n")
    unknown = f"pool-{uuid4().hex[:8]}"
    client.send(calls.create_work_pool(body={"name": unknown, "type": "dokcer"}))
    assert "Did you mean" in eparch("work-pool", "template", "diff", unknown, code=3).err


def test_p6_p12_saving_a_template_tells_what_has_no_effect_and_who_no_longer_fits(run, client, tmp_path):
    base = shipped_template("process")
    base["variables"]["properties"]["unused"] = {"type": "string"}
    file = tmp_path / "template.json"
    file.write_text(json.dumps(base))
    name = f"pool-{uuid4().hex[:8]}"
    done = run("work-pool", "create", name, "-t", "process", "--base-job-template", file, code=0)
    assert "Warning: The variable 'unused' has no effect" in done.err
    flow = client.send(calls.create_flow(body={"name": f"f-{uuid4().hex}"}))
    body = {"name": "n", "flow_id": flow.id, "work_pool_name": name, "job_variables": {"unused": "x"}}
    client.send(calls.create_deployment(body=body))
    del base["variables"]["properties"]["unused"]
    file.write_text(json.dumps(base))
    done = run("work-pool", "update", name, "--base-job-template", file, code=0)
    assert f"  {flow.name}/n: The work pool has no job variable 'unused'" in done.err
    assert "Warning" not in done.err
    base["job_configuration"]["name"] = "{{ nmae }}"
    file.write_text(json.dumps(base))
    for command in (("update", name), ("create", name, "-t", "process", "--overwrite")):
        done = run("work-pool", *command, "--base-job-template", file, code=None)
        assert done.code != 0
        assert "at job_configuration.name; Did you mean 'name'?" in done.err
