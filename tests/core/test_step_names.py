"""Names of the shipped steps (real-files 2.5, 3.2)."""

from __future__ import annotations

import pytest

from eparch.core.step_names import ALIASES, OWN, SHIPPED, canonical, is_deprecated, own


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("prefect.projects.steps.git_clone_project", "prefect.deployments.steps.git_clone"),
        ("prefect.deployments.steps.git_clone_project", "prefect.deployments.steps.git_clone"),
        ("prefect.projects.steps.set_working_directory", "prefect.deployments.steps.set_working_directory"),
        (
            "prefect.projects.steps.pip_install_requirements",
            "prefect.deployments.steps.pip_install_requirements",
        ),
        (
            "prefect_docker.projects.steps.build_docker_image",
            "prefect_docker.deployments.steps.build_docker_image",
        ),
        ("eparch.steps.push_to_s3", "prefect_aws.deployments.steps.push_to_s3"),
        ("my.own.step", "my.own.step"),
    ],
)
def test_canonical(written: str, stored: str) -> None:
    assert canonical(written) == stored


def test_every_alias_leads_to_a_shipped_step_and_none_hides_one() -> None:
    assert set(ALIASES.values()) == set(SHIPPED)
    assert not set(ALIASES) & set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_our_name_and_back(name: str) -> None:
    assert own(name) in OWN
    assert canonical(own(name)) == name
    assert own("my.own.step") == "my.own.step"


def test_only_old_spellings_are_deprecated() -> None:
    assert is_deprecated("prefect.projects.steps.git_clone_project")
    assert not is_deprecated("eparch.steps.git_clone")
    assert not is_deprecated("prefect.deployments.steps.git_clone")
    assert not is_deprecated("my.own.step")
