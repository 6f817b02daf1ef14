"""The OpenAPI document of the API, made from the endpoints and the table of filters.

Owns nothing but the translation: what an endpoint takes and gives is ``core.calls`` and ``core.filters``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from eparch.api.policy import BASE_PATH
from eparch.api.router import HANDLERS, argument_of, is_uuid, parameters_of
from eparch.core.calls import Endpoint
from eparch.core.filters import FIELDS, MAX_LIMIT, SORTS, FilterBody
from eparch.version import __version__

_REF = "#/components/schemas/{name}"

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "detail": {"type": "string"},
        "exception_message": {"type": "string"},
        "why": {"type": "string"},
        "fix": {"type": "string"},
        "error_id": {"type": "string"},
    },
}

_INVALID: dict[str, Any] = {
    "type": "object",
    "properties": {
        **_ERROR["properties"],
        "exception_detail": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                    "input": {},
                },
            },
        },
        "request_body": {},
    },
}

_ERRORS: dict[int, str] = {
    400: "Error",
    401: "Error",
    403: "Error",
    404: "Error",
    409: "Error",
    410: "Error",
    413: "Error",
    422: "InvalidRequest",
    423: "Error",
    503: "Error",
}
"""Status -> schema of what any operation may be refused with."""


def document(endpoints: Iterable[Endpoint[Any]], base_path: str = BASE_PATH) -> dict[str, Any]:
    """OpenAPI 3.1 for ``endpoints``; paths are relative to the server's base path, as on the wire."""
    listed = list(endpoints)
    kinds: list[Any] = []
    for endpoint in listed:
        kinds.append(endpoint.answer)
        if isinstance(endpoint.body, FilterBody):
            kinds += [one for one in (endpoint.body.more, endpoint.body.also) if one is not None]
        elif endpoint.body is not None:
            kinds.append(endpoint.body)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    found = dict(zip(map(_key, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Eparch",
            "version": __version__,
            "summary": "The REST API of Prefect 3, with extensions.",
        },
        "servers": [{"url": base_path}],
        "paths": paths,
        "components": {
            "schemas": {**components, **_filter_schemas(), "Error": _ERROR, "InvalidRequest": _INVALID},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"basic": []}, {"bearer": []}],
    }


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(endpoint: Endpoint[Any], found: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [endpoint.tag],
        "summary": endpoint.summary or _summary(endpoint),
        "operationId": _identifier(endpoint),
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, found),
    }
    if isinstance(endpoint.body, FilterBody):
        schema = _body_schema(endpoint.body)
        operation["requestBody"] = {**_content(schema), "required": "required" in schema}
    elif endpoint.body is not None:
        required = endpoint.method != "POST" or bool(_required(endpoint.body))
        operation["requestBody"] = {**_content(found[_key(endpoint.body)]), "required": required}
    return operation


def _required(kind: Any) -> bool:
    try:
        fields = msgspec.structs.fields(kind)
    except TypeError:
        return True
    return any(field.required for field in fields)


_SOURCE = re.compile(r" \((?:wire|rows?)\b[^()]*\)")


def _summary(endpoint: Endpoint[Any]) -> str:
    """What its handler says that it does, without the source of the rule."""
    route = HANDLERS.get((endpoint.method, endpoint.path))
    said = (route.handler.__doc__ or "") if route is not None else ""
    return _SOURCE.sub("", said.partition("\n")[0]).rstrip(".")


def _identifier(endpoint: Endpoint[Any]) -> str:
    words = endpoint.path.strip("/").replace("{", "").replace("}", "").replace("-", "_").split("/")
    return "_".join([endpoint.method.lower(), *words])


def _parameters(endpoint: Endpoint[Any]) -> list[dict[str, Any]]:
    found = []
    for name in parameters_of(endpoint.path):
        schema: dict[str, Any] = {"type": "string"}
        if is_uuid(name):
            schema["format"] = "uuid"
        else:
            schema["minLength"] = 1
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    found += [
        {"name": name, "in": "query", "required": required, "schema": {"type": "string"}}
        for name, required in _asked(endpoint)
    ]
    return found


def _asked(endpoint: Endpoint[Any]) -> list[tuple[str, bool]]:
    """The query's parameters, and whether each must be there: its handler has no default for it."""
    route = HANDLERS.get((endpoint.method, endpoint.path))
    given = inspect.signature(route.handler).parameters if route is not None else {}
    return [
        (name, (own := given.get(argument_of(name))) is None or own.default is inspect.Parameter.empty)
        for name in endpoint.query
    ]


def _responses(endpoint: Endpoint[Any], found: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in (endpoint.status, *endpoint.also):
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if status != 204:
            responses[str(status)].update(_content(found[_key(endpoint.answer)], endpoint.media))
    for status, name in _ERRORS.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **_content(_ref(name))}
    return responses


def _content(schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"content": {media: {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


# Filters


def _filter_name(entity: str) -> str:
    return "".join(word.capitalize() for word in entity.split("_")) + "Filter"


def _filter_schemas() -> dict[str, Any]:
    return {_filter_name(entity): _group_schema(fields) for entity, fields in FIELDS.items()}


def _group_schema(fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    properties = {
        name: _nullable(
            _group_schema(operators)
            if any(isinstance(kind, dict) for kind in operators.values())
            else _object({op: _nullable(_value_schema(kind)) for op, kind in operators.items()})
        )
        for name, operators in fields.items()
    }
    return _object(properties)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    operator = {"enum": ["and_", "or_", None]}
    return {
        "type": "object",
        "properties": {"operator": operator, **properties},
        "additionalProperties": False,
    }


def _value_schema(kind: Any) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    items = schema.get("items")
    if items and "$ref" in items:
        schema = {**schema, "items": components[items["$ref"].rpartition("/")[2]]}
    return schema


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _body_schema(body: FilterBody) -> dict[str, Any]:
    properties: dict[str, Any] = {
        key: _nullable(_ref(_filter_name(body.entity_of(key)))) for key in body.takes
    }
    required = list(body.needs)
    if body.more is not None:
        found = _inlined(body.more)
        properties.update(found["properties"])
        required += found.get("required", [])
    elif not body.counts:
        if body.sort:
            properties["sort"] = {"enum": [*SORTS[body.entity], None]}
        properties["limit"] = _nullable({"type": "integer", "minimum": 0, "maximum": body.most or MAX_LIMIT})
        place = ("page", 1) if body.pages else ("offset", 0)
        properties[place[0]] = _nullable({"type": "integer", "minimum": place[1]})
        if body.also is not None:
            properties.update(_inlined(body.also)["properties"])
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def _inlined(kind: Any) -> dict[str, Any]:
    """The schema of ``kind``; what it refers to is among the components, as its answers are made of them."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    found: dict[str, Any] = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found
