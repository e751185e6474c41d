"""Records of spend in a file, beside memory, which has to say the same."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lamella import MemorySpend, Money, SpendQuery, SpendRecord, SQLiteSpend, Usage
from lamella._spend_records import FIELDS, TIMES

T = TypeVar("T")

WORDS = st.sampled_from([None, "", "a", "A", "ä", "a'b\"c", "\ud800", "\0", "%", "\U0001f600"])
NAMES = st.sampled_from(["t", "a.b", 'q"', "\\", "", "ключ", "\ud800"])
NANO = st.sampled_from([0, 1, -1, 2**31, 2**32, -(2**40) - 1, 2**63 - 1, -(2**63) + 1])
INSTANTS = st.one_of(
    st.integers(0, 30).map(lambda number: 1_790_000_000 + number / 4),
    st.floats(0, 7.2e9),
    st.integers(-8, 8).map(lambda number: 1_792_890_000.0 + 900 * number),  # clocks go back
)
USAGES = st.builds(
    Usage,
    st.integers(0, 10**12),
    cache_read=st.integers(0, 9),
    cache_write=st.dictionaries(WORDS.map(str), st.integers(0, 9), max_size=2),
    reasoning_output=st.integers(0, 9),
    tool_units=st.dictionaries(WORDS.map(str), st.integers(0, 9), max_size=2),
    estimated=st.booleans(),
)
RECORDS = st.builds(
    SpendRecord,
    id=st.integers(0, 40).map(str),
    at=INSTANTS,
    call_id=st.just("call"),
    model=WORDS,
    category=WORDS.map(lambda word: word or ""),
    user=WORDS,
    session=WORDS,
    tags=st.dictionaries(NAMES, WORDS.map(lambda word: word or ""), max_size=2),
    time_to_first_event=st.one_of(st.none(), st.floats(0, 9)),
    usage=st.one_of(st.none(), USAGES),
    cost=st.one_of(st.none(), st.builds(Money, NANO, st.sampled_from(["USD", "EUR"]))),
)
TOLD_BY = st.one_of(
    st.sampled_from(["model", "category", "user", "session", "currency", *FIELDS]),
    NAMES.filter(bool).map(lambda name: f"tag:{name}"),
)
SPANS = st.one_of(st.none(), INSTANTS)
QUERIES = st.builds(
    SpendQuery,
    since=SPANS,
    until=SPANS,
    where=st.dictionaries(TOLD_BY, st.one_of(WORDS, st.sampled_from(["USD", "chat"])), max_size=2),
    by=st.tuples(st.lists(TOLD_BY, max_size=2), st.lists(st.sampled_from(TIMES), max_size=1)).map(
        lambda both: (*both[0], *both[1])
    ),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]),
)


class Spend(RuleBasedStateMachine):
    """A file and memory, of which the same is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.model = MemorySpend()
        self.store = self.make()

    def make(self) -> SQLiteSpend:
        async def inline(function: Any, /, *args: Any) -> Any:
            return function(*args)

        return SQLiteSpend(self.folder / "spend.db", thread=inline)

    def run(self, operation: Coroutine[Any, Any, T]) -> T:
        """Its answer, on the machine's event loop."""
        return self.loop.run(operation)

    @rule(records=st.lists(RECORDS, min_size=1, max_size=12), now=st.booleans())
    def append(self, records: list[SpendRecord], *, now: bool) -> None:
        """Both say how many were new."""
        new = self.run(self.model.append(records))
        assert new == (
            self.store.append_now(records) if now else self.run(self.store.append(records))
        )

    @rule(before=INSTANTS, where=st.just({}) | st.dictionaries(TOLD_BY, WORDS, max_size=2))
    def forget(self, before: float, where: dict[str, str | None]) -> None:
        """Both say how many were forgotten."""
        some: dict[str, Any] = {"before": before, "where": where}
        if any(where.values()) and before % 2 < 1:
            del some["before"]
        assert self.run(self.store.forget(**some)) == self.run(self.model.forget(**some))

    @rule(queries=st.lists(QUERIES, min_size=1, max_size=6))
    def ask(self, queries: list[SpendQuery]) -> None:
        """Both add up and read the same."""
        for query in queries:
            assert self.run(self.store.totals(query)) == self.run(self.model.totals(query))
            assert self.run(read(self.store, query)) == self.run(read(self.model, query))

    @rule()
    def close(self) -> None:
        """A file that was closed is opened by another store."""
        self.run(self.store.aclose())
        self.store = self.make()

    @invariant()
    def all_is_there(self) -> None:
        """Nothing is lost, and nothing changed."""
        whole = SpendQuery()
        assert self.run(read(self.store, whole)) == self.run(read(self.model, whole))

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


async def read(store: MemorySpend | SQLiteSpend, query: SpendQuery) -> list[SpendRecord]:
    """The records that a query asks for."""
    return [record async for record in store.read(query)]


TestSpend = Spend.TestCase
TestSpend.settings = settings(max_examples=10, stateful_step_count=8, deadline=None)
