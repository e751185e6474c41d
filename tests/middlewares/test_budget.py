"""Budget: nobody spends more than there is for them, whatever becomes of the calls."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest
from budget_shop import ASK, PRICES, Shop, answer, levels

from lamella import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ConnectError,
    Money,
    OrderError,
    Pipeline,
    RefusedError,
    ServerError,
    StoreUnavailableError,
)
from lamella._memory_stores import memory_stores
from lamella._ports import default_ports
from lamella._store_outages import GuardedLeases
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Budget, Cost, Fallback, Hedge, RateLimit, Retry
from lamella_middlewares.budget import Allowance

pytestmark = pytest.mark.anyio


# --- what it holds -------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_fifty_at_once_never_spend_more(stream: bool) -> None:
    """Of 50 calls that may cost $0.10 each, exactly ten find room in $1, and cost exactly that."""
    shop = Shop(Budget("1"), delay=1)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(lambda: shop.ask(stream=stream))
    assert shop.sent == 10
    assert sum((cost for cost in shop.costs if cost), Money(0)) == Money.of("1")
    level = await shop.level()
    assert (level.spent, level.reserved, level.left) == (Money.of("1"), Money(0), Money(0))
    assert {str(error.reserved) for error in shop.refused} == {"$1"}


def test_event_loops_in_threads_share_it() -> None:
    """Three loops at once, of both kinds, spend one budget of ten calls exactly."""
    stores = memory_stores()
    budget, transport = Budget("1"), Scripted([answer()], repeat=True)

    async def ask_all() -> None:
        pipeline = Pipeline([budget, Cost(PRICES)], transport, ports=ports)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask, pipeline)

    async def ask(pipeline: Pipeline) -> None:
        with suppress(BudgetExceededError):
            await pipeline.run(ASK)

    ports = attrs.evolve(default_ports(), stores=stores)
    loops = [
        threading.Thread(target=lambda kind=kind: anyio.run(ask_all, backend=kind))
        for kind in ("asyncio", "trio", "asyncio")
    ]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert len(transport.requests) == 10


async def test_what_was_not_used_comes_back() -> None:
    """The worst case is replaced by what an answer has really cost."""
    shop = Shop(Budget("0.15"), script=[answer(500)])
    for _ in range(3):
        await shop.ask()
    assert shop.sent == 2  # 0.05 + 0.05, and 0.10 more would be too much
    (error,) = shop.refused
    assert (error.spent, error.reserved) == (Money.of("0.10"), Money(0))
    assert error.wanted == Money.of("0.10")
    assert error.code == "budget_exceeded"
    assert error.retry_after is None
    assert "$0.15" in str(error)


async def test_all_scopes_or_none() -> None:
    """What one limit refuses uses up nothing of the others."""
    budget = Budget(
        limits=[
            Allowance("1", per="user"),
            Allowance(tokens=1100, per="session"),
            {"requests": 5, "per": ["tenant", "tag:team"]},
        ]
    )
    shop = Shop(budget, script=[answer(990)])
    for _ in range(3):
        await shop.ask(user="ann", session="s", tenant="t", tags={"team": "x"})
    assert shop.sent == 1
    assert [dict(error.scope) for error in shop.refused] == [{"session": "s"}] * 2
    scope = {"user": "ann", "session": "s", "tenant": "t", "tag:team": "x"}
    spent = [level.spent for level in await levels(budget, shop.pipeline, scope)]
    assert spent == [Money.of("0.099"), 1000, 1]


async def test_others_have_their_own() -> None:
    """Scopes are counted apart; who says none is counted with all who say none, or refused."""
    shop = Shop(Budget(requests=1, per="user"))
    for user in ("ann", "bob", "ann", None, None):
        await shop.ask(user=user)
    assert [dict(error.scope) for error in shop.refused] == [{"user": "ann"}, {"user": ""}]
    shop = Shop(Budget(requests=1, per=("tenant", "key"), missing="refuse"))
    await shop.ask(tenant="t", tags={"key": "k-1"})
    with pytest.raises(RefusedError, match="per key, and the request says none"):
        await shop.ask(tenant="t")


async def test_a_function_says_for_whom() -> None:
    """A plain function of the request gives the scope."""

    def team(request: Any) -> str:
        return str(request.context.attributes["team"])

    shop = Shop(Budget(requests=1, per=team))
    for name in "xyx":
        await shop.ask(attributes={"team": name})
    assert [dict(error.scope) for error in shop.refused] == [{"team": "x"}]
    assert (await shop.level(team="y")).spent == 1


async def test_one_that_is_too_large_for_all_of_it() -> None:
    """A request that the whole budget would not pay for is told so."""
    shop = Shop(Budget("0.05", window="day"))
    await shop.ask()
    (error,) = shop.refused
    assert error.code == "budget_too_small"
    assert error.retry_after is None
    assert "more than the budget of $0.05 per day ever has" in str(error)
    assert shop.sent == 0


async def test_a_cheaper_target_may_fit() -> None:
    """The refusal leads Fallback to another model, and leaves the first one as it was."""
    targets = [{"model": "cheap"}]
    shop = Shop(Budget("0.05"), Fallback(targets), script=[answer(1000)])
    assert (await shop.ask()).cost == Money.of("0.01")
    assert [each.model for each in shop.transport.requests] == ["cheap"]


# --- what attempts cost --------------------------------------------------------------------------


async def test_each_try_is_paid_for() -> None:
    """Retries reserve anew; what the provider refused unread costs nothing."""
    budget = Budget("1", limits=[Allowance(requests=10)])
    shop = Shop(budget, Retry(3), script=[ServerError("no", status=500), answer(100)])
    await shop.ask()
    money, requests = await levels(budget, shop.pipeline)
    assert (money.spent, requests.spent) == (Money.of("0.01"), 2)


async def test_hedges_pay_twice() -> None:
    """Both copies are reserved for, so that the second finds no room in a budget for one."""
    shop = Shop(Budget("0.15"), Hedge(delay=1, max_extra=1), delay=5)
    await shop.ask()
    assert shop.sent == 1
    assert (await shop.level()).spent == Money.of("0.10")
    shop = Shop(Budget("0.25"), Hedge(delay=1, max_extra=1), delay=5)
    await shop.ask()
    assert shop.sent == 2


async def test_nothing_sent_costs_nothing() -> None:
    """What a layer inside refuses gives everything back."""
    limit = RateLimit(requests=1, max_wait=0)
    budget = Budget("1")
    transport = Scripted([answer()], repeat=True)
    pipeline = Pipeline([budget, limit, Cost(PRICES)], transport, ports=virtual_ports())
    await pipeline.run(ASK)
    with pytest.raises(RefusedError):
        await pipeline.run(ASK)
    (level,) = await levels(budget, pipeline)
    assert (level.spent, level.reserved) == (Money.of("0.10"), Money(0))


async def test_what_nobody_can_say_is_the_worst_case() -> None:
    """A cancelled attempt of which nobody says what it used has used all that was reserved."""

    async def silent(request: Any) -> Any:
        request.context.attempt.sent = True
        await anyio.sleep(10)

    budget = Budget(tokens=5000)
    pipeline = Pipeline([budget], silent, ports=virtual_ports())
    before: Any = None
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.run, ASK)
        await anyio.sleep(1)
        (before,) = await levels(budget, pipeline)
        group.cancel_scope.cancel()
    (after,) = await levels(budget, pipeline)
    assert before.reserved == after.spent > 1000
    assert before.spent == after.reserved == 0


async def test_all_attempts_of_a_pipeline_inside_are_paid_for() -> None:
    """What a pipeline inside sends again is charged as well, and beyond the reservation is owed."""
    script = [answer(600)[:2], answer(700)]  # the first breaks off after its usage was told
    inner = Pipeline([Retry(3), Cost(PRICES)], Scripted(script))
    budget = Budget("1", limits=[Allowance(requests=5)])
    outer = Pipeline([budget, Cost(PRICES)], inner, ports=virtual_ports())
    response = await outer.run(ASK)
    money, requests = await levels(budget, outer)
    assert money.spent == response.cost == Money.of("0.13")
    assert (requests.spent, len(response.trace.attempts)) == (2, 2)


async def test_what_never_left_is_free_and_another_key_is_no_other_request() -> None:
    """Without anybody who meters: what was not sent is not charged, and a refused key once."""
    attempts: list[Any] = []

    async def moody(request: Any) -> Any:
        attempt = request.context.attempt
        attempts.append(attempt)
        if len(attempts) == 1:
            raise ConnectError("nobody there")
        if len(attempts) == 2:
            attempt.key_renewed = True
            raise AuthenticationError("an old key", status=401)
        return request.answer(answer(50))

    budget = Budget(tokens=5000, limits=[Allowance(requests=5)])
    pipeline = Pipeline([budget], moody, ports=virtual_ports())
    with pytest.raises(ConnectError):
        await pipeline.run(ASK)
    assert [level.spent for level in await levels(budget, pipeline)] == [0, 0]
    await pipeline.run(ASK)
    assert [level.spent for level in await levels(budget, pipeline)] == [60, 1]


async def test_a_budget_inside_is_charged_and_not_twice() -> None:
    """Where a pipeline inside has the same budget, one of the two counts an attempt."""
    ports = virtual_ports()
    inner = Pipeline([Budget("1"), Cost(PRICES)], Scripted([answer()], repeat=True))
    budget = Budget("1")
    outer = Pipeline([budget, Cost(PRICES)], inner, ports=ports)
    await outer.run(ASK)
    (level,) = await levels(budget, outer)
    assert (level.spent, level.reserved) == (Money.of("0.10"), Money(0))


# --- what cannot be counted ----------------------------------------------------------------------


async def test_a_model_without_a_price_is_not_sent_uncounted() -> None:
    """Unless that is accepted; and then the trace says so."""
    nameless = ASK.evolve(model="nameless")
    with pytest.raises(RefusedError, match="has no price") as caught:
        await Shop(Budget("1")).ask(nameless)
    assert caught.value.code == "unpriced"
    shop = Shop(Budget("1", unknown="note"))
    response = await shop.ask(nameless)
    assert [note.name for note in response.trace.notes if note.layer == "budget"] == [
        "budget.uncounted"
    ]
    with pytest.raises(RefusedError, match="billed in USD"):
        await Shop(Budget("1", currency="EUR")).ask()


async def test_strict_refuses_what_has_no_bound() -> None:
    """Without a bound on the answer, or with tools of the provider's, nobody knows the cost."""
    shop = Shop(Budget("1", strict=True))
    for request in (
        ASK.evolve(max_output_tokens=None),
        ASK.evolve(tools=[{"type": "web_search"}]),
    ):
        with pytest.raises(RefusedError) as caught:
            await shop.ask(request)
        assert caught.value.code == "unbounded"
    await shop.ask()
    assert shop.sent == 1
    shop = Shop(Budget("1", assume_output_tokens=2000))
    await shop.ask(ASK.evolve(max_output_tokens=None, n=6))
    assert shop.refused[0].wanted == Money.of("1.2")


