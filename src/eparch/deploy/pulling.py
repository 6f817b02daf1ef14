"""How a run finds its code when the file names no pull steps (row D21). Pure."""

from __future__ import annotations

from pathlib import Path

from eparch.core.model import Json
from eparch.deploy.steps import Step
from eparch.steps.image import IMAGE_HOME as IMAGE_HOME

SET_WORKING_DIRECTORY = "prefect.deployments.steps.set_working_directory"
_BUILD_IMAGE = "prefect_docker.deployments.steps.build_docker_image"
_HERE = "process"


def default_pull(
    root: Path, *, build: list[Step], image: bool, pool_type: str | None, dockerfile: str | None = None
) -> tuple[list[dict[str, Json]], str]:
    """The pull steps of a deployment made in ``root``, and a note where they may not hold; else no text.

    ``image`` says that a job variable names one. An image that is built here has the code where Prefect puts
    it; any other image is thought to have it in ``/opt/prefect``. ``dockerfile`` is what an image was built
    from without a step.
    """
    built = [step for step in build if step.function == _BUILD_IMAGE]
    if built:
        dockerfile = str(built[0].arguments.get("dockerfile") or "Dockerfile")
    if dockerfile:
        folder = f"{IMAGE_HOME}/{root.name}"
        note = "" if dockerfile == "auto" else f"the image has to have the code in {folder}: COPY . {folder}"
    elif image:
        folder = IMAGE_HOME
        note = f"the code is expected in {folder} of the image; name another place with pull steps"
    else:
        folder = str(root)
        away = pool_type not in (None, _HERE)
        note = f"{folder} has to exist where a job runs; bring the code there with pull steps" if away else ""
    return [{SET_WORKING_DIRECTORY: {"directory": folder}}], note
