"""A project's file from a recipe, and the file of patterns that storage leaves out (row D22). Pure.

Owns the text of both. Asking for inputs and writing files is the command's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eparch.core.errors import Usage, did_you_mean
from eparch.deploy.recipes import IMAGE_OUTPUT, Recipe, recipe_steps
from eparch.deploy.writing import write_item, write_mapping

IGNORED = """\
# What is not uploaded when code is pushed to storage, and not searched for flows; as in .gitignore.
.prefectignore

# Version control
.git/
.hg/

# Python
__pycache__/
*.py[cod]
*.egg-info/
.ipynb_checkpoints/
.mypy_cache/
.pytest_cache/
.ruff_cache/

# Environments and secrets
.env
.venv/
venv/
env/

# Editors and systems
.idea/
.vscode/
.DS_Store
"""
"""A ``.prefectignore`` to begin with."""


def check_inputs(recipe: Recipe, given: Iterable[str]) -> None:
    """Refuse inputs that ``recipe`` does not have.

    Raises:
        Usage: there is one; the nearest is suggested.
    """
    known = [*recipe.required, *recipe.optional]
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known) or "Leave it out."
            raise Usage(
                f"The recipe '{recipe.name}' has no input '{key}'.",
                why=f"It has: {', '.join(known)}",
                fix=hint,
            )


def project_text(name: str, recipe: Recipe, values: Mapping[str, str]) -> str:
    """The ``prefect.yaml`` of a new project; ``values`` has every input of ``recipe``."""
    sections = recipe_steps(recipe, values)
    lines = [
        f"# {recipe.description} Recipe: {recipe.name}.\n",
        *write_mapping({"name": name}),
        "\n",
        "# Once for each deploy, before anything is changed on the server.\n",
        *write_mapping({"build": sections["build"]}),
        "\n",
        *write_mapping({"push": sections["push"]}),
        "\n",
        "# In every job, before the flow begins.\n",
        *write_mapping({"pull": sections["pull"]}),
        "\n",
        "# 'eparch deploy' asks for the first one and adds it here.\n",
        *write_mapping({"deployments": []}),
        *(f"#{line.rstrip()}\n".replace("#  ", "#   ", 1) for line in _example(recipe)),
    ]
    return "".join(lines)


def _example(recipe: Recipe) -> list[str]:
    pool: dict[str, object] = {"name": "local"}
    if recipe.image:
        pool = {"name": "docker", "job_variables": {"image": IMAGE_OUTPUT}}
    schedules = [{"cron": "0 3 * * *", "timezone": "Europe/Athens"}]
    deployment = {"name": "nightly", "entrypoint": "flows.py:my_flow", "work_pool": pool}
    return write_item({**deployment, "schedules": schedules}, 2)
