"""Whatever happens to the server, its callers or its processes: each record is there once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import psycopg
import pytest
from anyio.abc import SocketAttribute, SocketStream
from postgres_servers import Postgres
from postgres_stores import backends, ids, opened, records, until

from lamella import (
    Outcome,
    SpendQuery,
    StoreUnavailableError,
)
from lamella_postgres import PostgresSpend
from lamella_postgres._lanes import Lanes

pytestmark = pytest.mark.anyio

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


@asynccontextmanager
async def cut_after(postgres: Postgres, answers: int) -> AsyncIterator[int]:
    """A port that leads to the server, until it has answered so often; then to it again."""

    async def serve(client: SocketStream) -> None:
        server = await anyio.connect_tcp("127.0.0.1", postgres.port)
        async with client, server, anyio.create_task_group() as both:

            async def answer() -> None:
                nonlocal answers
                async for data in server:
                    answers -= 1
                    if answers == -1:
                        break
                    await client.send(data)
                both.cancel_scope.cancel()

            both.start_soon(answer)
            async for data in client:
                await server.send(data)
            both.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def test_the_connection_is_lost_at_any_step(postgres: Postgres, name: str) -> None:
    """The error says when nothing can have been written; what is appended again counts once."""
    outcomes = list[Outcome | None]()
    while not outcomes or outcomes[-1] is not None:
        outcome, step = None, len(outcomes)
        async with cut_after(postgres, step) as port:
            url = f"postgresql://owner@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"
            store = PostgresSpend(url, schema=name.strip('"'))
            try:
                await store.append(records(step))
            except StoreUnavailableError as error:
                outcome = error.outcome
                found = postgres.ask(f"SELECT id FROM {name}.spend WHERE id = '{step}'")
                assert outcome is Outcome.UNKNOWN or not found
                assert await store.append(records(step)) == 1 - len(found)
            outcomes.append(outcome)
            await store.aclose()
    assert outcomes == [*[Outcome.NOT_SENT] * (len(outcomes) - 2), Outcome.UNKNOWN, None]
    assert len(outcomes) > 5
    assert postgres.ask(f"SELECT count(*) FROM {name}.spend") == [(len(outcomes),)]


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
    async with opened(postgres, name.strip('"'), timeout=60) as store:
        await store.append(records(1))
        (frozen,) = backends(postgres, name)
        store.timeout = 0.1
        os.kill(frozen, signal.SIGSTOP)
        try:
            with monkeypatch.context() as patch:
                patch.setattr("lamella_postgres._session._GRACE", 0.1)
                with pytest.raises(StoreUnavailableError, match="no answer in time"):
                    await store.append(records(2))
        finally:
            os.kill(frozen, signal.SIGCONT)
        # However busy the machine is, the server itself has the time to say what it has stopped.
        monkeypatch.setattr("lamella_postgres._session._GRACE", 60)
        with psycopg.connect(postgres.url) as other:
            other.execute(f"LOCK TABLE {name}.spend".encode())
            for last in (False, True):
                with pytest.raises(StoreUnavailableError, match=r"timeout.*57014") as caught:
                    store.append_now(records(2)) if last else await store.append(records(2))
                assert caught.value.outcome is Outcome.NOT_SENT
        store.timeout = 60
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
        f"CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..9999 "
        "LOOP RAISE NOTICE 'yet'; PERFORM pg_sleep(0.02); END LOOP; RETURN NULL; END $$; "
        f"CREATE TRIGGER slow BEFORE INSERT ON {name}.spend EXECUTE FUNCTION {function}"
    )
    async with opened(postgres, name.strip('"'), connections=1) as store:
        async with anyio.create_task_group() as group:
            group.start_soon(store.append, records(1))
            await until(lambda: bool(backends(postgres, name, "active")))
            group.cancel_scope.cancel()
        with anyio.fail_after(60):  # it would take 200
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

        with psycopg.connect(postgres.url) as other:
            other.execute(f"LOCK TABLE {name}.spend".encode())  # so that the first does not end
            async with anyio.create_task_group() as group:
                for number in range(9):
                    group.start_soon(append, number)
                await until(lambda: len(refused) == 3)
                other.commit()
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
    async with opened(postgres, name.strip('"'), timeout=timedelta(days=99)) as store:
        await store.append(records(1))
        postgres.ask(f"UPDATE {name}.spend SET estimated = true")
        with pytest.raises(StoreUnavailableError, match=r"a row of .* is malformed"):
            await ids(store)
        postgres.ask(f"ALTER TABLE {name}.spend DROP COLUMN tool_units")
        with pytest.raises(StoreUnavailableError, match="not as it was made"):
            await store.append(records(2))


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
        [sys.executable, "-W", "ignore", script, postgres.url, schema], check=True, timeout=100
    )
    found = {id_ for (id_,) in postgres.ask(f'SELECT id FROM "{schema}".spend')}
    own = {"parent 1", "parent 2", "parent 3", "child 2", "child 3"}
    assert found == {f"{n}" for n in range(100)} | own
