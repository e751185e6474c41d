"""What calls cost: by the provider whose model it is, whatever transport and model are called."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Handler,
    Money,
    Outcome,
    Pipeline,
    RefusedError,
    Target,
    Trace,
    shared_cards,
)
from lamella._target_fitness import unsuitable
from lamella.testing import MockServer
from lamella.transports import OpenAI
from lamella_middlewares import Cost
from providers import FIRST, TRANSPORTS

pytestmark = pytest.mark.anyio

ARN = "arn:aws:bedrock:eu-central-1:123456789012"
LITE = "amazon.nova-lite-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


async def asked(transport: Handler, model: str | None, **fields: Any) -> ChatResponse:
    """One answer, metered."""
    async with Pipeline([Cost()], transport) as pipeline:
        return await pipeline.run(ChatRequest.of("hello", model=model, **fields))


@pytest.mark.parametrize("provider", TRANSPORTS)
async def test_a_transport_of_ones_own_name_has_its_providers_prices(provider: str) -> None:
    """Two accounts of a provider have two names, and one price list."""
    model = FIRST[provider].model
    async with MockServer() as server:
        plain = await asked(TRANSPORTS[provider](server), model)
        named = await asked(TRANSPORTS[provider](server, name="second-account"), model)
    assert plain.cost is not None
    assert named.cost == plain.cost
    assert named.trace.attempts[0].provider == "second-account"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_default_model_of_a_transport_has_a_price(stream: bool) -> None:
    """Also where the answer does not say which model it is of."""
    async with MockServer() as server:
        transport: Any = TRANSPORTS["bedrock"](server)
        transport.model = LITE
        async with Pipeline([Cost(unknown="refuse")], transport) as pipeline:
            if stream:
                async with pipeline.stream(ChatRequest.of("hello")) as response:
                    await response.collect()
            else:
                response = await pipeline.run(ChatRequest.of("hello"))
    assert response.cost is not None


@pytest.mark.parametrize(
    ("provider", "name", "same_as"),
    [
        ("bedrock", f"{ARN}:inference-profile/eu.{HAIKU}", f"eu.{HAIKU}"),
        ("bedrock", f"{ARN}:inference-profile/global.{HAIKU}", f"global.{HAIKU}"),
        ("bedrock", f"arn:aws:bedrock:eu-central-1::foundation-model/{LITE}", LITE),
        ("google", "models/gemini-2.5-flash", "gemini-2.5-flash"),
    ],
)
async def test_a_model_costs_the_same_under_all_its_names(
    provider: str, name: str, same_as: str
) -> None:
    """A resource's path or ARN is priced, and judged as a target, as the model that it names."""
    async with MockServer() as server:
        response = await asked(TRANSPORTS[provider](server), name)
        card = shared_cards().find(provider, same_as)
        price = None if card is None else card.price()
        assert price is not None
        assert response.usage is not None
        assert response.cost == price.cost(response.usage)
        long = ChatRequest.of("hello", max_output_tokens=10**6)
        target = Target("there", TRANSPORTS[provider](server), {"model": name})
        assert "max_output_tokens" in (unsuitable(long, target) or "fits")


async def test_what_is_not_billed_by_the_token_has_no_price() -> None:
    """Provisioned throughput costs by the hour, whichever model it serves."""
    arn = f"{ARN}:provisioned-model/abc123"
    async with MockServer() as server:
        transport = TRANSPORTS["bedrock"](server, base_models={arn: LITE})
        assert transport.card_name(arn) == arn
        profile = f"{ARN}:application-inference-profile/xyz"
        transport = TRANSPORTS["bedrock"](server, base_models={profile: f"eu.{LITE}"})
        assert transport.card_name(profile) == f"eu.{LITE}"


async def test_the_tier_that_was_sent_is_billed() -> None:
    """A class of service that the provider does not have was left out, and so costs nothing."""
    model = FIRST["anthropic"].model
    async with MockServer() as server:
        plain = await asked(TRANSPORTS["anthropic"](server), model)
        tier = await asked(TRANSPORTS["anthropic"](server), model, service_tier="flex")
        assert "service_tier" not in server.requests[-1].json
    assert tier.cost == plain.cost
    assert [note.name for note in tier.trace.notes] == ["parameter.drop"]


async def test_a_tier_that_is_sent_has_its_own_price() -> None:
    """Where the provider has it, it is priced as such, and refused if that is not known."""
    model = FIRST["openai"].model
    async with MockServer() as server:
        plain = await asked(TRANSPORTS["openai"](server), model)
        fast = await asked(TRANSPORTS["openai"](server), model, service_tier="priority")
        assert plain.cost is not None
        assert fast.cost is not None
        assert fast.cost > plain.cost
        async with Pipeline([Cost(unknown="refuse")], TRANSPORTS["openai"](server)) as pipeline:
            with pytest.raises(RefusedError, match="unheard-of"):
                await pipeline.run(ChatRequest.of("hello", model=model, service_tier="unheard-of"))


async def test_waiting_for_a_key_costs_nothing() -> None:
    """A call that is given up before there is a key to send it with has asked nobody."""
    traces: list[Trace] = []

    async def key() -> str:
        scope.cancel()
        await anyio.sleep_forever()
        return ""

    async def watch(request: ChatRequest, call_next: Handler) -> ChatResponse:
        traces.append(request.context.trace)
        return await call_next(request)

    transport = OpenAI(key, base_url="http://127.0.0.1:9/v1")
    with anyio.CancelScope() as scope:
        prices = {"m": {"input": "1", "output": "1"}}
        await Pipeline([watch, Cost(prices)], transport).run(ChatRequest.of("hello", model="m"))
    assert scope.cancelled_caught
    [attempt] = traces[0].attempts
    assert (attempt.outcome, attempt.cost) == (Outcome.CANCELLED, Money(0))
