"""The bound on attempts of one model turn, whoever asks for them."""

from __future__ import annotations

from typing import Any

import pytest

from lamella import (
    AttemptBound,
    AttemptLimitError,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Context,
    NetworkError,
    Outcome,
    Pipeline,
)
from lamella.testing import Scripted

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


def trying(times: int) -> Any:
    """A layer that tries so often."""

    async def retry(request: ChatRequest, call_next: Any) -> ChatResponse:
        for number in range(1, times):
            try:
                response: ChatResponse = await call_next(request.branch(f"try{number}"))
            except NetworkError:
                continue
            return response
        last: ChatResponse = await call_next(request.branch(f"try{times}"))
        return last

    return retry


async def test_nested_retries_do_not_multiply_beyond_the_bound() -> None:
    """Three tries of three tries of three make ten attempts, not twenty-seven."""
    transport = Scripted([NetworkError("down")], repeat=True)
    pipeline = Pipeline([trying(3), trying(3), trying(3)], transport)
    with pytest.raises(AttemptLimitError, match="10 attempts") as bounded:
        await pipeline.run(HELLO)
    assert len(transport.requests) == len(bounded.value.attempts) == 10
    assert (bounded.value.outcome, bounded.value.retryable) == (Outcome.NOT_SENT, False)
    assert bounded.value.attempts[0].branch == "/try1/try1/try1"


async def test_the_bound_holds_across_a_nested_pipeline() -> None:
    """A pipeline inside another runs in its call and takes from the same bound."""
    transport = Scripted([NetworkError("down")], repeat=True)
    inner = Pipeline([trying(4)], transport, max_attempts=100)
    with pytest.raises(AttemptLimitError):
        await Pipeline([trying(4)], inner, max_attempts=6).run(HELLO)
    assert len(transport.requests) == 6


async def test_a_bound_within_another_takes_from_both() -> None:
    """The tighter one holds, and the error names the outermost that is reached."""
    outer = AttemptBound(3)
    inner, looser = outer.within(2), outer.within(3)
    assert looser is outer
    assert inner.turn is outer
    inner.take()
    outer.take()
    assert (inner.left, outer.left, inner.used, outer.used) == (1, 1, 1, 2)
    inner.take()
    with pytest.raises(AttemptLimitError, match="has made 3 attempts"):
        inner.take()
    assert (inner.used, outer.used) == (2, 3)


async def test_each_call_has_a_bound_of_its_own() -> None:
    """One request may be run many times; each call counts from zero."""
    pipeline = Pipeline([], Scripted(["ok"], repeat=True), max_attempts=1)
    for _ in range(3):
        assert (await pipeline.run(HELLO)).text == "ok"


async def test_a_turn_and_a_child_have_bounds_of_their_own() -> None:
    """A further model turn, and a call for another purpose, count from zero."""

    async def agent(request: ChatRequest, call_next: Any) -> ChatResponse:
        await call_next(request)
        await call_next(request.child(ChatRequest.of("judge"), purpose="judge"))
        response: ChatResponse = await call_next(request.turn(2))
        return response

    transport = Scripted(["ok"], repeat=True)
    response = await Pipeline([agent], transport, max_attempts=1).run(HELLO)
    assert [a.branch for a in response.trace.attempts] == ["", "/judge", "/turn2"]
    assert (await Pipeline([agent], transport, max_attempts=2).run(HELLO)).text == "ok"


async def test_a_bound_below_one_is_refused() -> None:
    """A pipeline that may make no attempt is a mistake."""
    with pytest.raises(ConfigurationError, match="1 or more"):
        Pipeline([], Scripted(["ok"]), max_attempts=0)


async def test_the_callers_bound_is_replaced() -> None:
    """What a caller puts on the request does not reach into the call."""
    request = HELLO.evolve(context=Context(bound=AttemptBound(0)))
    assert (await Pipeline([], Scripted(["ok"])).run(request)).text == "ok"
