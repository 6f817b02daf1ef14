"""Prefect's own command line and client, unmodified: base job templates and job variables on our server."""

from __future__ import annotations

import json
from pathlib import Path

from bench.targets import Session

CODE = """
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists


@flow
def report(): ...


def refused(ask, **given):
    try:
        ask(**given)
    except ObjectAlreadyExists as error:  # what it makes of every 409
        print("refused", error.http_exc.response.json())
    else:
        print("taken")


with get_client(sync_client=True) as client:
    flow_id = client.create_flow(report)
    def deploy(**variables):
        client.create_deployment(flow_id, "n", work_pool_name="templates", job_variables=variables)
    deploy(working_dir="/srv", env={"A": "1"})
    refused(deploy, workng_dir="/srv")
    template = client.read_work_pool("templates").base_job_template
    template["variables"]["additionalProperties"] = True
    client.update_work_pool("templates", WorkPoolUpdate(base_job_template=template))
    refused(deploy, workng_dir="/srv")
"""


def test_p2_p5_p12_its_templates_and_job_variables(server: Session, stock: Session, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    stock.run("work-pool", "get-default-base-job-template", "--type", "process", "--file", str(file))
    stock.run("work-pool", "create", "templates", "--type", "process", "--base-job-template", str(file))
    saved = server.call("GET", "/work_pools/templates")["base_job_template"]
    assert saved == json.loads(file.read_text())
    said = stock.run_python(CODE)
    first, second = said.strip().splitlines()[-2:]
    assert first.startswith("refused")
    assert "'workng_dir'" in first
    assert second == "taken"
