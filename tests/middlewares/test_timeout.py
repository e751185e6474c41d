"""Timeout: each attempt is bounded, stage by stage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from lamella import (
    AttemptTimeout,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Finish,
    FirstEventTimeout,
    IdleTimeout,
    Limits,
    Outcome,
    Pipeline,
    Request,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
PING = UsageReport(Usage())
OFF = Timeout(connect=None, write=None, first_event=None, idle=None, attempt=None)


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def limits_of(*layers: Any) -> Limits:
    """The limits that the transport is given."""
    transport = Scripted(["ok"])
    await pipeline(list(layers), transport).run(ASK)
    limits: Limits = transport.requests[0].context.limits
    return limits


async def test_limits_reach_the_transport() -> None:
    """The client keeps connect and write, so it must be told."""
    limits = await limits_of(Timeout(connect=1, write=timedelta(seconds=2), attempt=None))
    assert (limits.connect, limits.write, limits.attempt) == (1, 2, None)


async def test_limits_only_tighten() -> None:
    """Of two layers the smaller limit holds, whichever stands outside."""
    wide, narrow = Timeout(connect=9, idle=1), Timeout(connect=1, idle=9)
    for layers in ((wide, narrow), (narrow, wide)):
        limits = await limits_of(*layers)
        assert (limits.connect, limits.idle) == (1, 1)


async def test_none_switches_all_of_it_off() -> None:
    """Without limits there are none."""
    assert await limits_of(OFF) == Limits()


async def test_a_silent_provider_is_left_before_the_first_event() -> None:
    """A stream that does not begin ends the attempt as timed out, uncommitted."""
    transport = Scripted([ScriptedAnswer((PING, 99.0, "late", Finish("stop")))])
    with pytest.raises(FirstEventTimeout) as caught:
        async with pipeline([Timeout(first_event=3)], transport).stream(ASK):
            pytest.fail("there is no first event")
    (attempt,) = caught.value.attempts
    assert attempt.outcome is Outcome.TIMED_OUT
    assert attempt.duration == pytest.approx(3)
    assert transport.open_sources == 0


async def test_a_complete_answer_has_no_first_event_to_wait_for() -> None:
    """An answer in one piece may take longer than `first_event`; `attempt` bounds it."""
    transport = Scripted([ScriptedAnswer(("slow", Finish("stop")), delay=50)])
    response = await pipeline([Timeout(first_event=3, idle=None)], transport).run(ASK)
    assert response.text == "slow"


async def test_the_first_event_of_a_run_is_bounded_where_it_is_streamed() -> None:
    """With `stream_runs`, a provider that has died is found out before the attempt's limit."""
    transport = Scripted([ScriptedAnswer(("late", Finish("stop")), delay=50)])
    with pytest.raises(FirstEventTimeout) as caught:
        await pipeline([Timeout(first_event=3, stream_runs=True)], transport).run(ASK)
    assert caught.value.attempts[0].duration == pytest.approx(3)


async def test_once_a_streamed_run_has_begun_its_first_event_is_bounded_no_more() -> None:
    """What follows is bounded by `idle` and `attempt`, as in a stream."""
    transport = Scripted([["one", 2.0, "two", 2.0, "three", Finish("stop")]])
    pipe = pipeline([Timeout(first_event=3, idle=3, stream_runs=True)], transport)
    assert (await pipe.run(ASK)).text == "onetwothree"


async def test_silence_ends_a_streamed_run() -> None:
    """`idle` holds for the events of a run as it does for those of a stream."""
    transport = Scripted([["one", 30.0, "two", Finish("stop")]])
    with pytest.raises(IdleTimeout):
        await pipeline([Timeout(idle=5, stream_runs=True)], transport).run(ASK)


async def test_a_transport_that_cannot_stream_says_so() -> None:
    """An answer in one piece has no first event, whoever asked for a stream."""

    async def whole(request: ChatRequest) -> ChatResponse:
        attempt = request.context.attempt
        assert attempt is not None
        attempt.expect_whole()
        await request.context.ports.sleep(9)
        return ChatResponse.of("whole")

    pipe = pipeline([Timeout(first_event=3, stream_runs=True)], whole)
    assert (await pipe.run(ASK)).text == "whole"
    async with pipe.stream(ASK) as response:
        assert (await response.collect()).text == "whole"


async def test_an_attempt_is_bounded_as_a_whole() -> None:
    """A black hole ends with the limit of the attempt."""
    transport = Scripted([ScriptedAnswer(("slow", Finish("stop")), delay=50)])
    with pytest.raises(AttemptTimeout) as caught:
        await pipeline([Timeout(attempt=4)], transport).run(ASK)
    assert caught.value.attempts[0].duration == pytest.approx(4)
    assert caught.value.retryable


async def test_silence_in_the_middle_ends_the_answer() -> None:
    """The error holds what came, and the source is closed."""
    transport = Scripted([["one ", "two", 30.0, "three", Finish("stop")]])
    with pytest.raises(IdleTimeout) as caught:
        async with pipeline([Timeout(idle=5)], transport).stream(ASK) as response:
            await response.collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two"
    assert transport.open_sources == 0


async def test_pings_do_not_break_the_silence() -> None:
    """An event that says nothing does not reset the limit."""
    transport = Scripted([["one", 3.0, PING, 3.0, PING, 3.0, "two", Finish("stop")]])
    with pytest.raises(IdleTimeout):
        async with pipeline([Timeout(idle=5)], transport).stream(ASK) as response:
            await response.collect()


async def test_a_slow_reader_is_not_timed_out() -> None:
    """The time for which the caller holds an event counts for no limit."""
    transport = Scripted([["one", "two", Finish("stop")]])
    pipe = pipeline([Timeout(idle=1, attempt=5)], transport)
    async with pipe.stream(ASK) as response:
        async for event in response:
            if isinstance(event, TextDelta):
                await pipe.ports.sleep(60)
    assert response.text == "onetwo"


async def test_a_plain_function_is_bounded_too() -> None:
    """Limits hold for any transport, not only for the library's own."""

    async def hole(request: Request[Any]) -> Any:
        await request.context.ports.sleep(999)

    with pytest.raises(AttemptTimeout):
        await pipeline([Timeout(attempt=2)], hole).run(ASK)


@pytest.mark.parametrize("stage", ["connect", "write", "first_event", "idle", "attempt"])
def test_zero_is_refused_and_told_apart_from_none(stage: str) -> None:
    """0 would let nothing pass: the message says that None is what is meant."""
    with pytest.raises(ConfigurationError, match=rf"Timeout\({stage}=0\).*None for no limit"):
        Timeout(**cast("Any", {stage: 0}))
