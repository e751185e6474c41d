"""Stores of spend: the rules of the port, which memory and a file keep alike."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from lamella import (
    ConfigurationError,
    MemorySpend,
    Money,
    SpendQuery,
    SpendRecord,
    SpendTotal,
    SQLiteSpend,
    Usage,
)
from lamella._named_stores import layer_store
from lamella._nothing import NOTHING
from lamella._spend_totals import Calendar
from lamella.testing import check_spend_store

pytestmark = pytest.mark.anyio


async def test_memory_conforms() -> None:
    """Memory keeps every rule of the port."""
    await check_spend_store(MemorySpend)


async def test_sqlite_conforms(tmp_path: Path) -> None:
    """A file keeps every rule of the port."""
    await check_spend_store(lambda: SQLiteSpend(tmp_path / f"{uuid4()}.db"))


class CountsTwice(MemorySpend):
    """Does not know its ids."""

    def append_now(self, records: Sequence[SpendRecord]) -> int:
        return super().append_now([attrs.evolve(each, id=f"{uuid4()}") for each in records])


class KeepsAFew(MemorySpend):
    """Writes what comes before a record that cannot be kept."""

    def append_now(self, records: Sequence[SpendRecord]) -> int:
        return sum(super(KeepsAFew, self).append_now([each]) for each in records)


class KnowsOneZone(MemorySpend):
    """Has all days in UTC."""

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        return await super().totals(attrs.evolve(query, timezone="UTC"))


class CountsTheUnpriced(MemorySpend):
    """Takes what nobody knows for nothing."""

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        return [attrs.evolve(each, unpriced=0) for each in await super().totals(query)]


class ReadsBackwards(MemorySpend):
    """Begins with the newest."""

    async def read(self, query: SpendQuery) -> AsyncIterator[SpendRecord]:
        forwards = super().read(query)
        found = [record async for record in forwards]
        for record in reversed(found):
            yield record


class ForgetsTooMuch(MemorySpend):
    """Takes the instant itself as well."""

    async def forget(self, *, before: float | None = None, where: Any = NOTHING) -> int:
        return await super().forget(before=None if before is None else before + 1, where=where)


class ForgetsEverybody(MemorySpend):
    """Takes no value for any value."""

    async def forget(self, *, before: float | None = None, where: Any = NOTHING) -> int:
        some = {name: value for name, value in where.items() if value}
        return await super().forget(before=before, where=some)


class LeavesTheEmptyOut(MemorySpend):
    """Has no total of nothing."""

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        return [each for each in await super().totals(query) if each.attempts]


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (CountsTwice, "A record comes back as it was appended|An id that is there already"),
        (KeepsAFew, "Records are appended together or not at all"),
        (KnowsOneZone, "Hours, days, weeks and months are those of the time zone"),
        (CountsTheUnpriced, "A total adds up tokens by kind"),
        (ReadsBackwards, "A record comes back|Records are read in order of time"),
        (ForgetsTooMuch, "A reading may be left|What ended before an instant is forgotten"),
        (ForgetsEverybody, "What is one person's, or tenant's"),
        (LeavesTheEmptyOut, "A store without records has one total"),
    ],
)
async def test_a_store_that_breaks_a_rule(broken: type[MemorySpend], rule: str) -> None:
    """It is told which."""
    with pytest.raises(AssertionError, match=rule):
        await check_spend_store(broken)


def record(number: int, **fields: object) -> SpendRecord:
    """A record of an attempt that ended some seconds after the first."""
    given = {"id": f"{number}", "at": 1.79e9 + number, "call_id": "call", **fields}
    return SpendRecord(**given)  # type: ignore[arg-type]


async def test_memory_is_bounded() -> None:
    """The records appended first make room; how many did can be seen."""
    store = MemorySpend(max_records=3)
    assert await store.append([record(number) for number in range(5)]) == 5
    assert [each.id async for each in store.read(SpendQuery())] == ["2", "3", "4"]
    assert store.dropped == 2
    with pytest.raises(ConfigurationError, match="max_records"):
        MemorySpend(max_records=0)


def test_memory_belongs_to_all_threads() -> None:
    """Of records that several threads append, each is new to one of them."""
    store = MemorySpend()
    together = threading.Barrier(4)

    def append(_: int) -> int:
        together.wait()
        return sum(store.append_now([record(number)]) for number in range(300))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(append, range(4))) == 300


async def test_stores_have_names(tmp_path: Path) -> None:
    """A layer is given one by name, with options, or as an object."""
    memory = MemorySpend()
    assert layer_store("Spend", "spend", memory) is memory
    named = {"use": "sqlite", "path": f"{tmp_path / 'spend.db'}"}
    store = layer_store("Spend", "spend", named)
    assert isinstance(store, SQLiteSpend)
    assert await store.append([record(1)]) == 1
    await store.aclose()
    assert isinstance(layer_store("Spend", "spend", "memory"), MemorySpend)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"by": "colour"}, "not recorded by 'colour'.*provider, model.*tag:NAME"),
        ({"by": ("tag:",)}, "not recorded by 'tag:'"),
        ({"by": ("day", "hour")}, "at most one of hour, day, week, month"),
        ({"where": {"day": "2026-01-01"}}, "not recorded by 'day'"),
        ({"where": {"user": 7}}, "user as text, and int is none"),
        ({"since": math.nan}, "since=nan is no instant.*seconds since the epoch"),
        ({"since": 10**20}, "since=10.* is no instant"),
        ({"until": "today"}, "until='today' is no instant"),
        ({"timezone": 1}, "no time zone 1"),
        ({"timezone": "Europe/Nowhere"}, "no time zone 'Europe/Nowhere'.*Europe/Berlin"),
    ],
)
def test_a_query_that_no_store_could_answer(wrong: dict[str, object], says: str) -> None:
    """It is refused when it is made, with what there is instead."""
    with pytest.raises(ConfigurationError, match=f"(?s){says}"):
        SpendQuery(**wrong)  # type: ignore[arg-type]


def test_a_name_by_itself_is_one_name() -> None:
    """What totals are told apart by may be one name, without a tuple around it."""
    assert SpendQuery(by="model") == SpendQuery(by=("model",))


async def test_what_is_refused_names_no_person() -> None:
    """The message says what is wrong, and leaves out what may be about people."""
    with pytest.raises(ValueError, match=r"has user 'bytes'.*a text") as caught:
        await MemorySpend().append([record(1, user=b"Ada Lovelace")])
    assert "Ada" not in str(caught.value)
    with pytest.raises(ValueError, match=r"seconds since the epoch \(and not milliseconds"):
        await MemorySpend().append([record(1, at=1.79e12)])
    costly = record(2, cost=Money(2**63), usage=Usage())
    with pytest.raises(ValueError, match="at most 2"):
        await MemorySpend().append([costly])


@pytest.mark.parametrize("timezone", ["Africa/Casablanca", "Asia/Gaza", "Antarctica/Troll"])
def test_a_calendar_knows_every_change_of_the_clocks(timezone: str) -> None:
    """Zones that change theirs four times a year, or by two hours, included."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    begin, zone = 1_767_225_600, ZoneInfo(timezone)
    calendar = Calendar.of(timezone, begin, begin + 3 * 366 * 86400)
    for at in range(begin, begin + 3 * 366 * 86400, 6 * 3600 + 1799):
        local = datetime.fromtimestamp(at, zone)
        days = (local.date() - datetime(1970, 1, 1, tzinfo=zone).date()).days
        assert calendar.number(at, 3600) == days * 24 + local.hour
