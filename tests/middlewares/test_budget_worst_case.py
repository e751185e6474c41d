"""What Budget reserves: never less than what can be billed, and exact where that is known."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatRequest,
    EmbeddingRequest,
    EmbeddingResponse,
    File,
    Finish,
    Message,
    Pipeline,
    Price,
    RefusedError,
    TextDelta,
    Usage,
    shared_cards,
)
from lamella._prices import MILLION, Rates, Tier
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Budget, Cost
from lamella_middlewares.budget._ceilings import ceiling_of
from lamella_middlewares.budget._extras import extra_of

TOKENS = st.integers(0, 300_000)
RATE = st.integers(0, 10**11)
RATES = st.builds(
    Rates,
    uncached_input=RATE,
    cache_read=RATE,
    cache_write=st.dictionaries(st.sampled_from(["", "5m", "1h"]), RATE),
    audio_input=RATE,
    image_input=RATE,
    text_output=RATE,
    reasoning_output=RATE,
    audio_output=RATE,
    image_output=RATE,
)
PRICE = st.builds(
    Price,
    RATES,
    tiers=st.lists(
        st.builds(Tier, st.integers(1, 200_000), RATES), max_size=2, unique_by=lambda t: t.above
    ),
    services=st.dictionaries(
        st.sampled_from(["flex", "priority"]), st.sampled_from([Fraction(1, 2), Fraction(7, 4)])
    ),
)


@settings(max_examples=30, deadline=None)
@given(
    PRICE,
    st.sampled_from([None, "flex", "priority", "default", "auto"]),
    st.lists(TOKENS, min_size=6, max_size=6),
    st.data(),
)
def test_no_bill_is_larger(price: Price, service: str | None, counts: list[int], data: Any) -> None:
    """Whatever the parts turn out to be, and whichever service answers, it costs no more."""
    text, image, audio, written, cached, stored = counts
    cached, stored = min(cached, text), min(stored, max(0, text - cached))
    lifetimes = list(price.rates.cache_write)
    lifetimes = [one for one in lifetimes if all(one in t.rates.cache_write for t in price.tiers)]
    writes = {lifetimes[0]: stored} if lifetimes else {}
    reasoning = data.draw(st.integers(0, written))
    billed = Usage(
        uncached_input=text - cached - sum(writes.values()),
        cache_read=cached,
        cache_write=writes,
        audio_input=audio,
        image_input=image,
        text_output=written - reasoning,
        reasoning_output=reasoning,
    )
    ceiling = ceiling_of(price, service)
    if service is not None and service not in {*price.services, "default", "auto"}:
        assert ceiling is None
        return
    assert ceiling is not None
    most = ceiling.nano((text, image, audio), written)
    assert most is not None
    for answering in (None, service if service in price.services else None):
        assert price.cost(billed, service=answering).nano <= most


def test_each_dearer_rate_counts_where_it_may_hold() -> None:
    """A tier from its border on, and a token that is written to the cache for longest."""
    rates = Rates(uncached_input=100, cache_read=1, cache_write={"5m": 125, "1h": 200})
    price = Price(rates, tiers=(Tier(1000, Rates(uncached_input=300)),))
    ceiling = ceiling_of(price, None)
    assert ceiling is not None
    assert ceiling.nano((10**6, 0, 0), 0) == 300
    assert ceiling.nano((1000, 0, 0), 0) == 1  # 0.2 nano-units, rounded up
    ceiling = ceiling_of(Price(rates), None)
    assert ceiling is not None
    assert ceiling.nano((10**6, 0, 0), 0) == 200
    small = ceiling_of(Price(Rates(uncached_input=10**6), tiers=(Tier(1000, Rates(10**7)),)), None)
    assert small is not None
    assert small.nano((1000, 0, 0), 0) == 1000
    assert small.nano((1001, 0, 0), 0) == 10_010


def test_it_is_exact_where_numbers_are_large() -> None:
    """No float comes near: a nano-unit more than what fits in one is still one more."""
    ceiling = ceiling_of(Price(Rates(uncached_input=MILLION, text_output=1)), None)
    assert ceiling is not None
    assert ceiling.nano((2**60 + 1, 0, 0), 0) == 2**60 + 1
    assert ceiling.nano((0, 0, 0), 1) == 1  # a millionth of a nano-unit, rounded up


def test_what_has_no_price_has_no_worst_case() -> None:
    """Only where it is used: a model without answers needs no price for them."""
    ceiling = ceiling_of(Price(Rates(uncached_input=5)), None)
    assert ceiling is not None
    assert ceiling.nano((MILLION, 0, 0), 0) == 5
    assert ceiling.nano((0, 0, 0), 1) is None


async def levels(budget: Budget, pipeline: Pipeline, scope: dict[str, str] | None = None) -> Any:
    """The budget's levels, whose amounts are money or numbers."""
    return await budget.levels(pipeline, scope or {})


async def wanted(budget: Budget, request: Any) -> list[Any]:
    """What was reserved for a request, limit by limit, as seen while it was on its way."""
    seen: list[Any] = []

    async def answer(request: Any) -> Any:
        seen.extend([level.reserved for level in await levels(budget, pipeline)])
        if isinstance(request, EmbeddingRequest):
            return EmbeddingResponse.of([[1.0]])
        return request.answer([TextDelta("ok"), Finish("stop")])

    pipeline = Pipeline(
        [budget, Cost({"free": {"input": "0", "output": "0"}}, provider="openai")],
        answer,
        ports=virtual_ports(),
    )
    await pipeline.run(request)
    return seen


