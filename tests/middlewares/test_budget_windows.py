"""Budgets over time: when they start anew, what is set while they run, what is told of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import anyio
import attrs
import pytest
from budget_shop import PRICES, Shop, answer, levels

from lamella import (
    ConfigurationError,
    Money,
    Pipeline,
    RefusedError,
)
from lamella._memory_stores import memory_stores
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Budget, Cost
from lamella_middlewares.budget import Allowance, BudgetNotice

pytestmark = pytest.mark.anyio


async def test_it_starts_anew_at_midnight_in_its_zone() -> None:
    """A day ends at midnight in the time zone, and the refusal says when."""
    shop = Shop(Budget(requests=1, window="day", timezone="Europe/Berlin"))  # 01:00 there
    for _ in range(2):
        await shop.ask()
    (error,) = shop.refused
    assert error.retry_after == 23 * 3600
    assert error.resets_at == dt.datetime(2025, 1, 1, 23, tzinfo=dt.UTC).timestamp()
    await anyio.sleep(error.retry_after - 1)
    await shop.ask()
    assert len(shop.refused) == 2
    await anyio.sleep(1)
    await shop.ask()
    assert shop.sent == 2


async def test_what_straddles_the_edge_is_settled_where_it_was_reserved() -> None:
    """An answer that ends in the next window is charged to the one it began in."""
    shop = Shop(Budget("0.10", window="minute"), delay=40)
    await anyio.sleep(30)
    await shop.ask()  # until 70
    assert (await shop.level()).spent == Money(0)
    await shop.ask()
    assert shop.refused == []


async def test_a_clock_that_jumps_gives_no_second_helping() -> None:
    """After a step back of an hour what was spent in that hour is still spent."""
    ports, shift = virtual_ports(), 0.0
    stores = memory_stores(monotonic=ports.monotonic, wall=lambda: ports.wall() + shift)
    ports = attrs.evolve(ports, stores=stores)
    shop = Shop(Budget(requests=1, window="hour"), ports=ports)
    await shop.ask()
    shift = 3600.0
    await shop.ask()
    shift = 0.0
    await shop.ask()
    assert (shop.sent, len(shop.refused)) == (2, 1)


# --- other amounts, thresholds -------------------------------------------------------------------


async def test_a_raised_amount_keeps_what_was_spent() -> None:
    """Another amount holds at once, for its scope only; None takes the layer's again."""
    shop = Shop(Budget("0.10", per="user"))
    await shop.ask(user="ann")
    await shop.budget.set_limit(shop.pipeline, "0.30", {"user": "ann"})
    for user in ("ann", "ann", "ann", "bob", "bob"):
        await shop.ask(user=user)
    assert shop.sent == 4
    (level,) = await shop.budget.overridden(shop.pipeline)
    assert (level.spent, level.limit, level.overridden) == (
        Money.of("0.30"),
        Money.of("0.30"),
        True,
    )
    assert await shop.budget.set_limit(shop.pipeline, None, {"user": "ann"})
    assert (await shop.level(user="ann")).left == Money.of("-0.20")


async def test_another_amount_of_another_process_is_seen_soon() -> None:
    """What somebody else has put into the store holds here within seconds, and rubbish does not."""
    shop = Shop(Budget(requests=1, refresh=5))
    await shop.ask()
    local = attrs.evolve(shop.ports.stores, local=virtual_ports().stores.local)
    elsewhere = attrs.evolve(shop.ports, stores=local)
    await shop.budget.set_limit(elsewhere, 2)
    await shop.ports.stores.blobs.put("rubbish", b"[", tags=frozenset({"budget:shared"}))
    await shop.ask()
    assert len(shop.refused) == 1
    await anyio.sleep(5)
    await shop.ask()
    assert len(shop.refused) == 1


