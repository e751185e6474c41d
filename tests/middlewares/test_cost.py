"""Cost: every attempt is metered, exactly or, where the provider does not count, by estimate."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from lamella import (
    AttemptTimeout,
    CardBook,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ContentFilteredError,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Head,
    Image,
    LamellaError,
    MediaDelta,
    Message,
    Money,
    OrderError,
    Outcome,
    Pipeline,
    Price,
    ProviderError,
    RateLimitError,
    ReasoningDelta,
    RefusedError,
    Request,
    ServerError,
    StreamTruncated,
    Target,
    Text,
    TokenCountRequest,
    TokenCountResponse,
    Usage,
    UsageReport,
    middleware,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella.transports import Mock
from lamella_middlewares.cost import Cost
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

PRICES = {"m": {"input": "1", "cache_read": "0.10", "output": "4", "reasoning_output": "output"}}
ASK = ChatRequest.of("hello there", model="m")
USED = Usage(uncached_input=1000, cache_read=500, text_output=200)
EXACT = Money.of("0.00185")  # (1000 x 1 + 500 x 0.10 + 200 x 4) per million
ANSWER = ChatResponse.of("so be it", usage=USED)


def pipeline(layers: list[Any], transport: Any, **more: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports(), **more)


async def ask(pipe: Pipeline, *, stream: bool = False, request: Any = ASK) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


# --- exact ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_providers_counts_are_priced_exactly(stream: bool) -> None:
    """Integers throughout; streamed or not, the same amount."""
    response = await ask(pipeline([Cost(PRICES)], Scripted([ANSWER])), stream=stream)
    (attempt,) = response.trace.attempts
    assert attempt.usage == USED
    assert attempt.cost == response.cost == EXACT
    assert not response.trace.notes


async def test_an_explicit_zero_is_a_count() -> None:
    """A provider that says 0 is believed, not estimated."""
    free = ChatResponse.of("so be it", usage=Usage())
    response = await ask(pipeline([Cost(PRICES)], Scripted([free])))
    assert response.trace.attempts[0].usage == Usage()
    assert response.cost == Money(0)


async def test_prices_of_the_cards_hold_where_the_program_states_none() -> None:
    """By the transport's name, or by the provider that is given; the program's own win."""
    usage = Usage(uncached_input=1_000_000)
    for layer, name, amount in [
        (Cost(), "mock", "1"),
        (Cost(provider="mock"), "azure", "1"),
        (Cost({"mock": {"input": "7"}}), "mock", "7"),
        (Cost({"mock/mock": {"input": "8"}, "mock": {"input": "7"}}), "mock", "8"),
        (Cost({"mock": Price.of(input="9")}), "mock", "9"),
    ]:
        transport = Scripted([ChatResponse.of("x", usage=usage)], name=name)
        response = await ask(
            pipeline([layer], transport), request=ChatRequest.of("x", model="mock")
        )
        assert response.cost == Money.of(amount)


async def test_the_model_that_answered_is_priced() -> None:
    """A provider may serve another one than was asked for."""
    answer = ChatResponse.of("x", usage=Usage(uncached_input=1_000_000), model="big")
    layer = Cost({"m": {"input": "1"}, "big": {"input": "5"}})
    response = await ask(pipeline([layer], Scripted([answer])))
    assert response.cost == Money.of("5")


async def test_a_price_of_the_programs_own_holds_for_the_dated_name_too() -> None:
    """Providers answer a model by its dated name, whose card must not replace what was stated."""
    usage = Usage(uncached_input=1_000_000)
    answer = ChatResponse.of("x", usage=usage, model="gpt-4o-mini-2024-07-18")
    request = ChatRequest.of("x", model="gpt-4o-mini")
    for prices, amount in [
        ({"gpt-4o-mini": {"input": "7"}}, "7"),
        ({"openai/gpt-4o-mini": {"input": "7"}}, "7"),
        ({"gpt-4o-mini": {"input": "7"}, "gpt-4o-mini-2024-07-18": {"input": "9"}}, "9"),
    ]:
        transport = Scripted([answer], name="openai")
        response = await ask(pipeline([Cost(prices)], transport), request=request)
        assert response.cost == Money.of(amount)


async def test_the_service_tier_changes_the_price() -> None:
    """As the price list states; a tier without a price is noted, and its cost unknown."""
    prices = {"m": Price.of(input="2", services={"flex": "1/2"})}
    layer = Cost(prices, unknown="note")
    answer = ChatResponse.of("x", usage=Usage(uncached_input=1_000_000))
    for tier, cost in [("flex", Money.of("1")), ("default", Money.of("2")), ("gold", None)]:
        response = await ask(
            pipeline([layer], Scripted([answer])), request=ASK.evolve(service_tier=tier)
        )
        assert response.cost == cost


async def test_a_cost_that_the_transport_states_is_kept() -> None:
    """Some providers send the amount itself."""

    async def stating(request: Request[Any]) -> Any:
        assert request.context.attempt is not None
        request.context.attempt.cost = Money(77)
        return ChatResponse.of("x", usage=USED)

    response = await ask(pipeline([Cost(PRICES)], stating))
    assert response.cost == Money(77)
    assert response.trace.usage == USED


# --- unknown prices ---------------------------------------------------------------------------


async def test_a_model_without_a_price_is_sent_where_that_is_asked_for() -> None:
    """A local model works; its cost is unknown, never 0, and the trace says why."""
    response = await ask(pipeline([Cost(unknown="note")], Scripted([ANSWER])))
    assert response.cost is None
    (note,) = response.trace.notes
    assert note.name == "cost.unpriced"
    assert note.fields == {"why": "no price is known", "provider": "scripted", "model": "m"}


async def test_a_part_without_a_price_is_noted() -> None:
    """Never silently 0, and never an error after the answer was paid for."""
    answer = ChatResponse.of("x", usage=Usage(uncached_input=1, audio_output=5))
    response = await ask(pipeline([Cost(PRICES)], Scripted([answer])))
    assert response.cost is None
    assert response.trace.notes[0].fields["why"] == "no price for audio_output"


@pytest.mark.parametrize(
    "request_",
    [ChatRequest.of("x", model="other"), ChatRequest.of("x"), ASK.evolve(service_tier="g")],
)
async def test_nothing_is_sent_without_a_price(request_: ChatRequest) -> None:
    """An unknown model, no model at all, and an unknown tier are refused before sending."""
    transport = Scripted([ANSWER])
    with pytest.raises(RefusedError) as caught:
        await ask(pipeline([Retry(), Cost(PRICES)], transport), request=request_)
    assert transport.requests == []
    assert caught.value.code == "unpriced"
    assert caught.value.outcome is Outcome.NOT_SENT
    assert 'Cost(unknown="note")' in str(caught.value)


async def test_a_broken_card_file_fails_before_anything_is_sent(tmp_path: Path) -> None:
    """An answer that was paid for is never lost to a mistake in a file."""
    file = tmp_path / "cards.toml"
    file.write_text("provider = ")
    transport = Scripted([ANSWER])
    with pytest.raises(ConfigurationError):
        await ask(pipeline([Cost(book=CardBook(files=[file]))], transport))
    assert transport.requests == []


# --- estimates --------------------------------------------------------------------------------


async def test_an_answer_without_counts_is_estimated_and_says_so() -> None:
    """Prompt and answer both; the cost follows."""
    response = await ask(pipeline([Cost(PRICES)], Scripted(["one two three four"])))
    usage = response.trace.usage
    assert usage.estimated
    assert usage.uncached_input >= 2
    assert usage.text_output == 4
    assert response.cost is not None
    assert response.cost > Money(0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "error", [ConnectionLostError("x"), StreamTruncated("x"), ServerError("x")]
)
async def test_what_broke_off_is_paid_for(error: LamellaError, stream: bool) -> None:
    """A failure in the middle costs the prompt and what had come."""
    traces: list[Any] = []

    async def keep(request: Request[Any], call_next: Any) -> Any:
        traces.append(request.context.trace)
        return await call_next(request)

    transport = Scripted([["one ", "two ", "three ", error]])
    with pytest.raises(type(error)):
        await ask(pipeline([keep, Cost(PRICES)], transport), stream=stream)
    (attempt,) = traces[0].attempts
    assert attempt.usage.estimated
    assert attempt.usage.text_output == 3
    assert attempt.usage.uncached_input >= 2
    assert attempt.cost > Money(0)


async def test_a_left_stream_is_paid_for_as_far_as_it_was_delivered() -> None:
    """The consumer who stops has used what came, and the prompt."""
    transport = Scripted([["one ", "two ", "three ", Finish("stop")]])
    async with pipeline([Cost(PRICES)], transport).stream(ASK) as response:
        seen = 0
        async for _ in response:
            seen += 1
            if seen == 2:
                break
    (attempt,) = response.trace.attempts
    assert attempt.outcome is Outcome.LEFT
    assert attempt.usage is not None
    assert attempt.usage.estimated
    assert attempt.usage.text_output == 2
    assert attempt.usage.uncached_input >= 2
    assert attempt.cost is not None
    assert attempt.cost > Money(0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_answer_is_paid_for(stream: bool) -> None:
    """Whether the caller had seen any of it or not: the provider has sent it."""
    traces: list[Any] = []

    async def keep(request: Request[Any], call_next: Any) -> Any:
        traces.append(request.context.trace)
        return await call_next(request)

    transport = Scripted([["one ", "two ", "three ", math.inf]])
    with anyio.move_on_after(5):
        await ask(pipeline([keep, Cost(PRICES)], transport), stream=stream)
    (attempt,) = traces[0].attempts
    assert attempt.outcome is Outcome.CANCELLED
    assert attempt.usage.text_output == 3
    assert attempt.usage.estimated
    assert attempt.cost > Money(0)


async def test_what_was_reported_of_a_broken_answer_is_a_lower_bound() -> None:
    """Providers report the prompt at the beginning and the answer at the end."""
    early = UsageReport(Usage(uncached_input=40, text_output=1))
    transport = Scripted([[early, "one ", "two ", "three ", ConnectionLostError("x")]])
    with pytest.raises(ConnectionLostError) as caught:
        await ask(pipeline([Cost(PRICES)], transport))
    usage = caught.value.attempts[0].usage
    assert usage == Usage(uncached_input=40, text_output=3, estimated=True)


async def test_what_is_guessed_of_pictures_and_reasoning_has_a_price_where_text_has() -> None:
    """A price list without them bills them as text, as nearly all providers count them."""
    request = ChatRequest.of([Message("user", [Image(data=b"x"), Text("What?")])], model="m")
    thought: list[Any] = [
        ReasoningDelta("one "),
        MediaDelta("image", b"x"),
        ConnectionLostError("x"),
    ]
    with pytest.raises(ConnectionLostError) as caught:
        await ask(
            pipeline([Cost({"m": {"input": "1", "output": "4"}})], Scripted([thought])),
            request=request,
        )
    (attempt,) = caught.value.attempts
    assert attempt.usage is not None
    assert (attempt.usage.image_input, attempt.usage.reasoning_output) == (765, 1)
    assert (attempt.usage.image_output, attempt.usage.audio_output) == (1_290, 0)
    assert attempt.cost == Money(
        attempt.usage.input_tokens * 1_000 + attempt.usage.output_tokens * 4_000
    )


async def test_a_hedges_loser_costs_its_prompt_and_what_it_delivered() -> None:
    """Not an answer that it never gave."""
    slow = Scripted([ScriptedAnswer(ANSWER.events, delay=60)])
    layers = [Hedge([Target("fast", Scripted([ANSWER]))], delay=1, max_extra=1), Cost(PRICES)]
    response = await ask(pipeline(layers, slow))
    lost, won = response.trace.attempts
    assert (lost.usage.output_tokens, lost.usage.estimated) == (0, True)
    assert lost.cost == Money(lost.usage.uncached_input * 1_000)
    assert won.cost == EXACT
    assert response.trace.costs_by_layer() == {"": {"USD": lost.cost}, "hedge": {"USD": EXACT}}
    assert response.cost == lost.cost + EXACT


async def test_what_is_wrong_with_a_transport_of_others_does_not_lose_the_answer() -> None:
    """It is paid for: the price is then that of the model that was asked for."""

    class Odd(Scripted):
        def card_name(self, model: str) -> str:
            if model != "m":
                raise KeyError(model)
            return model

    answer = ChatResponse.of("x", usage=USED, model="m-2026")
    response = await ask(pipeline([Cost(PRICES)], Odd([answer])))
    assert response.cost == EXACT
    assert [note.name for note in response.trace.notes] == ["cost.unread"]


async def test_what_was_never_sent_costs_nothing() -> None:
    """No connection, no tokens."""
    with pytest.raises(ConnectError) as caught:
        await ask(pipeline([Cost(PRICES)], Scripted([ConnectError("x")])))
    (attempt,) = caught.value.attempts
    assert (attempt.usage, attempt.cost) == (None, Money(0))


@pytest.mark.parametrize(
    ("error", "paid"),
    [
        (RateLimitError("x", status=429), False),
        (ServerError("x", status=500), False),
        (ServerError("x", status=504), True),
        (ProviderError("x", status=408), True),
        (ContentFilteredError("x", status=400), True),
        (ConnectionLostError("x"), True),
        (AttemptTimeout("x"), True),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {value.status}" if isinstance(value, LamellaError) else ""
    ),
)
async def test_a_refusal_is_free_and_work_begun_is_not(error: LamellaError, paid: bool) -> None:
    """A status before the first event costs nothing, unless it says that work had begun."""
    with pytest.raises(type(error)) as caught:
        await ask(pipeline([Cost(PRICES)], Scripted([error])))
    (attempt,) = caught.value.attempts
    assert attempt.cost is not None
    assert bool(attempt.cost) is paid
    if paid:
        assert attempt.usage is not None
        assert attempt.usage.estimated


async def test_a_replayed_answer_costs_nothing() -> None:
    """What a cache inside the attempt serves was paid for before."""
    replay = ScriptedAnswer(("old", UsageReport(USED), Finish("stop")), head=Head(cached=True))
    for stream in (False, True):
        response = await ask(pipeline([Cost(PRICES)], Scripted([replay])), stream=stream)
        assert response.cost == Money(0)
        assert response.trace.usage == Usage()


async def test_losers_are_added_up() -> None:
    """The cost of a call is that of all its attempts."""
    transport = Scripted([["one ", "two ", ConnectionLostError("x")], ANSWER])
    response = await ask(pipeline([Retry(), Cost(PRICES)], transport))
    costs = [attempt.cost for attempt in response.trace.attempts]
    assert costs[1] == EXACT
    assert response.cost == costs[0] + costs[1]
    assert costs[0] > Money(0)


async def test_embeddings_are_priced() -> None:
    """By their input; estimated where nobody says."""
    for usage in (Usage(uncached_input=3), None):
        answer = EmbeddingResponse.of([[1.0]], usage=usage)
        response = await ask(
            pipeline([Cost(PRICES)], Scripted([answer])),
            request=EmbeddingRequest.of("three words here", model="m"),
        )
        assert response.trace.usage.uncached_input == 3
        assert response.trace.usage.estimated is (usage is None)
        assert response.cost == Money.of("0.000003")


# --- place ------------------------------------------------------------------------------------


@middleware(phase="attempt", name="fallback")
async def fallback(request: Request[Any], call_next: Any) -> Any:
    """Stands for any layer that discards answers."""
    return await call_next(request)


@pytest.mark.parametrize("inner", [Retry(), fallback])
def test_outside_what_discards_answers_it_is_refused(inner: Any) -> None:
    """It would lose the cost of failed attempts; the message says so and names the fix."""
    name = "retry" if isinstance(inner, Retry) else "fallback"
    with pytest.raises(OrderError, match=f"'cost' is outside '{name}'.*paid for") as caught:
        pipeline([Cost(), inner], Scripted(["x"]))
    assert f'allow=["cost outside {name}"]' in str(caught.value)


async def test_where_no_attempt_is_under_way_it_says_that_it_does_nothing() -> None:
    """Allowed by name, it cannot meter; the trace has a note."""
    pipe = pipeline([Cost(PRICES), Retry()], Scripted([ANSWER]), allow=["cost outside retry"])
    response = await ask(pipe)
    assert response.cost is None
    assert response.trace.notes[0].name == "cost.skipped"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unknown": "guess"}, "'refuse'"),
        ({"prices": {"a": 3, "b": {"input": 2}}}, "'a'"),
        ({"prices": {"a": {"inputs": "2"}}}, "inputs"),
        ({"prices": ["a"]}, "table of prices"),
        ({"provider": ""}, "name of a provider"),
        ({"book": "cards.toml"}, "a CardBook"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(options: Any, words: str) -> None:
    """All wrong entries are named, with what to write."""
    with pytest.raises(ConfigurationError, match=words):
        Cost(**options)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_any_step_every_attempt_has_its_cost(backend: str, stream: bool) -> None:
    """Conservation: no attempt ends without an amount, wherever the cancellation strikes."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        traces: list[Any] = []

        async def keep(request: Request[Any], call_next: Any) -> Any:
            traces.append(request.context.trace)
            return await call_next(request)

        transport = Scripted(
            [RateLimitError("x", retry_after=1), ["one ", 0.1, "two", Finish("stop")]]
        )
        pipe = pipeline([keep, Retry(), Cost(PRICES)], transport)

        async def check() -> None:
            assert transport.open_sources == 0
            for trace in traces:
                assert all(attempt.cost is not None for attempt in trace.attempts)

        return (lambda: ask(pipe, stream=stream)), check

    assert each_step(make, backend=backend) > 3


