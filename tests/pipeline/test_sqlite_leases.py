"""What is counted in a file is what memory would count, and it outlives the process."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlite_stores import Clock, inline

from lamella import Dimension, GuardedLeases, SQLiteLeases, StoreUnavailableError
from lamella._grants import at_once
from lamella._memory_buckets import ticks_up
from lamella._memory_leases import MemoryLeases
from lamella._named_stores import layer_store
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_lease_clock import FileClock
from lamella._sqlite_lease_rows import FORM, LeaseRows
from lamella.testing import check_lease_store

pytestmark = pytest.mark.anyio

_numbers = itertools.count()


def fresh(folder: Path, clock: Clock, **options: Any) -> SQLiteLeases:
    """A store of its own, without a thread."""
    path = folder / f"{next(_numbers)}.sqlite"
    return SQLiteLeases(path, thread=inline, wall=clock, monotonic=clock, **options)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's turn is below
async def test_it_conforms(tmp_path: Path, anyio_backend: str) -> None:
    """Every rule of the port holds, on the machine's clock."""
    clock = Clock()
    await check_lease_store(lambda: fresh(tmp_path, clock), clock.advance)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_it_conforms_in_a_thread(tmp_path: Path, anyio_backend: str) -> None:
    """The same where a thread has the file, and many ask at once."""
    stores = [SQLiteLeases(tmp_path / f"{number}.sqlite") for number in range(40)]
    left = iter(stores)
    await check_lease_store(lambda: next(left))
    for store in stores:
        await store.aclose()


LIMITS = (
    Dimension(("requests",), 0, 5, per=1.0),
    Dimension(("tokens",), 0, 100, per=7.0),
    Dimension(("slots",), 0, 4, held=True),
    Dimension(("money",), 0, 1000),
    Dimension(("images",), 0, 3, per=0.25, held=True),
    Dimension(("day",), 0, 20, keep=0.5),
    Dimension(("day",), 0, 30, keep=2.0),
    Dimension(("day",), 0, 10),
)

WANTED = st.lists(
    st.tuples(st.integers(0, len(LIMITS) - 1), st.floats(0, 1.2)), min_size=1, max_size=3
)
STEPS = st.one_of(
    st.tuples(st.just("reserve"), WANTED, st.sampled_from([0.25, 1.0, 3600.0])),
    st.tuples(st.just("settle"), st.integers(0, 20), st.floats(0, 2)),
    st.tuples(st.just("refund"), st.integers(0, 20), st.none()),
    st.tuples(st.just("renew"), st.integers(0, 20), st.sampled_from([0.25, 5.0])),
    st.tuples(st.just("again"), st.integers(0, 20), st.none()),
    st.tuples(st.just("commit"), st.none(), st.none()),
    st.tuples(
        st.just("wait"), st.sampled_from([0.015625, 0.03125, 0.25, 0.5, 1.5, 9.0]), st.none()
    ),
)


