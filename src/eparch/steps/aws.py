"""The steps ``push_to_s3`` and ``pull_from_s3``, by boto3 (features 1.5, "Steps shipped").

Owns what credentials of AWS and MinIO mean. boto3 is imported when a step runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from eparch.core.errors import StepFailed
from eparch.steps.buckets import IGNORE_FILE, pull_folder, push_folder

Data = Mapping[str, Any]

_KEYS = {
    "aws_access_key_id": ("aws_access_key_id", "minio_root_user"),
    "aws_secret_access_key": ("aws_secret_access_key", "minio_root_password"),
    "aws_session_token": ("aws_session_token",),
    "region_name": ("region_name",),
    "profile_name": ("profile_name",),
}
"""Argument of a boto3 session -> the fields of blocks that hold it."""


def push_to_s3(
    bucket: str,
    folder: str,
    credentials: Data | None = None,
    client_parameters: Data | None = None,
    ignore_file: str | None = IGNORE_FILE,
) -> dict[str, str]:
    """Send the working directory to ``folder`` of an S3 bucket, without what ``ignore_file`` names.

    ``credentials`` are those of an ``aws-credentials`` or ``minio-credentials`` block; without them boto3
    finds some. ``client_parameters`` go to its client, such as ``endpoint_url``.

    Returns:
        ``bucket`` and ``folder``.

    Raises:
        StepFailed: boto3 is missing, or a file could not be sent.
    """
    push_folder(S3(bucket, credentials, client_parameters), Path.cwd(), folder, ignore_file)
    return {"bucket": bucket, "folder": folder}


def pull_from_s3(
    bucket: str,
    folder: str,
    credentials: Data | None = None,
    client_parameters: Data | None = None,
) -> dict[str, str]:
    """Bring ``folder`` of an S3 bucket into the working directory; see ``push_to_s3``.

    Returns:
        ``bucket``, ``folder`` and ``directory``: the working directory.

    Raises:
        StepFailed: boto3 is missing, there is nothing, or a file could not be brought.
    """
    pull_folder(S3(bucket, credentials, client_parameters), folder, Path.cwd())
    return {"bucket": bucket, "folder": folder, "directory": str(Path.cwd())}


class S3:
    """A bucket of S3, or of a server that speaks its protocol."""

    def __init__(self, bucket: str, credentials: Data | None, parameters: Data | None) -> None:
        """Connect to nothing yet.

        Raises:
            StepFailed: boto3 is missing, or the parameters do not fit.
        """
        try:
            import boto3
            from boto3.exceptions import Boto3Error
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            hint = "pip install 'eparch[aws]'"
            raise StepFailed("The library for S3 is not installed", why=str(error), fix=hint) from error
        self._bucket = bucket
        self._faults = (BotoCoreError, ClientError, Boto3Error)
        given = credentials or {}
        keys = {
            name: value
            for name, fields in _KEYS.items()
            if (value := next((given[field] for field in fields if given.get(field)), None))
        }
        options = {**_parameters(given.get("aws_client_parameters") or {}), **_parameters(parameters or {})}
        if isinstance(config := options.get("config"), Mapping):
            options["config"] = Config(**config)
        try:
            self._client = boto3.session.Session(**keys).client("s3", **options)
        except (*self._faults, TypeError, ValueError) as error:
            raise StepFailed(f"The bucket '{bucket}' cannot be opened", why=str(error)) from error

    def names(self, prefix: str) -> Iterable[str]:
        """The names of all objects that begin with ``prefix``."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        found = self._told(lambda: [one["Key"] for page in pages for one in page.get("Contents", ())], prefix)
        return list(found)

    def bring(self, name: str, into: Path) -> None:
        """Write an object to a file."""
        self._told(lambda: self._client.download_file(self._bucket, name, str(into)), name)

    def send(self, source: Path, name: str) -> None:
        """Keep a file as an object."""
        self._told(lambda: self._client.upload_file(str(source), self._bucket, name), name)

    def _told(self, call: Callable[[], Any], name: str) -> Any:
        try:
            return call()
        except (*self._faults, OSError) as error:
            raise StepFailed(f"S3 could not be asked for '{self._bucket}/{name}'", why=str(error)) from error


def _parameters(given: Data) -> dict[str, Any]:
    """Arguments of boto3's client; a block says apart which certificate is trusted."""
    kept = {name: value for name, value in given.items() if value is not None}
    path = kept.pop("verify_cert_path", None)
    return {**kept, **({"verify": str(path)} if path else {})}
