"""RateLimit: what was reserved is replaced by what was used, once, however the answer ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    ConnectError,
    ConnectionLostError,
    Dimension,
    Finish,
    Head,
    InvalidRequestError,
    LamellaError,
    Lease,
    Pipeline,
    Ports,
    ServerError,
    Stores,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello there", model="m", max_output_tokens=500)
MARK = 1000
PLACES = 10
LAYER = RateLimit(requests=MARK, tokens=MARK, concurrency=PLACES, per=1e9)


class Books:
    """A lease store that keeps books: what was reserved, and how each lease ended."""

    immediate = True

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.reserved: dict[str, Sequence[Dimension]] = {}
        self.ended: dict[str, Sequence[int] | None] = {}

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        lease: Lease = await self.inner.reserve(lease_id, dimensions, ttl=ttl)
        if lease.granted:
            assert lease_id not in self.reserved
            self.reserved[lease_id] = dimensions
        return lease

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        assert lease_id not in self.ended
        self.ended[lease_id] = amounts
        there: bool = await self.inner.settle(lease_id, amounts)
        assert there
        return there

    async def refund(self, lease_id: str) -> bool:
        assert lease_id not in self.ended
        self.ended[lease_id] = None
        there: bool = await self.inner.refund(lease_id)
        assert there
        return there

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        there: bool = await self.inner.renew(lease_id, ttl=ttl)
        return there

    async def level(self, dimension: Dimension) -> int:
        level: int = await self.inner.level(dimension)
        return level

    async def now(self) -> float:
        now: float = await self.inner.now()
        return now

    async def aclose(self) -> None:
        await self.inner.aclose()

    @property
    def uses(self) -> list[tuple[int, ...] | None]:
        """How each lease ended: what was used, as (places, requests, tokens), or a refund."""
        return [None if used is None else tuple(used) for used in self.ended.values()]

    async def balance(self) -> None:
        """All that was reserved has ended, and no place is taken."""
        assert self.reserved.keys() == self.ended.keys()
        for dimensions in self.reserved.values():
            for dimension in dimensions:
                if dimension.held:
                    assert await self.level(dimension) == dimension.capacity


def kept() -> tuple[Ports, Books]:
    """Ports whose lease store keeps books."""
    ports = virtual_ports()
    books = Books(ports.stores.leases)
    stores: Stores = attrs.evolve(ports.stores, leases=books)
    return attrs.evolve(ports, stores=stores), books


def answer(usage: Usage | None = None, **more: Any) -> ScriptedAnswer:
    """A good answer that takes a while, with its usage if given."""
    report = [] if usage is None else [UsageReport(usage)]
    return ScriptedAnswer((TextDelta("one"), TextDelta("two"), *report, Finish("stop")), **more)


async def one_call(step: Any, *layers: Any, stream: bool = False, request: Any = ASK) -> Books:
    """Make a call, whatever becomes of it; the books."""
    ports, books = kept()
    script = step if isinstance(step, list) else [step]
    pipe = Pipeline([*layers, LAYER], Scripted(script), ports=ports)
    with suppress(LamellaError):
        if stream:
            async with pipe.stream(request) as response:
                await response.collect()
        else:
            await pipe.run(request)
    await books.balance()
    return books


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_provider_counted_is_charged(stream: bool) -> None:
    """Of the 500 and more that were reserved only what was used stays."""
    books = await one_call(answer(Usage(uncached_input=7, text_output=20)), stream=stream)
    (reserved,) = books.reserved.values()
    assert reserved[2].amount > 500
    assert books.uses == [(1, 1, 27)]


async def test_more_than_was_reserved_is_owed() -> None:
    """Later requests wait for what an answer has used besides."""
    ports, books = kept()
    report = answer(Usage(uncached_input=7, text_output=MARK))
    pipe = Pipeline([RateLimit(tokens=MARK)], Scripted([report, "ok"]), ports=ports)
    await pipe.run(ASK)
    await pipe.run(ASK)
    assert ports.monotonic() == pytest.approx((7 + 500 + 4 + 2 + 1) * 60 / MARK, abs=1)
    assert len(books.ended) == 2


async def test_without_the_providers_count_it_is_estimated() -> None:
    """From what was asked and what was delivered."""
    (used,) = (await one_call(answer())).uses
    assert used is not None
    assert 2 <= used[2] <= 20


@pytest.mark.parametrize("error", [ConnectError("x"), ValueError("a bug")])
async def test_what_was_never_sent_is_refunded(error: Exception) -> None:
    """Not even a request is counted."""
    ports, books = kept()

    async def broken(request: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        await Pipeline([LAYER], broken, ports=ports).run(ASK)
    await books.balance()
    assert books.uses == [None]


async def test_a_layer_that_answers_itself_uses_nothing() -> None:
    """Where no attempt was made, nothing was used of the provider's limits."""
    ports, books = kept()
    done = (await Pipeline([], Scripted(["ok"])).run(ASK)).events

    async def cache(request: Any, call_next: Any) -> Any:
        return request.answer(done)

    await Pipeline([LAYER, cache], Scripted(["never"]), ports=ports).run(ASK)
    assert books.uses == [None]


async def test_a_replayed_answer_uses_nothing() -> None:
    """What was not paid for does not count either."""
    books = await one_call(answer(Usage(text_output=9), head=Head(cached=True)))
    assert books.uses == [None]


