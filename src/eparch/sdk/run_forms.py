"""What a paused run asks for: a type as a form (JSON Schema), the answer as a value of that type (row B6).

Pydantic reads the types where it is installed, as in Prefect; else msgspec does, which knows no models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from eparch.core import calls
from eparch.core.errors import Conflict, Invalid, NotFound
from eparch.core.inputs import FlowRunInputCreate
from eparch.core.model import encode
from eparch.sdk.session import Sender


@dataclass(frozen=True, slots=True)
class Form:
    """The schema that an answer must fit, a text for people, and what makes the value of an answer."""

    schema: dict[str, Any]
    read: Callable[[dict[str, Any]], Any]
    description: str = ""


def form_of(wanted: Any) -> Form:
    """The form that asks for a ``wanted``: the fields of a model, or of another type a field ``value``.

    Raises:
        TypeError: it is no type that can be described.
    """
    if hasattr(wanted, "model_json_schema"):
        said = getattr(wanted, "_description", None)
        description = said if isinstance(said, str) else getattr(said, "default", None)
        return Form(
            wanted.model_json_schema(by_alias=True),
            wanted.model_validate,
            description if isinstance(description, str) else "",
        )
    schema, read = _schema_of(wanted)
    definitions = schema.pop("$defs", None)
    whole = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
    whole |= {"additionalProperties": False} | ({"$defs": definitions} if definitions else {})
    return Form(whole, lambda answer: read(answer.get("value")))


def _schema_of(wanted: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        import msgspec

        (schema,), parts = msgspec.json.schema_components((wanted,), ref_template="#/$defs/{name}")
        definitions = {"$defs": parts} if parts else {}
        return {**schema, **definitions}, lambda value: msgspec.convert(value, wanted)
    adapter = TypeAdapter(wanted)
    return adapter.json_schema(), adapter.validate_python


def ask(client: Sender, run_id: UUID, keyset: Mapping[str, str], form: Form) -> None:
    """Leave ``form`` with the run, for whoever resumes it."""
    _put(client, run_id, keyset["schema"], json.dumps(form.schema, default=str))
    if form.description:
        _put(client, run_id, keyset["description"], encode(form.description).decode())


def _put(client: Sender, run_id: UUID, key: str, value: str) -> None:
    call = calls.create_flow_run_input(id=run_id, body=FlowRunInputCreate(key=key, value=value))
    try:
        client.send(call)
    except Conflict:
        # An earlier attempt of the run was here.
        client.send(calls.delete_flow_run_input(id=run_id, key=key))
        client.send(call)


def told(client: Sender, run_id: UUID, keyset: Mapping[str, str], form: Form) -> Any:
    """What the run was told when it was resumed.

    Raises:
        Invalid: it does not fit what was asked.
    """
    try:
        text = client.send(calls.read_flow_run_input(id=run_id, key=keyset["response"]))
    except NotFound:
        text = "{}"
    try:
        return form.read(json.loads(text))
    except (ValueError, TypeError) as error:
        raise Invalid("The run was resumed with input that does not fit.", why=str(error)) from error
