import shlex
import subprocess
import sys

import pytest

from eparch.core.errors import InfrastructureError, Invalid, NotFound
from eparch.workers import infrastructure
from eparch.workers.docker_faults import EngineAway, explain_fault, told
from eparch.workers.docker_jobs import (
    PullPolicy,
    docker_label,
    environment_of,
    login_of,
    name_of,
    network_mode_of,
    plain_label,
    pull_policy_of,
    read_job,
    settings_of,
)
from eparch.workers.infrastructure import find_type
from eparch.workers.jobs import command_in_image


def job(**given):
    return read_job({"image": "me/flows:1", **given})


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"networks": ["a"], "network_mode": "host"}, "networks"),
        ({"mem_limit": "lots"}, "mem_limit"),
        ({"memswap_limit": "1g"}, "memswap_limit"),
        ({"image": ""}, ""),
        ({"image": "https://registry/flows"}, "image"),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy"),
        ({"container_create_kwargs": {"privilegd": 1, "mem_reservatio": 1}}, "container_create_kwargs"),
        ({"command": "say 'open"}, "command"),
        ({"registry_credentials": {"username": "u"}}, "registry_credentials"),
    ],
)
def test_what_does_not_fit_a_container_is_refused_by_its_key(given, key):
    if not key:
        assert job(**given).reference.startswith("prefecthq/prefect:3-python3.")
        return
    with pytest.raises(Invalid) as caught:
        job(**given)
    assert key in caught.value.message


def test_an_unknown_argument_gets_the_nearest_name():
    with pytest.raises(Invalid) as caught:
        job(container_create_kwargs={"mem_reservatio": "1g"})
    assert caught.value.fix == "Did you mean 'mem_reservation'?"


@pytest.mark.parametrize(
    ("image", "policy", "expected"),
    [
        ("flows", None, PullPolicy.ALWAYS),
        ("flows:latest", None, PullPolicy.ALWAYS),
        ("registry:5000/flows", None, PullPolicy.ALWAYS),
        ("registry:5000/flows:1", None, PullPolicy.IF_NOT_PRESENT),
        ("flows@sha256:" + "a" * 64, None, PullPolicy.IF_NOT_PRESENT),
        ("flows", "Never", PullPolicy.NEVER),
    ],
)
def test_when_an_image_is_pulled(image, policy, expected):
    assert pull_policy_of(job(image=image, image_pull_policy=policy)) is expected


@pytest.mark.parametrize(
    ("image", "registry", "is_sent"),
    [
        ("me/flows:1", "https://index.docker.io/v1/", True),
        ("me/flows:1", "docker.io", True),
        ("me/flows:1", "ghcr.io", False),
        ("ghcr.io/me/flows:1", "https://ghcr.io", True),
        ("registry:5000/flows", "http://registry:5000", True),
        ("registry:5001/flows", "registry:5000", False),
    ],
)
def test_a_password_goes_to_its_own_registry_only(image, registry, is_sent):
    given = {"username": "me", "password": "s3cret-word", "registry_url": registry, "reauth": True}
    config = job(image=image, registry_credentials=given)
    login = login_of(config)
    assert (login is not None) is is_sent
    assert login is None or login["password"] == "s3cret-word"
    assert "s3cret-word" not in repr(config)
    assert "s3cret-word" not in repr(settings_of(config, "/", {}))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the engine is on a virtual machine")
def test_a_local_api_is_reached_from_a_container():
    local = {"EPARCH_API_URL": "http://127.0.0.1:4200/api", "PREFECT_API_URL": "http://localhost:4200/api"}
    assert network_mode_of(job(env=local)) == "host"
    assert "EPARCH_API_URL=http://127.0.0.1:4200/api" in environment_of(job(env=local))
    joined = job(env=local, networks=["own"])
    assert network_mode_of(joined) is None
    assert sorted(environment_of(joined)) == [
        "EPARCH_API_URL=http://host.docker.internal:4200/api",
        "PREFECT_API_URL=http://host.docker.internal:4200/api",
    ]
    more = {"extra_hosts": ["db:10.0.0.1"]}
    assert settings_of(job(networks=["own"], container_create_kwargs=more), "/", {})["extra_hosts"] == {
        "host.docker.internal": "host-gateway", "db": "10.0.0.1",
    }  # fmt: skip
    assert network_mode_of(job(env={"EPARCH_API_URL": "https://api.example.com"})) is None