@pytest.mark.parametrize("unknown", ["note", "refuse"])
async def test_counting_tokens_is_free_whatever_the_model_costs(unknown: Any) -> None:
    """A model without a price has none to be asked for; a count that failed was free as well."""
    answers = Scripted([ServerError("x", status=504), TokenCountResponse.of(7, model="m")])
    pipe = pipeline([Retry(), Cost(unknown=unknown)], answers)
    response = await pipe.run(TokenCountRequest.of("hello", model="nobody's"))
    assert [attempt.cost for attempt in response.trace.attempts] == [Money(0), Money(0)]
    assert not [note for note in response.trace.notes if note.layer == "cost"]


@pytest.mark.parametrize(
    ("model", "dearest"), [("gpt-4o-mini", "4"), ("mock;delay=1", "4"), ("my-reasoning", "8")]
)
async def test_the_mock_bills_any_name_as_one_of_its_own(model: str, dearest: str) -> None:
    """Its models may be called anything, with faults behind the name."""
    pipeline = Pipeline([Cost()], Mock(), ports=virtual_ports())
    response = await pipeline.run(ChatRequest.of("Hi", model=model))
    input_price = int(dearest) // 4
    price = Price.of(input=str(input_price), output=dearest, reasoning_output="output")
    assert response.usage is not None
    assert response.cost == price.cost(response.usage)
