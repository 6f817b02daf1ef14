"""The world of orchestration tests, over each kind of database."""

from __future__ import annotations

import pytest
from tests.orchestration.world import World

from eparch.store.database import Database


@pytest.fixture
async def world(database: Database) -> World:
    """A world without anything in it."""
    return World(database)
