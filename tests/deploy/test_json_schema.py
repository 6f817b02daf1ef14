"""The JSON Schema of a project's file agrees with the checks (row D10)."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from eparch.core.errors import SourceErrors
from eparch.deploy.json_schema import project_schema
from eparch.deploy.source import parse

from .test_forms import ACCEPTED, REFUSED

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(project_schema())


def test_it_is_a_schema_and_the_published_one() -> None:
    jsonschema.Draft202012Validator.check_schema(project_schema())
    published = json.loads((ROOT / "docs" / "prefect.schema.json").read_text())
    assert published == project_schema(), "eparch schema --file docs/prefect.schema.json"


@pytest.mark.parametrize("text", [one.body for one in ACCEPTED])
def test_what_is_accepted_fits(text: str) -> None:
    errors = [error.message for error in VALIDATOR.iter_errors(parse(text, "prefect.yaml").data)]
    assert errors == []


@pytest.mark.parametrize("text", [one.body for one in REFUSED if one.plain])
def test_what_is_refused_for_its_keys_or_types_does_not_fit(text: str) -> None:
    try:
        data = parse(text, "prefect.yaml").data
    except SourceErrors:
        return  # no editor gets as far as the schema
    assert not VALIDATOR.is_valid(data)


def test_real_and_example_files_fit() -> None:
    files = [*(ROOT / "examples").rglob("prefect.yaml"), ROOT / "tests" / "deploy" / "files" / "shop.yaml"]
    assert len(files) > 1
    for file in files:
        VALIDATOR.validate(parse(file.read_text(), str(file)).data)
