"""RateLimit: no more than the limit, fairly, and no wait that makes no sense."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from crowds import crowd
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    LimitedError,
    Pipeline,
    Ports,
    ServerError,
    Target,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella._memory_stores import memory_stores
from lamella.testing import Scripted, ScriptedAnswer, run_virtual, virtual_backend, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
ANSWER = ChatResponse.of("ok").events


class Desk:
    """A pipeline behind a limit, and when what reached its transport."""

    def __init__(
        self, *layers: Any, ports: Ports | None = None, delay: float = 0.0, answer: Any = "ok"
    ) -> None:
        self.ports = ports or virtual_ports()
        self.arrived: list[tuple[float, str | None]] = []
        self.refused: list[LimitedError] = []
        self.transport = Scripted([self._answer], repeat=True, delay=delay)
        self.pipeline = Pipeline(list(layers), self.transport, ports=self.ports)
        self._reply = answer

    def _answer(self, request: Any) -> Any:
        self.arrived.append((self.ports.monotonic(), request.context.tenant))
        return self._reply

    async def ask(self, request: Any = ASK, **context: Any) -> Any:
        if context:
            request = request.evolve(context=Context(**context))
        try:
            return await self.pipeline.run(request)
        except LimitedError as error:
            self.refused.append(error.with_traceback(None))
            return None

    async def ask_many(self, count: int, request: Any = ASK, **context: Any) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(lambda: self.ask(request, **context))

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.arrived]


# --- the limit holds --------------------------------------------------------------------------


async def test_what_is_over_the_limit_waits_for_its_share() -> None:
    """Sixty a minute: sixty at once, and then one a second."""
    desk = Desk(RateLimit(requests=60))
    await desk.ask_many(63)
    assert desk.times[:60] == [0.0] * 60
    assert desk.times[60:] == [1.0, 2.0, 3.0]


async def test_a_smaller_burst_spreads_the_requests() -> None:
    """A tenth of the limit at once, and the rest evenly."""
    desk = Desk(RateLimit(requests=60, burst=0.1))
    await desk.ask_many(9)
    assert desk.times == [0.0] * 6 + [1.0, 2.0, 3.0]


async def test_a_strict_limit_takes_the_burst_from_what_flows_back() -> None:
    """A tenth at once, and nine tenths in the rest of the minute: no minute sees more than all."""
    desk = Desk(RateLimit(requests=60, strict=True))
    await desk.ask_many(120)
    assert desk.times[:6] == [0.0] * 6
    assert len([at for at in desk.times if at < 60]) in {59, 60}
    assert min(b - a for a, b in zip(desk.times, desk.times[60:], strict=False)) > 60
    one = Desk(RateLimit(requests=1, per=10, strict=True))
    await one.ask_many(3)
    assert [round(at - one.times[0], 3) for at in one.times] == [0.0, 10.0, 20.0]


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60)), min_size=1, max_size=60),
    st.sampled_from([(1.0, False), (0.5, False), (0.1, False), (0.5, True), (0.1, True)]),
)
@settings(max_examples=20, deadline=None)
def test_no_window_sees_more_than_the_limit(schedule: list[Any], kind: tuple[float, bool]) -> None:
    """Whatever comes when, in any window no more than the burst and what flows in meanwhile."""
    burst, strict = kind
    flow = 1 - burst if strict else 1

    async def one(desk: Desk, at: float, most: int) -> None:
        await anyio.sleep(at)
        await desk.ask(ChatRequest.of("hi", model="m", max_output_tokens=most))

    async def run() -> Desk:
        desk = Desk(RateLimit(requests=10, tokens=1000, per=10, burst=burst, strict=strict))
        async with anyio.create_task_group() as group:
            for at, most in schedule:
                group.start_soon(one, desk, at, most)
        return desk

    desk = run_virtual(run)
    times = [at for at, _ in desk.arrived]
    assert len(times) == len(schedule)
    for index, start in enumerate(times):
        for count, stop in enumerate(times[index:], start=1):
            assert count <= 10 * burst + flow * (stop - start) + 1e-6


async def test_concurrent_calls_share_the_tokens_of_a_minute() -> None:
    """Of five calls at once only as many go as have tokens; the rest waits for more."""
    used = [TextDelta("ok"), UsageReport(Usage(uncached_input=5, text_output=45)), Finish("stop")]
    desk = Desk(RateLimit(tokens=100), delay=0.1, answer=used)
    request = ChatRequest.of("hello", model="m", max_output_tokens=40)
    await desk.ask_many(5, request)
    assert desk.times.count(0.0) == 2
    assert max(desk.times) > 60


async def test_a_tiny_token_limit_is_kept_too() -> None:
    """Fifteen tokens a minute are fifteen tokens."""
    desk = Desk(RateLimit(tokens=15, max_wait=0))
    request = ChatRequest.of("hello", model="m", max_output_tokens=9)
    await desk.ask(request)
    await desk.ask(request)
    assert len(desk.arrived) == 1
    assert len(desk.refused) == 1


async def test_four_a_day_are_four() -> None:
    """A thousand at once make no difference."""
    desk = Desk(RateLimit(requests_per_day=4, max_wait=0))
    await desk.ask_many(1000)
    assert len(desk.arrived) == 4
    assert len(desk.refused) == 996
    assert {error.code for error in desk.refused} == {"rate_limited"}


async def test_what_parallelism_refuses_costs_no_request() -> None:
    """A refusal by one limit leaves the others untouched."""
    desk = Desk(RateLimit(requests=3, concurrency=1, max_wait=0), delay=1)
    await desk.ask_many(10)
    assert len(desk.arrived) == 1
    for _ in range(2):
        await desk.ask()
    assert len(desk.arrived) == 3


async def test_requests_and_tokens_are_counted_apart() -> None:
    """Running out of one does not use up the other."""
    desk = Desk(RateLimit(requests=2, tokens=100_000, max_wait=0))
    for _ in range(3):
        await desk.ask()
    error = desk.refused[0]
    assert "2 requests in 60 s" in str(error)
    assert error.retry_after == pytest.approx(30)


async def test_concurrency_never_exceeds_and_never_falls_below_nothing() -> None:
    """Across windows, with failures among them, as many are inside as may be."""
    inside, most, asked = [0], [0], 0

    async def slow(request: Any) -> Any:
        nonlocal asked
        asked += 1
        fails = asked % 3 == 0
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            await request.context.ports.sleep(7)
            if fails:
                raise ServerError("x", status=500)
            return request.answer(ANSWER)
        finally:
            inside[0] -= 1

    pipe = Pipeline([RateLimit(concurrency=3, per=5)], slow, ports=virtual_ports())

    async def ask() -> None:
        with suppress(ServerError):
            await pipe.run(ASK)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert (inside[0], most[0]) == (0, 3)


# --- saying no --------------------------------------------------------------------------------


async def test_a_wait_past_the_deadline_is_refused_at_once() -> None:
    """No time is lost, nothing is sent, and the error says when there is room."""
    desk = Desk(Deadline(10), RateLimit(requests=1))
    await desk.ask()
    await desk.ask()
    error = desk.refused[0]
    assert desk.ports.monotonic() == 0
    assert error.retry_after == pytest.approx(60)
    assert error.layer == "rate_limit"
    assert error.elsewhere
    assert not error.retryable


async def test_what_never_fits_is_refused_at_once() -> None:
    """A request larger than the limit never waits; the message says which limit."""
    desk = Desk(RateLimit(tokens=100))
    await desk.ask(ChatRequest.of("hi", model="m", max_output_tokens=1000))
    assert desk.refused[0].retry_after is None
    assert "the limit is 100" in str(desk.refused[0])


async def test_an_estimate_never_makes_a_request_impossible() -> None:
    """Where the length of the answer is only guessed, the limit itself is the most it asks for."""
    desk = Desk(RateLimit(tokens=100, output_estimate=1000))
    assert await desk.ask() is not None


async def test_with_a_spare_credential_nobody_waits() -> None:
    """Another credential may have room now, so this one is left at once."""

    async def pool(request: Any, call_next: Any) -> Any:
        context = request.context.evolve(spare_credentials=1)
        return await call_next(request.evolve(context=context))

    desk = Desk(pool, RateLimit(requests=1))
    await desk.ask()
    await desk.ask()
    assert desk.refused[0].retry_after == pytest.approx(60)
    assert desk.ports.monotonic() == 0


async def test_a_refusal_is_not_retried() -> None:
    """One's own limit is no failure of the provider's."""
    desk = Desk(Retry(), RateLimit(requests=1, max_wait=0))
    await desk.ask()
    await desk.ask()
    assert len(desk.refused) == 1
    assert desk.ports.monotonic() == 0


@pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
async def test_over_capacity_memory_is_bounded() -> None:
    """Ten thousand at once: as many wait as may, the rest is refused, and all is gone after."""
    desk = Desk(RateLimit(requests=100, max_waiting=50))
    with crowd():
        await desk.ask_many(10_000)
    assert len(desk.arrived) == 150
    assert len(desk.refused) == 9_850
    assert "max_waiting=50" in str(desk.refused[0])


async def test_what_was_waited_and_refused_is_noted() -> None:
    """The trace says for how long, and why not."""
    desk = Desk(RateLimit(requests=1, per=10))
    await desk.ask()
    response = await desk.ask()
    notes = [(note.name, note.fields) for note in response.trace.notes]
    assert notes == [("rate_limit.waited", {"seconds": pytest.approx(10)})]


# --- for whom ---------------------------------------------------------------------------------


async def test_a_providers_limit_is_per_provider_and_model() -> None:
    """Another model has limits of its own; another tenant does not."""
    desk = Desk(RateLimit(requests=1, max_wait=0))
    await desk.ask(tenant="a")
    await desk.ask(tenant="b")
    await desk.ask(ChatRequest.of("hello", model="other"))
    assert (len(desk.arrived), len(desk.refused)) == (2, 1)


async def test_a_target_has_limits_of_its_own() -> None:
    """What a choose layer aims elsewhere counts there."""
    other = Scripted(["there"])
    target = Target("elsewhere", other)

    async def choose(request: Any, call_next: Any) -> Any:
        return await call_next(request.aim(target) if request.context.tenant else request)

    desk = Desk(choose, RateLimit(requests=1, max_wait=0))
    await desk.ask()
    await desk.ask(tenant="x")
    assert (len(desk.arrived), len(other.requests)) == (1, 1)


async def test_a_quota_is_per_tenant() -> None:
    """In the phase govern each tenant has its own, whatever the model."""
    desk = Desk(RateLimit(requests=1, phase="govern", max_wait=0))
    await desk.ask(tenant="a")
    await desk.ask(ChatRequest.of("hello", model="other"), tenant="a")
    await desk.ask(tenant="b")
    assert [tenant for _, tenant in desk.arrived] == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("user", {"user": "u", "tenant": "x"}, {"user": "v"}),
        ("session", {"session": "s"}, {"session": "t"}),
        (("tenant", "user"), {"tenant": "x", "user": "u"}, {"tenant": "y", "user": "u"}),
        (
            lambda request: request.context.tags.get("team", ""),
            {"tags": {"team": "red"}},
            {"tags": {"team": "blue"}},
        ),
    ],
)
async def test_it_counts_for_any_key(key: Any, same: Any, other: Any) -> None:
    """By a field of the context, several of them, or what a function says."""
    desk = Desk(RateLimit(requests=1, key=key, max_wait=0))
    await desk.ask(**same)
    await desk.ask(**same)
    await desk.ask(**other)
    assert (len(desk.arrived), len(desk.refused)) == (2, 1)


async def test_user_and_tenant_of_one_name_are_not_the_same() -> None:
    """A key says what it is the key of."""
    desk = Desk(
        RateLimit(requests=1, key="tenant", max_wait=0),
        RateLimit(requests=1, key="user", max_wait=0),
    )
    await desk.ask(tenant="x", user="y")
    await desk.ask(tenant="y", user="x")
    assert len(desk.arrived) == 2


async def test_pipelines_with_one_store_share_a_limit() -> None:
    """Unless they count under another name."""
    ports = virtual_ports()
    first, second = [Desk(RateLimit(requests=1, max_wait=0), ports=ports) for _ in range(2)]
    await first.ask()
    await second.ask()
    assert (len(first.refused), len(second.refused)) == (0, 1)
    apart = Desk(RateLimit(requests=1, max_wait=0, namespace="apart"), ports=ports)
    await apart.ask()
    assert not apart.refused


async def test_embeddings_count_their_input() -> None:
    """An operation without an answer in tokens reserves none for it."""
    events = EmbeddingResponse.of([[1.0]]).events
    seen: list[Any] = []

    async def embed(request: Any) -> Any:
        seen.append(request)
        return request.answer(events)

    pipe = Pipeline([RateLimit(tokens=10, max_wait=0)], embed, ports=virtual_ports())
    await pipe.run(EmbeddingRequest.of("hello", model="m"))
    with pytest.raises(LimitedError):
        await pipe.run(EmbeddingRequest.of("word " * 30, model="m"))
    assert len(seen) == 1


# --- fairness ---------------------------------------------------------------------------------


async def test_a_flood_does_not_starve_a_quiet_tenant() -> None:
    """The quiet one takes turns with the flood instead of waiting behind it."""
    desk = Desk(RateLimit(requests=60))
    async with anyio.create_task_group() as group:
        for _ in range(300):
            group.start_soon(lambda: desk.ask(tenant="flood"))
        await anyio.sleep(0.5)
        for _ in range(5):
            group.start_soon(lambda: desk.ask(tenant="quiet"))
    last = max(at for at, tenant in desk.arrived if tenant == "quiet")
    assert last <= 11.5
    assert max(desk.times) == pytest.approx(245)


async def test_weights_divide_what_there_is() -> None:
    """Three turns for one."""
    desk = Desk(RateLimit(requests=60, weights={"gold": 3.0}))
    await desk.ask_many(60)
    async with anyio.create_task_group() as group:
        for tenant in ("gold", "plain"):
            for _ in range(40):
                group.start_soon(partial(desk.ask, tenant=tenant))
    first = Counter(tenant for _, tenant in desk.arrived[60:100])
    assert first["gold"] == pytest.approx(30, abs=1)


async def test_what_matters_more_goes_first() -> None:
    """By `context.priority`, among those that wait."""
    desk = Desk(RateLimit(requests=1, per=1))
    await desk.ask()
    async with anyio.create_task_group() as group:
        for name, priority in (("batch", 0), ("batch", 0), ("person", 5)):
            group.start_soon(partial(desk.ask, tenant=name, priority=priority))
            await anyio.sleep(0.01)
    assert [tenant for _, tenant in desk.arrived] == [None, "person", "batch", "batch"]


# --- loops ------------------------------------------------------------------------------------


def test_loops_in_several_threads_share_one_limit() -> None:
    """Of asyncio and trio at once: together they get what one would, and nobody hangs."""
    stores = memory_stores()
    inside, most, done = [0], [0], [0]
    lock = threading.Lock()

    async def slow(request: Any) -> Any:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        await anyio.sleep(0.002)
        with lock:
            inside[0] -= 1
            done[0] += 1
        return request.answer(ANSWER)

    layer = RateLimit(requests=1_000_000, concurrency=4)
    errors: list[BaseException] = []

    async def many() -> None:
        pipe = Pipeline([layer], slow, ports=Ports(stores=stores))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(pipe.run, ASK)

    def loop(backend: str) -> None:
        try:
            anyio.run(many, backend=backend)
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(name,)) for name in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert (done[0], inside[0]) == (160, 0)
    assert most[0] <= 4


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "limits nothing"),
        ({"requests": 0}, "whole number, 1 or more"),
        ({"tokens": 1.5}, "whole number"),
        ({"requests": 1, "per": 0}, "seconds above 0"),
        ({"requests": 1, "burst": 0}, "share of the limit"),
        ({"requests": 1, "burst": 1.5}, "share of the limit"),
        ({"requests": 9, "burst": 1, "strict": True}, "nothing more.*burst=0.1"),
        ({"requests": 1, "strict": "yes"}, "True or False"),
        ({"requests": 1, "key": "team"}, "one or several of 'provider'"),
        ({"requests": 1, "key": ()}, "one or several of"),
        ({"requests": 1, "weights": {"a": 0}}, "above 0 for each tenant"),
        ({"requests": 1, "weights": 3}, "above 0 for each tenant"),
        ({"requests": 1, "max_wait": -1}, "0 to refuse at once"),
        ({"requests": 1, "max_waiting": -1}, "0 or more"),
        ({"requests": 1, "counter": 3}, "TokenCounter"),
        ({"requests": 1, "learn": "no"}, "True or False"),
        ({"requests": 1, "output_estimate": -1}, "0 or more"),
        ({"requests": 1, "ttl": 0}, "seconds above 0"),
        ({"requests": 1, "namespace": ""}, "a name"),
    ],
)
def test_a_wrong_option_is_refused_when_the_layer_is_made(options: Any, message: str) -> None:
    """The message names the option, what was given, and what to give."""
    with pytest.raises(ConfigurationError, match=message):
        RateLimit(**options)


async def test_a_key_that_is_no_text_is_an_error_that_says_so() -> None:
    """A function's mistake shows itself with its remedy."""
    desk = Desk(RateLimit(requests=1, key=lambda _: 3))
    with pytest.raises(ConfigurationError, match="must return text"):
        await desk.ask()

    async def ask(request: Any) -> str:
        return "x"

    with pytest.raises(ConfigurationError, match="async function"):
        RateLimit(requests=1, key=ask)


