"""A worker type of somebody else's package, as pip lays it down, from its pool to its run (row W26)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from uuid import uuid4

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.runs import DeploymentFlowRunCreate

PAGE = (Path(__file__).parents[2] / "docs" / "worker-types.md").read_text()
TOML, CODE = (re.findall(f"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0] for kind in ("toml", "python"))
"""The example is the package."""

FLOW = """
from eparch import flow

@flow
def good():
    return 1
"""


def install(site):
    """What pip leaves behind."""
    package, about = site / "acme_eparch", site / "acme_eparch-1.2.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").write_text(CODE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-eparch\nVersion: 1.2\n")
    points = tomllib.loads(TOML)["project"]["entry-points"]["eparch.workers"]
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (about / "entry_points.txt").write_text(f"[eparch.workers]\n{lines}")


def test_w26_the_type_of_an_installed_package_serves_a_pool_from_its_template_to_its_run(server, tmp_path):
    install(tmp_path / "site")
    (tmp_path / "flows.py").write_text(FLOW)
    pool = f"pool-{uuid4().hex[:8]}"
    bare = {**server.env, "EPARCH_HOME": str(tmp_path / "home")}
    env = {**bare, "PYTHONPATH": str(tmp_path / "site")}

    def eparch(*words, env=env, code=0):
        command = [sys.executable, "-m", "eparch", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done
        return done

    told = eparch("work-pool", "create", pool, "--type", "acme", env=bare, code=3)
    assert "There is no worker type 'acme' here" in told.stderr
    eparch("work-pool", "create", pool, "--type", "acme")
    printed = json.loads(eparch("work-pool", "get-default-base-job-template", "-t", "acme").stdout)
    with Client(server.api_url) as client:
        assert client.send(calls.read_work_pool(name=pool)).base_job_template == printed
        flow = client.send(calls.create_flow(body=FlowCreate(name="good")))
        body = DeploymentCreate(
            name=pool, flow_id=flow.id, entrypoint="flows.py:good", work_pool_name=pool,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}],
            job_variables={"zone": "b"},
        )  # fmt: skip
        deployment = client.send(calls.create_deployment(body=body)).id
        made = client.send(calls.create_deployment_flow_run(id=deployment, body=DeploymentFlowRunCreate()))
        done = eparch("worker", "start", "--pool", pool, "--name", "w", "--run-once")
        run = client.send(calls.read_flow_run(id=made.id))
        assert run.state is not None
        assert run.state.is_completed(), done.stderr
        assert run.infrastructure_pid.startswith("acme:")
        (seen,) = client.send(calls.read_worker_instances(body={"name": "w", "work_pool_name": pool}))
        assert "acme" in seen.about.types
    assert "Acme starts in zone b" in done.stdout
    told = eparch("worker", "start", "--pool", pool, "--run-once", env=bare, code=3)
    assert "There is no worker type 'acme' here" in told.stderr
