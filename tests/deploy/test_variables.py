"""``{{ prefect.variables.x }}`` in a project: the value that the server keeps (row B11)."""

from __future__ import annotations

from tests.deploy.shelf import Folder

PROJECT = """
deployments:
  - name: nightly
    entrypoint: flows.py:report
    parameters: {day: "{{ prefect.variables.first_day }}", pages: "{{ prefect.variables.pages }}"}
    description: "from {{ prefect.variables.first_day }}"
    work_pool: {name: local}
    build:
      - prefect.deployments.steps.run_shell_script:
          id: said
          script: echo {{ prefect.variables.first_day }}
"""


def test_b11_variables_are_resolved_with_their_types(folder: Folder) -> None:
    folder.server.variables = {"first_day": "monday", "pages": 3}
    folder.deploy(PROJECT, all=True)
    made = folder.server.named("nightly")
    assert made.parameters == {"day": "monday", "pages": 3}
    assert made.description == "from monday"
    assert "monday" in folder.told
    asked = [call for call in folder.server.calls if call.startswith("GET /variables")]
    assert len(asked) == 2  # each is asked for once


def test_b11_missing_variable_is_placed_and_has_the_nearest_name(folder: Folder) -> None:
    folder.server.variables = {"first_dya": "monday", "pages": 3}
    first, second = folder.errors(PROJECT, all=True)
    assert (first.line, first.message) == (5, "There is no variable 'first_day'.")
    assert first.fix == "Did you mean 'first_dya'?"
    assert second.line == 6
