"""``eparch init``: a prefect.yaml from a recipe, and a .prefectignore (row D22)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eparch.cli.commands import Command

if TYPE_CHECKING:
    from eparch.cli.session import Session
    from eparch.deploy.recipes import Recipe

PROJECT_FILE = Path("prefect.yaml")
IGNORE_FILE = Path(".prefectignore")


@click.command(
    "init",
    cls=Command,
    prints=False,
    example="""eparch init
    eparch init --recipe docker-s3 -f bucket=code -f image_name=registry.example/etl -f tag=latest""",
)
@click.option("--name", metavar="NAME", help="Name of the project; that of the folder unless given.")
@click.option("--recipe", metavar="NAME", help="Where code is kept; guessed from the folder unless given.")
@click.option("-f", "--field", "pairs", metavar="KEY=VALUE", multiple=True, help="An input; repeatable.")
@click.option("-y", "--yes", is_flag=True, help="Replace a prefect.yaml without asking.")
@click.pass_obj
def init(session: Session, name: str | None, recipe: str | None, pairs: tuple[str, ...], yes: bool) -> None:
    """Begin a project in this folder.

    Recipes: local, git, docker, s3, gcs, azure, docker-git, docker-s3, docker-gcs, docker-azure.
    """
    from eparch.cli.project_file import read_text, write_project
    from eparch.cli.values import read_pairs
    from eparch.deploy.init import IGNORED, check_inputs, project_text
    from eparch.deploy.origin import read_checkout
    from eparch.deploy.recipes import defaults, find_recipe, guess_recipe

    root = Path.cwd().resolve()
    repository, branch = read_checkout(root)
    dockerfile = (root / "Dockerfile").is_file()
    chosen = find_recipe(recipe or guess_recipe(repository=bool(repository), dockerfile=dockerfile))
    given = read_pairs(pairs, "--field", json=False)
    check_inputs(chosen, given)
    title = name or root.name or "project"
    known = defaults(chosen, folder=str(root), name=title, repository=repository, branch=branch,
                     dockerfile=dockerfile)  # fmt: skip
    values = _inputs(session, chosen, {**known, **given})
    text = project_text(title, chosen, values)
    before = read_text(PROJECT_FILE)
    if before is not None:
        session.confirm(f"{PROJECT_FILE} is there already. Replace it?", yes=yes)
    write_project(PROJECT_FILE, before, text)
    session.note(f"Wrote {PROJECT_FILE} by the recipe '{chosen.name}'.")
    if not IGNORE_FILE.exists():
        write_project(IGNORE_FILE, None, IGNORED)
        session.note(f"Wrote {IGNORE_FILE}.")
    session.note("Next: eparch deploy")


def _inputs(session: Session, recipe: Recipe, known: dict[str, str]) -> dict[str, str]:
    """``known`` with every required input, asked for where somebody can be.

    Raises:
        Usage: one is missing and nobody can be asked.
    """
    missing = [key for key in recipe.required if not known.get(key)]
    if missing and not session.interactive:
        fields = " ".join(f"-f {key}=..." for key in missing)
        session.refuse(
            f"The recipe '{recipe.name}' needs {', '.join(missing)}.",
            why="; ".join(f"{key}: {recipe.required[key]}" for key in missing),
            fix=f"eparch init --recipe {recipe.name} {fields}",
        )
    asked = {key: click.prompt(f"{recipe.required[key].capitalize()} ({key})", err=True) for key in missing}
    return {**known, **asked}
