"""A mock server that nothing goes wrong with, and OpenAI's own client of it."""

from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI
from openai_clients import client_of

from lamella.testing import MockServer


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that nothing goes wrong with."""
    async with MockServer(keys=["sk-right"]) as server:
        yield server


@pytest.fixture
async def client(server: MockServer) -> AsyncIterator[AsyncOpenAI]:
    """The official client of that server."""
    async with client_of(server) as client:
        yield client
