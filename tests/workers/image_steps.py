"""Images built and pushed by steps, with a real engine (features 1.5, "Steps shipped"; rows D8, D21)."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from tests.workers.engine import IMAGE
from tests.workers.registry import running_registry

from eparch.core.errors import StepFailed
from eparch.steps.runner import run_steps

BUILD = "prefect_docker.deployments.steps.build_docker_image"
PUSH = "prefect_docker.deployments.steps.push_docker_image"


class ImageSteps:
    """Mixed into the tests that have an engine, which is slow to start."""

    def test_d8_an_image_is_built_and_pushed_with_all_its_tags(self, engine, tmp_path, monkeypatch):
        project = tmp_path / "project"
        project.mkdir()
        monkeypatch.chdir(project)
        Path("flow.py").write_text("print('in the image')")
        Path("Dockerfile").write_text("FROM scratch\nARG WHO\nLABEL who=$WHO\nCOPY flow.py /\n")
        told: list[str] = []
        password = f"pw-{uuid4().hex}"
        with running_registry("ada", password) as registry:
            monkeypatch.setenv("PUSH_PASSWORD", password)
            name = f"{registry.address}/flows"
            build = {"id": "made", "image_name": name, "tag": "v1", "pull": False,
                     "additional_tags": ["newest"], "buildargs": {"WHO": "me"}}  # fmt: skip
            credentials = {"username": "ada", "password": "{{ $PUSH_PASSWORD }}"}
            push = {"image_name": "{{ made.image_name }}", "tag": "{{ made.tag }}",
                    "credentials": credentials, "additional_tags": "{{ made.additional_tags }}"}  # fmt: skip
            outputs = run_steps([{BUILD: build}, {PUSH: push}], on_output=told.append)
            image = engine.client.images.get(f"{registry.address}/flows:newest")
            assert outputs["made"] == {
                "image_name": name, "tag": "v1", "image": f"{name}:v1",
                "image_id": image.id, "additional_tags": ["newest"],
            }  # fmt: skip
            assert outputs["image"] == f"{registry.address}/flows:v1"
            assert image.labels == {"who": "me"}
            assert registry.pushed["flows:v1"]["config"]["digest"]
            assert registry.pushed["flows:v1"] == registry.pushed["flows:newest"]
            assert any("COPY flow.py" in line for line in told)
            wrong = {**push, "image_name": f"{registry.address}/flows", "tag": "v1", "additional_tags": None}
            elsewhere = {"username": "ada", "password": password, "registry_url": "registry.example.com"}
            del registry.shown[:]
            with pytest.raises(StepFailed, match=r"are for the registry 'registry\.example\.com'"):
                run_steps([{PUSH: {**wrong, "credentials": elsewhere}}])
            assert registry.shown == []
        assert password not in "\n".join(told)

    def test_d21_auto_puts_the_project_where_its_run_looks(self, engine, tmp_path, monkeypatch):
        project = tmp_path / "pro$ject"
        project.mkdir()
        monkeypatch.chdir(project)
        (project / "flow.py").write_text("the flow")
        (project / "secret.env").write_text("x")
        (project / ".dockerignore").write_text("*.env\n")
        build = {"image_name": "auto", "dockerfile": "auto", "base_image": IMAGE, "pull": False}
        outputs = run_steps([{BUILD: build}], on_output=lambda line: None)
        assert sorted(path.name for path in project.iterdir()) == [".dockerignore", "flow.py", "secret.env"]
        said = engine.client.containers.run(
            outputs["image"], ["sh", "-c", "cat flow.py; ls"], network_mode="none", remove=True
        )
        assert said.decode().split("\n") == ["the flowflow.py", ""]
        image = engine.client.images.get(outputs["image"])
        assert image.attrs["Config"]["WorkingDir"].rstrip("/") == "/opt/prefect/pro$ject"

    def test_d8_a_build_that_fails_shows_its_last_lines(self, engine, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("Dockerfile").write_text("FROM scratch\nCOPY missing.py /\n")
        build = {"image_name": "broken", "pull": False}
        with pytest.raises(StepFailed, match="build_docker_image") as caught:
            run_steps([{BUILD: build}], on_output=lambda line: None)
        assert "missing.py" in caught.value.why
        with pytest.raises(StepFailed) as caught:
            run_steps([{PUSH: {"image_name": "localhost:1/never-built", "tag": "1"}}])
        assert "build it first" in caught.value.fix
