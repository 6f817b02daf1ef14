import json
import sys

import pytest

from eparch.core.deployments import Deployment, Flow
from eparch.core.errors import Invalid, NotFound
from eparch.core.model import new_id
from eparch.core.pools import WorkPool
from eparch.core.runs import FlowRun
from eparch.settings import load
from eparch.workers.jobs import COMMAND, Assignment, client_environment, command_of, make_job
from eparch.workers.process import ProcessInfrastructure

TEMPLATE = ProcessInfrastructure.base_job_template


def make(deployed=None, own=None, *, environment=None, template=TEMPLATE, token=7, references=None) -> dict:
    flow = Flow(id=new_id(), name="report")
    deployment = Deployment(id=new_id(), name="nightly", flow_id=flow.id, job_variables=deployed or {})
    run = FlowRun(
        id=new_id(), name="wise-owl", flow_id=flow.id, deployment_id=deployment.id, job_variables=own
    )
    pool = WorkPool(id=new_id(), name="local", type="process")
    assignment = Assignment(
        flow_run=run, pool=pool, worker_name="w", deployment=deployment, flow=flow, token=token
    )
    job = make_job(assignment, environment or {}, template, references)
    return {**job, "ids": {"run": str(run.id), "deployment": str(deployment.id), "flow": str(flow.id)}}


def test_p7_the_run_wins_over_the_deployment_and_this_over_the_pool():
    job = make({"stream_output": False, "working_dir": "/a"}, {"working_dir": "/b"})
    assert (job["stream_output"], job["working_dir"]) == (False, "/b")
    assert make()["stream_output"] is True
    assert "working_dir" not in make()


def test_p5_an_unknown_variable_is_refused_with_the_nearest():
    with pytest.raises(Invalid) as caught:
        make({"workng_dir": "/a"})
    assert caught.value.fix == "Did you mean 'working_dir'?"


def test_w23_labels_say_what_a_job_belongs_to_and_can_be_added_to():
    job = make({"labels": {"team": "data", "prefect.io/version": "mine"}})
    labels, ids = job["labels"], job["ids"]
    assert labels["prefect.io/flow-run-id"] == ids["run"]
    assert labels["prefect.io/deployment-name"] == "nightly"
    assert labels["prefect.io/flow-name"] == "report"
    assert labels["prefect.io/work-pool-name"] == "local"
    assert labels["team"] == "data"
    assert labels["prefect.io/version"] == "mine"


def test_w24_environment_is_the_clients_then_the_jobs_and_null_removes():
    job = make(
        {"env": {"A": "deployment", "B": "b", "N": 3}},
        {"env": {"A": "run", "B": None, "HOME": None}},
        environment={"EPARCH_REQUEST_TIMEOUT": "5", "A": "client"},
    )
    env = job["env"]
    assert (env["A"], env["N"], env["EPARCH_REQUEST_TIMEOUT"]) == ("run", "3", "5")
    assert env["B"] is None
    assert env["HOME"] is None
    assert env["PREFECT__DEPLOYMENT_NAME"] == "nightly"


def test_which_run_it_is_and_its_claim_cannot_be_changed_by_a_variable():
    job = make({"env": {"EPARCH_FLOW_RUN_ID": "x", "EPARCH_CLAIM_TOKEN": "9"}})
    assert job["env"]["EPARCH_FLOW_RUN_ID"] == job["env"]["PREFECT__FLOW_RUN_ID"] == job["ids"]["run"]
    assert job["env"]["EPARCH_CLAIM_TOKEN"] == "7"
    assert "EPARCH_CLAIM_TOKEN" not in make(token=None)["env"]


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({}, {}),
        ({"PREFECT_CLIENT_CUSTOM_HEADERS": '{"x-own": "1"}'}, {"x-own": "1"}),
        ({"EPARCH_CUSTOM_HEADERS": '{"x-own": "2", "x-eparch-claim": "9"}'}, {"x-own": "2"}),
        ({"PREFECT_CLIENT_CUSTOM_HEADERS": "no json"}, {}),
        ({"PREFECT_CLIENT_CUSTOM_HEADERS": "[1]"}, {}),
    ],
)
def test_w15_prefects_client_in_a_job_shows_its_claim(variables, kept):
    job = make({"env": variables})
    told = json.loads(job["env"]["PREFECT_CLIENT_CUSTOM_HEADERS"])
    assert told == {**kept, "x-eparch-claim": f"{job['ids']['run']}:7"}
    assert "PREFECT_CLIENT_CUSTOM_HEADERS" not in make(token=None)["env"]


@pytest.mark.parametrize("name", ["EPARCH_API_URL", "PREFECT_API_URL"])
def test_w24_a_setting_given_by_one_of_its_names_is_not_overruled_by_the_other(name):
    told = {"EPARCH_API_URL": "http://worker/api", "PREFECT_API_URL": "http://worker/api"}
    env = make({"env": {name: "http://job/api"}}, environment=told)["env"]
    assert env[name] == "http://job/api"
    assert {env["EPARCH_API_URL"], env["PREFECT_API_URL"]} == {"http://job/api", None}