class Twins:
    """The store in memory, and a file whose transactions have several decisions each."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.memory = MemoryLeases(monotonic=self.clock, max_buckets=100)
        clock = FileClock(self.clock, self.clock)
        opens = partial(LeaseRows, clock=clock, remember=10**18)
        self.file = SQLiteFile(path, FORM, opens)
        self.steps: list[Step] = []
        self.expected: list[Any] = []

    def empty(self) -> None:
        """Nothing is left of another run."""
        empty = Step(lambda rows: rows.connection.executescript(EMPTY), alone=True)
        self.file.run([empty])
        assert empty.error is None

    def ask(self, question: str, words: tuple[Any, ...], **more: Any) -> None:
        """Ask memory now, and the file when the transaction is made."""
        self.expected.append(at_once(getattr(self.memory, question)(*words, **more)))
        if "ttl" in more:
            more["life"] = ticks_up(more["ttl"])
        if question == "renew":
            del more["ttl"]
        method = getattr(LeaseRows, question)
        self.steps.append(Step(lambda rows: method(rows, *words, **more), writes=True))

    def commit(self) -> None:
        """Make the transaction: both have said the same."""
        for limit in LIMITS:
            self.ask("level", (limit,))
        self.file.run(self.steps)
        assert [step.error for step in self.steps] == [None] * len(self.steps)
        assert [step.result for step in self.steps] == self.expected
        self.steps, self.expected = [], []


EMPTY = "DELETE FROM leases; DELETE FROM totals; DELETE FROM rates; DELETE FROM clock;"


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example([("reserve", [(0, 0.2)], 3600.0)] * 3 + [("refund", 1, None), ("refund", 0, None)])
@example(
    [
        *[("reserve", [(0, 0.4)], 3600.0)] * 2,
        ("commit", None, None),
        ("wait", 0.5, None),
        ("reserve", [(0, 0.4)], 3600.0),
        ("refund", 1, None),
        ("refund", 0, None),
    ]
)
@given(st.lists(STEPS, min_size=20, max_size=60))
@pytest.mark.parametrize("anyio_backend", [None])
def test_it_counts_as_memory_does(
    tmp_path: Path, anyio_backend: None, steps: list[tuple[str, Any, Any]]
) -> None:
    """However leases overlap, expire, overflow and end, both stores say the same."""
    twins = Twins(tmp_path / "leases.sqlite")
    twins.empty()
    asked: list[tuple[str, tuple[Dimension, ...]]] = []
    for step, what, how in steps:
        if step in {"wait", "commit"}:
            twins.commit()
            twins.clock.advance(what or 0.0)
        elif step == "reserve":
            wanted = tuple([LIMITS[i].want(int(LIMITS[i].capacity * share)) for i, share in what])
            asked.append((str(len(asked)), wanted))
            twins.ask("reserve", asked[-1], ttl=how)
        elif asked:
            lease_id, wanted = asked[what % len(asked)]
            if step == "settle":
                twins.ask("settle", (lease_id, [int(each.amount * how) for each in wanted]))
            elif step == "renew":
                twins.ask("renew", (lease_id,), ttl=how)
            elif step == "refund":
                twins.ask("refund", (lease_id,))
            else:
                twins.ask("reserve", (lease_id, wanted), ttl=1.0)
    twins.commit()
    with twins.file.lock:
        twins.file.close_held()


async def test_what_was_spent_outlives_the_process(tmp_path: Path) -> None:
    """Another store on the file goes on: it knows what is out, and ends what the first reserved."""
    clock, limit = Clock(), Dimension(("budget",), 60, 100)
    one = fresh(tmp_path, clock)
    assert (await one.reserve("x", [limit], ttl=60.0)).remaining == (40,)
    await one.aclose()
    other = SQLiteLeases(one.path, thread=inline, wall=clock, monotonic=clock)
    assert not (await other.reserve("y", [limit], ttl=60.0)).granted
    assert await other.settle("x", [30])
    assert await other.level(limit) == 70
    await other.aclose()


async def test_the_leases_of_the_dead_expire(tmp_path: Path) -> None:
    """What nobody renews comes back, whoever asks next; what was settled stays."""
    clock, place = Clock(), Dimension(("places",), 1, 1, held=True)
    dead = fresh(tmp_path, clock)
    await dead.reserve("dead", [place], ttl=30.0)
    store = SQLiteLeases(dead.path, thread=inline, wall=clock, monotonic=clock)
    assert not (await store.reserve("a", [place], ttl=30.0)).granted
    clock.advance(30.0)
    assert (await store.reserve("a", [place], ttl=30.0)).granted
    assert not await dead.settle("dead", [1])
    await store.aclose()
    await dead.aclose()


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, step: float) -> None:
    """Nothing expires, flows back or stands still for it, also in processes that come later."""
    wall, passed = Clock(), Clock(0.0)
    rate, place = Dimension(("rate",), 10, 10, per=10.0), Dimension(("place",), 1, 1, held=True)

    def store_of(path: Path) -> SQLiteLeases:
        return SQLiteLeases(path, thread=inline, wall=wall, monotonic=passed)

    path = tmp_path / "leases.sqlite"
    one, other = store_of(path), store_of(path)
    assert (await one.reserve("a", [rate, place], ttl=30.0)).granted
    assert await other.level(rate) == 0
    wall.advance(step)
    assert await one.level(rate) == 0
    later = store_of(path)
    for store in (one, other, later):
        assert [await store.level(each) for each in (rate, place)] == [0, 0]
    for clock in (wall, passed):
        clock.advance(2.0)
    for store in (one, other, later):
        assert [await store.level(each) for each in (rate, place)] == [2, 0]
        assert await store.now() == wall()
    passed.advance(28.0)
    assert await later.level(place) == 1
    for store in (one, other, later):
        await store.aclose()


async def test_time_goes_on_between_processes(tmp_path: Path) -> None:
    """While nobody uses the file the machine's clock says what has passed; it never goes back."""
    rate = Dimension(("rate",), 10, 10, per=10.0)
    path = tmp_path / "leases.sqlite"
    for seconds, left in ((0.0, 0), (4.0, 4), (-3600.0, 4)):
        clock = Clock(1_700_000_000.0 + seconds)
        store = SQLiteLeases(path, thread=inline, wall=clock, monotonic=lambda: 0.0)
        if not seconds:
            await store.reserve("a", [rate], ttl=9.0e5)
        assert await store.level(rate) == left
        await store.aclose()


