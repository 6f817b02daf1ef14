"""``eparch migrate``: shown, written with --write, all or nothing, and again without harm (M1 to M9)."""

import os
import shlex
import shutil
import stat

import msgspec
import pytest
from tests.migrate.artefacts_of import FILES

from eparch.core.job_templates import Severity, check_template
from eparch.deploy.project import read_project

UNIT = "[Service]\nExecStart=/opt/venv/bin/prefect agent start -q default\n"


@pytest.fixture
def repository(environ, tmp_path):
    root = tmp_path / "shop"
    (root / "flows").mkdir(parents=True)
    (root / "flows" / "report.py").write_text("def report(): ...\n")
    for file in FILES:
        shutil.copy(file, root / file.name)
    environ.chdir(root)
    return root


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_changes_are_shown_and_nothing_is_written(repository, run):
    before = tree(repository)
    done = run("migrate", code=0)
    assert "+++ b/prefect.yaml" in done.out
    assert "+++ b/work-pools/kubernetes-manifest.json" in done.out
    assert "subscription_id" in done.out
    assert "docker login" in done.out
    assert "eparch migrate --write" in done.err
    assert tree(repository) == before


def test_what_is_written_is_accepted_and_a_second_run_changes_nothing(repository, run):
    (repository / "prefect.yaml").write_text("# ours\nname: shop\n")
    (repository / "prefect.yaml").chmod(0o640)
    done = run("migrate", "--write", code=0)
    assert (
        "eparch work-pool create docker --type docker --base-job-template work-pools/docker.json" in done.err
    )
    project = read_project(repository / "prefect.yaml")
    project.check()
    assert len(project.deployments) == len(FILES)
    assert project.document.text.startswith("# ours\nname: shop\n")
    assert stat.S_IMODE((repository / "prefect.yaml").stat().st_mode) == 0o640
    after = tree(repository)
    for line in done.err.splitlines():
        words = shlex.split(line) if line.startswith("eparch work-pool create") else []
        if "--base-job-template" in words:
            template = msgspec.json.decode((repository / words[-1]).read_bytes())
            assert all(one.severity is Severity.WARNING for one in check_template(template))
    again = run("migrate", "--write", code=0)
    assert tree(repository) == after
    assert "Nothing was written" not in again.err


def test_programs_get_one_object_with_every_field(repository, run):
    found = run("migrate", "-o", "json", code=0).json()
    assert {pool["name"]: pool["type"] for pool in found["pools"]}["vertex"] == "vertex-ai"
    assert {entry["outcome"] for entry in found["account"]} == {"carried", "renamed", "needs you", "dropped"}
    assert "prefect.yaml" in found["files"]
    assert found["written"] is False
    assert "eparch deploy --all" in found["commands"]


def test_the_report_is_markdown_with_what_needs_a_person_as_a_list(repository, run):
    run("migrate", "--report", "report.md", code=0)
    text = (repository / "report.md").read_text()
    assert "- [ ] docker-container block 'docker', `image_registry`: " in text
    assert "| plain-process-deployment.yaml | timestamp | dropped |" in text
    assert not (repository / "prefect.yaml").exists()


def test_agents_become_workers_of_the_pool(repository, run):
    (repository / "agent.service").write_text(UNIT)
    told = run("migrate", code=0)
    assert "agent.service:2" in told.err
    assert "--pool" in told.err
    run("migrate", "--write", "--pool", "docker", code=0)
    expected = "[Service]\nExecStart=/opt/venv/bin/eparch worker start --pool docker -q default\n"
    assert (repository / "agent.service").read_text() == expected


def test_one_file_alone(repository, run):
    (repository / "agent.service").write_text(UNIT)
    run("migrate", "docker-deployment.yaml", "--write", code=0)
    assert [one.name for one in read_project(repository / "prefect.yaml").deployments] == ["docker"]
    assert (repository / "agent.service").read_text() == UNIT


def test_a_broken_file_is_told_with_its_line_and_nothing_is_written(repository, run):
    (repository / "broken-deployment.yaml").write_text(
        "name: x\ninfrastructure: {type: process\nflow_name: y\n"
    )
    before = tree(repository)
    done = run("migrate", "--write", code=2)
    assert "broken-deployment.yaml" in done.err
    assert "Nothing was written" in done.err
    assert tree(repository) == before
    assert "+++ b/prefect.yaml" in run("migrate", code=2).out


def test_a_project_file_that_cannot_be_read_is_not_replaced(repository, run):
    (repository / "prefect.yaml").write_bytes(b"name: \xff\n")
    done = run("migrate", "--write")
    assert done.code != 0
    assert "UTF-8" in done.err
    assert (repository / "prefect.yaml").read_bytes() == b"name: \xff\n"


def test_a_folder_that_cannot_be_written_leaves_everything_as_it_was(repository, run):
    (repository / "work-pools").write_text("a file where the folder has to be")
    before = tree(repository)
    assert "cannot be written" in run("migrate", "--write").err
    assert tree(repository) == before


def test_nothing_of_prefect_2(environ, tmp_path, run):
    environ.chdir(tmp_path)
    (tmp_path / "compose.yaml").write_text("services: {a: {image: b}}\n")
    done = run("migrate", code=0)
    assert "nothing of Prefect 2 was found" in done.err
    assert os.listdir(tmp_path) == ["compose.yaml"]


CODE = """\
from prefect import flow
from prefect.deployments import Deployment
from prefect.infrastructure import DockerContainer


@flow
def report():
    pass


deployment = Deployment.build_from_flow(
    flow=report, name="nightly", work_queue_name="fast", infrastructure=DockerContainer.load("docker")
)

if __name__ == "__main__":
    deployment.apply()
"""


def test_code_that_builds_deployments_is_shown_with_what_it_becomes(repository, run):
    (repository / "flows" / "nightly.py").write_text(CODE)
    found = run("migrate", "-o", "json", code=0).json()
    assert "build_from_flow" not in found["files"]["flows/nightly.py"]
    assert "report" in found["files"]["flows/nightly.py"]
    assert "docker" in found["files"]["flows/nightly.py"]
    assert (repository / "flows" / "nightly.py").read_text() == CODE
