"""One PostgreSQL for all tests of this folder, which are left out where there can be none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgres_servers import Postgres

collect_ignore_glob: list[str] = []
missing = False
try:
    import psycopg  # noqa: F401
    from postgres_servers import installed

    import lamella_postgres  # noqa: F401 - is it there?

    missing = installed() is None
    if missing:
        collect_ignore_glob.append("test_*.py")
except ImportError:
    collect_ignore_glob.append("test_*.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that nothing was tested."""
    if missing:
        terminalreporter.write_line(
            "NO PostgreSQL here, neither a wheel's nor one on PATH: its tests are LEFT OUT.",
            red=True,
        )


_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server; each test takes a schema of its own."""
    from postgres_servers import Postgres

    server = Postgres()
    yield server
    server.end()


@pytest.fixture
def schema() -> str:
    """A schema that nobody else uses."""
    return f"spend {next(_numbers)}"


@pytest.fixture
def name(postgres: Postgres, schema: str) -> str:
    """A schema with the table, as SQL has its name."""
    from lamella_postgres import spend_ddl

    postgres.ask(spend_ddl(schema))
    return f'"{schema}"'
