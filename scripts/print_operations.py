"""Print compact facts of an OpenAPI document: python scripts/print_operations.py openapi.json

One line an operation: parameters, fields of body and answer with their types, what is required, status codes.
``tests/api/wire_operations.json`` is what it prints of Prefect's document; the tests say the same of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

VERSION_HEADER = "x-prefect-api-version"
"""Every operation of Prefect takes it; it is checked before any of ours (wire section 1)."""


def facts(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What ``document`` says of each operation, by ``METHOD /path``."""
    return {
        f"{method.upper()} {path}": _operation(document, operation)
        for path, item in sorted(document["paths"].items())
        for method, operation in sorted(item.items())
    }


def _operation(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    parameters = {
        f"{parameter['in']} {parameter['name']}": bool(parameter.get("required"))
        for parameter in operation.get("parameters", ())
        if parameter["name"] != VERSION_HEADER
    }
    found: dict[str, Any] = {"parameters": parameters}
    if body := operation.get("requestBody"):
        found["body"] = _fields(document, body["content"])
        found["body_required"] = bool(body.get("required"))
    answers = {int(status): answer for status, answer in operation["responses"].items() if status < "300"}
    found["statuses"] = sorted(answers)
    contents = [answer["content"] for answer in answers.values() if answer.get("content")]
    found["answer"] = _fields(document, contents[0]) if contents else None
    return found


def _fields(document: dict[str, Any], content: dict[str, Any]) -> Any:
    """Type by field, ``!`` after what is required; of a list those of its items, of a value its type."""
    (media,) = content.values()
    schema = _resolved(document, media.get("schema", {}))
    if schema.get("type") == "array":
        return {"[]": _described(document, _resolved(document, schema.get("items", {})))}
    return _described(document, schema)


def _described(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    if "properties" not in schema:
        return " ".join(_kinds(document, schema))
    required = set(schema.get("required", ()))
    return {
        name: " ".join(_kinds(document, about)) + ("!" if name in required else "")
        for name, about in sorted(schema["properties"].items())
    }


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while True:
        options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or ()
        real = [option for option in options if option.get("type") != "null"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif len(real) == 1 and "properties" not in schema:
            schema = real[0]
        else:
            return schema


_OF_VALUES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _kinds(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The JSON types that a value may have, sorted; ``any`` when nothing is said."""
    kinds: set[str] = set()
    for option in schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or ():
        kinds.update(_kinds(document, option))
    if "$ref" in schema:
        kinds.update(_kinds(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]))
    own = schema.get("type", ())
    kinds.update([own] if isinstance(own, str) else own)
    if "properties" in schema:
        kinds.add("object")
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    kinds.update(_OF_VALUES[type(value)] for value in values)
    if "number" in kinds:
        kinds.discard("integer")
    return sorted(kinds) or ["any"]


def main(path: str) -> None:
    """Print the facts of the document at ``path``, one operation a line."""
    found = facts(json.loads(Path(path).read_text(encoding="utf-8")))
    lines = [f"{json.dumps(name)}: {json.dumps(one)}" for name, one in found.items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
