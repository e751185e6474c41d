"""What answers cost, to the nano-unit, worked out by hand from the published prices.

Each case is an answer as its provider sends it, read by the real transport. Prices are in dollars
per million tokens, so that a token at $1 costs 1,000 nano-dollars.
"""

from __future__ import annotations

from typing import Any

import pytest
from bedrock_wire import event as frame
from canned_answers import FRAMES, CannedClient, billed, events, whole

from lamella import ChatRequest, EmbeddingRequest, Money, Outcome, TextDelta

pytestmark = pytest.mark.anyio

HAIKU = "global.anthropic.claude-haiku-4-5-20251001-v1:0"


def chat(usage: dict[str, Any], model: str, **more: Any) -> dict[str, Any]:
    """An answer of Chat Completions."""
    said = {"role": "assistant", "content": "Blue."}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    kind = {"id": "c1", "object": "chat.completion", "created": 1, "model": model}
    return {**kind, "choices": [choice], "usage": usage, **more}


def response(usage: dict[str, Any], model: str, *items: Any, **more: Any) -> dict[str, Any]:
    """An answer of the Responses API."""
    said = {"type": "output_text", "text": "Blue.", "annotations": []}
    message = {"type": "message", "id": "m1", "role": "assistant", "content": [said]}
    kind = {"id": "r1", "object": "response", "status": "completed", "model": model}
    return {**kind, "output": [*items, message], "usage": usage, **more}


def message(usage: dict[str, Any], model: str) -> dict[str, Any]:
    """An answer of the Messages API."""
    kind = {"id": "m1", "type": "message", "role": "assistant", "model": model}
    content = [{"type": "text", "text": "Blue."}]
    return {**kind, "content": content, "stop_reason": "end_turn", "usage": usage}


def gemini(usage: dict[str, Any], model: str, **more: Any) -> dict[str, Any]:
    """An answer of generateContent."""
    content = {"role": "model", "parts": [{"text": "Blue."}]}
    one = {"content": content, "finishReason": "STOP", "index": 0}
    return {"candidates": [one], "usageMetadata": usage, "modelVersion": model, **more}


