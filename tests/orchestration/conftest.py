"""The world of orchestration tests, over each kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.orchestration.world import World

from eparch.store.database import Database, open_database


@pytest.fixture
async def world(database: Database) -> World:
    """A world without anything in it."""
    return World(database)


@pytest.fixture
async def memory(anyio_backend: str) -> AsyncIterator[World]:
    """A world in memory, for what no dialect writes differently."""
    database = await open_database("sqlite://")
    yield World(database)
    await database.close()
