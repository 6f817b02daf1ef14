"""The names of the shipped steps: the one that is stored, and every other one that people write.

Stored names are Prefect's, because a stock Prefect worker must be able to run the pull steps of a deployment.
Does not own what a step does; that is ``eparch.steps``.
"""

from __future__ import annotations

_HOME = "prefect.deployments.steps."
_OWN = "eparch.steps."
_OLD_PREFIXES = {
    "prefect.projects.steps.": _HOME,
    "prefect.deployments.steps.": _HOME,
    "prefect_docker.projects.steps.": "prefect_docker.deployments.steps.",
    "prefect_aws.projects.steps.": "prefect_aws.deployments.steps.",
    "prefect_gcp.projects.steps.": "prefect_gcp.deployments.steps.",
    "prefect_azure.projects.steps.": "prefect_azure.deployments.steps.",
}
_OLD_FUNCTIONS = {
    "git_clone_project": "git_clone",
    "push_project_to_s3": "push_to_s3",
    "pull_project_from_s3": "pull_from_s3",
    "push_project_to_gcs": "push_to_gcs",
    "pull_project_from_gcs": "pull_from_gcs",
    "push_project_to_azure_blob_storage": "push_to_azure_blob_storage",
    "pull_project_from_azure_blob_storage": "pull_from_azure_blob_storage",
}
_MODULES = {
    "prefect.deployments.steps.utility.": _HOME,
    "prefect.deployments.steps.pull.": _HOME,
}

SHIPPED: tuple[str, ...] = (
    *(
        _HOME + function
        for function in (
            "set_working_directory",
            "git_clone",
            "pull_from_remote_storage",
            "pull_with_block",
            "run_shell_script",
            "pip_install_requirements",
        )
    ),
    "prefect_docker.deployments.steps.build_docker_image",
    "prefect_docker.deployments.steps.push_docker_image",
    "prefect_aws.deployments.steps.push_to_s3",
    "prefect_aws.deployments.steps.pull_from_s3",
    "prefect_gcp.deployments.steps.push_to_gcs",
    "prefect_gcp.deployments.steps.pull_from_gcs",
    "prefect_azure.deployments.steps.push_to_azure_blob_storage",
    "prefect_azure.deployments.steps.pull_from_azure_blob_storage",
)
"""Every shipped step by its stored name (features 1.5, "Steps shipped")."""

OWN: dict[str, str] = {_OWN + name.rpartition(".")[2]: name for name in SHIPPED}
"""``eparch.steps.git_clone`` and so on: the same steps by our name."""


def _aliases() -> dict[str, str]:
    olden = {new: old for old, new in _OLD_FUNCTIONS.items()}
    aliases = dict(OWN)
    for name in SHIPPED:
        prefix, _, function = name.rpartition(".")
        functions = [function, *([olden[function]] if function in olden else [])]
        for old, new in _OLD_PREFIXES.items():
            if new == prefix + ".":
                aliases |= {old + spelling: name for spelling in functions if old + spelling != name}
        aliases |= {old + function: name for old, new in _MODULES.items() if new == prefix + "."}
        aliases |= {f"{prefix}.{spelling}": name for spelling in functions[1:]}
    return aliases


ALIASES: dict[str, str] = _aliases()
"""Every other spelling of a shipped step -> its stored name (real-files 2.5 and 3.2)."""


def canonical(name: str) -> str:
    """The stored name of the step ``name``; a name that is not a shipped step stays as it is."""
    return ALIASES.get(name, name)


def own(name: str) -> str:
    """Our name of the shipped step ``name``; any other name stays as it is."""
    stored = canonical(name)
    return _OWN + stored.rpartition(".")[2] if stored in SHIPPED else name


def is_deprecated(name: str) -> bool:
    """Whether ``name`` is an old spelling that a note should mention."""
    return name in ALIASES and name not in OWN and not any(name.startswith(module) for module in _MODULES)


_PULLED = ("folder", "credentials")
_PUSHED = (*_PULLED, "ignore_file")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    _HOME + "set_working_directory": ("directory",),
    _HOME + "git_clone": (
        "repository",
        "branch",
        "commit_sha",
        "include_submodules",
        "access_token",
        "credentials",
        "directories",
        "clone_directory_name",
    ),
    _HOME + "pull_with_block": ("block_type_slug", "block_document_name"),
    _HOME + "run_shell_script": ("script", "directory", "env", "stream_output", "expand_env_vars", "shell"),
    _HOME + "pip_install_requirements": ("directory", "requirements_file", "stream_output"),
    "prefect_docker.deployments.steps.push_docker_image": (
        "image_name",
        "tag",
        "credentials",
        "additional_tags",
        "ignore_cache",
        "build_backend",
    ),
    "prefect_aws.deployments.steps.push_to_s3": ("bucket", "client_parameters", *_PUSHED),
    "prefect_aws.deployments.steps.pull_from_s3": ("bucket", "client_parameters", *_PULLED),
    "prefect_gcp.deployments.steps.push_to_gcs": ("bucket", "project", *_PUSHED),
    "prefect_gcp.deployments.steps.pull_from_gcs": ("bucket", "project", *_PULLED),
    "prefect_azure.deployments.steps.push_to_azure_blob_storage": ("container", *_PUSHED),
    "prefect_azure.deployments.steps.pull_from_azure_blob_storage": ("container", *_PULLED),
}
"""What a shipped step takes (features 1.5); one that takes any further argument is not listed."""

OUTPUTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (_HOME + name for name in ("set_working_directory", "git_clone", "pull_with_block")), ("directory",)
    ),
    _HOME + "pull_from_remote_storage": ("directory",),
    **dict.fromkeys(
        (_HOME + name for name in ("run_shell_script", "pip_install_requirements")), ("stdout", "stderr")
    ),
    "prefect_docker.deployments.steps.build_docker_image": (
        "image_name",
        "tag",
        "image",
        "image_id",
        "additional_tags",
    ),
    "prefect_docker.deployments.steps.push_docker_image": ("image_name", "tag", "image", "additional_tags"),
    **dict.fromkeys((n for n in SHIPPED if n.endswith(("push_to_s3", "push_to_gcs"))), ("bucket", "folder")),
    **dict.fromkeys(
        (n for n in SHIPPED if n.endswith(("pull_from_s3", "pull_from_gcs"))),
        ("bucket", "folder", "directory"),
    ),
    "prefect_azure.deployments.steps.push_to_azure_blob_storage": ("container", "folder"),
    "prefect_azure.deployments.steps.pull_from_azure_blob_storage": ("container", "folder", "directory"),
}
"""What a shipped step gives (features 1.5, "Steps shipped")."""
