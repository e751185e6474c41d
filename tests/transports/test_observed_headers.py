"""What observers of attempts send along with a request, and what they learn of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from openai_wire import KEY, complete, serving, stream

from lamella import (
    ChatRequest,
    Finish,
    OpenAttempt,
    Pipeline,
    RateLimitError,
    TextDelta,
    observed,
)
from lamella.testing import Scripted

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hi", model="m")


class Companion:
    """A layer that sends headers along, and keeps each attempt that has ended."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.ended: list[OpenAttempt] = []

    async def __call__(self, request: Any, call_next: Any) -> Any:
        """Pass on."""
        return await call_next(observed(request, self))

    def attempt_opened(self, attempt: OpenAttempt, request: Any) -> None:
        """Say what goes along."""
        attempt.headers = self.headers

    def attempt_closed(self, attempt: OpenAttempt, request: Any) -> None:
        """Keep it."""
        self.ended.append(attempt)


@pytest.mark.parametrize("streamed", [False, True])
async def test_they_go_along(streamed: bool) -> None:
    """Beside the transport's own, which they do not replace, whatever the case of their names."""
    along = {"traceparent": "1", "TRACESTATE": "2", "x-mine": "theirs", "authorization": "theirs"}
    reply = stream() if streamed else complete()
    async with serving(reply, headers={"X-Mine": "mine"}) as (server, plain):
        pipeline = Pipeline([Companion(along)], plain.transport)
        if streamed:
            async with pipeline.stream(ASK) as response:
                await response.collect()
        else:
            await pipeline.run(ASK)
        headers = server.received[0].headers
    found = {name: headers[name] for name in ("traceparent", "tracestate", "x-mine")}
    assert found == {"traceparent": "1", "tracestate": "2", "x-mine": "mine"}
    assert headers["authorization"] == f"Bearer {KEY}"


async def test_a_mistake_in_them_costs_no_request() -> None:
    """What no header can hold, or says how long a request is, is left out."""
    along: Any = {"good": "1", "bad\n": "2", "worse": "a\r\nb: c", "é": "3", "Content-Length": "5"}
    along.update({"number": 7, 8: "eight", "none": None})
    async with serving(complete()) as (server, plain):
        await Pipeline([Companion(along)], plain.transport).run(ASK)
        headers = server.received[0].headers
    assert headers["good"] == "1"
    assert {"b", "bad", "worse", "number", "8", "none"}.isdisjoint(headers)
    assert headers["content-length"] != "5"


@pytest.mark.parametrize("streamed", [False, True])
async def test_they_learn_where_it_went_and_what_answered(streamed: bool) -> None:
    """Address, the answer's id and model, and why it is over."""
    companion = Companion({})
    async with serving(stream() if streamed else complete()) as (server, plain):
        pipeline = Pipeline([companion], plain.transport)
        if streamed:
            async with pipeline.stream(ASK) as response:
                await response.collect()
        else:
            await pipeline.run(ASK)
    (attempt,) = companion.ended
    assert attempt.url is not None
    assert attempt.url.startswith(server.url)
    facts = (attempt.answer_id, attempt.served_model, attempt.finish_reasons)
    assert facts == ("c1", "m-1", ("stop",))


async def test_what_is_not_sent_over_http_has_no_address() -> None:
    """Nor is anything made of headers that nobody sends."""
    companion = Companion({"traceparent": "1"})
    await Pipeline([companion], Scripted(["well"])).run(ASK)
    (attempt,) = companion.ended
    assert (attempt.url, attempt.finish_reasons) == (None, ("stop",))


async def test_each_choice_has_its_reason() -> None:
    """In their order; an attempt that failed has none."""
    companion = Companion({})
    several: list[Any] = [TextDelta("well"), Finish("stop", ("stop", "length"))]
    pipeline = Pipeline([companion], Scripted([several, RateLimitError("no", status=429)]))
    await pipeline.run(ASK)
    with pytest.raises(RateLimitError):
        await pipeline.run(ASK)
    assert [each.finish_reasons for each in companion.ended] == [("stop", "length"), ()]