async def test_what_was_settled_survives_a_loss_of_power(tmp_path: Path) -> None:
    """The disk is asked to keep what was spent, and nothing that comes back by itself."""
    store, limit = fresh(tmp_path, Clock()), Dimension(("money",), 5, 10)

    def synchronous() -> int:
        contents: Any = store._file._contents
        level: int = contents.connection.execute("PRAGMA synchronous").fetchone()[0]
        return level

    levels = []
    for asked in (
        store.reserve("a", [limit], ttl=60.0),
        store.settle("a", [5]),
        store.renew("a", ttl=60.0),
        store.refund("a"),
    ):
        await asked
        levels.append(synchronous())
    normal, full = 1, 2
    assert levels == [normal, full, normal, normal]
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", [None])
def test_much_that_is_over_at_once_goes_bit_by_bit(tmp_path: Path, anyio_backend: None) -> None:
    """However much there is, no decision waits until it is gone, and soon it is."""
    clock = Clock()
    opens = partial(LeaseRows, clock=FileClock(clock, clock), remember=10**9)
    file = SQLiteFile(tmp_path / "leases.sqlite", FORM, opens)
    days = [Dimension((f"day {number}",), 1, 10, keep=60.0) for number in range(700)]

    def run(*work: Callable[[LeaseRows], Any]) -> list[Any]:
        steps = [Step(each, writes=True) for each in work]
        file.run(steps)
        assert {step.error for step in steps} == {None}
        return [step.result for step in steps]

    def spent(rows: LeaseRows, day: Dimension) -> None:
        rows.reserve(day.key[0], (day,), 60.0, 60 * 10**9)
        rows.settle(day.key[0], [1])

    def left(rows: LeaseRows) -> tuple[int, ...]:
        sizes = "SELECT (SELECT count(*) FROM leases), (SELECT count(*) FROM totals)"
        found: tuple[int, ...] = rows.connection.execute(sizes).fetchone()
        return found

    run(*[partial(spent, day=day) for day in days])
    clock.advance(3600.0)
    assert run(left) == [(200, 200)]
    assert run(*[partial(LeaseRows.level, dimension=day) for day in days]) == [10] * 700
    assert run(lambda rows: rows.settle("day 699", [1])) == [False]
    assert run(left) == [(0, 0)]
    with file.lock:
        file.close_held()