async def test_what_the_provider_refused_unread_costs_a_request_and_no_tokens() -> None:
    """It has seen the request, and made nothing of it."""
    books = await one_call(InvalidRequestError("x", status=400))
    assert books.uses == [(1, 1, 0)]


async def test_where_nobody_knows_the_whole_reservation_stays() -> None:
    """A line that broke after sending may have cost everything."""
    books = await one_call(ConnectionLostError("x"))
    (reserved,) = books.reserved.values()
    assert books.uses == [(1, 1, reserved[2].amount)]


async def test_a_timeout_is_charged_what_may_have_been_used() -> None:
    """The provider may have worked until it was cut off."""
    books = await one_call(answer(delay=100), Timeout(attempt=5))
    (reserved,) = books.reserved.values()
    assert books.uses == [(1, 1, reserved[2].amount)]


async def test_each_retry_reserves_and_settles_for_itself() -> None:
    """A failed try has used its own, and the good one too."""
    good = answer(Usage(uncached_input=3, text_output=4))
    books = await one_call([ServerError("x", status=500), good], Retry())
    assert books.uses == [(1, 1, 0), (1, 1, 7)]


async def test_a_quota_pays_for_all_tries_inside() -> None:
    """In the phase govern a call is one request, with the tokens of all its attempts."""
    ports, books = kept()
    usage = Usage(uncached_input=3, text_output=4)
    script: list[Any] = [
        ServerError("x", status=500, usage=Usage(uncached_input=30)),
        answer(usage),
    ]
    quota = RateLimit(requests=MARK, tokens=MARK, phase="govern", key="tenant")
    await Pipeline([quota, Retry()], Scripted(script), ports=ports).run(ASK)
    assert books.uses == [(1, 37)]


async def test_the_average_answer_is_learnt() -> None:
    """Requests that do not limit their answer reserve what answers have had lately."""
    ports, books = kept()
    step = answer(Usage(uncached_input=3, text_output=40))
    pipe = Pipeline([RateLimit(tokens=10**6)], Scripted([step], repeat=True), ports=ports)
    for _ in range(60):
        await pipe.run(ASK.evolve(max_output_tokens=None))
    amounts = [dimensions[0].amount for dimensions in books.reserved.values()]
    assert amounts[0] > 500
    assert 40 < amounts[-1] < 60


# --- streams that are left, dropped, cancelled ------------------------------------------------


async def leave(pipe: Pipeline) -> None:
    """Stop reading after the first event."""
    async with pipe.stream(ASK) as response:
        async for _ in response:
            break


async def close(pipe: Pipeline) -> None:
    """Close the answer."""
    async with pipe.stream(ASK) as response:
        await anyio.sleep(0.1)
        await response.aclose()


async def drop(pipe: Pipeline) -> None:
    """Forget the answer without closing it."""
    response: Any = await pipe.stream(ASK).__aenter__()
    await response.__aiter__().__anext__()
    del response


async def cancel(pipe: Pipeline) -> None:
    """Cancel in the middle of the answer."""
    with anyio.move_on_after(1.5):
        async with pipe.stream(ASK) as response:
            await response.collect()


async def cancel_early(pipe: Pipeline) -> None:
    """Cancel before the answer has begun."""
    with anyio.move_on_after(0.5):
        await pipe.run(ASK)


async def fail(pipe: Pipeline) -> None:
    """Leave the block with an error of one's own."""
    with suppress(ZeroDivisionError):
        async with pipe.stream(ASK):
            raise ZeroDivisionError


@pytest.mark.parametrize("abandon", [leave, close, drop, cancel, cancel_early, fail])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_hundred_abandoned_streams_leave_nothing_behind(
    abandon: Callable[[Pipeline], Any],
) -> None:
    """However they are left, every reservation has ended and every place is free."""
    ports, books = kept()
    step = answer(Usage(text_output=2), gap=1.0)
    layer = RateLimit(requests=MARK, tokens=10**6, concurrency=PLACES, per=1e9)
    pipe = Pipeline([layer], Scripted([step], repeat=True), ports=ports)
    for _ in range(10):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(abandon, pipe)
        gc.collect()
        await anyio.sleep(1)
    assert len(books.reserved) == 100
    await books.balance()


def stepped() -> tuple[Any, Any]:
    """Two streams and a run over one place; the check is that the books balance."""
    ports, books = kept()
    step = answer(Usage(text_output=2), gap=0.01)
    layer = RateLimit(requests=100, tokens=100_000, concurrency=1)
    pipe = Pipeline([Retry(), layer], Scripted([step], repeat=True), ports=ports)

    async def stream() -> None:
        async with pipe.stream(ASK) as response:
            await response.collect()

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stream)
            group.start_soon(pipe.run, ASK)
            group.start_soon(stream)

    async def check() -> None:
        await books.balance()
        with anyio.fail_after(60):
            await pipe.run(ASK)
        await pipe.aclose()

    return run, check


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_each_step_the_books_balance(backend: str) -> None:
    """Reserved is settled plus refunded, wherever the scheduler stood."""
    assert each_step(stepped, backend=backend, again=(1,)) > 10


async def test_cancelled_before_anything_was_sent_nothing_is_charged() -> None:
    """A place in the line, or a connection that was still being made, is not a request."""
    ports, books = kept()

    async def slow(request: Any) -> Any:
        await request.context.ports.sleep(100)

    with anyio.move_on_after(1):
        await Pipeline([LAYER], slow, ports=ports).run(ASK)
    assert books.uses == [None]
