"""Records of spend in PostgreSQL keep what the port promises, and say who may what."""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import psycopg
import pytest
from postgres_servers import Postgres
from postgres_stores import opened, records
from spending import ask

from lamella import (
    ConfigurationError,
    Finish,
    Outcome,
    Pipeline,
    Secret,
    SpendQuery,
    SpendRecord,
    StoreUnavailableError,
    Usage,
)
from lamella._named_stores import layer_store
from lamella.testing import Scripted, check_spend_store
from lamella_middlewares import Spend
from lamella_postgres import PostgresSpend
from lamella_postgres.__main__ import main
from lamella_postgres._queries import Asked

pytestmark = pytest.mark.anyio

CANARY = "c4n4ry-pass/word"


# --- what it keeps ------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_it_conforms(postgres: Postgres) -> None:
    """It keeps every rule of the port, in a schema whose name is hostile."""
    hostile = """od"d '%s {} \\; DROP SCHEMA x"""
    async with opened(postgres, hostile) as store:
        await store.health()

        def make() -> PostgresSpend:
            quoted = hostile.replace('"', '""')
            postgres.ask(f'TRUNCATE "{quoted}".spend')
            return store

        await check_spend_store(make)


async def test_people_may_ask_the_table(postgres: Postgres, schema: str) -> None:
    """It has a column for each field; tags are found by their index."""
    usage = Usage(uncached_input=5, cache_write={"1h": 7}, text_output=3)
    tagged = SpendRecord(id="a", at=1.79e9, call_id="c", usage=usage, tags={"team": "x"}, user="u")
    async with opened(postgres, schema) as store:
        await store.append([tagged])
    columns = "end_user, input_tokens, output_tokens, cache_write ->> '1h', tags ->> 'team'"
    asked = f"SELECT {columns}, ended AT TIME ZONE 'UTC' FROM \"{schema}\".spend"
    (*found, ended) = postgres.ask(asked)[0]
    assert found == ["u", 12, 3, "7", "x"]
    assert ended.isoformat() == "2026-09-21T14:13:20"


async def test_a_text_that_no_index_has_room_for(postgres: Postgres, name: str) -> None:
    """It keeps no other record from being written, and is found all the same; short ones fast."""
    long = "".join(map(str, range(3000)))
    texts: dict[str, Any] = dict.fromkeys(("session", "user", "tenant"), long)
    async with opened(postgres, name.strip('"')) as store:
        one = SpendRecord(id="long", at=1.79e9, call_id="call", **texts, tags={"a": long})
        assert await store.append([one, *records(1)]) == 2
        for key in texts:
            assert [each async for each in store.read(SpendQuery(where={key: long}))] == [one]
            condition = Asked(SpendQuery(where={key: "ada"}), name.strip('"'))._clause()
            asked = f"EXPLAIN SELECT * FROM {name}.spend {condition % repr('ada')}"
            with psycopg.connect(postgres.url, options="-c enable_seqscan=off") as link:
                assert "spend_by_" in str(link.execute(asked.encode()).fetchall())
        assert await store.forget(where={"user": long}) == 1


async def test_it_has_a_name() -> None:
    """A layer is given one as a table; a URL with a password in it is refused, unrepeated."""
    store = layer_store("Spend", "spend", {"use": "postgres", "url": "postgresql:///x"})
    assert isinstance(store, PostgresSpend)
    for url in (
        f"postgresql://ada:{CANARY}@host/db",  # which libpq takes for a port and a database
        f"postgresql://ada:{CANARY.replace('/', '%2F')}@host/db",
        f"postgresql://host/db?password={CANARY.replace('/', '%2F')}",
        f"mysql://ada:{CANARY}@host",
        f"host=here password={CANARY}",
        f"postgresql://host/{CANARY}?no_such_option=1",
    ):
        with pytest.raises(ConfigurationError) as caught:
            PostgresSpend(url)
        assert "c4n4ry" not in "".join(traceback.format_exception(caught.value))
    mistakes: list[dict[str, Any]] = [
        {"schema": "pg_x"},
        {"schema": "a" * 64},
        {"timeout": 0},
        {"connections": 0},
    ]
    for wrong in mistakes:
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            PostgresSpend("postgresql://host", **wrong)


@pytest.mark.parametrize("password", ["1@c4n4ry", "c4n4ry/2", "3/c4n4ry", "4?@c4n4ry", "5%c4n4ry"])
async def test_a_password_that_is_not_encoded(password: str) -> None:
    """What libpq would take for a host, a port or a database is shown nowhere."""
    store = PostgresSpend(Secret.of_value(f"postgresql://ada:{password}@127.0.0.1:1/db"))
    with pytest.raises(ConfigurationError, match="@ is written %40") as caught:
        await store.append(records(1))
    assert "c4n4ry" not in "".join(traceback.format_exception(caught.value)) + repr(store)
    health = await store.health()
    assert not health.well
    assert "c4n4ry" not in repr(health)
    await store.aclose()


