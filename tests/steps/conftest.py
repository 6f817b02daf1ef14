"""What the tests of steps need of a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import Server
from tests.steps.keeping import Keeper

from eparch.client.http import Client


@pytest.fixture
def keeper(server: Server) -> Iterator[Keeper]:
    """Saves blocks."""
    with Client(server.api_url) as client:
        yield Keeper(client)
