"""Code from where a storage block says, or from any URL that fsspec knows (row D20, features 1.5).

Owns which kinds of blocks can pull code and what each one's fields mean: those of Prefect 2 and 3 and of its
collections. Does not own git, see ``git``, nor reading blocks, see ``references``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eparch.core.blocks import BlockDocument
from eparch.core.errors import StepFailed, did_you_mean
from eparch.core.ignoring import Ignored, read_ignored
from eparch.steps.aws import S3
from eparch.steps.azure import Container
from eparch.steps.buckets import IGNORE_FILE, Bucket, pull_folder
from eparch.steps.gcp import GoogleBucket
from eparch.steps.git import git_clone
from eparch.steps.runner import REFERENCES

Data = Mapping[str, Any]


def pull_with_block(block_type_slug: str, block_document_name: str) -> dict[str, str]:
    """Bring the code that a storage block keeps into a directory of its own.

    Returns:
        ``directory``: where it is, relative to the working directory.

    Raises:
        StepFailed: blocks of that type keep no code, or it could not be brought.
        EparchError: the block cannot be read.
    """
    pull = KINDS.get(block_type_slug)
    if pull is None:
        raise StepFailed(
            f"A block of the type '{block_type_slug}' cannot pull code",
            why=f"these can: {', '.join(sorted(KINDS))}",
            fix=did_you_mean(block_type_slug, KINDS),
        )
    document = REFERENCES.get().read(block_type_slug, block_document_name)
    target = Path(f"{block_type_slug}-{block_document_name}")
    try:
        return pull(_Kept(document), target)
    except KeyError as error:
        raise StepFailed(
            f"The block '{block_type_slug}/{block_document_name}' has no {error}",
            why="nothing says where the code is",
        ) from error


def pull_from_remote_storage(url: str, **settings: Any) -> dict[str, str]:
    """Bring the files below ``url`` into a directory; ``settings`` go to fsspec, which opens it.

    Returns:
        ``directory``: where they are, relative to the working directory.

    Raises:
        StepFailed: a library for this kind of URL is missing, or the files could not be brought.
    """
    parts = urlsplit(url)
    if not parts.scheme:
        raise StepFailed(f"'{url}' is no URL", fix="write its scheme, as in s3://bucket/folder")
    name = "-".join(part for part in (parts.netloc.rpartition("@")[2], *parts.path.split("/")) if part)
    return _copy_remote(url, settings, Path(name or parts.scheme))


class _Kept(dict[str, Any]):
    """The data of a block; a field that is empty is not there."""

    def __init__(self, document: BlockDocument) -> None:
        super().__init__({name: value for name, value in document.data.items() if value not in (None, "")})


def _copy_local(data: Data, target: Path) -> dict[str, str]:
    source = Path(str(data.get("basepath", "."))).expanduser().resolve()
    into = target.resolve()
    if into == source or into in source.parents:
        raise StepFailed(f"The block's folder '{source}' lies where its copy would be")
    _clear(target)
    copy_folder(source, target)
    return {"directory": str(target)}


def copy_folder(source: Path, target: Path, ignore_file: str | None = IGNORE_FILE) -> None:
    """Copy what is in ``source`` into ``target``, without what its ``ignore_file`` names.

    Raises:
        StepFailed: there is no such folder, or it cannot be copied.
    """
    source, into = source.resolve(), target.resolve()
    if not source.is_dir():
        raise StepFailed(f"The folder '{source}' is not there", why="there is no such directory here")
    if into == source:
        return
    ignored = _ignored(source / ignore_file) if ignore_file else read_ignored("")

    def left_out(folder: str, names: list[str]) -> set[str]:
        places = {name: Path(folder, name) for name in names}
        return {
            name
            for name, place in places.items()
            # A copy may be made within the folder itself, and does not hold itself.
            if place == into or ignored(place.relative_to(source).as_posix(), place.is_dir())
        }

    try:
        shutil.copytree(source, target, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise StepFailed(f"'{source}' could not be copied", why=str(error)) from error


def _ignored(path: Path) -> Ignored:
    try:
        return read_ignored(path.read_text())
    except FileNotFoundError:
        return read_ignored("")
    except (OSError, ValueError) as error:
        raise StepFailed(f"'{path}' cannot be read", why=str(error)) from error


def _clear(target: Path) -> None:
    """Nothing of an older copy stays."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)


def _copy_remote(url: str, settings: Data, target: Path) -> dict[str, str]:
    _clear(target)
    fetch_folder(url, settings, target)
    return {"directory": str(target)}


def fetch_folder(url: str, settings: Data, target: Path) -> None:
    """Copy what is below ``url`` into ``target``.

    Raises:
        StepFailed: a library for this kind of URL is missing, or the files could not be brought.
    """
    files, root = open_remote(url, settings)
    try:
        target.mkdir(parents=True, exist_ok=True)
        files.get(root.rstrip("/") + "/", f"{target}/", recursive=True)
    except Exception as error:  # whatever library opens this kind of URL raises its own
        raise _unreachable(url, error) from error