async def test_a_pipeline_writes_into_it(postgres: Postgres, name: str) -> None:
    """What the layer `Spend` records is there once the pipeline is closed."""
    spend = Spend(store={"use": "postgres", "url": postgres.url, "schema": name.strip('"')})
    async with Pipeline([spend], Scripted([["yes", Finish("stop")]])) as pipeline:
        await pipeline.run(ask(user="ada"))
        assert (await spend.total(user="ada")).attempts == 1
    assert postgres.ask(f"SELECT end_user, outcome FROM {name}.spend") == [("ada", "complete")]


# --- who begins, and who may ----------------------------------------------------------------------


async def test_many_begin_at_once(postgres: Postgres, schema: str) -> None:
    """Of stores that find no table one makes it; of the same records each is new to one of them."""
    stores = [PostgresSpend(postgres.url, schema=schema, connections=1) for _ in range(4)]
    new: list[int] = []

    async def append(store: PostgresSpend, step: int) -> None:
        new.append(await store.append(records(0, 300)[::step]))

    async with anyio.create_task_group() as group:
        for place, store in enumerate(stores):
            group.start_soon(append, store, (-1) ** place)
    assert sum(new) == 300
    for store in stores:
        await store.aclose()


async def test_a_user_who_may_not_create(
    postgres: Postgres, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names what prints the SQL; once that has run, the user may do all there is."""
    postgres.ask(f"CREATE ROLE \"{schema}\" LOGIN PASSWORD '{CANARY}'")
    password = CANARY.replace("/", "%2F")
    user = schema.replace(" ", "%20")
    url = f"postgresql://{user}:{password}@127.0.0.1:{postgres.port}/postgres"
    store = PostgresSpend(Secret.of_value(url), schema=schema)
    with pytest.raises(StoreUnavailableError, match="permission denied") as caught:
        await store.append(records(1))
    assert "python -m lamella_postgres --schema" in str(caught.value)
    assert main(["--schema", schema, "--role", schema]) == 0
    postgres.ask(capsys.readouterr().out)
    assert await store.append(records(1)) == 1
    assert (await store.totals(SpendQuery()))[0].attempts == 1
    assert await store.forget(before=1.8e9) == 1
    await store.aclose()


@pytest.mark.parametrize("mark", ["of another program", "Lamella: records of spend, format 2"])
async def test_a_table_of_another_format(postgres: Postgres, name: str, mark: str) -> None:
    """It is left as it is, and the error says what to do."""
    postgres.ask(f"COMMENT ON TABLE {name}.spend IS '{mark}'")
    async with opened(postgres, name.strip('"')) as store:
        with pytest.raises(StoreUnavailableError, match="Give another schema, or update"):
            await store.append(records(1))
        assert not (await store.health()).well
    assert postgres.ask(f"SELECT count(*) FROM {name}.spend") == [(0,)]


class Rotating(Secret):
    """A source that has another value once it is told that the first one was refused."""

    values: list[str]

    async def fetch(self, **_: Any) -> str:
        return self.values[0]

    def invalidate(self, value: str | None = None, **_: Any) -> None:
        assert value == self.values.pop(0)


async def test_a_password_that_was_changed(postgres: Postgres, name: str) -> None:
    """Refused, it is asked for again; if that does not help, no word of it is in the error.

    So is one whose user may not log in any more: what the server says is in its own language.
    """
    postgres.ask(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'new {CANARY}'")
    user, password = name.strip('"').replace(" ", "%20"), CANARY.replace("/", "%2F")
    old, new = (
        f"postgresql://{user}:{each}%20{password}@127.0.0.1:{postgres.port}/postgres"
        for each in ("old", "new")
    )
    secret = Rotating("env:UNUSED")
    secret.values = [old, new]
    store = PostgresSpend(secret, schema=name.strip('"'))
    assert await store.append(records(1)) == 1
    await store.aclose()
    quoted = f'{name[:-1]} out"'
    postgres.ask(f"CREATE ROLE {quoted} NOLOGIN PASSWORD 'old {CANARY}'")
    secret.values = [old.replace(user, f"{user}%20out"), new]
    assert await store.append(records(1, 2)) == 1
    await store.aclose()
    secret.values = [old, old]
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        await store.append(records(3))
    assert "See whether host, port, user, password and database" in str(caught.value)
    assert caught.value.outcome is Outcome.NOT_SENT
    with pytest.raises(StoreUnavailableError) as now:
        store.append_now(records(3))
    for error in (caught.value, now.value):
        assert "c4n4ry" not in "".join(traceback.format_exception(error))
    assert "c4n4ry" not in repr(store)


async def test_a_server_without_tls(postgres: Postgres, schema: str) -> None:
    """Where the URL wants it, nothing is said in the clear."""
    store = PostgresSpend(f"{postgres.url}?sslmode=verify-full", schema=schema)
    with pytest.raises(StoreUnavailableError, match="server does not support SSL"):
        await store.append(records(1))
    await store.aclose()
