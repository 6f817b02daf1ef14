"""The steps ``push_to_gcs`` and ``pull_from_gcs``, by the JSON API of Google Cloud Storage (features 1.5).

Owns that API's requests. google-auth gives the token and is imported when one is needed; a server named by
``STORAGE_EMULATOR_HOST`` needs none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote, urlencode

from eparch.core.errors import StepFailed
from eparch.steps.buckets import IGNORE_FILE, pull_folder, push_folder
from eparch.steps.transfer import exchange

Data = Mapping[str, Any]

HOST = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def push_to_gcs(
    bucket: str,
    folder: str,
    project: str | None = None,
    credentials: Data | None = None,
    ignore_file: str | None = IGNORE_FILE,
) -> dict[str, str]:
    """Send the working directory to ``folder`` of a bucket, without what ``ignore_file`` names.

    ``credentials`` are those of a ``gcp-credentials`` block: ``service_account_info``,
    ``service_account_file`` or ``access_token``; without them Google's default credentials hold.
    ``project`` pays for the requests where the bucket's owner wants that.

    Returns:
        ``bucket`` and ``folder``.

    Raises:
        StepFailed: google-auth is missing, or a file could not be sent.
    """
    push_folder(GoogleBucket(bucket, credentials, project), Path.cwd(), folder, ignore_file)
    return {"bucket": bucket, "folder": folder}


def pull_from_gcs(
    bucket: str, folder: str, project: str | None = None, credentials: Data | None = None
) -> dict[str, str]:
    """Bring ``folder`` of a bucket into the working directory; see ``push_to_gcs``.

    Returns:
        ``bucket``, ``folder`` and ``directory``: the working directory.

    Raises:
        StepFailed: google-auth is missing, there is nothing, or a file could not be brought.
    """
    pull_folder(GoogleBucket(bucket, credentials, project), folder, Path.cwd())
    return {"bucket": bucket, "folder": folder, "directory": str(Path.cwd())}


class GoogleBucket:
    """A bucket of Google Cloud Storage."""

    def __init__(self, bucket: str, credentials: Data | None, project: str | None = None) -> None:
        """Ask for nothing yet."""
        self._given = credentials or {}
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        self._host = (emulator if not emulator or "://" in emulator else f"http://{emulator}").rstrip("/")
        self._anonymous = bool(self._host)
        self._host = self._host or HOST
        self._bucket, self._payer = bucket, {"userProject": project} if project else {}
        self._source: Any = None
        self._lock = Lock()

    def names(self, prefix: str) -> Iterator[str]:
        """The names of all objects that begin with ``prefix``."""
        query = {"prefix": prefix, "fields": "items(name),nextPageToken", **self._payer}
        while True:
            answer = self._ask("GET", "/storage/v1", "", query, f"Listing '{self._bucket}/{prefix}'")
            page = json.loads(answer)
            yield from (str(one["name"]) for one in page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def bring(self, name: str, into: Path) -> None:
        """Write an object to a file."""
        query = {"alt": "media", **self._payer}
        what = f"Bringing '{self._bucket}/{name}'"
        self._ask("GET", "/storage/v1", "/" + quote(name, safe=""), query, what, into=into)

    def send(self, source: Path, name: str) -> None:
        """Keep a file as an object."""
        query = {"uploadType": "media", "name": name, **self._payer}
        self._ask("POST", "/upload/storage/v1", "", query, f"Sending '{self._bucket}/{name}'", source=source)

    def _ask(self, method: str, api: str, end: str, query: Data, what: str, **files: Path | None) -> bytes:
        url = f"{self._host}{api}/b/{quote(self._bucket, safe='')}/o{end}?{urlencode(query)}"
        headers = {"Content-Type": "application/octet-stream"} if "source" in files else {}
        return exchange(method, url, {**headers, **self._authorization()}, what=what, **files)

    def _authorization(self) -> dict[str, str]:
        if token := self._given.get("access_token"):
            return {"Authorization": f"Bearer {token}"}
        if self._anonymous and not self._given.get("service_account_info"):
            return {}
        with self._lock:
            if self._source is None:
                self._source = _source_of(self._given)
            if not self._source.valid:
                _refresh(self._source)
            return {"Authorization": f"Bearer {self._source.token}"}


def _source_of(given: Data) -> Any:
    """What gives tokens, by google-auth."""
    try:
        import google.auth
        from google.oauth2 import service_account
    except ImportError as error:
        hint = "pip install 'eparch[gcp]'"
        raise StepFailed(
            "The library for Google's credentials is missing", why=str(error), fix=hint
        ) from error
    info, file = given.get("service_account_info"), given.get("service_account_file")
    make: Any = service_account.Credentials
    try:
        if info:
            return make.from_service_account_info(_object(info), scopes=[SCOPE])
        if file:
            return make.from_service_account_file(str(Path(file).expanduser()), scopes=[SCOPE])
        return google.auth.default(scopes=[SCOPE])[0]
    except (ValueError, OSError, google.auth.exceptions.GoogleAuthError) as error:
        # What cannot be read may be the key itself.
        why = type(error).__name__ if info else str(error)
        raise StepFailed("The credentials for Google Cloud Storage cannot be used", why=why) from None


def _object(info: Any) -> Any:
    return json.loads(info) if isinstance(info, str) else dict(info)


def _refresh(source: Any) -> None:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    try:
        source.refresh(Request())
    except GoogleAuthError as error:
        raise StepFailed("Google gives no token for these credentials", why=str(error)) from error
