"""Where a flow's code is kept, for deployments made in Python: a folder, a git repository, a URL of fsspec.

Owns the pull step that each of them is. Fetching is what that step does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eparch.core.errors import StepFailed, Usage
from eparch.core.model import Json

_HOME = "prefect.deployments.steps."


@dataclass(frozen=True)
class GitRepository:
    """A git repository, at ``branch`` (or a tag), ``commit_sha`` or its HEAD.

    ``credentials`` are a saved block, or ``{"access_token": <saved Secret block>}``: a deployment holds the
    reference, never the secret.
    """

    url: str
    credentials: Any = None
    name: str | None = None
    branch: str | None = None
    commit_sha: str | None = None
    include_submodules: bool = False
    pull_interval: int | None = 60
    directories: list[str] | None = None

    def pull_step(self) -> dict[str, Json]:
        """The step that brings the code.

        Raises:
            Usage: the credentials are not saved.
        """
        arguments: dict[str, Json] = {
            "repository": self.url,
            "branch": self.branch,
            "commit_sha": self.commit_sha,
            "include_submodules": self.include_submodules or None,
            "directories": self.directories,
            "clone_directory_name": self.name,
        }
        given = self.credentials
        if isinstance(given, Mapping):
            arguments["access_token"] = _reference(given.get("access_token"))
        elif given is not None:
            arguments["credentials"] = _reference(given)
        return {_HOME + "git_clone": {key: value for key, value in arguments.items() if value is not None}}


@dataclass(frozen=True)
class RemoteStorage:
    """A folder at a URL that fsspec reads, such as ``s3://bucket/flows``."""

    url: str

    def pull_step(self) -> dict[str, Json]:
        """The step that brings the code."""
        return {_HOME + "pull_from_remote_storage": {"url": self.url}}


@dataclass(frozen=True)
class LocalStorage:
    """A folder that exists where runs are executed."""

    path: str

    def pull_step(self) -> dict[str, Json]:
        """The step that goes there."""
        return {_HOME + "set_working_directory": {"directory": str(Path(self.path).expanduser().resolve())}}


Storage = GitRepository | RemoteStorage | LocalStorage


def storage_of(source: Any) -> Storage:
    """What ``source`` names: a storage, a path, or a URL.

    Raises:
        Usage: it is none of them.
    """
    if isinstance(source, GitRepository | RemoteStorage | LocalStorage):
        return source
    if isinstance(source, Path):
        return LocalStorage(str(source))
    if isinstance(source, str) and source:
        scheme = source.partition("://")[0] if "://" in source else ""
        if source.endswith(".git") or scheme.startswith("git") or source.startswith("git@"):
            return GitRepository(source.removeprefix("git+"))
        if scheme in ("http", "https", "ssh"):
            return GitRepository(source)
        return RemoteStorage(source) if scheme else LocalStorage(source)
    raise Usage(
        f"{source!r} is no place for code.",
        fix="Give a folder, the URL of a git repository, or GitRepository(...).",
    )


def fetch(storage: Storage) -> Path:
    """Bring the code here, as its pull step does; the folder that it is in.

    Raises:
        StepFailed: it cannot be brought.
    """
    from eparch.sdk.session import current
    from eparch.steps.references import ServerReferences
    from eparch.steps.runner import run_steps

    step, before = storage.pull_step(), Path.cwd()
    if isinstance(storage, LocalStorage):
        folder = Path(storage.path).expanduser().resolve()
        if not folder.is_dir():
            raise StepFailed(f"There is no folder {str(folder)!r}.")
        return folder
    references = ServerReferences(current().client) if "{{" in str(step) else None
    try:
        outputs = run_steps([step], on_output=lambda _: None, references=references)
    finally:
        os.chdir(before)
    return (before / str(outputs.get("directory") or ".")).resolve()


def _reference(block: Any) -> str:
    """How a saved block is named in a step that is stored."""
    name = getattr(block, "_block_document_name", None)
    if not name:
        raise Usage(
            "The credentials of the repository are not saved.",
            why="They would be stored in the deployment in clear.",
            fix="Save them as a block and give the block: Secret(value=...).save('name').",
        )
    return "{{ prefect.blocks." + f"{block.get_block_type_slug()}.{name}" + " }}"
