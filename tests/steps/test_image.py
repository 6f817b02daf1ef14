"""What images are built from, and what is said when they are not (features 1.5; rows D8, D21)."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eparch.core.errors import StepFailed
from eparch.steps import image
from eparch.steps.image import auto_dockerfile, build_docker_image, default_tag, push_docker_image


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # Nobody listens there.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    return folder


def test_d21_auto_installs_requirements_before_it_copies_the_code() -> None:
    place = '"/opt/prefect/my flows/requirements.txt"'
    assert auto_dockerfile("python:3.13", "my flows", has_requirements=True) == (
        "FROM python:3.13\n"
        f'COPY ["requirements.txt", {place}]\n'
        f'RUN ["python", "-m", "pip", "install", "--no-cache-dir", "-r", {place}]\n'
        'COPY [".", "/opt/prefect/my flows/"]\n'
        "WORKDIR /opt/prefect/my flows/\n"
    )


def test_the_tag_is_the_time_unless_it_is_given() -> None:
    tag = default_tag(datetime(2026, 11, 22, 21, 4, 5, 67, UTC))
    assert tag == "2026-11-22t21-04-05-000067"


def test_an_engine_that_is_away_is_said_and_nothing_is_left(project: Path) -> None:
    with pytest.raises(StepFailed, match="engine cannot be reached") as caught:
        build_docker_image("flows", dockerfile="auto")
    assert "DOCKER_HOST" in caught.value.fix
    assert list(project.iterdir()) == []
    with pytest.raises(StepFailed, match="engine cannot be reached"):
        push_docker_image("flows", "1")


def test_the_dockerfile_of_auto_can_be_kept_and_overwrites_nothing(project: Path) -> None:
    for _ in range(2):
        with pytest.raises(StepFailed, match="engine cannot be reached"):
            build_docker_image("flows", dockerfile="auto", persist_dockerfile=True, base_image="mine:1")
    assert (project / "Dockerfile.generated").read_text().startswith("FROM mine:1\n")
    (project / "own").write_text("FROM mine:2")
    with pytest.raises(StepFailed, match="'own' is in the way"):
        build_docker_image("f", dockerfile="auto", persist_dockerfile=True, dockerfile_output_path="own")
    assert (project / "own").read_text() == "FROM mine:2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no Dockerfile 'Dockerfile'"),
        ({"path": "nowhere"}, "cannot be built"),
        ({"dockerfile": "auto", "tag": "not a tag"}, "is not a tag"),
        ({"dockerfile": "auto", "additional_tags": "latest"}, "must be a list"),
        ({"dockerfile": "auto", "build_backend": "buildy"}, "no build backend 'buildy'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with pytest.raises(StepFailed, match=message):
        build_docker_image("flows", **arguments)


def test_a_dockerfile_of_ones_own_has_its_own_base(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM scratch")
    with pytest.raises(StepFailed, match="is for 'dockerfile: auto'"):
        build_docker_image("flows", base_image="x")


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ({"username": "u"}, "have no password"),
        ({"username": "u", "password": "p", "registry_url": "ghcr.io"}, "not for 'docker.io'"),
    ],
)
def test_credentials_that_do_not_fit_the_image(credentials: dict, message: str) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        push_docker_image("me/flows", "1", credentials=credentials)
    assert "p" not in caught.value.message.split("'")


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("unauthorized: authentication required for hunter2", "does not let you in"),
        ("An image does not exist locally with the tag: x", "build it first"),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", "cannot be reached"),
        ("write /x: no space left on device", "prune"),
    ],
)
def test_what_the_engine_refuses_says_what_to_do_and_no_password(said: str, fix: str) -> None:
    events = iter([{"status": "Pushing", "id": "a"}, {"status": "Pushing", "id": "a"}, {"error": said}])
    with pytest.raises(StepFailed) as caught:
        image._follow(events, "r/flows:1", "hunter2")
    assert fix in caught.value.fix
    assert caught.value.why.splitlines()[0] == "a: Pushing"
    assert "hunter2" not in caught.value.why


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Docker's, which notes its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.said"\n'
        'test -e "$0.fails" && { echo "docker: unknown command: docker buildx" >&2; exit 1; }\n'
        'while test "$1" != --iidfile; do shift; done\nprintf sha256:abc > "$2"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return program


def test_buildx_is_given_what_docker_py_would_be(docker: Path, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM scratch")
    outputs = build_docker_image(
        "flows", tag="1", additional_tags=["2"], build_backend="buildx", platform="linux/arm64",
        buildargs={"A": "b"}, nocache=True, pull=False, cache_from=["x", "y"],
    )  # fmt: skip
    assert outputs["image_id"] == "sha256:abc"
    said = docker.with_name("docker.said").read_text().splitlines()
    assert said[:3] == ["buildx", "build", "--progress"]
    at = said.index("--tag")
    assert said[at:] == [
        "--tag", "flows:1", "--tag", "flows:2", "--platform", "linux/arm64", "--build-arg", "A=b",
        "--no-cache", "--cache-from", "x", "--cache-from", "y", str(project),
    ]  # fmt: skip


def test_without_buildx_it_is_said_how_to_go_on(docker: Path, project: Path) -> None:
    docker.with_name("docker.fails").touch()
    (project / "Dockerfile").write_text("FROM scratch")
    with pytest.raises(StepFailed, match="exit code 1") as caught:
        build_docker_image("flows", build_backend="buildx", buildargs={"TOKEN": "hunter2"})
    assert "build_backend: docker-py" in caught.value.fix
    assert "hunter2" not in str(caught.value) + caught.value.why
