"""Budget: money is conserved, whatever happens to calls, and in whatever order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    BudgetExceededError,
    ChatRequest,
    Context,
    Dimension,
    Finish,
    Lease,
    Money,
    Pipeline,
    Ports,
    ServerError,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, each_step, run_virtual, virtual_ports
from lamella_middlewares import Budget, Cost
from lamella_middlewares.budget import Allowance

PRICES = {"m": {"input": "0", "output": "100"}}
EACH = 100_000  # nano-dollars of a token
LIMIT = 1000  # tokens' worth


async def levels(budget: Budget, pipeline: Pipeline, scope: dict[str, str] | None = None) -> Any:
    """The budget's levels, whose amounts are money or numbers."""
    return await budget.levels(pipeline, scope or {})


class Shared:
    """A lease store as across a network: each answer takes a while, and some are lost."""

    def __init__(self, ports: Ports, lost: float = 0.0) -> None:
        self._ports = ports
        self._inner = ports.stores.leases
        self._lost = lost
        self.out: dict[str, Sequence[Dimension]] = {}

    async def _pass(self) -> None:
        await self._ports.sleep(0.01)

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        await self._pass()
        lease = await self._inner.reserve(lease_id, dimensions, ttl=ttl)
        if lease.granted:
            self.out[lease_id] = dimensions
        await self._pass()
        return lease

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        await self._pass()
        if self._ports.random.random() < self._lost:
            raise OSError("nobody knows")
        self.out.pop(lease_id, None)
        done = await self._inner.settle(lease_id, amounts)
        if self._ports.random.random() < self._lost:
            raise OSError("the reply is lost")
        return done

    async def refund(self, lease_id: str) -> bool:
        await self._pass()
        self.out.pop(lease_id, None)
        return await self._inner.refund(lease_id)

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        return await self._inner.renew(lease_id, ttl=ttl)

    async def level(self, dimension: Dimension) -> int:
        return await self._inner.level(dimension)

    async def now(self) -> float:
        return self._ports.wall()

    async def aclose(self) -> None:
        """Nothing is open."""


@attrs.frozen
class Ask:
    """One call: when it begins, what it may and does write, and what becomes of it."""

    at: int
    user: str
    most: int
    used: float
    fate: str
    stream: bool


ASKS = st.builds(
    Ask,
    at=st.integers(0, 4),
    user=st.sampled_from("ab"),
    most=st.integers(0, 700).filter(bool),
    used=st.floats(0, 1),
    fate=st.sampled_from(["well", "well", "well", "fails", "cancelled", "left"]),
    stream=st.booleans(),
)


class World:
    """A pipeline under two limits, and what its provider has billed."""

    def __init__(self, *, shared: bool, lost: float = 0.0) -> None:
        self.ports = virtual_ports()
        store = Shared(self.ports, lost) if shared else None
        nano = Money(LIMIT * EACH)
        self.budget = Budget(
            nano,
            limits=[Allowance(Money(600 * EACH), per="user"), Allowance(requests=9)],
            store=store,
            on_threshold=lambda _: None,
        )
        self.pipeline = Pipeline(
            [self.budget, Cost(PRICES)], Scripted([self._answer], repeat=True), ports=self.ports
        )
        self.paid: dict[str, int] = {}
        self.sent = 0

    def _answer(self, request: Any) -> Any:
        self.sent += 1
        ask: Ask = request.context.attributes["ask"]
        if ask.fate == "fails":
            return ServerError("no", status=500)
        usage = Usage(uncached_input=5, text_output=int(ask.most * ask.used))
        return [TextDelta("a"), TextDelta("b"), UsageReport(usage), Finish("stop")]

    async def ask(self, ask: Ask) -> None:
        """Make one call."""
        await self.ports.sleep(ask.at * 0.015)
        context = Context(user=ask.user, attributes={"ask": ask})
        request = ChatRequest.of("hi", model="m", max_output_tokens=ask.most, context=context)
        with anyio.CancelScope() as scope, suppress(BudgetExceededError, ServerError):
            if ask.fate == "cancelled":
                scope.deadline = anyio.current_time() + 0.03
            if not ask.stream:
                self._pay(ask, await self.pipeline.run(request))
                return
            async with self.pipeline.stream(request) as response:
                async for _ in response:
                    if ask.fate == "left":
                        break
                    await self.ports.sleep(0.01)
            self._pay(ask, response)

    def _pay(self, ask: Ask, response: Any) -> None:
        cost = response.cost
        assert cost is not None
        self.paid[ask.user] = self.paid.get(ask.user, 0) + cost.nano

    async def run(self, asks: Sequence[Ask]) -> None:
        """Make all calls, and see that the books balance."""
        async with anyio.create_task_group() as group:
            for ask in asks:
                group.start_soon(self.ask, ask)
        await self.ports.sleep(70)  # what the background has to do is done
        cancelled = any(ask.fate == "cancelled" for ask in asks)
        total = 0
        both = requests = None
        for user in "ab":
            both, own, requests = await levels(self.budget, self.pipeline, {"user": user})
            paid = self.paid.get(user, 0)
            assert own.reserved == both.reserved == Money(0)
            assert requests.reserved == 0
            assert own.spent.nano == paid or (cancelled and own.spent.nano >= paid)
            assert own.spent <= own.limit
            total += own.spent.nano
        assert both is not None
        assert requests is not None
        assert both.spent.nano == total <= LIMIT * EACH
        assert self.sent >= requests.spent
        assert requests.spent <= 9


@settings(max_examples=16, deadline=None)
@given(st.lists(ASKS, max_size=14), st.booleans(), st.sampled_from(["asyncio", "trio"]))
def test_reserved_is_settled_or_refunded(asks: list[Ask], shared: bool, backend: str) -> None:
    """Both scopes add up to what was billed, nothing stays reserved, and no limit is passed."""
    run_virtual(lambda: World(shared=shared).run(asks), backend=backend)


@settings(max_examples=6, deadline=None)
@given(st.lists(ASKS, max_size=8))
def test_lost_replies_charge_nobody_twice(asks: list[Ask]) -> None:
    """A settlement whose reply is lost is told again, and counts once."""
    run_virtual(lambda: World(shared=True, lost=0.3).run(asks))


def stepped() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One streamed call under all limits, and the check of the books."""
    world = World(shared=False)

    async def run() -> None:
        await world.ask(Ask(0, "a", 500, 0.5, "well", stream=True))

    async def check() -> None:
        both, own, requests = await levels(world.budget, world.pipeline, {"user": "a"})
        assert own.reserved == both.reserved == Money(0)
        assert requests.reserved == 0
        assert own.spent == both.spent <= Money(250 * EACH)
        assert requests.spent <= world.sent

    return run, check


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_each_step_the_books_balance(backend: str) -> None:
    """Wherever it is cancelled, nothing stays reserved."""
    assert each_step(stepped, backend=backend) > 5
