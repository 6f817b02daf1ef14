"""The job that a worker would start, and where each of its values came from."""

import pytest

from eparch.core.deployments import Deployment, Flow
from eparch.core.errors import Invalid, NotFound
from eparch.core.infrastructure_types import NAMES, shipped_template
from eparch.core.job_origins import leaves
from eparch.core.model import new_id
from eparch.core.pools import WorkPool
from eparch.core.runs import FlowRun
from eparch.settings import load
from eparch.workers.dry_run import explain_assignment, render_as
from eparch.workers.jobs import COMMAND, Assignment, client_environment, make_job


def assigned(type_="process", deployed=None, own=None) -> Assignment:
    flow = Flow(id=new_id(), name="report")
    deployment = Deployment(id=new_id(), name="nightly", flow_id=flow.id, job_variables=deployed or {})
    run = FlowRun(id=new_id(), name="wise-owl", flow_id=flow.id, job_variables=own)
    pool = WorkPool(id=new_id(), name="local", type=type_)
    return Assignment(flow_run=run, pool=pool, worker_name="w", deployment=deployment, flow=flow, token=7)


def explain(type_="process", deployed=None, own=None, environment=None, template=None):
    job, origins = explain_assignment(
        assigned(type_, deployed, own), environment or {}, template or shipped_template(type_)
    )
    return job, {".".join(map(str, path)): ", ".join(one.layers) for path, one in origins.items()}


def test_p7_a_process_is_its_command_environment_and_directory_each_with_its_layer():
    job, origins = explain(
        deployed={"env": {"A": "1", "GONE": None}, "labels": {"team": "data"}},
        own={"env.B": "2", "working_dir": "/srv"},
        environment={"EPARCH_API_URL": "http://h/api"},
    )
    assert job["command"] == " ".join(COMMAND)
    assert (job["env"]["A"], job["env"]["B"], job["working_dir"]) == ("1", "2", "/srv")
    told = {key: origins[key] for key in ("env.A", "env.B", "env.GONE", "working_dir", "stream_output")}
    assert told == {
        "env.A": "deployment",
        "env.B": "run",
        "env.GONE": "deployment",
        "working_dir": "run",
        "stream_output": "pool",
    }
    assert origins["env.EPARCH_API_URL"] == origins["command"] == origins["name"] == "worker"
    assert origins["labels.team"] == "deployment"
    assert origins["labels.prefect.io/flow-run-id"] == "worker"


def test_p7_what_nobody_can_change_is_the_workers():
    job, origins = explain(deployed={"env": {"EPARCH_FLOW_RUN_ID": "x"}})
    assert job["env"]["EPARCH_FLOW_RUN_ID"] != "x"
    assert origins["env.EPARCH_FLOW_RUN_ID"] == "worker"


@pytest.mark.parametrize("type_", NAMES)
def test_p7_every_leaf_of_every_type_has_an_origin(type_):
    assignment = assigned(type_, {"env": {"A": "1"}})
    template = shipped_template(type_)
    job, origins = explain_assignment(assignment, {}, template)
    assert {path for path, _ in leaves(job)} == origins.keys()
    made = make_job(assignment, {}, template)
    assert {**made, "command": job.get("command")} == {**job, "command": job.get("command")}


def test_p10_references_are_shown_as_they_are_written():
    reference = {"$ref": {"block_document_id": "0199"}}
    block, variable = "{{ prefect.blocks.secret.token }}", "{{ prefect.variables.region }}"
    job, _ = explain(deployed={"env": {"A": block, "B": variable}, "name": f"x-{variable}"})
    assert (job["env"]["A"], job["env"]["B"], job["name"]) == (block, variable, f"x-{variable}")
    template = shipped_template("process")
    template["variables"]["properties"]["labels"]["default"] = reference
    template["job_configuration"]["more"] = "{{ labels }}"
    del template["job_configuration"]["labels"]
    assert explain(template=template)[0]["more"] == reference


def test_w24_secrets_of_the_client_are_masked_for_people(tmp_path):
    settings = load({"EPARCH_HOME": str(tmp_path), "EPARCH_API_KEY": "s3cret"}, tmp_path)
    shown = client_environment(settings, secrets=False)
    assert shown.keys() == {"EPARCH_API_KEY", "PREFECT_API_KEY"}
    assert "s3cret" not in str(shown)


def test_what_a_type_makes_of_a_job():
    job, _ = explain(deployed={"working_dir": "/srv"})
    assert render_as("process", job)["working_dir"] == "/srv"
    with pytest.raises(Invalid, match="does not fit a process"):
        render_as("process", {"stream_output": []})
    with pytest.raises(NotFound):
        render_as("nope", job)
