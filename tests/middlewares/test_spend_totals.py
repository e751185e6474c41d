"""Spend in code: what it amounts to, and how the layer is made."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import anyio
import pytest
from spending import ANSWER, FaultySpend, ask, spending

from lamella import (
    ConfigurationError,
    Money,
    Pipeline,
    SpendQuery,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.spend import Spend

pytestmark = pytest.mark.anyio

COST = Money.of("0.0018")


async def test_totals_read_what_was_just_written() -> None:
    """By session, user, tag, time; what waits is written first."""
    spend = Spend(store=FaultySpend())
    async with spending([spend], Scripted([ANSWER] * 4)) as pipe:
        await pipe.run(ask(session="s-1", user="ada", tags={"team": "web"}))
        await pipe.run(ask(session="s-1", user="bob"))
        later = dt.datetime.fromtimestamp(pipe.ports.wall() + 60, dt.UTC)
        await anyio.sleep(120)
        await pipe.run(ask(session="s-2", user="bob"))
        assert (await spend.total()).cost == COST * 3
        assert (await spend.total(session="s-1")).cost == COST * 2
        assert (await spend.total(session="s-1", user="bob")).input_tokens == 1000
        assert (await spend.total(tags={"team": "web"})).attempts == 1
        with pytest.raises(ConfigurationError, match=r'tags=\{"team"'):
            await spend.total(tags="team")  # type: ignore[arg-type]
        assert (await spend.total(until=later)).attempts == 2
        assert (await spend.total(since=later)).attempts == 1
        assert (await spend.total(user="nobody")).cost == Money(0)
        totals = await spend.totals(SpendQuery(by=("user",)))
        assert [(total.group, total.cost) for total in totals] == [
            (("ada",), COST),
            (("bob",), COST * 2),
        ]
        query = SpendQuery(where={"user": "ada"})
        assert [record.session async for record in spend.records(query)] == ["s-1"]
        assert await spend.forget(user="bob", before=later) == 1
        await pipe.run(ask(user="ada"))
        assert await spend.forget(user="ada") == 2  # the one that waited as well
        with pytest.raises(ValueError, match="nothing says which"):
            await spend.forget(user=None)
        assert [record.user async for record in spend.records()] == ["bob"]


async def test_several_currencies_are_never_one_amount() -> None:
    """`costs` has each."""
    from lamella_middlewares.cost import Cost

    spend = Spend(store=FaultySpend())
    euros = {"e": {"input": "1", "output": "4", "currency": "EUR"}}
    dollars = spending([spend], Scripted([ANSWER]))
    await dollars.run(ask())
    await Pipeline([spend, Cost(euros)], Scripted([ANSWER]), ports=virtual_ports(seed=1)).run(
        ask("e")
    )
    total = await spend.total()
    assert total.cost is None
    assert total.costs == {"EUR": Money(COST.nano, "EUR"), "USD": COST}


async def test_what_is_not_recorded_cannot_be_asked_for() -> None:
    """A misspelt name is an error that says the names, and a local time is no instant."""
    spend = Spend(store=FaultySpend())
    with pytest.raises(ConfigurationError, match=r"not recorded by 'usr'.*session"):
        await spend.total(usr="ada")
    with pytest.raises(ConfigurationError, match="no time zone"):
        await spend.total(since=dt.datetime(2026, 11, 1))  # noqa: DTZ001 - that is the mistake


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": ""}, "the path of a file"),
        ({"path": "/no/such/folder/spend.db"}, r"^Spend\(path='/no/such/folder/spend.db'\): give"),
        ({"path": Path("here.db"), "store": FaultySpend()}, "a path or a store"),
        ({"store": "nowhere"}, "nowhere"),
        ({"store": FaultySpend}, "class FaultySpend"),
        ({"category": 5}, "a word, a plain function"),
        ({"category": anyio.sleep}, "a word, a plain function"),
        ({"flush_interval": -1}, "0 or more"),
        ({"batch": 0}, "1 or more"),
        ({"max_pending": 0}, "1 or more"),
        ({"keep_days": 0}, "1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    """At once, in a sentence that says what to give."""
    with pytest.raises(ConfigurationError, match=words):
        Spend(**options)


async def test_layers_with_one_store_share_what_waits() -> None:
    """Whoever closes first writes for all, and the last one closes the store."""
    store = FaultySpend()
    one, two = Spend(store=store), Spend(store=store)
    first = spending([one], Scripted([ANSWER]))
    second = spending([two], Scripted([ANSWER]), seed=1)
    await first.run(ask())
    await second.run(ask())
    assert one.health().detail["pending"] == two.health().detail["pending"] == 2
    await first.aclose()
    assert store.closed == 0
    assert two.health().detail["pending"] == 0
    await second.aclose()
    assert store.closed == 1
    assert len(await store.kept()) == 2
