"""Fixtures for testing what is built on Lamella; pytest finds them by itself.

Nothing is imported before a fixture is asked for, and no fixture is used unless a test names it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lamella import Ports
    from lamella.testing import MockServer, Scripted


@pytest.fixture(params=["asyncio", "trio"])
def lamella_virtual_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each installed event loop in virtual time, as anyio's `anyio_backend` fixture has it.

    Use it for a whole module or project::

        @pytest.fixture
        def anyio_backend(lamella_virtual_backend):
            return lamella_virtual_backend
    """
    from lamella.testing import virtual_backend

    name: str = request.param
    if name == "trio":
        pytest.importorskip("trio")
    return virtual_backend(name)


@pytest.fixture
def lamella_ports() -> Ports:
    """Ports on the running loop's clock, with seeded chance and stores of their own."""
    from lamella.testing import virtual_ports

    return virtual_ports()


@pytest.fixture
def scripted() -> Callable[..., Scripted]:
    """Makes transports that answer from a script: `scripted(["Hello."])`. See `Scripted`."""
    from lamella.testing import Scripted

    return Scripted


@pytest.fixture
async def mock_server(anyio_backend: object) -> AsyncIterator[MockServer]:  # noqa: ARG001
    """A provider on the loopback that speaks OpenAI's and Azure's endpoints, without faults.

    Only for tests that anyio's plugin runs; it lives on their event loop.
    """
    from lamella.testing import MockServer

    async with MockServer() as server:
        yield server