def open_remote(url: str, settings: Data) -> tuple[Any, str]:
    """The file system of ``url``, and the place in it.

    Raises:
        StepFailed: a library for this kind of URL is missing, or it cannot be opened.
    """
    scheme = urlsplit(url).scheme
    try:
        import fsspec

        files, place = fsspec.core.url_to_fs(url, **settings)
    except ImportError as error:
        message = f"Files cannot be reached by {scheme}:// here"
        raise StepFailed(message, why=str(error), fix=f"install {_extra(scheme)}") from error
    except Exception as error:  # whatever library opens this kind of URL raises its own
        raise _unreachable(url, error) from error
    return files, str(place)


def _unreachable(url: str, error: Exception) -> StepFailed:
    scheme = urlsplit(url).scheme
    return StepFailed(f"Files could not be brought by {scheme}://", why=f"{type(error).__name__}: {error}")


def _extra(scheme: str) -> str:
    """What brings the library for URLs of that scheme."""
    libraries = {
        "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
        "adl": "adlfs", "smb": "smbprotocol", "sftp": "paramiko", "ssh": "paramiko",
    }  # fmt: skip
    library = libraries.get(scheme)
    return f"eparch[storage] and {library}" if library else "eparch[storage]"


def _remote(data: Data, target: Path) -> dict[str, str]:
    return _copy_remote(str(data["basepath"]), data.get("settings") or {}, target)


def _smb(data: Data, target: Path) -> dict[str, str]:
    settings = _settings(data, username="smb_username", password="smb_password", port="smb_port")  # noqa: S106  names
    return _copy_remote(f"smb://{data['smb_host']}/{str(data['share_path']).strip('/')}", settings, target)


def _s3(data: Data, target: Path) -> dict[str, str]:
    keys = _first(data, "credentials", "aws_credentials", "minio_credentials") or data
    bucket, folder = _place(data, "bucket_name", "bucket_folder", "basepath")
    parameters = {"endpoint_url": data["endpoint_url"]} if data.get("endpoint_url") else {}
    return _pull(S3(bucket, keys, parameters), folder, target)


def _gcs(data: Data, target: Path) -> dict[str, str]:
    keys = _first(data, "gcp_credentials") or data
    bucket, folder = _place(data, "bucket", "bucket_folder")
    return _pull(GoogleBucket(bucket, keys), folder, target)


def _azure(data: Data, target: Path) -> dict[str, str]:
    keys = _first(data, "credentials") or data
    container, folder = _place(data, "container_name", "base_folder")
    return _pull(Container(container, keys), folder, target)


def _pull(bucket: Bucket, folder: str, target: Path) -> dict[str, str]:
    _clear(target)
    pull_folder(bucket, folder, target)
    return {"directory": str(target)}


def _first(data: Data, *names: str) -> Data | None:
    """The first of the fields that holds something: it was not always called the same."""
    found = (data.get(name) for name in names)
    return next((one for one in found if isinstance(one, Mapping) and any(one.values())), None)


def _place(data: Data, bucket: str, *folders: str) -> tuple[str, str]:
    """The bucket and the folder in it; ``bucket_path`` is how blocks of Prefect 2 say both."""
    if path := str(data.get("bucket_path") or "").strip("/"):
        # Some wrote the scheme too, which fsspec let pass.
        name, _, folder = (path.partition("://")[2] or path).partition("/")
        return name, folder
    return str(data[bucket]), str(next((data[name] for name in folders if data.get(name)), ""))


def _settings(data: Data, **named: str) -> dict[str, Any]:
    """Settings by the fields that hold them, without those that are empty."""
    return {name: data[field] for name, field in named.items() if data.get(field)}


def _repository(url: str, credentials: str = "credentials") -> Callable[[Data, Path], dict[str, str]]:
    """Pulls from git; ``url`` and ``credentials`` name the block's fields."""

    def pull(data: Data, target: Path) -> dict[str, str]:
        found, token = data.get(credentials) or {}, data.get("access_token")
        given = found if isinstance(found, Mapping) and any(found.values()) else None
        return git_clone(
            str(data[url]),
            branch=data.get("reference"),
            access_token=None if given else token,
            credentials=given,
            clone_directory_name=str(target),
        )

    return pull


KINDS: dict[str, Callable[[Data, Path], dict[str, str]]] = {
    "local-file-system": _copy_local,
    "remote-file-system": _remote,
    "smb": _smb,
    "s3": _s3,
    "s3-bucket": _s3,
    "gcs": _gcs,
    "gcs-bucket": _gcs,
    "azure": _azure,
    "azure-blob-storage-container": _azure,
    "github": _repository("repository"),
    "github-repository": _repository("repository_url"),
    "gitlab-repository": _repository("repository"),
    "bitbucket-repository": _repository("repository", "bitbucket_credentials"),
}
"""Slug of a block type -> what brings its code into a directory."""
