"""Webhooks: the plain one, and the one whose request a user shapes."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from eparch.orchestration.notifications.message import Answered, Message, NotSent, Target
from eparch.orchestration.notifications.request import SECONDS, refuse_failure, send

KEY_HEADER = "Idempotency-Key"
"""The same when a call is made again, so that its receiver can tell (draft-ietf-httpapi-idempotency-key)."""

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")


def call(target: Target, payload: str, key: str) -> Answered:
    """Call the webhook of the block; any answer will do, as in Prefect, but one of a server that fails.

    Raises:
        NotSent: there is no answer, or one with a status of 500 or more.
    """
    data = target.data
    headers = {str(name): str(value) for name, value in (data.get("headers") or {}).items()}
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = _type_of(payload)
    answered = send(
        str(data.get("method") or "POST"),
        str(data["url"]),
        payload.encode(),
        {KEY_HEADER: key, **headers} if key else headers,
        private=data.get("allow_private_urls") is not False,
        verify=data.get("verify") is not False,
    )
    if answered.status >= 500 or answered.status == 429:
        refuse_failure(answered, "The webhook")
    return answered


def _type_of(payload: str) -> str:
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return "text/plain; charset=utf-8"
    return "application/json"


def send_plain(target: Target, message: Message) -> None:
    """Post subject and body as JSON."""
    payload = json.dumps({"subject": message.subject, "body": message.body})
    refuse_failure(call(target, payload, message.key), "The webhook")


def send_custom(target: Target, message: Message) -> None:
    """Send the request that the block describes; ``{{subject}}``, ``{{body}}``, ``{{name}}`` and the names of
    its secrets are filled in.

    Raises:
        NotSent: a placeholder stands for nothing, or the server refused.
    """
    data = target.data
    values = {**(data.get("secrets") or {}), "subject": message.subject, "body": message.body}
    values["name"] = data.get("name") or ""
    if data.get("json_data") is not None and data.get("form_data") is not None:
        raise NotSent("The block has JSON and a form; it can have one of them.")
    filled = {
        name: _filled(data.get(name), values)
        for name in ("url", "params", "json_data", "form_data", "headers", "cookies")
    }
    headers = {str(name): str(value) for name, value in (filled["headers"] or {}).items()}
    if message.key:
        headers.setdefault(KEY_HEADER, message.key)
    if filled["cookies"]:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in filled["cookies"].items())
    body, kind = _body_of(filled["json_data"], filled["form_data"])
    if kind and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = kind
    answered = send(
        str(data.get("method") or "POST"),
        _with_query(str(filled["url"]), filled["params"] or {}),
        body,
        headers,
        seconds=float(data.get("timeout") or SECONDS),
        private=data.get("allow_private_urls") is not False,
    )
    refuse_failure(answered, "The webhook")


def _filled(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_filled(key, values): _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise NotSent(f"The placeholder {found[0]} of the block stands for nothing.")
        return str(values[found[1]])

    return _PLACEHOLDER.sub(look_up, value)


def _body_of(json_data: Any, form_data: Any) -> tuple[bytes | None, str]:
    if json_data is not None:
        return json.dumps(json_data).encode(), "application/json"
    if isinstance(form_data, str):
        return form_data.encode(), ""
    if form_data is not None:
        return urlencode(form_data, doseq=True).encode(), "application/x-www-form-urlencoded"
    return None, ""


def _with_query(url: str, params: dict[str, Any]) -> str:
    if not params:
        return url
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *params.items()]
    return urlunsplit(parts._replace(query=urlencode(query)))
