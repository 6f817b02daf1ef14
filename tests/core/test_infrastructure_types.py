"""The shipped templates against those of the incumbent's packages: same names, types, defaults and keys.

``job_template_facts.json`` holds facts of prefect 3.8.8, prefect-docker 0.7.4, prefect-kubernetes 0.8.0,
prefect-aws 0.7.12, prefect-gcp 0.6.22 and prefect-azure 0.4.13: structure, no texts.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eparch.core.infrastructure_types import NAMES, read_type, shipped_template
from eparch.core.job_templates import Severity, check_template

FACTS: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("job_template_facts.json").read_bytes())


def structure(value: Any) -> Any:
    """``value`` without the texts for people."""
    if isinstance(value, list):
        return [structure(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: structure(one) for key, one in value.items() if key != "description" or not isinstance(one, str)
    }


def test_w27_every_type_has_facts() -> None:
    assert set(NAMES) == set(FACTS)


@pytest.mark.parametrize("name", NAMES)
def test_w27_template_is_that_of_the_incumbent(name: str) -> None:
    template = read_type(name).default_base_job_configuration
    assert structure(template["variables"]) == FACTS[name]["variables"]
    assert structure(template["job_configuration"]) == FACTS[name]["job_configuration"]


@pytest.mark.parametrize("name", NAMES)
def test_w27_template_is_sound_and_says_what_its_variables_do(name: str) -> None:
    template = read_type(name).default_base_job_configuration
    assert [str(p.message) for p in check_template(template) if p.severity is Severity.ERROR] == []
    variables = template["variables"]
    definitions = {**variables.get("definitions", {}), **variables.get("$defs", {})}
    for group in (variables, *definitions.values()):
        for about in group["properties"].values():
            assert 10 < len(about["description"]) < 130


def test_template_is_a_copy() -> None:
    given = shipped_template("docker")
    assert given is not None
    given["variables"].clear()
    assert read_type("docker").default_base_job_configuration["variables"]
    assert shipped_template("nope") is None
