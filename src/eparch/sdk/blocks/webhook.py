"""``Webhook``: a request to any URL."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from eparch.core.errors import Unreachable, Usage
from eparch.core.secrets import SecretDict, SecretStr
from eparch.sdk.blocks.block import Block
from eparch.sdk.blocks.fields import Field
from eparch.sdk.either import either

SECONDS = 60.0
"""How long an answer is waited for."""

MAX_ANSWER = 10_000_000
"""Bytes of an answer that are read."""


class Answer(NamedTuple):
    """What was answered, whatever the status."""

    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        """The answer as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The answer as JSON; raises ``ValueError`` where it is none."""
        return json.loads(self.content)


@either
def _call(block: Webhook, payload: Any) -> Answer:
    url = block.url.get_secret_value()
    # The address is the owner's secret; a URL of another scheme would read files.
    if urlsplit(url).scheme not in ("http", "https"):
        raise Usage("The webhook's URL is neither http nor https.")
    text = isinstance(payload, str)
    body = None if payload is None else payload.encode() if text else json.dumps(payload).encode()
    headers = {str(name): str(value) for name, value in block.headers.get_secret_value().items()}
    if body is not None and not text and "content-type" not in map(str.lower, headers):
        headers["Content-Type"] = "application/json"
    context = ssl.create_default_context()
    if not block.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, data=body, headers=headers, method=block.method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
            return Answer(answer.status, answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(MAX_ANSWER))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise Unreachable("The webhook did not answer.", why=str(reason)) from None


class Webhook(Block):
    """A request to any URL."""

    _block_type_name = "Webhook"
    _is_system = True

    method: str = Field(default="POST", description="The method of the request.")
    url: SecretStr = Field(description="Where the request goes.")
    headers: SecretDict = Field(
        default_factory=lambda: SecretDict({}), description="Headers that are sent with it."
    )
    allow_private_urls: bool = True
    verify: bool = Field(default=True, description="Whether the certificate of the server is checked.")

    def call(self, payload: Any = None) -> Any:
        """Send ``payload``, a text or JSON, and give the ``Answer``; called or awaited.

        Raises:
            Unreachable: nobody answered; the message does not show the URL, which is secret.
            Usage: the URL is none of HTTP.
        """
        return _call(self, payload)