class Broken:
    """A lease store that is gone."""

    async def reserve(self, *_: Any, **__: Any) -> Any:
        raise OSError("gone")

    settle = refund = renew = level = now = reserve

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_a_store_that_is_out() -> None:
    """Nothing is sent uncounted, unless that is accepted; settling never harms an answer."""
    with pytest.raises(StoreUnavailableError, match="OSError"):
        await Shop(Budget("1", store=Broken())).ask()
    shop = Shop(Budget("1", window="day", store=Broken(), on_outage="allow"))
    response = await shop.ask()
    assert "budget.uncounted" in [note.name for note in response.trace.notes]


@pytest.mark.parametrize(("outage", "sent"), [("deny", 0), ("local", 1), ("allow", 3)])
async def test_a_guard_has_its_own_policy(outage: Any, sent: int) -> None:
    """A guarded store that is out decides as its guard was told to."""
    ports = virtual_ports()
    store = GuardedLeases(Broken(), outage=outage, processes=2, monotonic=ports.monotonic)
    shop = Shop(Budget("0.20", window="day", store=store), ports=ports)
    for _ in range(3):
        with suppress(StoreUnavailableError):
            await shop.ask()
    assert shop.sent == sent
    assert all(error.spent >= Money(0) for error in shop.refused)


async def test_detached_work_is_charged_when_it_has_ended() -> None:
    """What goes on after the answer is charged too, although nothing is reserved for it by then."""
    inner = Pipeline([Cost(PRICES)], Scripted([answer(300)], delay=5))

    async def transport(request: Any) -> Any:
        detached = request.detach("warming up")
        request.context.background.spawn(lambda: inner(detached), name="warming up")
        return request.answer(answer(100))

    budget = Budget("1")
    pipeline = Pipeline([budget, Cost(PRICES)], transport, ports=virtual_ports())
    await pipeline.run(ASK)
    spent = []
    for _ in range(2):
        (level,) = await levels(budget, pipeline)
        spent.append(str(level.spent))
        await anyio.sleep(6)
    assert spent == ["$0.01", "$0.04"]
    await pipeline.aclose()