def converse(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer of Converse."""
    said = {"message": {"role": "assistant", "content": [{"text": "Blue."}]}}
    return {"output": said, "stopReason": "end_turn", "usage": usage, **more}


def counts(read: int, wrote: int, **details: Any) -> dict[str, Any]:
    """Usage as Chat Completions states it."""
    return {
        "prompt_tokens": read,
        "completion_tokens": wrote,
        "total_tokens": read + wrote,
        **details,
    }


CACHED = counts(
    1_000,
    300,
    prompt_tokens_details={"cached_tokens": 400},
    completion_tokens_details={"reasoning_tokens": 120},
)
SOUND = counts(
    500,
    200,
    prompt_tokens_details={"audio_tokens": 300},
    completion_tokens_details={"audio_tokens": 150},
)
HEARD_BEFORE = counts(1_000, 10, prompt_tokens_details={"cached_tokens": 800, "audio_tokens": 700})
KEPT = {
    "input_tokens": 1_000,
    "output_tokens": 100,
    "total_tokens": 1_100,
    "input_tokens_details": {
        "cached_tokens": 200,
        "cache_write_tokens": 300,
        "cache_write_tokens_details": {"ttl_30m_tokens": 300},
    },
    "output_tokens_details": {"reasoning_tokens": 60},
}
SEARCH = {
    "type": "web_search_call",
    "id": "w1",
    "status": "completed",
    "action": {"type": "search"},
}
CLAUDE = {
    "input_tokens": 100,
    "cache_read_input_tokens": 2_000,
    "cache_creation_input_tokens": 1_500,
    "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 500},
    "output_tokens": 300,
    "output_tokens_details": {"thinking_tokens": 100},
    "server_tool_use": {"web_search_requests": 2},
    "service_tier": "standard",
}
GEMINI = {
    "promptTokenCount": 1_000,
    "cachedContentTokenCount": 400,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 900},
        {"modality": "AUDIO", "tokenCount": 100},
    ],
    "candidatesTokenCount": 200,
    "thoughtsTokenCount": 50,
    "totalTokenCount": 1_250,
}
SEEN_BEFORE = {
    "promptTokenCount": 1_000,
    "cachedContentTokenCount": 800,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 100},
        {"modality": "IMAGE", "tokenCount": 900},
    ],
    "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 800}],
    "candidatesTokenCount": 10,
    "totalTokenCount": 1_010,
}
NOVA = {"inputTokens": 1_000, "outputTokens": 200, "totalTokens": 1_200}
BEDROCK_CACHE = {
    "inputTokens": 100,
    "outputTokens": 50,
    "totalTokens": 3_150,
    "cacheReadInputTokens": 1_000,
    "cacheWriteInputTokens": 2_000,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 1_500}, {"ttl": "1h", "inputTokens": 500}],
}

INVOICES = {
    # gpt-4o-mini: $0.15 read, $0.075 from the cache, $0.60 written, thinking included.
    # 600 x 150 + 400 x 75 + 300 x 600 = 90,000 + 30,000 + 180,000
    "chat, cached and reasoning": ("openai", "gpt-4o-mini", chat(CACHED, "gpt-4o-mini"), 300_000),
    # Azure bills its deployments as OpenAI does.
    "azure, the same": ("azure", "gpt-4o-mini", chat(CACHED, "gpt-4o-mini-2024-07-18"), 300_000),
    # gpt-audio: $2.50 text and $32 sound read, $10 text and $64 sound written.
    # 200 x 2,500 + 300 x 32,000 + 50 x 10,000 + 150 x 64,000
    "chat, sound": ("openai", "gpt-audio", chat(SOUND, "gpt-audio"), 20_200_000),
    # Of 700 tokens of sound the cache served at least 500: 200 are left, and none is text; cached
    # ones have no price of their own. 800 x 2,500 + 200 x 32,000 + 10 x 10,000
    "chat, sound that the cache served": (
        "openai", "gpt-audio", chat(HEARD_BEFORE, "gpt-audio"), 8_500_000,
    ),
    # What the provider counts as nothing costs nothing; it is no reason to estimate.
    "chat, an explicit zero": ("openai", "gpt-5.6", chat(counts(0, 0), "gpt-5.6"), 0),
    # gpt-5.6: $4 and $20, above 272,000 tokens $8 and $30 for all of them.
    # 272,000 x 4,000 + 1,000 x 20,000
    "chat, at the border of a tier": (
        "openai", "gpt-5.6", chat(counts(272_000, 1_000), "gpt-5.6"), 1_108_000_000,
    ),
    # 272,001 x 8,000 + 1,000 x 30,000
    "chat, one token above it": (
        "openai", "gpt-5.6", chat(counts(272_001, 1_000), "gpt-5.6"), 2_206_008_000,
    ),
    # A batch costs half, in the tier too: (272,001 x 8,000 + 1,000 x 30,000) / 2
    "chat, a batch above it": (
        "openai", "gpt-5.6",
        chat(counts(272_001, 1_000), "gpt-5.6", service_tier="batch"), 1_103_004_000,
    ),
    # Cached tokens count to the size, and are halved as well; the answer names no model.
    # (172,001 x 8,000 + 100,000 x 800 + 1,000 x 30,000) / 2
    "chat, a batch above it, cached, of no model": (
        "openai", "gpt-5.6",
        chat(counts(272_001, 1_000, prompt_tokens_details={"cached_tokens": 100_000}), "",
             service_tier="batch"),
        743_004_000,
    ),
    # Flex: (1,000 x 4,000 + 100 x 20,000) / 2
    "chat, flex": (
        "openai", "gpt-5.6", chat(counts(1_000, 100), "gpt-5.6", service_tier="flex"), 3_000_000,
    ),
    # gpt-4o-mini, a batch: $0.075 read, from the cache as well, and $0.30 written.
    # 600 x 75 + 400 x 75 + 300 x 300
    "chat, a batch with a price list of its own": (
        "openai", "gpt-4o-mini", chat(CACHED, "gpt-4o-mini", service_tier="batch"), 165_000,
    ),
    # gpt-5.6: $4 read, $0.40 from the cache, $5 into it for 30 minutes, $20 written; a search
    # $0.01. 500 x 4,000 + 200 x 400 + 300 x 5,000 + 100 x 20,000 + 2 x 10,000,000
    "responses, written to the cache, two searches": (
        "responses", "gpt-5.6", response(KEPT, "gpt-5.6", SEARCH, {**SEARCH, "id": "w2"}),
        25_580_000,
    ),
    # claude-haiku-4-5: $1 read, $0.10 from the cache, $1.25 and $2 into it for 5 minutes and an
    # hour, $5 written, thinking included; a search $0.01. Its input counts are disjoint already.
    # 100 x 1,000 + 2,000 x 100 + 1,000 x 1,250 + 500 x 2,000 + 300 x 5,000 + 2 x 10,000,000
    "anthropic, the cache by lifetime, two searches": (
        "anthropic", "claude-haiku-4-5", message(CLAUDE, "claude-haiku-4-5-20251001"), 24_050_000,
    ),
    # A batch halves tokens, and not searches: 4,050,000 / 2 + 20,000,000
    "anthropic, a batch": (
        "anthropic", "claude-haiku-4-5",
        message({**CLAUDE, "service_tier": "batch"}, "claude-haiku-4-5-20251001"), 22_025_000,
    ),
    # claude-sonnet-4-6: $3 and $15, and a tenth more within the United States.
    # (1,000 x 3,000 + 100 x 15,000) x 11 / 10
    "anthropic, within the United States": (
        "anthropic", "claude-sonnet-4-6",
        message(
            {"input_tokens": 1_000, "output_tokens": 100, "inference_geo": "us",
             "service_tier": "standard"},
            "claude-sonnet-4-6",
        ),
        4_950_000,
    ),
    # gemini-2.5-flash: $0.30 text and $1 sound read, $0.03 from the cache, $2.50 written, thoughts
    # included, which are beside the candidates.
    # 500 x 300 + 100 x 1,000 + 400 x 30 + 250 x 2,500
    "gemini, cached, sound and thoughts": (
        "google", "gemini-2.5-flash", gemini(GEMINI, "gemini-2.5-flash"), 887_000,
    ),
    # Pictures that the cache served stand in three counts, and are billed once.
    # 100 x 300 + 100 x 300 + 800 x 30 + 10 x 2,500
    "gemini, cached pictures": (
        "google", "gemini-2.5-flash", gemini(SEEN_BEFORE, "gemini-2.5-flash"), 109_000,
    ),
    # gemini-2.5-pro: $1.25 and $10, above 200,000 tokens $2.50 and $15.
    # 200,000 x 1,250 + 100 x 10,000
    "gemini, at the border of a tier": (
        "google", "gemini-2.5-pro",
        gemini({"promptTokenCount": 200_000, "candidatesTokenCount": 100,
                "totalTokenCount": 200_100}, "gemini-2.5-pro"),
        251_000_000,
    ),
    # 200,001 x 2,500 + 100 x 15,000
    "gemini, one token above it": (
        "google", "gemini-2.5-pro",
        gemini({"promptTokenCount": 200_001, "candidatesTokenCount": 100,
                "totalTokenCount": 200_101}, "gemini-2.5-pro"),
        501_502_500,
    ),
    # Flex, said with the usage: text and sound at half, the cache as it is.
    # 500 x 150 + 100 x 500 + 400 x 30 + 250 x 1,250
    "gemini, flex": (
        "google", "gemini-2.5-flash",
        gemini({**GEMINI, "serviceTier": "flex"}, "gemini-2.5-flash"), 449_500,
    ),
    # nova-lite: $0.06 and $0.24: 1,000 x 60 + 200 x 240
    "bedrock": ("bedrock", "amazon.nova-lite-v1:0", converse(NOVA), 108_000),
    # The same as a batch: half.
    "bedrock, a batch": (
        "bedrock", "amazon.nova-lite-v1:0",
        converse(NOVA, serviceTier={"type": "batch"}), 54_000,
    ),
    # claude-haiku-4-5 through a global profile, as at Anthropic.
    # 100 x 1,000 + 1,000 x 100 + 1,500 x 1,250 + 500 x 2,000 + 50 x 5,000
    "bedrock, the cache by lifetime": ("bedrock", HAIKU, converse(BEDROCK_CACHE), 3_325_000),
}  # fmt: skip


@pytest.mark.parametrize("name", INVOICES)
async def test_an_answer_costs_what_its_invoice_says(name: str) -> None:
    """To the nano-unit, in each dialect."""
    provider, model, body, nano = INVOICES[name]
    async with billed(provider, whole(body)) as pipeline:
        answer = await pipeline.run(ChatRequest.of("Why?", model=model))
    assert answer.cost == Money(nano)
    assert not answer.trace.usage.estimated
    assert answer.trace.notes == []


STREAMS: dict[str, tuple[str, str, Any, int]] = {
    # The tier comes with each chunk, usage in one without choices: (1,000 x 4,000 + 20,000) / 2
    "chat": (
        "openai", "gpt-5.6",
        events(
            {"id": "c", "model": "gpt-5.6", "service_tier": "flex",
             "choices": [{"index": 0, "delta": {"content": "Blue."}}]},
            {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"id": "c", "choices": [], "usage": counts(1_000, 1)},
            done=True,
        ),
        2_010_000,
    ),
    # Usage stands in the chunk that has the last choice: 1,000 x 4,000 + 20,000
    "chat, beside the last choice": (
        "openai", "gpt-5.6",
        events(
            {"id": "c", "model": "gpt-5.6", "choices": [{"index": 0, "delta": {"content": "B"}}]},
            {"id": "c", "usage": counts(1_000, 1),
             "choices": [{"index": 0, "delta": {"content": "."}, "finish_reason": "stop"}]},
            done=True,
        ),
        4_020_000,
    ),
    # The first event repeats what was asked for; the last one says what was given.
    "responses": (
        "responses", "gpt-5.6",
        events(
            {"type": "response.created", "response": {"id": "r", "service_tier": "auto"}},
            {"type": "response.output_text.delta", "delta": "Blue.", "item_id": "m",
             "output_index": 0, "content_index": 0},
            {"type": "response.completed", "response": response(
                {"input_tokens": 1_000, "output_tokens": 1, "total_tokens": 1_001},
                "gpt-5.6", service_tier="flex")},
        ),
        2_010_000,
    ),
    # Output is cumulative: 1, then 40; the last statement counts. 1,000 x 1,000 + 40 x 5,000
    "anthropic": (
        "anthropic", "claude-haiku-4-5",
        events(
            {"type": "message_start", "message": {
                "id": "m", "model": "claude-haiku-4-5", "role": "assistant", "content": [],
                "usage": {"input_tokens": 1_000, "output_tokens": 1,
                          "service_tier": "standard"}}},
            {"type": "content_block_start", "index": 0,
             "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0,
             "delta": {"type": "text_delta", "text": "Blue."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
             "usage": {"output_tokens": 40}},
            {"type": "message_stop"},
        ),
        1_200_000,
    ),
    # What the start has as nothing is stated at the end, cache writes in two places but once.
    # 100 x 1,000 + 10 x 100 + 1,000 x 1,250 + 500 x 2,000 + 40 x 5,000
    "anthropic, all at the end": (
        "anthropic", "claude-haiku-4-5",
        events(
            {"type": "message_start", "message": {
                "id": "m", "model": "claude-haiku-4-5", "role": "assistant", "content": [],
                "usage": {"input_tokens": 0, "output_tokens": 0}}},
            {"type": "content_block_start", "index": 0,
             "content_block": {"type": "text", "text": "Blue."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {
                "input_tokens": 100, "output_tokens": 40, "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 1_500, "cache_creation": {
                    "ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 500}}},
            {"type": "message_stop"},
        ),
        2_551_000,
    ),
    # Cumulative too; the tier is a header: (1,000 x 300 + 40 x 2,500) / 2
    "gemini": (
        "google", "gemini-2.5-flash",
        events(
            {"candidates": [{"content": {"parts": [{"text": "Blu"}]}, "index": 0}],
             "modelVersion": "gemini-2.5-flash",
             "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 7,
                               "totalTokenCount": 1_007}},
            {"candidates": [{"content": {"parts": [{"text": "e."}]}, "index": 0,
                             "finishReason": "STOP"}],
             "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 40,
                               "totalTokenCount": 1_040}},
            x_gemini_service_tier="flex",
        ),
        200_000,
    ),
    # Usage and tier come after the end: (1,000 x 60 + 200 x 240) / 2
    "bedrock": (
        "bedrock", "amazon.nova-lite-v1:0",
        CannedClient(FRAMES, [
            frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Blue."}}),
            frame("contentBlockStop", {"contentBlockIndex": 0}),
            frame("messageStop", {"stopReason": "end_turn"}),
            frame("metadata", {"usage": NOVA, "serviceTier": {"type": "batch"}}),
        ], {}),
        54_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
async def test_a_streamed_answer_costs_the_same(name: str) -> None:
    """The last usage counts, and the class of service that was given."""
    provider, model, client, nano = STREAMS[name]
    async with (
        billed(provider, client) as pipeline,
        pipeline.stream(ChatRequest.of("Why?", model=model)) as answer,
    ):
        await answer.collect()
    assert answer.cost == Money(nano)
    assert not answer.trace.usage.estimated


async def test_usage_that_never_comes_is_estimated() -> None:
    """Flagged, the prompt included, and not below what was delivered."""
    words = [
        {
            "id": "c",
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "delta": {"content": "Blue "}}],
        }
        for _ in range(5)
    ]
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    async with (
        billed("openai", events(*words, end, done=True)) as pipeline,
        pipeline.stream(ChatRequest.of("Why?", model="gpt-4o-mini")) as answer,
    ):
        await answer.collect()
    usage = answer.trace.usage
    assert usage.estimated
    assert usage.output_tokens >= 5
    assert usage.input_tokens >= 1
    # $0.15 and $0.60 for a million of each
    assert answer.cost == Money(usage.input_tokens * 150 + usage.output_tokens * 600)


async def test_a_stream_that_is_left_costs_what_was_delivered() -> None:
    """And the prompt as it was stated, in the class of service that was stated."""
    stated = {"input_tokens": 1_000, "output_tokens": 1, "service_tier": "batch"}
    begun = {"id": "m", "model": "claude-haiku-4-5", "role": "assistant", "content": []}
    text = {"type": "text_delta", "text": "Blue "}
    client = events(
        {"type": "message_start", "message": {**begun, "usage": stated}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": text}] * 3,
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
    )
    async with (
        billed("anthropic", client) as pipeline,
        pipeline.stream(ChatRequest.of("Why?", model="claude-haiku-4-5")) as answer,
    ):
        async for event in answer:
            if isinstance(event, TextDelta):
                break
    [attempt] = answer.trace.attempts
    assert attempt.outcome is Outcome.LEFT
    assert attempt.usage is not None
    assert attempt.usage.estimated
    assert attempt.usage.output_tokens >= 1
    # ($1 x 1,000 and $5 for each written) / 2
    assert attempt.cost == Money((1_000 * 1_000 + attempt.usage.output_tokens * 5_000) // 2)


@pytest.mark.parametrize(
    ("provider", "model", "body", "asked", "nano", "served"),
    [
        # Priority was asked for and not given: 1,000 x 4,000 + 100 x 20,000
        ("openai", "gpt-5.6", chat(counts(1_000, 100), "gpt-5.6", service_tier="default"),
         "priority", 6_000_000, "default"),
        # Nothing was asked for, and the project's own default is priority: twice that
        ("openai", "gpt-5.6", chat(counts(1_000, 100), "gpt-5.6", service_tier="priority"),
         None, 12_000_000, "priority"),
    ],
)  # fmt: skip
async def test_the_service_that_was_given_is_billed(
    provider: str, model: str, body: Any, asked: str | None, nano: int, served: str
) -> None:
    """Not the one that was asked for; the trace says where the two differ."""
    async with billed(provider, whole(body)) as pipeline:
        answer = await pipeline.run(ChatRequest.of("Why?", model=model, service_tier=asked))
    assert answer.cost == Money(nano)
    assert answer.head.service == served
    told = [dict(note.fields) for note in answer.trace.notes if note.name == "cost.service"]
    assert told == ([] if asked is None else [{"asked": asked, "served": served}])


async def test_a_service_that_nobody_has_a_price_of_is_no_ordinary_one() -> None:
    """Its cost is unknown, never that of another service."""
    body = gemini({**GEMINI, "trafficType": "PROVISIONED_THROUGHPUT"}, "gemini-2.5-flash")
    async with billed("google", whole(body)) as pipeline:
        answer = await pipeline.run(ChatRequest.of("Why?", model="gemini-2.5-flash"))
    assert answer.cost is None
    assert answer.trace.notes[0].fields["why"] == "no price for service:provisioned_throughput"


@pytest.mark.parametrize(
    ("stated", "nano"),
    [
        ({"cost": 0.00014}, 140_000),
        ({"cost": 1.4e-7}, 140),
        ({"cost": 0.00001, "is_byok": True,
          "cost_details": {"upstream_inference_cost": 0.0002}}, 210_000),
        ({"cost": {"total_cost": 0.006}}, 6_000_000),
        ({"cost_in_usd_ticks": 1_234_567}, 123_457),  # ten-billionths, rounded half up
    ],
)  # fmt: skip
async def test_a_cost_that_the_provider_states_is_what_is_paid(
    stated: dict[str, Any], nano: int
) -> None:
    """Arithmetic stays as a check on it, and says where it comes to something else."""
    body = chat({**counts(1_000, 100), **stated}, "m")
    prices = {"m": {"input": "0.1", "output": "0.4"}}  # 1,000 x 100 + 100 x 400 = 140,000
    async with billed("openrouter", whole(body), prices=prices) as pipeline:
        answer = await pipeline.run(ChatRequest.of("Why?", model="m"))
    assert answer.cost == Money(nano)
    notes = [(note.name, note.fields["priced"]) for note in answer.trace.notes]
    assert notes == ([] if nano == 140_000 else [("cost.differs", "$0.00014")])


@pytest.mark.parametrize("stated", [0, 0.0, -1, True, "0.5", 1e300, None, {}])
async def test_what_states_no_cost_is_priced(stated: Any) -> None:
    """0 may mean that nobody knows: only an amount above it is believed."""
    usage = {**counts(1_000, 100), "cost": stated}
    prices = {"m": {"input": "0.1", "output": "0.4"}}
    async with billed("openrouter", whole(chat(usage, "m")), prices=prices) as pipeline:
        answer = await pipeline.run(ChatRequest.of("Why?", model="m"))
    assert answer.cost == Money(140_000)


async def test_embeddings_cost_what_they_read() -> None:
    """text-embedding-3-small: $0.02 for a million tokens; 1,000 x 20."""
    body = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}],
        "usage": {"prompt_tokens": 1_000, "total_tokens": 1_000},
    }
    async with billed("openai", whole(body)) as pipeline:
        answer = await pipeline.run(EmbeddingRequest.of("x", model="text-embedding-3-small"))
    assert answer.cost == Money(20_000)
