"""Fixtures of the client's contract suite."""

import asyncio

import pytest

from eparch.client.http import AsyncClient, Client
from eparch.client.retries import Retries

from .misbehaving import Misbehaving

FAST = Retries(attempts=3, first=0.001, most=0.002, total=5)


@pytest.fixture
def server():
    server = Misbehaving()
    yield server
    server.close()


@pytest.fixture(params=["sync", "async"])
def send(request, server):
    """Sends a call through each of the two clients."""
    clients = []

    def sender(call, *, url=None, **options):
        key = (url, tuple(sorted(options)))
        client = next((c for k, c in clients if k == key), None)
        if client is None:
            client = Client(url or server.url, **{"retries": FAST, "timeout": 5.0, **options})
            clients.append((key, client))
        if request.param == "sync":
            return client.send(call)
        return asyncio.run(AsyncClient(client).send(call))

    yield sender
    for _, client in clients:
        client.close()
