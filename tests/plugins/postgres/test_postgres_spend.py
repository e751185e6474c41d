"""Records of spend in PostgreSQL keep what the port promises, whatever happens to the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import psycopg
import pytest
from postgres_servers import Postgres
from spending import ask

from lamella import (
    ConfigurationError,
    Finish,
    Money,
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
from lamella_postgres import PostgresSpend, spend_ddl
from lamella_postgres.__main__ import main
from lamella_postgres._lanes import Lanes
from lamella_postgres._queries import Asked

pytestmark = pytest.mark.anyio

CANARY = "c4n4ry-pass/word"


def records(first: int, count: int = 1) -> list[SpendRecord]:
    """Records of attempts that ended a second after another, of one nano-dollar each."""
    return [
        SpendRecord(id=f"{n}", at=1.79e9 + n, call_id="call", cost=Money(1), user="ada")
        for n in range(first, first + count)
    ]


async def ids(store: PostgresSpend) -> list[str]:
    """All records' ids."""
    return [record.id async for record in store.read(SpendQuery())]


@pytest.fixture
def name(postgres: Postgres, schema: str) -> str:
    """A schema with the table, as SQL has its name."""
    postgres.ask(spend_ddl(schema))
    return f'"{schema}"'


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
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110 - it says nothing by itself
            await anyio.sleep(0.01)


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


# --- what may happen ------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_server_is_started_anew(postgres: Postgres, name: str) -> None:
    """While it is out that is said; afterwards connections are replaced, and nobody notices."""
    async with opened(postgres, name.strip('"')) as store:
        await store.append(records(1))
        postgres.stop()
        try:
            with pytest.raises(StoreUnavailableError, match="refused") as caught:
                await store.append(records(2))
            assert caught.value.outcome is Outcome.NOT_SENT
            assert not (await store.health()).well
            with pytest.raises(StoreUnavailableError):
                store.append_now(records(2))
        finally:
            postgres.start()
        assert await store.append(records(1, 3)) == 2
        postgres.ask(f"SELECT pg_terminate_backend({backends(postgres, name)[0]})")
        assert await store.append(records(1, 4)) == 1
        assert await ids(store) == ["1", "2", "3", "4"]


async def test_an_answer_that_is_lost(postgres: Postgres, name: str) -> None:
    """Whether it was written is not known; what is repeated counts once."""
    function = f"{name}.gone()"
    postgres.ask(
        f"CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; "
        f"CREATE CONSTRAINT TRIGGER gone AFTER INSERT ON {name}.spend "
        f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function}"
    )
    async with opened(postgres, name.strip('"')) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.append(records(1))
        assert caught.value.outcome is Outcome.UNKNOWN
        postgres.ask(f"DROP TRIGGER gone ON {name}.spend")
        assert await store.append(records(1)) == 1
        assert await store.append(records(1)) == 0