def test_spans_may_be_timedeltas() -> None:
    """Seconds or a timedelta, wherever a span is given; the layer can be pickled."""
    layer = RateLimit(
        requests=5, per=timedelta(hours=1), max_wait=timedelta(seconds=2), ttl=timedelta(minutes=2)
    )
    assert (layer.per, layer.max_wait, layer.ttl) == (3600, 2, 120)
    assert repr(pickle.loads(pickle.dumps(layer))) == repr(layer)


async def test_a_counter_of_ones_own_is_used() -> None:
    """And a long text is counted off the event loop."""

    class Letters:
        exact = True

        def count(self, texts: Any, /) -> int:
            return sum(map(len, texts))

    desk = Desk(RateLimit(input_tokens=60_000, counter=Letters(), max_wait=0))
    await desk.ask(ChatRequest.of("x" * 59_000, model="m"))
    await desk.ask(ChatRequest.of("x" * 59_000, model="m"))
    assert (len(desk.arrived), len(desk.refused)) == (1, 1)


async def test_a_delayed_answer_holds_its_place_to_the_end() -> None:
    """A stream counts until its last event."""
    answer = ScriptedAnswer(("a", "b", Finish("stop")), gap=5.0)
    desk = Desk(RateLimit(concurrency=1), answer=answer)
    async with anyio.create_task_group() as group:

        async def read() -> None:
            async with desk.pipeline.stream(ASK) as response:
                await response.collect()

        group.start_soon(read)
        await anyio.sleep(0.1)
        group.start_soon(desk.ask)
    assert desk.times == [0.0, 15.0]