def test_settings_are_what_the_engine_takes():
    config = job(
        privileged=True,
        volumes=["./data:/data", "named:/x", "/y:/y:ro", ".:/here"],
        env={"GONE": None, "A": "b"},
        labels={"prefect.io/flow-id": "7"},
        container_create_kwargs={"user": "5", "image": "other", "volumes": ["/z"]},
    )
    settings = settings_of(config, "/job", {"eparch.io/auto-remove": "true"})
    assert settings["privileged"]
    assert settings["image"] == "me/flows:1"
    assert settings["user"] == "5"
    assert settings["volumes"] == ["/job/data:/data", "named:/x", "/y:/y:ro", "/job:/here"]
    assert sorted(settings["environment"]) == ["A=b", "GONE"]
    assert settings["labels"] == {"io.prefect.flow-id": "7", "io.eparch.auto-remove": "true"}


@pytest.mark.parametrize("key", ["prefect.io/flow-run-id", "eparch.io/claim-token", "plain", "a.b"])
def test_labels_come_back_as_they_were(key):
    assert plain_label(docker_label(key)) == key


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my run/№ 1", "my-run-1"), ("__a", None), ("--ab", "ab"), ("", None), ("x" * 300, "x" * 200)],
)
def test_names_are_what_the_engine_allows(name, expected):
    assert name_of(job(name=name)) == expected


def test_a_command_runs_this_package_where_the_image_has_it(tmp_path):
    for program in ("prefect", "eparch", "traced"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@"\n')
        (tmp_path / program).chmod(0o755)

    def run(command):
        return subprocess.run(
            command_in_image(command), env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run(None) == "eparch flow-run execute"
    assert run("traced prefect flow-run execute") == "traced eparch flow-run execute"
    assert command_in_image("python -m eparch.sdk.execute") == ["python", "-m", "eparch.sdk.execute"]
    assert command_in_image(["say", "a b"]) == shlex.split("say 'a b'")
    (tmp_path / "eparch").unlink()
    assert run(None) == "prefect flow-run execute"
    assert run("traced prefect flow-run execute") == "traced prefect flow-run execute"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("toomanyrequests: You have reached your pull rate limit.", "too many pulls"),
        ("manifest for flows:2 not found: manifest unknown", "has no image 'flows:2'"),
        ("pull access denied for x, repository does not exist", "does not let you in"),
        ("unauthorized: incorrect username or password", "does not let you in"),
        ("No such image: flows:2", "is not on this machine"),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", "cannot be reached"),
        ("write /x: no space left on device", "no room left"),
        ("no matching manifest for linux/arm64 in the manifest list", "this kind of machine"),
        ("driver failed: Bind for 0.0.0.0:80 failed: port is already allocated", "port of the job is taken"),
        ("unable to apply caps: operation not permitted", "with the rights"),
        ("something new", "refused 'flows:2'"),
    ],
)
def test_what_the_engine_says_is_told_in_words_with_what_to_do(said, expected):
    error = explain_fault(said, "flows:2")
    assert expected in error.message
    assert error.why == said
    assert error.fix


def test_an_engine_that_may_not_be_used_is_not_waited_for():
    with pytest.raises(InfrastructureError) as caught, told("the engine"):
        raise PermissionError(13, "Permission denied")
    assert not isinstance(caught.value, EngineAway)
    assert "group 'docker'" in caught.value.fix


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(infrastructure.BUILT_IN, "docker", "no_such_module:Thing")
    with pytest.raises(InfrastructureError) as caught:
        find_type("docker")
    assert caught.value.fix == "pip install 'eparch[docker]'"
    with pytest.raises(NotFound):
        find_type("dokcer")