@pytest.mark.parametrize(
    ("amount", "scope", "message"),
    [
        ("5", None, 'this NoneType has not.*{"user": "a"}'),
        ("5", "user=a", "a scope has a text for each name, and this str has not"),
        ("5", {"user": 5}, "this dict has not"),
        (5.5, {"user": "a"}, "5.5 is no amount of USD. Give text such as"),
        ("2.5", {}, "'2.5' is no number of requests. Give a whole number"),
    ],
)
async def test_another_amount_is_checked(amount: Any, scope: Any, message: str) -> None:
    """What is wrong is told in the words of who calls, and with the form that is right."""
    shop = Shop(Budget("1", per="user", limits=[Allowance(requests=9)]))
    with pytest.raises(ConfigurationError, match=message):
        await shop.budget.set_limit(shop.pipeline, amount, scope)
    with pytest.raises(ConfigurationError, match="a scope has a text"):
        await levels(shop.budget, shop.pipeline, {"user": 5})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]


async def test_the_log_names_no_person(caplog: pytest.LogCaptureFixture) -> None:
    """A threshold's line says whose it is by tenant, provider and model; not by user or tag."""
    shop = Shop(Budget(requests=2, per=("tenant", "user", "tag:team")))
    await shop.ask(tenant="acme", user="ann@example.com", tags={"team": "anns"})
    assert "per tenant and user and tag:team (tenant='acme')." in caplog.text
    assert "ann" not in caplog.text


async def test_two_of_one_namespace_are_one_count() -> None:
    """It is charged once, the smaller amount holds, and there must be room for two reservations."""
    small, large = Budget("0.30"), Budget("1")
    for inner, outer, sent in ((small, large, 2), (large, small, 3)):
        shop = Shop(inner, outer)
        for _ in range(5):
            await shop.ask()
        assert (shop.sent, str((await shop.level()).spent)) == (sent, f"$0.{sent}")


async def test_prices_in_another_currency_are_told() -> None:
    """A budget in euros counts no dollars: the error names both ways out."""
    with pytest.raises(RefusedError, match=r"billed in USD.*give the budget in USD"):
        await Shop(Budget("1", currency="EUR")).ask()


async def test_thresholds_are_told_once() -> None:
    """Once for each scope, window and share, by whichever pipeline gets there first."""
    told: list[Any] = []

    def tell(notice: BudgetNotice) -> None:
        told.append(notice)
        raise RuntimeError("a callback that fails harms nobody")

    ports = virtual_ports()
    one = Shop(Budget(requests=4, per="user", window="day", on_threshold=tell), ports=ports)
    other = Shop(Budget(requests=4, per="user", window="day", on_threshold=tell), ports=ports)
    for shop in (one, other, one, other, one, other):
        await shop.ask(user="ann")
    assert [(notice.share, notice.spent) for notice in told] == [(0.5, 2), (0.8, 4), (1.0, 4)]
    assert told[0].scope == {"user": "ann"}
    await anyio.sleep(86_400)
    for _ in range(2):
        await one.ask(user="ann")
    assert [notice.share for notice in told[3:]] == [0.5]
    assert told[3].resets_at == told[0].resets_at + 86_400


async def test_another_process_does_not_tell_again() -> None:
    """The store knows that it was told, also once the lease of who told it would have lapsed."""
    told: list[float] = []
    budget = Budget(
        requests=10, notify_at=(0.5,), on_threshold=lambda notice: told.append(notice.share)
    )
    ports = virtual_ports()
    for _ in range(4):
        other = attrs.evolve(ports.stores, local=virtual_ports().stores.local)
        shop = Shop(budget, ports=attrs.evolve(ports, stores=other))
        for _ in range(2):
            await shop.ask()
        await anyio.sleep(200)
    assert told == [0.5]


async def test_what_is_reserved_reaches_no_threshold() -> None:
    """Only what is spent counts; but the first refusal tells that nothing more fits."""
    told: list[float] = []
    budget = Budget("0.30", on_threshold=lambda notice: told.append(notice.share))
    shop = Shop(budget, script=[answer(10)], delay=1)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(shop.ask)
    assert (len(shop.refused), told) == (1, [])
    shop = Shop(Budget("0.30", on_threshold=lambda notice: told.append(notice.share)))
    shop.transport = Scripted([answer(500)], repeat=True)
    shop.pipeline = Pipeline([shop.budget, Cost(PRICES)], shop.transport, ports=shop.ports)
    for _ in range(6):
        await shop.ask()
    assert told == [0.5, 0.8, 1.0]
    assert shop.refused[0].spent == Money.of("0.25")
