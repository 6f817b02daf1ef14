"""Blocks that keep files: on this machine, or wherever fsspec reaches.

Owns reading and writing through a block. How a folder is copied is in ``eparch.steps.storage``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eparch.core.errors import Usage
from eparch.sdk.blocks.block import Block
from eparch.sdk.blocks.fields import Field
from eparch.sdk.either import either
from eparch.steps import storage

_ALL = ["get-directory", "put-directory", "read-path", "write-path"]


@either
def _read_local(block: LocalFileSystem, path: str) -> bytes:
    place = block.place_of(path)
    if not place.is_file():
        raise ValueError(f"There is no file '{place}'.")
    return place.read_bytes()


@either
def _write_local(block: LocalFileSystem, path: str, content: bytes) -> str:
    place = block.place_of(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return str(place)


@either
def _get_local(block: LocalFileSystem, from_path: str | None, local_path: str | None) -> None:
    storage.copy_folder(block.place_of(from_path or ""), Path(local_path or "."))


@either
def _put_local(
    block: LocalFileSystem, local_path: str | None, to_path: str | None, ignore_file: str | None
) -> None:
    storage.copy_folder(Path(local_path or "."), block.place_of(to_path or ""), ignore_file)


class LocalFileSystem(Block):
    """Files on the machine where the code runs."""

    _block_type_name = "Local File System"
    _block_schema_capabilities = _ALL
    _is_system = True

    basepath: str | None = Field(default=None, description="The folder that paths start from.")

    def place_of(self, path: str) -> Path:
        """Where ``path`` is.

        Raises:
            ValueError: it is outside of the base path.
        """
        base = Path(self.basepath or ".").expanduser().resolve()
        place = (base / Path(path).expanduser()).resolve()
        if not place.is_relative_to(base):
            raise ValueError(f"'{place}' is outside of the base path '{base}'.")
        return place

    def read_path(self, path: str) -> Any:
        """The bytes of a file; called or awaited. Raises ``ValueError`` where there is none."""
        return _read_local(self, path)

    def write_path(self, path: str, content: bytes) -> Any:
        """Write a file and give its whole path; called or awaited."""
        return _write_local(self, path, content)

    def get_directory(self, from_path: str | None = None, local_path: str | None = None) -> Any:
        """Copy a folder to ``local_path``, the working directory unless given; called or awaited."""
        return _get_local(self, from_path, local_path)

    def put_directory(
        self, local_path: str | None = None, to_path: str | None = None, ignore_file: str | None = None
    ) -> Any:
        """Copy ``local_path`` into the folder, without what ``ignore_file`` names; called or awaited."""
        return _put_local(self, local_path, to_path, ignore_file)


@either
def _read_remote(block: RemoteFileSystem, path: str) -> bytes:
    files, place = storage.open_remote(block.url_of(path), block.settings or {})
    content: bytes = files.cat_file(place)
    return content


@either
def _write_remote(block: RemoteFileSystem, path: str, content: bytes) -> str:
    url = block.url_of(path)
    files, place = storage.open_remote(url, block.settings or {})
    files.makedirs(place.rpartition("/")[0], exist_ok=True)
    files.pipe_file(place, content)
    return url


@either
def _get_remote(block: RemoteFileSystem, from_path: str | None, local_path: str | None) -> None:
    storage.fetch_folder(block.url_of(from_path or ""), block.settings or {}, Path(local_path or "."))


class RemoteFileSystem(Block):
    """Files of any kind that fsspec can reach, such as object stores."""

    _block_type_name = "Remote File System"
    _block_schema_capabilities = _ALL
    _is_system = True

    basepath: str = Field(description="Where paths start, with its scheme, as s3://bucket/folder.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="What the file system is opened with, such as keys and endpoints."
    )

    def block_initialization(self) -> None:
        """Raises ``Usage`` where the base path has no scheme."""
        if "://" not in self.basepath:
            raise Usage(f"'{self.basepath}' has no scheme.", fix="Write it, as in s3://bucket/folder.")

    def __repr__(self) -> str:
        return f"RemoteFileSystem(basepath={self.basepath!r})"

    def url_of(self, path: str) -> str:
        """The URL of ``path``.

        Raises:
            ValueError: it is outside of the base path.
        """
        base = self.basepath.rstrip("/")
        rest = path.removeprefix(base) if path.startswith(base) else path
        if ".." in rest.split("/") or "://" in rest:
            raise ValueError(f"'{path}' is outside of the base path '{base}'.")
        return f"{base}/{rest.strip('/')}".rstrip("/")

    def read_path(self, path: str) -> Any:
        """The bytes of a file; called or awaited."""
        return _read_remote(self, path)

    def write_path(self, path: str, content: bytes) -> Any:
        """Write a file and give its URL; called or awaited."""
        return _write_remote(self, path, content)

    def get_directory(self, from_path: str | None = None, local_path: str | None = None) -> Any:
        """Copy a folder to ``local_path``, the working directory unless given; called or awaited."""
        return _get_remote(self, from_path, local_path)
