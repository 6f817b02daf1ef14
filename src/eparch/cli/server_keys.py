"""``eparch server rotate-keys``: a new key for the secrets of blocks (ADR 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from eparch.cli.commands import Command
from eparch.cli.session import Session
from eparch.core.errors import Conflict, Usage

if TYPE_CHECKING:
    from eparch.orchestration.sealing import Keyring
    from eparch.settings import Settings
    from eparch.store.database import Database

BATCH = 100
"""Documents that are sealed in one transaction."""


@click.command(
    "rotate-keys",
    cls=Command,
    example="eparch server rotate-keys\neparch server rotate-keys --resume --forget",
)
@click.option("--resume", is_flag=True, help="Go on with a rotation: make no new key.")
@click.option("--forget", is_flag=True, help="Delete the keys of the key file that seal nothing any more.")
@click.pass_obj
def rotate_keys(session: Session, resume: bool, forget: bool) -> None:
    """Make a new key and seal every block with it.

    Run it where the server runs, with the server's settings; the server may go on. If it is stopped, go on
    with --resume. With EPARCH_SERVER_ENCRYPTION_KEYS, write the new key before the old ones and start the
    servers anew; then this seals with the first key of the setting.
    """
    import asyncio

    result = asyncio.run(_rotate(session.settings, resume, forget))
    session.note(f"Sealed {result['sealed']} blocks with the key {result['key']}; keys: {result['place']}.")
    for name in result["forgotten"]:
        session.note(f"Forgot the key {name}.")
    session.output.made(result, name=lambda found: found["key"])
    if result["unopened"]:
        raise Conflict(
            f"{len(result['unopened'])} blocks could not be opened and are as they were.",
            why=" ".join(result["unopened"][:10]),
            fix="Add the keys that sealed them behind the others: eparch server rotate-keys --resume",
        )


async def _rotate(settings: Settings, resume: bool, forget: bool) -> dict[str, Any]:
    from eparch.orchestration import keys
    from eparch.store.blocks import read_keys_in_use
    from eparch.store.database import open_database

    path = keys.key_path(settings.database_url, settings.home)
    given = settings.server_encryption_keys
    if path is None and not given:
        raise Usage("A database in memory has nothing to seal anew.", fix="Set EPARCH_DATABASE_URL.")
    file = keys.KeyFile(path) if path is not None and not given else None
    if forget and file is None:
        raise Usage("--forget is for key files.", fix=f"Delete old keys from {keys.SETTING} yourself.")
    database = await open_database(settings.database_url)
    try:
        if file is not None and not resume:
            file.add()
        ring = keys.open_keyring(given, settings.database_url, settings.home)
        sealed, unopened = await _reseal(database, ring)
        in_use = await database.read(read_keys_in_use)
        forgotten = file.keep(in_use) if file is not None and forget else []
        return {
            "key": ring.first(),
            "place": ring.place,
            "sealed": sealed,
            "unopened": unopened,
            "forgotten": forgotten,
        }
    finally:
        await database.close()


async def _reseal(database: Database, ring: Keyring) -> tuple[int, list[str]]:
    from eparch.orchestration.blocks import reseal

    after: UUID | None = UUID(int=0)
    sealed, unopened = 0, []
    while after is not None:
        count, after, failed = await database.write(reseal, ring, after, BATCH)
        sealed += count
        unopened += failed
    return sealed, unopened
