"""Acceptance: ``eparch deployment render`` with a server, and with files alone."""

import json
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.infrastructure_types import shipped_template

PROJECT = """
deployments:
- name: nightly
  entrypoint: flows.py:report
  parameters: {day: monday}
  work_pool:
    name: cluster
    job_variables:
      image: "{{ build_image.image }}"
      env: {TOKEN: "{{ prefect.blocks.secret.token }}"}
      cpu: 2
  build:
  - prefect_docker.deployments.steps.build_docker_image:
      id: build_image
      image_name: report
"""
FLOW = """
from eparch import flow

@flow(name="monthly report")
def report(day: str = "sunday"): ...
"""
TEMPLATE = {
    "variables": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "name": {"default": "{{ ctx.flow.name }}-{{ ctx.flow_run.parameters.day }}"},
            "image": {"type": "string"},
            "cpu": {"type": "integer", "default": 1, "maximum": 4},
            "env": {"type": "object", "default": {"POOL": "1"}},
        },
    },
    "job_configuration": {
        "name": "{{ name }}",
        "image": "{{ image }}",
        "env": "{{ env }}",
        "spec": {"cpu": "{{ cpu }}", "kind": "Job"},
    },
}


@pytest.fixture
def folder(environ, tmp_path):
    """A project and a template, and no server anywhere."""
    environ.chdir(tmp_path)
    environ.setenv("EPARCH_API_URL", "http://127.0.0.1:9/api")
    tmp_path.joinpath("prefect.yaml").write_text(PROJECT)
    tmp_path.joinpath("flows.py").write_text(FLOW)
    tmp_path.joinpath("template.json").write_text(json.dumps(TEMPLATE))
    return tmp_path


OFFLINE = ("--prefect-file", "prefect.yaml", "--base-job-template", "template.json", "--type", "elsewhere")


def test_p7_p9_a_job_of_any_type_is_rendered_from_files_alone(folder, run):
    done = run(
        "deployment",
        "render",
        "nightly",
        *OFFLINE,
        "-jv",
        "env.RUN=1",
        "-p",
        "day=friday",
        "-o",
        "json",
        code=0,
    )
    found = done.json()
    job, origins = found["job"], found["origins"]
    assert job["image"] == "{{ build_image.image }}"
    assert job["name"] == "monthly report-friday"
    assert job["spec"] == {"cpu": 2, "kind": "Job"}
    assert {key: job["env"][key] for key in ("POOL", "TOKEN", "RUN")} == {
        "POOL": "1",
        "TOKEN": "{{ prefect.blocks.secret.token }}",
        "RUN": "1",
    }
    told = (
        "env.POOL",
        "env.TOKEN",
        "env.RUN",
        "spec.cpu",
        "spec.kind",
        "name",
        "labels.prefect.io/flow-name",
    )
    assert [origins[key]["layers"][0] for key in told] == [
        "pool", "deployment", "run", "deployment", "template", "pool", "worker",
    ]  # fmt: skip
    assert origins["spec.cpu"]["variables"] == ["cpu"]
    assert "'elsewhere'" in done.err


def test_p7_people_get_a_table(folder, run):
    lines = run("deployment", "render", "nightly", *OFFLINE, code=0).out.splitlines()
    assert lines[0].split() == ["KEY", "VALUE", "FROM", "VARIABLE"]
    assert any(line.split() == ["spec.cpu", "2", "deployment", "cpu"] for line in lines)


def test_p5_p9_what_a_server_would_refuse_is_refused(folder, run):
    done = run("deployment", "render", "nightly", *OFFLINE, "-jv", "imag=x", code=None)
    assert (done.code, done.out) == (2, "")
    assert "Did you mean 'image'?" in done.err
    done = run("deployment", "render", "nightly", *OFFLINE, "-jv", "cpu=9", code=2)
    assert "maximum of 4" in done.err
    assert "spec.cpu" in done.out
    done = run("deployment", "render", "nightly", *OFFLINE, "-jv", '{"image": null}', code=2)
    assert "'image' is a required property" in done.err
    assert run("deployment", "render", "nihgtly", *OFFLINE, code=3).err.count("'nightly'")


def test_p7_a_type_brings_its_own_template(folder, run):
    given = ("--prefect-file", "prefect.yaml", "--type", "kubernetes")
    done = run("deployment", "render", "nightly", *given, "-o", "yaml", code=None)
    assert "no job variable 'cpu'" in done.err
    folder.joinpath("prefect.yaml").write_text(PROJECT.replace("cpu: 2", "namespace: data"))
    job = run("deployment", "render", "nightly", *given, "-o", "json").json()["job"]
    assert job["job_manifest"]["metadata"]["namespace"] == "data"
    container = job["job_manifest"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "{{ build_image.image }}"


def test_p7_a_deployment_of_a_server(eparch, client):
    pool, flow = f"pool-{uuid4().hex[:8]}", client.send(calls.create_flow(body={"name": f"f-{uuid4().hex}"}))
    body = {"name": pool, "type": "process", "base_job_template": shipped_template("process")}
    client.send(calls.create_work_pool(body=body))
    body = {"name": "n", "flow_id": flow.id, "work_pool_name": pool, "job_variables": {"working_dir": "/srv"}}
    made = client.send(calls.create_deployment(body=body))
    name = f"{flow.name}/n"
    found = eparch("deployment", "render", name, "-jv", "env.PORT=80", "-o", "json").json()
    assert found["rendered"]["working_dir"] == found["job"]["working_dir"] == "/srv"
    assert found["job"]["env"]["PORT"] == "80"
    assert found["origins"]["working_dir"]["layers"] == ["deployment"]
    assert found["job"]["labels"]["prefect.io/deployment-id"] == str(made.id)
    assert "eparch.sdk.execute" in found["job"]["command"]
    eparch("deployment", "run", name, "--job-variable", "env.PORT=80")
    client.send(calls.update_deployment(id=made.id, body={"work_pool_name": pool}))
    bare = client.send(calls.create_deployment(body={"name": "bare", "flow_id": flow.id}))
    assert bare.work_pool_name is None
    assert "has no work pool" in eparch("deployment", "render", f"{flow.name}/bare", code=2).err