@pytest.mark.anyio
async def test_an_answer_is_as_long_as_it_may_be() -> None:
    """`max_output_tokens` for each of `n`, else the card's largest, or what is assumed."""
    tokens: dict[str, Any] = {"tokens": 10**9, "margin": 0}
    ask = ChatRequest.of("hello", model="free", max_output_tokens=100)
    (base,) = await wanted(Budget(**tokens), ask)
    assert await wanted(Budget(**tokens), ask.evolve(n=3)) == [base + 200]
    unbounded = ask.evolve(max_output_tokens=None)
    assert await wanted(Budget(**tokens), unbounded) == [base - 100 + 4096]
    assert await wanted(Budget(**tokens, assume_output_tokens=7), unbounded) == [base - 100 + 7]
    assert (await wanted(Budget(**{**tokens, "margin": 1}), ask))[0] == base + (base - 100) + 16


@pytest.mark.anyio
async def test_a_card_says_how_long_an_answer_can_be() -> None:
    """What the model card states as the largest answer bounds a request that says nothing."""
    card = shared_cards().find("openai", "gpt-4o-mini")
    assert card is not None
    assert card.max_output_tokens is not None
    script: list[Any] = [[TextDelta("ok"), Finish("stop")]]
    budget = Budget(tokens=10**9, strict=True, margin=0)
    pipeline = Pipeline(
        [budget, Cost()], Scripted(script, delay=2, name="openai"), ports=virtual_ports()
    )
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.run, ChatRequest.of("hello", model="gpt-4o-mini"))
        await anyio.sleep(1)
        (level,) = await levels(budget, pipeline)
        assert 0 < level.reserved - card.max_output_tokens < 10


@pytest.mark.anyio
async def test_vectors_have_no_answer_to_pay_for() -> None:
    """Embeddings are counted by what is read."""
    ask = EmbeddingRequest.of(["hello"], model="free")
    (tokens,) = await wanted(Budget(tokens=100, strict=True, margin=0), ask)
    assert 0 < tokens < 10


@pytest.mark.anyio
async def test_what_extra_says_wins_over_the_fields() -> None:
    """As it does in the request's body: a longer answer, or more of them, however it is spelt."""
    tokens: dict[str, Any] = {"tokens": 10**9, "margin": 0}
    ask = ChatRequest.of("hello", model="free", max_output_tokens=100)
    (base,) = await wanted(Budget(**tokens), ask)
    for extra, more in (
        ({"max_completion_tokens": 5000}, 4900),
        ({"generationConfig": {"maxOutputTokens": 200, "candidateCount": 2}}, 300),
        ({"options": {"num_predict": 50}, "top_k": 4}, 0),
        ({"best_of": 3}, 200),
    ):
        assert await wanted(Budget(**tokens), ask.evolve(extra=extra)) == [base + more]
    bounded = ask.evolve(max_output_tokens=None, extra={"max_tokens": 50})
    assert await wanted(Budget(**tokens, strict=True), bounded) == [base - 50]


def test_a_place_or_a_speed_in_extra_is_a_service() -> None:
    """What the words of a request name may be billed, alone or together; other words are none."""
    rates = Rates(uncached_input=MILLION)
    services = {"us": Fraction(11, 10), "us_fast": Fraction(22, 10), "us_batch": Fraction(9)}
    for extra, most in (
        ({}, 1000),
        ({"inference_geo": "us"}, 1100),
        ({"inference_geo": "US", "speed": "fast"}, 2200),
        ({"metadata": {"city": "Rome"}}, 1000),
    ):
        ceiling = ceiling_of(Price(rates, services=services), None, extra_of(extra).words)
        assert ceiling is not None
        assert ceiling.nano((1000, 0, 0), 0) == most


@pytest.mark.anyio
@pytest.mark.parametrize(
    "change",
    [
        {"extra": {"web_search_options": {}, "tools": [{"type": "web_search"}]}},
        {"extra": {"previous_response_id": "r-1"}},
        {"extra": {"options": {"num_predict": -1}}},
        {"messages": [Message.user(File(id="f-1"))]},
        {"messages": [Message.tool("c-1", [Audio(id="a-1")])]},
    ],
)
async def test_strict_refuses_what_nobody_can_count(change: dict[str, Any]) -> None:
    """What the provider has kept, or does of its own, is not in the request."""
    ask = ChatRequest.of("hello", model="free", max_output_tokens=100)
    with pytest.raises(RefusedError) as caught:
        await wanted(Budget(tokens=10**9, strict=True), ask.evolve(**change))
    assert caught.value.code == "unbounded"
    await wanted(Budget(tokens=10**9), ask.evolve(**change))


@pytest.mark.anyio
async def test_who_counts_requests_alone_counts_no_tokens() -> None:
    """A long prompt costs no time then."""

    class Never:
        exact = True

        def count(self, _: Any) -> int:
            raise AssertionError

    ask = ChatRequest.of("hello", model="free")
    assert await wanted(Budget(requests=1, counter=Never()), ask) == [1]
