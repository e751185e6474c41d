"""The scripted transport answers as told, through the same door as a real one."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConnectionLostError,
    EmbeddingRequest,
    EmbeddingResponse,
    Event,
    Finish,
    Head,
    Message,
    Pipeline,
    RateLimitError,
    StreamTruncated,
    TextDelta,
    ToolCall,
    Usage,
)
from lamella.testing import Scripted, ScriptedAnswer, ScriptExhaustedError, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


async def stream(transport: Scripted) -> tuple[ChatResponse, list[tuple[float, Event]]]:
    """One streamed answer, with the instants of its events."""
    pipeline = Pipeline([], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        return response, [(anyio.current_time(), event) async for event in response]


@pytest.mark.parametrize("text", ["one two  three", "\n lines\nand more ", " ", "word", ""])
async def test_text_comes_word_by_word(text: str) -> None:
    """Text is a good answer in pieces that add up to it, whatever its spaces."""
    response, seen = await stream(Scripted([text]))
    assert (response.text, response.finish_reason) == (text, "stop")
    pieces = [event.text for _, event in seen if isinstance(event, TextDelta)]
    assert "".join(pieces) == text
    assert all(piece.strip() or text.endswith(piece) for piece in pieces)


async def test_steps_answer_in_turn() -> None:
    """Text, messages, tool calls, responses and functions answer one request each."""

    async def later(request: ChatRequest) -> str:
        await anyio.sleep(1)
        return f"heard {request.messages[-1].text}"

    call = ToolCall("1", "look", '{"at": 1}')
    transport = Scripted(
        [
            "text",
            Message("assistant", "message"),
            call,
            ChatResponse.of("response", usage=Usage(text_output=1), model="m"),
            lambda request: [TextDelta(request.messages[-1].text), Finish("length")],
            later,
        ]
    )
    pipeline = Pipeline([], transport, ports=virtual_ports())
    answers = [await pipeline.run(HELLO) for _ in range(6)]
    texts = [answer.text for answer in answers]
    assert texts == ["text", "message", "", "response", "hello", "heard hello"]
    assert answers[2].tool_calls == (call,)
    assert (answers[3].model, answers[3].usage) == ("m", Usage(text_output=1))
    assert answers[4].finish_reason == "length"
    assert (transport.left, len(transport.requests)) == (0, 6)


async def test_embeddings_are_played() -> None:
    """A response of any operation is played for a request of that operation."""
    transport = Scripted([EmbeddingResponse.of([[1.0, 2.0]])])
    response = await Pipeline([], transport).run(EmbeddingRequest.of("x"))
    assert response.vector == (1.0, 2.0)


@pytest.mark.parametrize("error", [RateLimitError, RateLimitError("Too many."), OSError(1, "no")])
async def test_an_exception_is_raised_before_the_commitment(error: Any) -> None:
    """An exception, or its class, is raised instead of an answer; no source is opened."""
    transport = Scripted([error])
    with pytest.raises((RateLimitError, OSError)) as raised:
        await stream(transport)
    assert transport.sources == []
    assert raised.value is not error or isinstance(error, OSError)


async def test_a_list_is_played_as_it_stands() -> None:
    """Events, pauses and exceptions come in order, at their instants."""
    lost = ConnectionLostError("lost")
    transport = Scripted([["a", 2.5, TextDelta("b"), lost]])
    async with Pipeline([], transport, ports=virtual_ports()).stream(HELLO) as response:
        assert (response.partial.text, anyio.current_time()) == ("a", 0)
        with pytest.raises(ConnectionLostError):
            await response.collect()
    assert (response.partial.text, anyio.current_time()) == ("ab", 2.5)
    assert (transport.open_sources, transport.sources[0].given) == (0, 2)


async def test_a_list_without_an_end_breaks_off() -> None:
    """What has no `Finish` is an answer that stops in the middle."""
    with pytest.raises(StreamTruncated):
        await stream(Scripted([["a", "b"]]))


async def test_delays_are_on_the_ports_clock() -> None:
    """The head may be late, and each event; one answer may have its own times."""
    own = ScriptedAnswer(["c", Finish("stop")], delay=7, head=Head(request_id="r"))
    transport = Scripted(["a b", own], delay=3, gap=0.5)
    _, seen = await stream(transport)
    assert [instant for instant, _ in seen] == [3.5, 4.0, 4.5]
    response, seen = await stream(transport)
    assert [instant for instant, _ in seen] == [12.0, 12.5]
    assert response.head.request_id == "r"


async def test_a_pause_without_end_can_be_left() -> None:
    """A black hole in the middle of an answer is left and closed like any other wait."""
    transport = Scripted([["a", math.inf]])
    with anyio.move_on_after(60) as scope:
        await stream(transport)
    assert scope.cancelled_caught
    assert (transport.open_sources, transport.sources[0].closings) == (0, 1)


async def test_the_end_of_the_script_is_an_error() -> None:
    """Being asked too often says how many answers there are; `repeat` begins again."""
    transport = Scripted(["only"])
    await stream(transport)
    with pytest.raises(ScriptExhaustedError, match="has 1 answers and was asked 2 times"):
        await stream(transport)
    again = Scripted(["a", "b"], repeat=True)
    assert [(await stream(again))[0].text for _ in range(5)] == ["a", "b", "a", "b", "a"]


async def test_it_remembers_what_it_was_asked() -> None:
    """Requests are kept as they arrived; a closed transport refuses."""
    transport = Scripted(["a", "b"])
    pipeline = Pipeline([], transport)
    await pipeline.run(HELLO)
    await pipeline.aclose()
    assert transport.requests == [HELLO]
    assert transport.closed
    with pytest.raises(ClosedError, match="after it had been closed"):
        await Pipeline([], transport).run(HELLO)


def test_wrong_scripts_are_refused() -> None:
    """A script that is no list, is empty, or has a negative time is a mistake."""
    with pytest.raises(TypeError, match=r"Scripted\(\['hello'\]\)"):
        Scripted("hello")
    with pytest.raises(ValueError, match="no answer"):
        Scripted([])
    with pytest.raises(ValueError, match="0 or more"):
        Scripted(["a"], delay=-1)


async def test_what_is_no_answer_is_named() -> None:
    """A step of a wrong kind says what can be used."""
    with pytest.raises(TypeError, match="42 is no answer"):
        await stream(Scripted([lambda _: 42]))
