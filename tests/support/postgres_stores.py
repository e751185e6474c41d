"""Records of spend for stores in PostgreSQL, and what the server says of such a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
from postgres_servers import Postgres

from lamella import (
    Money,
    SpendQuery,
    SpendRecord,
)
from lamella_postgres import PostgresSpend


def records(first: int, count: int = 1) -> list[SpendRecord]:
    """Records of attempts that ended a second after another, of one nano-dollar each."""
    return [
        SpendRecord(id=f"{n}", at=1.79e9 + n, call_id="call", cost=Money(1), user="ada")
        for n in range(first, first + count)
    ]


async def ids(store: PostgresSpend) -> list[str]:
    """All records' ids."""
    return [record.id async for record in store.read(SpendQuery())]


@asynccontextmanager
async def opened(postgres: Postgres, schema: str, **options: Any) -> AsyncIterator[PostgresSpend]:
    """A store that is closed afterwards."""
    url = f"{postgres.url}?application_name={quote(schema.partition(' ')[2])}"
    store = PostgresSpend(url, schema=schema, **options)
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


def backends(postgres: Postgres, name: str, state: str = "%") -> list[int]:
    """The server's processes for a store's connections."""
    mark = name.strip('"').partition(" ")[2]
    found = postgres.ask(
        "SELECT pid FROM pg_stat_activity "
        f"WHERE application_name = '{mark}' AND state LIKE '{state}'"
    )
    return [pid for (pid,) in found]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for the server, which is another process."""
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - it says nothing by itself
            await anyio.sleep(0.01)
