"""Everything that somebody has, decided on: pools, items of one project file, queues, and the account.

Owns which deployments share a pool and what the pools are called. Reads and writes nothing (rows M1 to M7,
M11).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from eparch.core.errors import SourceErrors
from eparch.core.infrastructure_types import shipped_template
from eparch.core.model import Json, Value
from eparch.deploy.project import parse_project
from eparch.deploy.source import dump
from eparch.migrate.account import Account, Entry, Outcome
from eparch.migrate.deployment_files import Beta
from eparch.migrate.deployments import AGENT_POOL, Choice, to_item
from eparch.migrate.entrypoints import Exists
from eparch.migrate.infrastructure import TYPES, Pool, convert, to_pool
from eparch.migrate.inventory import OF_DOCUMENT, Block, OldDeployment, Queue, Source
from eparch.migrate.overrides import apply_overrides, nested, without_masked


class Item(Value, frozen=True, kw_only=True):
    """One item of ``deployments:`` and the file that it came from."""

    origin: str
    item: dict[str, Json]


class Migration(Value, frozen=True, kw_only=True):
    """What is to be made of a source."""

    pools: list[Pool] = []
    items: list[Item] = []
    shared: dict[str, Json] = {}
    """Sections of the project file that items of a file shared."""
    queues: list[Queue] = []
    account: list[Entry] = []

    def counts(self) -> dict[Outcome, int]:
        """How many fields had which outcome."""
        return {one: sum(entry.outcome is one for entry in self.account) for one in Outcome}


class _Pools:
    """The pools so far, by what they were made from."""

    def __init__(self, names: set[str]) -> None:
        """``names`` are those of blocks: a pool that is not made from one of them has another."""
        self.names = names
        self.made: dict[tuple[str, str], Pool] = {}
        self.entries: list[Entry] = []

    def of_block(self, block: Block, *, name: str | None = None) -> Pool:
        """The pool of a block; a block that several deployments use has one."""
        key = (block.slug, name or block.name or block.id or block.origin)
        if key not in self.made:
            account = Account(block.label)
            pool = to_pool(block, account, name=name)
            self.made[key] = msgspec.structs.replace(pool, name=self._free(pool.name, block.name))
            self.entries += account.entries
        return self.made[key]

    def plain(self, type_: str) -> Pool:
        """The pool of that type with the template of new pools."""
        key = (type_, "")
        if key not in self.made:
            template = shipped_template(type_) or {}
            self.made[key] = Pool(name=self._free(type_), type=type_, base_job_template=template)
        return self.made[key]

    def _free(self, name: str, own: str | None = None) -> str:
        taken = {pool.name for pool in self.made.values()} | self.names - {own}
        number = 2
        free = name
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        return free

    def choose(self, old: OldDeployment, overrides: dict[str, Json], account: Account) -> Choice:
        """The pool of a deployment (see ``deployments.Choose``)."""
        named = old.fields.get("work_pool_name")
        typed = named if isinstance(named, str) and named and named != AGENT_POOL else None
        overrides = without_masked(overrides, account)
        block = old.infrastructure
        if block is None or (typed and _is_default(block)):
            if "infrastructure" in old.fields:
                account.carried("infrastructure", why="it was empty")
            elif block is not None:
                account.dropped("infrastructure", f"its runs went to the pool '{typed}', which has its own")
            for key in overrides:
                account.renamed(f"infra_overrides.{key}", f"work_pool.job_variables.{key}")
            missing = old.fields.get("work_pool") is None
            return Choice(name=typed or (self.plain("process").name if missing else None),
                          job_variables=nested(overrides))  # fmt: skip
        account.renamed("infrastructure", "work_pool", "it became the work pool, or variables of its job")
        result = apply_overrides(block, overrides, account, name=old.name)
        if result.derived is not None:
            return Choice(name=self.of_block(result.derived).name, job_variables=result.job_variables)
        if block.name or block.slug not in TYPES:
            pool = self.of_block(block, name=block.name or old.name)
            return Choice(name=pool.name, job_variables=result.job_variables)
        return self._of_anonymous(block, old, result.job_variables)

    def _of_anonymous(self, block: Block, old: OldDeployment, variables: dict[str, Json]) -> Choice:
        """Of a block that only this deployment has: its values are job variables of a plain pool."""
        account = Account(block.label)
        conversion = convert(block, account, of_deployment=True)
        if conversion.is_structural:
            return Choice(name=self.of_block(block, name=old.name).name, job_variables=variables)
        self.entries += account.entries
        own = conversion.own_values()
        values = {**own, **variables}
        if isinstance(own.get("env"), dict) and isinstance(variables.get("env"), dict):
            values["env"] = {**own["env"], **variables["env"]}
        return Choice(name=self.plain(conversion.type).name, job_variables=values)


def _is_default(block: Block) -> bool:
    """Whether it is what a deployment has whose runs go to a pool of workers."""
    given = (value for key, value in block.data.items() if key not in OF_DOCUMENT)
    is_plain = all(value in (None, {}, [], True) for value in given)
    return block.slug == "process" and not block.name and is_plain


def decide(source: Source, betas: Iterable[Beta] = (), *, exists: Exists) -> Migration:
    """What becomes of everything in ``source`` and in files of the projects beta."""
    blocks = [*source.blocks, *(one.infrastructure for one in source.deployments if one.infrastructure)]
    pools = _Pools({block.name for block in blocks if block.name})
    items: list[Item] = []
    entries: list[Entry] = []
    shared: dict[str, Json] = {}
    for block in source.blocks:
        pools.of_block(block)
    for old in source.deployments:
        account = Account(old.origin)
        item = to_item(old, account, choose=pools.choose, exists=exists)
        item = _sound(item, account)
        items.append(Item(origin=old.origin, item=item))
        entries += account.entries
    for beta in betas:
        for index, given in enumerate(beta.items):
            account = Account(f"{beta.origin}: {given.get('name') or f'item {index + 1}'}")
            for field in given:
                account.carried(field)
            items.append(Item(origin=beta.origin, item=_sound(given, account)))
            entries += account.entries
        account = Account(beta.origin)
        for section, value in beta.shared.items():
            if shared.setdefault(section, value) == value:
                account.carried(section)
            else:
                account.needs_you(section, "another file has it too: write it into the items that need it")
        entries += account.entries
    made = list(pools.made.values())
    return Migration(
        pools=made,
        items=items,
        shared=shared,
        queues=_queues(source.queues, items),
        account=[*pools.entries, *entries],
    )


def _queues(old: list[Queue], items: list[Item]) -> list[Queue]:
    """The queues of the new pools: with the limit and the priority of the old one of that name (row M11)."""
    known = {queue.name: queue for queue in old}
    found: dict[tuple[str, str], Queue] = {}
    for one in items:
        pool = one.item.get("work_pool")
        if not isinstance(pool, dict):
            continue
        name, queue = pool.get("name"), pool.get("work_queue_name")
        if isinstance(name, str) and isinstance(queue, str) and queue:
            found[name, queue] = msgspec.structs.replace(known.get(queue, Queue(name=queue)), pool=name)
    return list(found.values())


def mistakes(item: dict[str, Json]) -> list[str]:
    """What our own checks say about an item."""
    try:
        project = parse_project(dump({"deployments": [item]}))
        project.check()
    except SourceErrors as error:
        return [one.message for one in error.errors]
    return []


def _sound(item: dict[str, Json], account: Account) -> dict[str, Json]:
    """The item without what our own checks refuse; the account says so."""
    found = mistakes(item)
    for key in list(item):
        if not found:
            break
        rest: dict[str, Any] = {name: value for name, value in item.items() if name != key}
        left = mistakes(rest)
        if len(left) < len(found):
            gone = next((one for one in found if one not in left), found[0])
            account.refuse(key, f"it was not carried: {gone}")
            item, found = rest, left
    return item
