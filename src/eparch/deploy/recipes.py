"""Where code is kept and how an image is made: the steps of every recipe of ``init`` (row D22). Pure.

Owns which inputs a recipe has and the steps that it becomes; the wizard takes its steps from here too. Steps
have the names that are stored, so that a stock worker runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eparch.core.errors import Usage, did_you_mean
from eparch.core.model import Json, Value
from eparch.deploy.pulling import IMAGE_HOME, SET_WORKING_DIRECTORY

Steps = list[dict[str, Json]]

IMAGE_STEP = "prefect_docker.deployments.steps.build_docker_image"
IMAGE_OUTPUT = "{{ build_image.image }}"
"""The image of the build step, as a job variable names it."""

_PUSH_IMAGE = "prefect_docker.deployments.steps.push_docker_image"
_GIT_CLONE = "prefect.deployments.steps.git_clone"


class Bucket(Value, frozen=True, kw_only=True):
    """A kind of storage that code is pushed to and pulled from."""

    title: str
    push: str
    pull: str
    requires: str
    place: str = "bucket"
    credentials: str
    """The type of block that lets in."""


BUCKETS = {
    "s3": Bucket(
        title="an S3 bucket",
        push="prefect_aws.deployments.steps.push_to_s3",
        pull="prefect_aws.deployments.steps.pull_from_s3",
        requires="prefect-aws>=0.3.4",
        credentials="aws-credentials",
    ),
    "gcs": Bucket(
        title="a Google Cloud Storage bucket",
        push="prefect_gcp.deployments.steps.push_to_gcs",
        pull="prefect_gcp.deployments.steps.pull_from_gcs",
        requires="prefect-gcp>=0.4.3",
        credentials="gcp-credentials",
    ),
    "azure": Bucket(
        title="an Azure Blob Storage container",
        push="prefect_azure.deployments.steps.push_to_azure_blob_storage",
        pull="prefect_azure.deployments.steps.pull_from_azure_blob_storage",
        requires="prefect-azure[blob_storage]>=0.2.8",
        place="container",
        credentials="azure-blob-storage-credentials",
    ),
}
"""Name in recipes -> the storage."""


class Recipe(Value, frozen=True, kw_only=True):
    """A way to keep code: ``storage`` is local, git or one of ``BUCKETS``; with ``image`` one is built."""

    name: str
    description: str
    storage: str
    image: bool

    @property
    def required(self) -> dict[str, str]:
        """The inputs that it needs -> what they are."""
        inputs = {"image_name": "name of the image with its repository", "tag": "tag of the image"}
        found = dict(inputs) if self.image else {}
        if self.storage == "git":
            found["repository"] = "address of the git repository"
        if self.storage in BUCKETS:
            bucket = BUCKETS[self.storage]
            found[bucket.place] = f"{bucket.place} that the code is kept in"
        return found

    @property
    def optional(self) -> tuple[str, ...]:
        """The inputs that it has a value for."""
        found = ["dockerfile"] if self.image else []
        if self.storage == "git":
            found.append("branch")
        elif self.storage in BUCKETS:
            found.append("folder")
        else:
            found.append("directory")
        return tuple(found)


def _recipes() -> dict[str, Recipe]:
    kept = {"local": "in a folder of this machine", "git": "in a git repository"}
    kept |= {name: f"in {bucket.title}" for name, bucket in BUCKETS.items()}
    found = {name: Recipe(name=name, description=f"Code {where}.", storage=name, image=False)
             for name, where in kept.items()}  # fmt: skip
    found["docker"] = Recipe(
        name="docker", description="Code in the image that runs it.", storage="local", image=True
    )
    for name, where in kept.items():
        if name != "local":
            text = f"Code {where}, run in an image that is built for it."
            found[f"docker-{name}"] = Recipe(
                name=f"docker-{name}", description=text, storage=name, image=True
            )
    return found


RECIPES = _recipes()
"""Every recipe by its name."""


def guess_recipe(*, repository: bool, dockerfile: bool) -> str:
    """The recipe of a folder that has these (row D22)."""
    if dockerfile:
        return "docker-git" if repository else "docker"
    return "git" if repository else "local"


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        Usage: there is none.
    """
    if name not in RECIPES:
        hint = did_you_mean(name, RECIPES) or "Choose one of them."
        raise Usage(f"There is no recipe '{name}'.", why=f"There are: {', '.join(RECIPES)}", fix=hint)
    return RECIPES[name]


def image_steps(values: Mapping[str, str], *, push: bool = True) -> tuple[Steps, Steps]:
    """The build and push steps of an image; ``values`` may have the ``credentials`` of its registry."""
    build: dict[str, Json] = {"id": "build_image", "requires": "prefect-docker>=0.3.1"}
    build |= {key: values[key] for key in ("image_name", "tag", "dockerfile")}
    pushed: dict[str, Json] = {
        "requires": "prefect-docker>=0.3.1",
        "image_name": "{{ build_image.image_name }}",
        "tag": "{{ build_image.tag }}",
    }
    if values.get("credentials"):
        pushed["credentials"] = values["credentials"]
    return [{IMAGE_STEP: build}], [{_PUSH_IMAGE: pushed}] if push else []


def git_steps(repository: str, branch: str, access_token: str | None = None) -> Steps:
    """The pull steps of a git repository."""
    arguments: dict[str, Json] = {"repository": repository, "branch": branch}
    if access_token:
        arguments["access_token"] = access_token
    return [{_GIT_CLONE: arguments}]


def bucket_steps(kind: str, place: str, folder: str, credentials: str | None = None) -> tuple[Steps, Steps]:
    """The push and pull steps of a bucket."""
    bucket = BUCKETS[kind]
    extra: dict[str, Json] = {"credentials": credentials} if credentials else {}
    push: dict[str, Json] = {"id": "push_code", "requires": bucket.requires}
    push |= {bucket.place: place, "folder": folder, **extra}
    pull: dict[str, Json] = {"id": "pull_code", "requires": bucket.requires}
    pull |= {bucket.place: f"{{{{ push_code.{bucket.place} }}}}", "folder": "{{ push_code.folder }}", **extra}
    return [{bucket.push: push}], [{bucket.pull: pull}]


def recipe_steps(recipe: Recipe, values: Mapping[str, str]) -> dict[str, Any]:
    """The sections ``build``, ``push`` and ``pull`` of a project; ``values`` has every input."""
    build, push = image_steps(values) if recipe.image else ([], [])
    if recipe.storage == "git":
        pull = git_steps(values["repository"], values["branch"])
    elif recipe.storage in BUCKETS:
        place = BUCKETS[recipe.storage].place
        stored, pull = bucket_steps(recipe.storage, values[place], values["folder"])
        push = [*push, *stored]
    else:
        pull = [{SET_WORKING_DIRECTORY: {"directory": values["directory"]}}]
    return {"build": build or None, "push": push or None, "pull": pull}


def defaults(recipe: Recipe, *, folder: str, name: str, repository: str, branch: str, dockerfile: bool) -> (
    dict[str, str]
):  # fmt: skip
    """The inputs that need not be given, from what is known of the ``folder``."""
    found = {"folder": name, "branch": branch or "main", "dockerfile": "Dockerfile" if dockerfile else "auto"}
    found["directory"] = f"{IMAGE_HOME}/{folder.rpartition('/')[2]}" if recipe.image else folder
    if repository:
        found["repository"] = repository
    return {key: value for key, value in found.items() if key in (*recipe.required, *recipe.optional)}