def test_client_environment_holds_what_is_set_under_both_names(tmp_path):
    settings = load(
        {
            "EPARCH_HOME": str(tmp_path),
            "PREFECT_API_URL": "http://h/api",
            "EPARCH_API_KEY": "s3cret",
            "EPARCH_SERVER_PORT": "1",
        },
        tmp_path,
    )
    assert client_environment(settings) == {
        "EPARCH_API_URL": "http://h/api",
        "PREFECT_API_URL": "http://h/api",
        "EPARCH_API_KEY": "s3cret",
        "PREFECT_API_KEY": "s3cret",
    }


def test_w25_names_may_hold_what_the_run_is():
    template = {
        **TEMPLATE,
        "job_configuration": {
            **TEMPLATE["job_configuration"],
            "name": "{{ ctx.flow.name }}-{{ ctx.flow_run.name }}",
        },
    }
    assert make(template=template)["name"] == "report-wise-owl"
    assert make({"name": "{{ ctx.deployment.name }}"})["name"] == "nightly"
    assert make()["name"] == "wise-owl"


@pytest.mark.parametrize(
    "env", [{"A": "{{ prefect.blocks.secret.x }}"}, {"A": {"$ref": {"block_document_id": "x"}}}]
)
def test_p10_references_that_cannot_be_read_are_refused_by_name(env):
    with pytest.raises(Invalid, match=r"env\.A"):
        make({"env": env})


class Known:
    """Answers for one block and one variable."""

    def block(self, name):
        if name.startswith("secret.token"):
            return "{{ ctx.flow.name }} s3cret"
        if name == "json.conf":
            return {"cpu": [1, 2]}
        raise NotFound(f"There is no block '{name}'.", fix="Did you mean 'secret/token'?")

    def variable(self, name):
        return 8080

    def document(self, reference):
        return {"registry": reference["block_document_id"]}


def test_p10_references_are_filled_in_when_a_job_is_submitted():
    template = {
        "variables": {
            "properties": {
                "env": {"type": "object"},
                "port": {"default": "{{ prefect.variables.port }}"},
                "conf": {"default": "{{ prefect.blocks.json.conf }}"},
                "login": {"default": {"$ref": {"block_document_id": "7"}}},
            }
        },
        "job_configuration": {
            "env": "{{ env }}",
            "port": "{{ port }}",
            "conf": "{{ conf }}",
            "login": "{{ login }}",
            "text": "{{ prefect.variables.port }}/{{ ctx.flow.name }}",
        },
    }
    deployed = {
        "env": {"A": "{{ prefect.blocks.secret.token }}", "B": "key={{ prefect.blocks.secret.token }}"}
    }
    job = make(deployed, {"env.C": "{{ prefect.variables.port }}"}, template=template, references=Known())
    assert (job["port"], job["conf"], job["login"]) == (8080, {"cpu": [1, 2]}, {"registry": "7"})
    assert job["text"] == "8080/report"
    # What a block holds is no template.
    assert job["env"]["A"] == "{{ ctx.flow.name }} s3cret"
    assert job["env"]["B"] == "key={{ ctx.flow.name }} s3cret"
    assert job["env"]["C"] == "8080"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{{ prefect.blocks.secret.tokne }}", "There is no block 'secret.tokne'."),
        ("x-{{ prefect.blocks.json.conf }}", "within text is no single value"),
    ],
)
def test_p10_a_reference_that_leads_nowhere_is_refused_where_it_stands(value, said):
    with pytest.raises(Invalid, match=r"env\.A") as caught:
        make({"env": {"A": value}}, references=Known())
    assert said in caught.value.why
    assert caught.value.fix


@pytest.mark.parametrize(
    "command",
    [
        None,
        "",
        "prefect flow-run execute",
        "eparch flow-run execute",
        "python -m prefect.engine",
        "python -m prefect.flow_engine",
        ["python", "-m", "eparch.sdk.execute"],
    ],
)
def test_commands_that_mean_run_the_flow_run_are_ours(command):
    assert command_of(command) == list(COMMAND) == [sys.executable, "-m", "eparch.sdk.execute"]


def test_other_commands_stay_and_may_stand_before_ours():
    assert command_of("bash -c 'echo a b'") == ["bash", "-c", "echo a b"]
    assert command_of("nice -n 5 prefect flow-run execute") == ["nice", "-n", "5", *COMMAND]
    with pytest.raises(Invalid, match="No closing quotation"):
        command_of("echo 'a")


def test_w25_a_context_that_is_not_there_leaves_the_name_of_the_run():
    assert make({"name": "{{ ctx.flow_run.nmae }}"})["name"] == "wise-owl"
    assert make({"name": "job-{{ ctx.flow_run.nmae }}"})["name"] == "job-"


def test_p9_what_a_template_escapes_is_not_filled_in_by_the_second_pass():
    template = {
        "job_configuration": {
            "command": "say {{{{ ctx.flow_run.name }}}}",
            "note": "{{ ctx.flow_run.name }}",
        },
        "variables": {"type": "object", "properties": {}},
    }
    job = make(template=template)
    assert job["command"] == "say {{ ctx.flow_run.name }}"
    assert "{{" not in job["note"]
