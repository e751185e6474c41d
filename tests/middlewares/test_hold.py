"""Hold: what breaks off within the window is uncommitted, and nothing is shown twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    ConnectionLostError,
    Event,
    Finish,
    IdleTimeout,
    LamellaError,
    MediaDelta,
    Opaque,
    OrderError,
    Outcome,
    Pipeline,
    ReasoningDelta,
    StreamTruncated,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares.hold import Hold
from lamella_middlewares.retry import Retry
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
WORDS = ["one ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight"]
ANSWER = "".join(WORDS)
WHOLE: list[Any] = [*WORDS, UsageReport(Usage(uncached_input=3, text_output=8)), Finish("stop")]
RETRY = Retry(base=0.01, budget=None)


def pipeline(layers: list[Any], transport: Any, **more: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports(), **more)


async def read(pipe: Pipeline) -> tuple[list[str], Any]:
    """The pieces that a consumer is shown, and the response or the error."""
    shown: list[str] = []
    response: Any = None
    try:
        async with pipe.stream(ASK) as response:
            async for event in response:
                if isinstance(event, TextDelta):
                    shown.append(event.text)
    except LamellaError as error:
        return shown, error
    return shown, response


async def held(layer: Hold, events: list[Any]) -> tuple[int, str]:
    """How many events the consumer finds ready at the first one, and why the window ended."""
    pipe = pipeline([layer], Scripted([events]))
    async with pipe.stream(ASK) as response:
        count = len(response.events)
        (note,) = [note for note in response.trace.notes if note.name == "hold.released"]
        assert note.fields["events"] == count
        return count, note.fields["why"]


@pytest.mark.parametrize("end", [(), (ConnectionLostError("cut"),)], ids=["silent", "reset"])
@pytest.mark.parametrize("cut", range(len(WHOLE)))
async def test_a_cut_at_any_event_is_never_seen_twice_nor_lost(cut: int, end: Any) -> None:
    """Inside the window the answer is replaced; after it the consumer has what came, and the error.

    The window is four words, and the fourth is in it.
    """
    transport = Scripted([[*WHOLE[:cut], *end], WHOLE])
    shown, found = await read(pipeline([RETRY, Hold(tokens=4)], transport))
    if cut < 4:
        assert shown == WORDS
        assert [attempt.committed for attempt in found.trace.attempts] == [False, True]
        assert found.trace.attempts[0].outcome in {Outcome.TRUNCATED, Outcome.UNKNOWN}
    else:
        assert shown == WORDS[:cut]
        assert found.committed
        assert found.partial.text == "".join(WORDS[:cut])
        assert len(transport.requests) == 1
        assert found.attempts[0].committed
    assert transport.open_sources == 0


@pytest.mark.parametrize("cut", range(len(WHOLE)))
async def test_held_to_its_end_a_cut_anywhere_is_replaced(cut: int) -> None:
    """The answer is shown whole or not at all."""
    transport = Scripted([WHOLE[:cut], WHOLE])
    shown, found = await read(pipeline([RETRY, Hold(all=True)], transport))
    assert shown == WORDS
    assert found.complete
    assert not found.trace.attempts[0].committed


async def test_the_error_of_the_window_has_what_came() -> None:
    """Uncommitted, retryable, with the part that nobody was shown."""
    shown, error = await read(pipeline([Hold(tokens=4)], Scripted([["one ", "two "]])))
    assert shown == []
    assert isinstance(error, StreamTruncated)
    assert (error.committed, error.retryable) == (False, True)
    assert error.partial is not None
    assert error.partial.text == "one two "
    assert not error.attempts[0].committed


async def test_events_come_as_they_were() -> None:
    """In order, none missing, those that say nothing included."""
    ping = UsageReport(Usage())
    events: list[Event] = [
        Opaque({"type": "start"}, content=False),
        ReasoningDelta("hm"),
        TextDelta("a"),
        ToolCallDelta(0, "1", "look", "{}"),
        TextDelta("b"),
        ping,
        Finish("stop"),
    ]
    for layer in (Hold(tokens=1), Hold(tokens=3), Hold(all=True)):
        pipe = pipeline([layer], Scripted([events]))
        async with pipe.stream(ASK) as response:
            assert [event async for event in response] == events


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (Hold(tokens=1), (1, "tokens")),
        (Hold(tokens=3), (3, "tokens")),
        (Hold(characters=9), (3, "characters")),
        (Hold(tokens=100), (len(WHOLE), "end")),
        (Hold(all=True), (len(WHOLE), "end")),
        (Hold(all=True, max_bytes=10), (3, "max_bytes")),
        (Hold(tokens=2, characters=100), (2, "tokens")),
        (Hold(), (len(WHOLE), "end")),
    ],
    ids=str,
)
async def test_the_window_ends_with_the_first_size_that_is_full(
    layer: Hold, found: tuple[int, str]
) -> None:
    """The event that fills it is in it."""
    assert await held(layer, WHOLE) == found


async def test_seconds_end_with_the_next_event() -> None:
    """A read is not broken off for it; they count from the first event."""
    items = [50.0, "a", 0.4, "b", 0.4, "c", 0.4, "d", Finish("stop")]
    assert await held(Hold(seconds=timedelta(seconds=1)), items) == (4, "seconds")
    assert await held(Hold(), items) == (4, "seconds")


async def test_pictures_and_sound_count_by_their_bytes() -> None:
    """A window in tokens does not hold an endless film."""
    pieces = [MediaDelta("audio", b"x" * 400) for _ in range(9)]
    assert await held(Hold(tokens=5, max_bytes=1_000), [*pieces, Finish("stop")]) == (
        3,
        "max_bytes",
    )


async def test_a_silence_in_the_window_is_ended_and_replaced() -> None:
    """The idle limit holds while Hold reads, and the next try takes over."""
    transport = Scripted([["one ", "two ", 99.0, "never", Finish("stop")], WHOLE])
    shown, found = await read(pipeline([RETRY, Hold(tokens=4), Timeout(idle=5)], transport))
    assert shown == WORDS
    assert [attempt.cause for attempt in found.trace.attempts] == ["IdleTimeout", None]
    assert isinstance(found.trace.attempts[0].outcome, Outcome)
    later = Scripted([["one ", "two ", 99.0, Finish("stop")]])
    _, error = await read(pipeline([Hold(tokens=2), Timeout(idle=5)], later))
    assert isinstance(error, IdleTimeout)
    assert error.committed


async def test_run_is_not_held() -> None:
    """It is complete already; there is nothing to note."""
    response = await pipeline([Hold(all=True)], Scripted([WHOLE])).run(ASK)
    assert response.text == ANSWER
    assert not response.trace.notes
    assert not response.trace.attempts[0].committed


async def test_a_consumer_reads_on_while_the_rest_comes() -> None:
    """After the window events come one by one, as they arrive."""
    transport = Scripted([ScriptedAnswer(WHOLE, gap=1)])
    pipe = pipeline([Hold(tokens=4)], transport)
    began = anyio.current_time()
    async with pipe.stream(ASK) as response:
        times = [anyio.current_time() - began async for _ in response]
    assert times[:6] == pytest.approx([4, 4, 4, 4, 5, 6])


async def test_leaving_after_the_window_closes_the_source() -> None:
    """Nothing is left of what was read ahead."""
    transport = Scripted([WHOLE])
    async with pipeline([Hold(tokens=4)], transport).stream(ASK) as response:
        await anext(aiter(response))
    assert transport.open_sources == 0
    assert response.outcome is Outcome.LEFT


@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_any_step_it_leaves_nothing(backend: str, by_task: bool) -> None:
    """In the window and after it; the ledger has an end for every attempt."""

    def make() -> Any:
        transport = Scripted([["one ", "two "], WHOLE], gap=0.1)
        pipe = pipeline([RETRY, Hold(tokens=4)], transport)

        async def scenario() -> None:
            await read(pipe)

        async def check() -> None:
            await anyio.sleep(1)
            assert transport.open_sources == 0
            for request in transport.requests:
                trace = request.context.trace
                assert all(attempt.outcome is not None for attempt in trace.attempts)
                assert not any(note.name == "leak" for note in trace.notes)

        return scenario, check

    assert each_step(make, backend=backend, by_task=by_task, again=(1, 2)) > 10


async def test_a_bug_while_it_reads_closes_the_answer() -> None:
    """An event that cannot be counted must not leave a connection behind."""
    strange: Any = TextDelta("x")
    object.__setattr__(strange, "text", 7)
    transport = Scripted([["a", strange, "b", Finish("stop")]])
    with pytest.raises(AttributeError):
        await read(pipeline([Hold(tokens=9)], transport))
    assert transport.open_sources == 0


def test_outside_retry_it_would_be_of_no_use() -> None:
    """The pipeline says so when it is built."""
    with pytest.raises(OrderError, match="nobody who tries again"):
        Pipeline([Hold(), Retry()], Scripted(["x"]))


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": 0},
        {"seconds": 0},
        {"characters": -1},
        {"all": "yes"},
        {"all": True, "tokens": 5},
        {"max_bytes": 0},
        {"max_bytes": None},
    ],
    ids=str,
)
def test_wrong_options_are_refused_when_it_is_made(options: dict[str, Any]) -> None:
    """The message names the layer."""
    with pytest.raises(ConfigurationError, match=r"Hold\("):
        Hold(**options)
