"""The steps ``push_to_azure_blob_storage`` and ``pull_from_...``, by the REST API of Azure (features 1.5).

Owns that API's requests and its signature (Authorize with Shared Key). azure-identity gives tokens and is
imported where there is neither a key nor a shared access signature.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from xml.etree import ElementTree

from eparch.core.errors import StepFailed
from eparch.steps.buckets import IGNORE_FILE, pull_folder, push_folder
from eparch.steps.transfer import exchange

Data = Mapping[str, Any]

VERSION = "2021-12-02"
"""Of the API; sent as ``x-ms-version``."""

SCOPE = "https://storage.azure.com/.default"
_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


def push_to_azure_blob_storage(
    container: str,
    folder: str,
    credentials: Data | None = None,
    ignore_file: str | None = IGNORE_FILE,
) -> dict[str, str]:
    """Send the working directory to ``folder`` of a container, without what ``ignore_file`` names.

    ``credentials`` have a ``connection_string``, or ``account_url`` (or ``account_name``) with
    ``account_key``, or with what azure-identity finds by itself or by ``tenant_id``, ``client_id`` and
    ``client_secret``.

    Returns:
        ``container`` and ``folder``.

    Raises:
        StepFailed: nothing says which account, or a file could not be sent.
    """
    push_folder(Container(container, credentials or {}), Path.cwd(), folder, ignore_file)
    return {"container": container, "folder": folder}


def pull_from_azure_blob_storage(
    container: str, folder: str, credentials: Data | None = None
) -> dict[str, str]:
    """Bring ``folder`` of a container into the working directory; see ``push_to_azure_blob_storage``.

    Returns:
        ``container``, ``folder`` and ``directory``: the working directory.

    Raises:
        StepFailed: nothing says which account, there is nothing, or a file could not be brought.
    """
    pull_folder(Container(container, credentials or {}), folder, Path.cwd())
    return {"container": container, "folder": folder, "directory": str(Path.cwd())}


class Container:
    """A container of blobs."""

    def __init__(self, name: str, credentials: Data) -> None:
        """Ask for nothing yet.

        Raises:
            StepFailed: the credentials name no account.
        """
        self._account = _Account(credentials)
        self._name = name

    def names(self, prefix: str) -> Iterator[str]:
        """The names of all blobs that begin with ``prefix``."""
        query = {"restype": "container", "comp": "list", "prefix": prefix}
        while True:
            answer = self._ask("GET", "", query, f"Listing '{self._name}/{prefix}'")
            try:
                page = ElementTree.fromstring(answer)  # noqa: S314  expat limits what entities become
            except ElementTree.ParseError as error:
                raise StepFailed(f"Azure's list of '{self._name}' cannot be read", why=str(error)) from error
            yield from (found.text or "" for found in page.iterfind("Blobs/Blob/Name"))
            marker = page.findtext("NextMarker")
            if not marker:
                return
            query["marker"] = marker

    def bring(self, name: str, into: Path) -> None:
        """Write a blob to a file."""
        self._ask("GET", name, {}, f"Bringing '{self._name}/{name}'", into=into)

    def send(self, source: Path, name: str) -> None:
        """Keep a file as a blob."""
        self._ask("PUT", name, {}, f"Sending '{self._name}/{name}'", source=source)

    def _ask(self, method: str, blob: str, query: Data, what: str, **files: Path | None) -> bytes:
        place = f"/{quote(self._name)}" + (f"/{quote(blob)}" if blob else "")
        url = self._account.endpoint + place
        headers = {"x-ms-version": VERSION, "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True)}
        if source := files.get("source"):
            headers |= {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
            headers["Content-Length"] = str(source.stat().st_size)
        headers |= self._account.authorization(method, url, query, headers)
        sent = urlencode([*query.items(), *self._account.signature])
        return exchange(method, f"{url}?{sent}" if sent else url, headers, what=what, **files)


class _Account:
    """Where an account of storage is, and what lets one in."""

    def __init__(self, given: Data) -> None:
        fields = {
            name.removeprefix("azure_storage_"): value
            for name, value in given.items()
            if value not in (None, "")
        }
        parts = _parts(str(fields.get("connection_string", "")))
        url = fields.get("account_url") or parts.get("BlobEndpoint")
        self.name = str(fields.get("account_name") or parts.get("AccountName") or _host_name(url))
        if not url and not self.name:
            raise StepFailed(
                "The credentials name no account of Azure",
                fix="give 'connection_string' or 'account_url', as a block of the type"
                " 'azure-blob-storage-credentials' does",
            )
        protocol = parts.get("DefaultEndpointsProtocol", "https")
        suffix = parts.get("EndpointSuffix", "core.windows.net")
        self.endpoint = str(url or f"{protocol}://{self.name}.blob.{suffix}").rstrip("/")
        self.endpoint, _, signature = self.endpoint.partition("?")
        self.endpoint = self.endpoint.rstrip("/")
        signature = signature or parts.get("SharedAccessSignature", "").removeprefix("?")
        self.signature = parse_qsl(signature)
        self._key = str(fields.get("account_key") or parts.get("AccountKey") or "")
        self._fields = fields
        self._lock = Lock()
        self._source: Any = None

    def authorization(self, method: str, url: str, query: Data, headers: Mapping[str, str]) -> dict[str, str]:
        """The header that lets a request in; nothing where the URL is signed."""
        if self._key:
            text = text_to_sign(self.name, method, url, query, headers)
            try:
                key = base64.b64decode(self._key, validate=True)
            except ValueError:
                raise StepFailed("The key of the account of Azure is not base64") from None
            signed = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
            return {"Authorization": f"SharedKey {self.name}:{signed}"}
        if self.signature:
            return {}
        with self._lock:
            if self._source is None:
                self._source = _source_of(self._fields)
            return {"Authorization": f"Bearer {_token(self._source)}"}


def text_to_sign(account: str, method: str, url: str, query: Data, headers: Mapping[str, str]) -> str:
    """What the key of an account signs ("Authorize with Shared Key", 2015-02-21 and later)."""
    given = {name.lower(): value for name, value in headers.items()}
    if given.get("content-length") == "0":
        del given["content-length"]
    lines = [method, *(given.get(name, "") for name in _SIGNED)]
    lines += [f"{name}:{given[name]}" for name in sorted(given) if name.startswith("x-ms-")]
    resource = f"/{account}{urlsplit(url).path}"
    return "\n".join([*lines, resource, *(f"{name}:{query[name]}" for name in sorted(query))])


def _parts(connection: str) -> dict[str, str]:
    """A connection string taken apart: ``Name=value;Name=value``."""
    pairs = (part.partition("=") for part in connection.split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _host_name(url: Any) -> str:
    return (urlsplit(str(url)).hostname or "").partition(".")[0] if url else ""


def _source_of(fields: Data) -> Any:
    """What gives tokens, by azure-identity."""
    try:
        from azure.identity import ClientSecretCredential, DefaultAzureCredential
    except ImportError as error:
        hint = "pip install 'eparch[azure]', or give a connection string with a key"
        raise StepFailed(
            "The library for Azure's credentials is missing", why=str(error), fix=hint
        ) from error
    named = [fields.get(name) for name in ("tenant_id", "client_id", "client_secret")]
    return ClientSecretCredential(*named) if all(named) else DefaultAzureCredential()


def _token(source: Any) -> str:
    """A token; azure-identity keeps it as long as it holds."""
    try:
        return str(source.get_token(SCOPE).token)
    except Exception as error:  # azure-core's errors, which are not installed with us
        raise StepFailed("Azure gives no token for these credentials", why=str(error)) from error
