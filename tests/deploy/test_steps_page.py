"""The page about steps says what the steps are, and its examples are project files."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from eparch.core.step_names import ARGUMENTS, OUTPUTS, SHIPPED
from eparch.deploy.project import parse_project
from eparch.steps.runner import find_function
from eparch.steps.storage import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|$", PAGE, re.MULTILINE))


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_step_has_its_row_with_what_it_takes_and_gives(name: str) -> None:
    taken, given = (re.findall(r"`(\w+)`", cell) for cell in ROWS[name].split(" | "))
    signature = inspect.signature(find_function(name))
    assert set(taken) == {
        one.name for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert tuple(given) == OUTPUTS[name]
    if name in ARGUMENTS:
        assert set(ARGUMENTS[name]) == set(taken)


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
def test_the_examples_are_read_without_a_complaint(text: str) -> None:
    project = parse_project(text)
    assert project.notes == []


def test_every_kind_of_block_that_pulls_is_named() -> None:
    [named] = re.findall(r"from a saved block: (.*?)\. Tested", PAGE, re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", named)) == set(KINDS)
