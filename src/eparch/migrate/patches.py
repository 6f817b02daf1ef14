"""JSON Patch (RFC 6902), for the customizations of infrastructure blocks (row M3).

Owns applying operations to a value; the value that is given is not changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from eparch.core.errors import Invalid
from eparch.core.model import Json

_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")


def apply_patch(document: Json, operations: Iterable[Json]) -> Json:
    """``document`` after all ``operations``, in their order.

    Raises:
        Invalid: one is none, or does not fit the document; the operation is named.
    """
    result = deepcopy(document)
    for operation in operations:
        result = _apply(result, operation)
    return result


def pointer(path: Json) -> list[str]:
    """The keys of a JSON pointer (RFC 6901).

    Raises:
        Invalid: it is none.
    """
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise Invalid(f"'{path}' is no path of a patch", fix="write it as /spec/template/...")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _apply(document: Json, operation: Json) -> Json:
    if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
        raise Invalid(
            f"{operation!r:.200} is no operation of JSON Patch", fix=f"op is {', '.join(_OPERATIONS)}"
        )
    kind, path = operation["op"], pointer(operation.get("path"))
    if kind in ("add", "replace", "test") and "value" not in operation:
        raise Invalid(f"The patch of '{operation['path']}' has no value")
    if kind == "test":
        if _find(document, path) != operation["value"]:
            raise Invalid(f"'{operation['path']}' is not what the patch tests for")
        return document
    if kind in ("move", "copy"):
        value = deepcopy(_find(document, pointer(operation.get("from"))))
        if kind == "move":
            document = _remove(document, pointer(operation["from"]))
        return _add(document, path, value)
    if kind == "remove":
        return _remove(document, path)
    value = deepcopy(operation["value"])
    if kind == "replace":
        _find(document, path)
        if path:
            document = _remove(document, path)
    return _add(document, path, value)


def _add(document: Json, path: list[str], value: Json) -> Json:
    if not path:
        return value
    parent, last = _find(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1, path), value)
    else:
        raise _absent(path)
    return document


def _remove(document: Json, path: list[str]) -> Json:
    if not path:
        return None
    parent, last = _find(document, path[:-1]), path[-1]
    if isinstance(parent, dict) and last in parent:
        del parent[last]
    elif isinstance(parent, list):
        del parent[_index(last, len(parent), path)]
    else:
        raise _absent(path)
    return document


def _find(document: Json, path: list[str]) -> Any:
    for depth, key in enumerate(path):
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list):
            document = document[_index(key, len(document), path[: depth + 1])]
        else:
            raise _absent(path[: depth + 1])
    return document


def _index(key: str, count: int, path: list[str]) -> int:
    if not (key.isascii() and key.isdigit()) or len(key) > 6 or int(key) >= count:
        raise _absent(path)
    return int(key)


def _absent(path: list[str]) -> Invalid:
    return Invalid(f"There is no '/{'/'.join(path)}' in what the patch is for")