async def test_what_is_over_leaves_the_file(tmp_path: Path) -> None:
    """Ended leases, full rates and totals whose time is over are forgotten; nothing else is."""
    clock = Clock()
    store = fresh(tmp_path, clock, remember=10.0)
    lasting = [Dimension(("slow",), 5, 10, per=86_400.0), Dimension(("sum",), 5, 10)]
    await store.reserve("lasting", lasting, ttl=30.0)
    await store.settle("lasting", [5, 5])
    for number in range(20):
        limits = [
            Dimension((f"day {number}",), 1, 10, keep=60.0),
            Dimension((f"rate {number}",), 1, 10, per=60.0),
            Dimension((f"places {number}",), 1, 10, held=True),
        ]
        await store.reserve(str(number), limits, ttl=30.0)
        await store.settle(str(number), [1, 1, 1])
    clock.advance(3600.0)
    await store.level(Dimension(("other",), 0, 1))
    contents: Any = store._file._contents
    counts = [
        contents.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("leases", "totals", "rates")
    ]
    assert counts == [0, 1, 1]
    assert [await store.level(each) for each in lasting] == [5, 5]
    await store.aclose()


async def test_what_it_cannot_count_is_refused(tmp_path: Path) -> None:
    """Beyond what the file counts there is an error that says what to do."""
    store = fresh(tmp_path, Clock())
    with pytest.raises(ValueError, match="count in larger units"):
        await store.reserve("a", [Dimension(("acme", "sum"), 1, 2**63)], ttl=1.0)
    most = 2**63 - 1
    await store.reserve("a", [Dimension(("sum",), most, most)], ttl=60.0)
    await store.settle("a", [2**70])
    assert await store.level(Dimension(("sum",), 0, most)) == 0
    await store.aclose()


async def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """What is no such file raises, with what to do, and keeps its bytes."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    store = SQLiteLeases(path, thread=inline)
    with pytest.raises(StoreUnavailableError, match="cannot be used"):
        await store.level(Dimension(("a",), 0, 1))
    assert not (await store.health()).well
    assert path.read_text() == "not a database " * 100


async def test_it_has_a_name(tmp_path: Path) -> None:
    """By name it comes guarded, and refuses while its file cannot be used."""
    given = {"use": "sqlite", "path": str(tmp_path / "leases.sqlite")}
    store = layer_store("Budget", "leases", given)
    assert isinstance(store, GuardedLeases)
    assert (store.outage, type(store.store)) == ("deny", SQLiteLeases)
    await store.aclose()


PROGRAM = """
import sys
import anyio
import attrs
from lamella import Dimension, SQLiteLeases


async def main():
    store = SQLiteLeases(sys.argv[1])
    # However long the other has it: a busy machine may let it stand still in the middle.
    store._file.form = attrs.evolve(store._file.form, patience=60.0)
    rate, money = Dimension(("rate",), 1, 200, per=86400.0), Dimension(("money",), 10, 1000)
    await store.level(rate)
    print("ready", flush=True)
    sys.stdin.readline()
    granted = 0

    async def spend(number):
        nonlocal granted
        lease_id = sys.argv[2] + str(number)
        if (await store.reserve(lease_id, [rate, money], ttl=60.0)).granted:
            granted += 1
            await store.settle(lease_id, [1, 10])

    async with anyio.create_task_group() as group:
        for number in range(80):
            group.start_soon(spend, number)
    print(granted, flush=True)
    if sys.argv[2] == "dies":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


def started(path: Path, name: str) -> subprocess.Popen[str]:
    """A process that spends what is in the file, once it is told to."""
    command = [sys.executable, "-c", PROGRAM, str(path), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_processes_share_a_file(tmp_path: Path, anyio_backend: str) -> None:
    """Two processes at once, one of which is killed, spend a budget to the last unit, no more."""
    path = tmp_path / "leases.sqlite"
    programs = [started(path, name) for name in ("lives", "dies")]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    granted = [int(program.communicate(timeout=60)[0]) for program in programs]
    assert sum(granted) == 100
    store = SQLiteLeases(path)
    assert await store.level(Dimension(("money",), 0, 1000)) == 0
    await store.aclose()
