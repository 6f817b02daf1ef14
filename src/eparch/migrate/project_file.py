"""Items of ``deployments:`` as text: one ``prefect.yaml``, a new one or one with what it had (row M7).

Owns comments that say where an item came from, anchors for what is written twice, and that an item which is
there already is not written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from eparch.core.model import Json, encode
from eparch.deploy.source import Document, dump, editable, parse
from eparch.migrate.migration import Item

FILE = "prefect.yaml"

SHARED_FROM = 40
"""Bytes of JSON from which on what is written twice is shared: an alias for less is harder to read."""

_SHARED = ("schedules", "pull", "parameters")
_IN_POOL = "job_variables"
_OLD_WORDS = re.compile(r"(?i:y|n|yes|no|on|off)|\d[\d_]*(?::[0-5]?\d)+|0[0-7]+|0o[0-7]+|[\d.]+e\d+|\.\d+|=")
"""Texts that Prefect's reader, which knows YAML 1.1, takes for something else unless they are quoted."""


def write_items(
    text: str | None, items: Iterable[Item], shared: Mapping[str, Json]
) -> tuple[str, list[Item]]:
    """The text of the project file with ``items``, and those that are new; ``text`` is what it has now.

    Raises:
        SourceErrors: ``text`` is no YAML that can be used.
    """
    document = parse(text or "{}\n", FILE)
    known = _names(document)
    new = [one for one in items if (one.item.get("name"), one.item.get("entrypoint")) not in known]
    if not new:
        return text or "", []
    data = editable(document) if text and isinstance(document.data, dict) else _new()
    for section, value in shared.items():
        if not data.get(section):
            data[section] = _styled(value)
    if not data.get("deployments"):
        data["deployments"] = _list()
    repeated = _repeated(new)
    named: dict[bytes, Any] = {}
    for one in new:
        item = _styled(one.item)
        for holder, key in _parts(item):
            written = encode(_plain(holder[key]))
            if written not in repeated:
                continue
            if written not in named:
                holder[key].yaml_set_anchor(_anchor(key, one.item, named), always_dump=True)
                named[written] = holder[key]
            holder[key] = named[written]
        deployments = data["deployments"]
        deployments.append(item)
        if one.origin:
            where = len(deployments) - 1
            deployments.yaml_set_comment_before_after_key(where, before=f"From {one.origin}", indent=2)
    return dump(data).lstrip("\n"), new


def _names(document: Document) -> set[tuple[Json, Json]]:
    data = document.data if isinstance(document.data, dict) else {}
    found = data.get("deployments")
    items = found if isinstance(found, list) else []
    return {(item.get("name"), item.get("entrypoint")) for item in items if isinstance(item, dict)}


def _parts(item: Any) -> Iterable[tuple[Any, str]]:
    """The parts of an item that may be shared: which mapping holds each, and its key there."""
    for key in _SHARED:
        if isinstance(item.get(key), dict | list) and item[key]:
            yield item, key
    pool = item.get("work_pool")
    if isinstance(pool, dict) and isinstance(pool.get(_IN_POOL), dict) and pool[_IN_POOL]:
        yield pool, _IN_POOL


def _repeated(items: list[Item]) -> set[bytes]:
    seen: set[bytes] = set()
    twice: set[bytes] = set()
    for one in items:
        for holder, key in _parts(one.item):
            written = encode(holder[key])
            (twice if written in seen else seen).add(written)
    return {written for written in twice if len(written) >= SHARED_FROM}


def _anchor(key: str, item: Mapping[str, Json], named: Mapping[bytes, Any]) -> str:
    """A name that says what it is and where it was first, and that no other has."""
    of = re.sub(r"[^a-z0-9]+", "_", str(item.get("name", "")).lower()).strip("_") or "shared"
    taken = {value.anchor.value for value in named.values()}
    name, number = f"{key}_{of}", 2
    while name in taken:
        name, number = f"{key}_{of}_{number}", number + 1
    return name


def _new() -> Any:
    from ruamel.yaml.comments import CommentedMap

    return CommentedMap()


def _list() -> Any:
    from ruamel.yaml.comments import CommentedSeq

    return CommentedSeq()


def _styled(value: Json) -> Any:
    """The value as ruamel writes it, in blocks; a text that could be read otherwise is quoted."""
    from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

    if isinstance(value, dict):
        mapping = _new()
        for key, item in value.items():
            mapping[key] = _styled(item)
        return mapping
    if isinstance(value, list):
        sequence = _list()
        sequence.extend(_styled(item) for item in value)
        return sequence
    if isinstance(value, str) and "\n" in value and _is_block(value):
        return LiteralScalarString(value)
    if isinstance(value, str) and _OLD_WORDS.fullmatch(value):
        return SingleQuotedScalarString(value)
    return value


def _is_block(text: str) -> bool:
    """Whether the lines can be written as they are."""
    return text[0] not in " \n" and all(
        line.isprintable() and line == line.rstrip() for line in text.split("\n")
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