async def test_a_server_that_does_not_answer(
    postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for no longer than the timeout, with a loop and without."""
    monkeypatch.setattr("lamella_postgres._session._GRACE", 0.1)
    async with opened(postgres, name.strip('"'), timeout=0.1) as store:
        await store.append(records(1))
        (frozen,) = backends(postgres, name)
        os.kill(frozen, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError, match="no answer in time"):
                await store.append(records(2))
        finally:
            os.kill(frozen, signal.SIGCONT)
        with psycopg.connect(postgres.url) as other:
            other.execute(f"LOCK TABLE {name}.spend".encode())
            for last in (False, True):
                with pytest.raises(StoreUnavailableError, match=r"timeout.*57014") as caught:
                    store.append_now(records(2)) if last else await store.append(records(2))
                assert caught.value.outcome is Outcome.NOT_SENT
        assert await store.append(records(1, 2)) == 1


async def test_a_caller_that_is_cancelled(postgres: Postgres, name: str) -> None:
    """What the server did for it ends, no transaction stays open, and the store goes on."""
    async with opened(postgres, name.strip('"'), connections=1) as store:
        await store.append(records(1))
        with psycopg.connect(postgres.url) as other:
            other.execute(f"LOCK TABLE {name}.spend".encode())
            with anyio.move_on_after(0.05) as scope:
                await store.totals(SpendQuery())
            assert scope.cancelled_caught
            await until(lambda: not backends(postgres, name, "active"))
        assert await store.append(records(1, 2)) == 1
        assert not backends(postgres, name, "idle in transaction")


async def test_a_server_that_answers_a_little_at_a_time(postgres: Postgres, name: str) -> None:
    """It is waited for no longer, either."""
    function = f"{name}.slow()"
    postgres.ask(
        f"CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..150 "
        "LOOP RAISE NOTICE 'yet'; PERFORM pg_sleep(0.02); END LOOP; RETURN NULL; END $$; "
        f"CREATE TRIGGER slow BEFORE INSERT ON {name}.spend EXECUTE FUNCTION {function}"
    )
    async with opened(postgres, name.strip('"'), connections=1) as store:
        with anyio.move_on_after(0.1):
            await store.append(records(1))
        with anyio.fail_after(1.5):
            assert await ids(store) == []


async def test_who_is_cancelled_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their places are others', however long the only lane is at something."""
    monkeypatch.setattr("lamella_postgres._lanes.MOST_WAITING", 1)
    lanes, go = Lanes(1), threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(lanes.ask, lambda _, __: go.wait(), 60)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            with anyio.move_on_after(0.01) as scope:
                await lanes.ask(lambda _, __: None, 60)
            assert scope.cancelled_caught
        go.set()
    await lanes.aclose()


async def test_a_reading_does_not_wait_behind_a_writing(postgres: Postgres, name: str) -> None:
    """There are several connections, as many as are needed, and none once it is closed."""
    async with opened(postgres, name.strip('"')) as store, anyio.create_task_group() as group:
        await store.append(records(1))
        with psycopg.connect(postgres.url) as other:
            other.execute(f"LOCK TABLE {name}.spend IN SHARE MODE".encode())  # against writers
            group.start_soon(store.append, records(2))
            await until(lambda: bool(backends(postgres, name, "active")))
            assert await ids(store) == ["1"]
            assert len(backends(postgres, name)) == 2
    await until(lambda: not backends(postgres, name))


async def test_what_waits_is_bounded(
    postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that wait for the only connection, no more are taken than there is room for."""
    monkeypatch.setattr("lamella_postgres._lanes.MOST_WAITING", 5)
    new: list[int] = []
    refused: list[StoreUnavailableError] = []
    async with opened(postgres, name.strip('"'), connections=1) as store:

        async def append(number: int) -> None:
            try:
                new.append(await store.append(records(number)))
            except StoreUnavailableError as error:
                refused.append(error)

        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(append, number)
        assert new == [1] * 6
        assert {error.outcome for error in refused} == {Outcome.NOT_SENT}
        assert "5 operations wait" in str(refused[0])
        assert len(await ids(store)) == 6


def test_loops_and_threads_share_it(postgres: Postgres, name: str) -> None:
    """Each record is new to one of them, and closing takes nothing from the others."""
    store = PostgresSpend(postgres.url, schema=name.strip('"'), connections=2)

    async def work() -> int:
        new = 0
        for first in range(0, 40, 10):
            new += await store.append(records(first, 15))
            await store.aclose()
        return new

    with ThreadPoolExecutor(4) as pool:
        new = pool.map(lambda backend: anyio.run(work, backend=backend), ("asyncio", "trio") * 2)
        assert sum(new) == 45
    assert store.append_now(records(0, 46)) == 1


async def test_a_row_of_somebody_else(postgres: Postgres, name: str) -> None:
    """It is told of as what it is."""
    async with opened(postgres, name.strip('"')) as store:
        await store.append(records(1))
        postgres.ask(f"UPDATE {name}.spend SET estimated = true")
        with pytest.raises(StoreUnavailableError, match=r"a row of .* is malformed"):
            await ids(store)


PROCESS = """
import atexit, os, sys
import anyio
from lamella import SpendQuery, SpendRecord
from lamella_postgres import PostgresSpend

store = PostgresSpend(sys.argv[1], schema=sys.argv[2])
name = "parent"

def record(number):
    return SpendRecord(id=f"{name} {number}", at=1.79e9, call_id="call")

async def append(number):
    shared = [SpendRecord(id=f"{n}", at=1.79e9, call_id="call") for n in range(100)]
    await store.append([record(number), *shared[:: 1 if name == "parent" else -1]])
    assert (await store.totals(SpendQuery()))[0].attempts > 100

atexit.register(lambda: store.append_now([record(3)]))
anyio.run(append, 1)
child = os.fork()
if child == 0:
    name = "child"
    anyio.run(append, 2, backend="trio")
else:
    anyio.run(append, 2)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_processes_that_share_it_fork_and_end(
    postgres: Postgres, schema: str, tmp_path: Path
) -> None:
    """They append the same records, and each its own, the last ones without a loop."""
    script = tmp_path / "program.py"
    script.write_text(PROCESS)
    subprocess.run(
        [sys.executable, "-W", "ignore", script, postgres.url, schema], check=True, timeout=60
    )
    found = {id_ for (id_,) in postgres.ask(f'SELECT id FROM "{schema}".spend')}
    own = {"parent 1", "parent 2", "parent 3", "child 2", "child 3"}
    assert found == {f"{n}" for n in range(100)} | own
