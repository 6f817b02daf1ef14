"""Versions of deployments and who owns deployments: reading and writing their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql  # SQLite's compiler understands its upsert too

from eparch.core.deployment_versions import Content, DeploymentVersion, Origin, VersionFacts
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.statement import Statement, Steps, insert, param

_deployment, _head, _version = t.deployment, t.deployment_head, t.deployment_version

_TYPES: dict[str, Any] = {"origin": Origin, "content": Content}
_FACTS = (_version.c.number, _version.c.created, _version.c.origin)

_LOCK = Statement(
    sa.select(_deployment.c.id)
    .where(AnyOf(_deployment.c.id, "ids"))
    .order_by(_deployment.c.id)
    .with_for_update(key_share=True)
)
_NEXT = Statement(
    postgresql.insert(_head)
    .values(deployment_id=param("deployment_id", _head.c.deployment_id), number=1)
    .on_conflict_do_update(index_elements=[_head.c.deployment_id], set_={"number": _head.c.number + 1})
    .returning(_head.c.number)
)
_HEADS = Statement(
    sa.select(_head.c.deployment_id, _head.c.number, _head.c.project, _head.c.applied).where(
        AnyOf(_head.c.deployment_id, "ids")
    )
)
_PUT_HEAD = Statement(
    postgresql.insert(_head)
    .values({c.name: sa.bindparam(c.name, type_=c.type) for c in _head.columns})
    .on_conflict_do_update(
        index_elements=[_head.c.deployment_id],
        set_={name: sa.text(f"excluded.{name}") for name in ("number", "project", "applied")},
    )
)
_FORGET = Statement(
    sa.delete(_version).where(
        _version.c.deployment_id == param("deployment_id", _version.c.deployment_id),
        _version.c.number <= param("number", _version.c.number),
    )
)
_LIST = Statement(
    sa.select(*_FACTS)
    .where(_version.c.deployment_id == param("deployment_id", _version.c.deployment_id))
    .order_by(_version.c.number.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer)),
    types=_TYPES,
)
_ONE = Statement(
    sa.select(*_FACTS, _version.c.content).where(
        _version.c.deployment_id == param("deployment_id", _version.c.deployment_id),
        _version.c.number == param("number", _version.c.number),
    ),
    types=_TYPES,
)
_NEWEST = Statement(
    sa.select(_version.c.deployment_id, *_FACTS)
    .select_from(
        _head.join(
            _version,
            sa.and_(_version.c.deployment_id == _head.c.deployment_id, _version.c.number == _head.c.number),
        )
    )
    .where(AnyOf(_head.c.deployment_id, "ids")),
    types=_TYPES,
)


class Head(NamedTuple):
    """The newest version of a deployment, who owns it, and what its file said last."""

    number: int
    project: str | None
    applied: dict[str, Any] | None


def lock(deployment_ids: Sequence[UUID]) -> Steps[set[UUID]]:
    """Let nobody else change these deployments until the end of the transaction; those that there are."""
    found = yield _LOCK(ids=list(deployment_ids))
    return {row[0] for row in found}


def next_number(deployment_id: UUID) -> Steps[int]:
    """The number of the version that is written now."""
    found = yield _NEXT(deployment_id=deployment_id)
    return int(found[0][0])


def heads(deployment_ids: Sequence[UUID]) -> Steps[dict[UUID, Head]]:
    """What is known of each; nothing of one that was never changed since versions are kept."""
    found = yield _HEADS(ids=list(deployment_ids))
    return {row[0]: Head(row[1], row[2], row[3]) for row in found}


def put_heads(rows: Sequence[tuple[UUID, Head]]) -> Steps[None]:
    """Write what is known of deployments."""
    if rows:
        yield _PUT_HEAD.each([{"deployment_id": id_, **head._asdict()} for id_, head in rows])


def put_versions(rows: Sequence[tuple[UUID, DeploymentVersion]], kept: int) -> Steps[None]:
    """Write versions, and forget those of the same deployments that are older than the last ``kept``."""
    if not rows:
        return
    yield insert(_version).each(
        [
            {
                "deployment_id": id_,
                "number": version.number,
                "created": version.created,
                "origin": version.origin,
                "content": version.content,
            }
            for id_, version in rows
        ]
    )
    old = [(id_, version.number - kept) for id_, version in rows if version.number > kept]
    if old:
        yield _FORGET.each([{"deployment_id": id_, "number": number} for id_, number in old])


def read_versions(deployment_id: UUID, limit: int) -> Steps[list[VersionFacts]]:
    """The versions of the deployment that are kept, the newest first."""
    found = yield _LIST(deployment_id=deployment_id, limit=limit)
    return [VersionFacts(number=row[0], created=row[1], origin=row[2]) for row in found]


def read_version(deployment_id: UUID, number: int) -> Steps[DeploymentVersion | None]:
    """One version; None when there is none of this number."""
    found = yield _ONE(deployment_id=deployment_id, number=number)
    if not found:
        return None
    row = found[0]
    return DeploymentVersion(number=row[0], created=row[1], origin=row[2], content=row[3])


def newest(deployment_ids: Sequence[UUID]) -> Steps[dict[UUID, VersionFacts]]:
    """The newest version of each deployment that has one."""
    found = yield _NEWEST(ids=list(deployment_ids))
    return {row[0]: VersionFacts(number=row[1], created=row[2], origin=row[3]) for row in found}