# --- how it is made ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "limits nothing"),
        ({"amount": 1.5}, r"Budget\(amount=1.5\): give text such as '5.00', since a float"),
        ({"amount": "0.0000000001"}, r"Budget\(amount='0.0000000001'\): give nine decimals"),
        ({"amount": "1", "tokens": -1}, r"Budget\(tokens=-1\)"),
        ({"limits": [{"amount": "x"}]}, "text such as '10.00', or Money"),
        ({"amount": "-1"}, "text such as '10.00'"),
        ({"amount": "1", "window": "fortnight"}, "a total that never starts anew"),
        ({"amount": "1", "per": "colour"}, "Budget\\(per='colour'\\)"),
        ({"amount": "1", "timezone": "Mars/Olympus"}, "no such time zone"),
        ({"amount": "1", "limits": [{"amount": "2"}]}, "two limits in USD"),
        ({"per": "user"}, r"Budget\(per='user'\) says no amount, tokens or requests"),
        ({"amount": "1", "notify_at": [2]}, "shares above 0"),
        ({"amount": "1", "strict": True, "unknown": "note"}, "has no price"),
        ({"limits": [{"amount": "1", "colour": "red"}]}, "colour"),
        ({"amount": "1", "window": "day", "keep": 5}, "is for totals"),
    ],
)
async def test_mistakes_are_told_at_once(options: dict[str, Any], message: str) -> None:
    """A wrong option is an error when the layer is made, and says what to give instead."""
    with pytest.raises(ConfigurationError, match=message):
        Budget(**options)


async def test_where_it_stands() -> None:
    """Outside of what repeats it would not hold; without prices it cannot count money."""
    transport = Scripted(["ok"])
    for outside in (Hedge(), Retry()):
        with pytest.raises(OrderError):
            Pipeline([Budget(requests=1), outside], transport)
    with pytest.raises(ConfigurationError, match="prices"):
        Pipeline([Budget("1")], transport)
    Pipeline([Budget(requests=1)], transport)
