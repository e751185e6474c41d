"""Changing events on their way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConnectionLostError,
    Event,
    Finish,
    Message,
    Outcome,
    Pipeline,
    ReasoningDelta,
    RefusalDelta,
    StreamTruncated,
    TextDelta,
    ToolCallDelta,
    Turn,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


@pytest.fixture(params=[False, True], ids=["run", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Unstreamed and streamed."""
    return bool(request.param)


class HoldBack:
    """Keeps the last piece of text until more comes, as one who looks for placeholders does."""

    def __init__(self) -> None:
        self.held: list[Event] = []
        self.fed: list[Event] = []

    def feed(self, event: Event) -> Iterable[Event]:
        self.fed.append(event)
        if type(event) is not TextDelta:
            return (event,)
        out = self.held
        self.held = [event]
        return out

    def flush(self) -> Iterable[Event]:
        out, self.held = self.held, []
        return out


def changing(make: Any) -> Any:
    """A layer with a transform of its own for each answer."""

    async def change(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        return response.transform(make())

    return change


async def call(pipeline: Pipeline, *, stream: bool) -> ChatResponse:
    """Run or stream to the end."""
    if not stream:
        return await pipeline.run(HELLO)
    async with pipeline.stream(HELLO) as response:
        return await response.collect()


async def test_every_kind_of_event_but_the_last_is_fed(stream: bool) -> None:
    """Text, reasoning, refusals, tool calls, usage: all pass the transform; `Finish` does not."""
    events: list[Event] = [
        TextDelta("a"),
        ReasoningDelta("b"),
        RefusalDelta("c"),
        ToolCallDelta(0, "id", "name", "{}"),
        UsageReport(Usage(text_output=1)),
        Finish("stop"),
    ]
    made: list[HoldBack] = []

    def make() -> HoldBack:
        made.append(HoldBack())
        return made[-1]

    await call(Pipeline([changing(make)], Scripted([events])), stream=stream)
    assert [transform.fed for transform in made] == [events[:-1]]


async def test_what_is_held_back_comes_before_the_end(stream: bool) -> None:
    """At `Finish` the transform gives up what it held back; nothing is lost, `Finish` is last."""
    response = await call(Pipeline([changing(HoldBack)], Scripted(["a b c"])), stream=stream)
    assert response.text == "a b c"
    assert response.events[-1] == Finish("stop")


@pytest.mark.parametrize(
    ("end", "kind"),
    [([ConnectionLostError("lost")], ConnectionLostError), ([], StreamTruncated)],
    ids=["failed", "truncated"],
)
async def test_what_is_held_back_comes_before_an_error(end: list[Any], kind: Any) -> None:
    """A broken answer gives up what was held back first: text and `partial` have it all."""
    pipeline = Pipeline([changing(HoldBack)], Scripted([["a", "b", *end]]))
    async with pipeline.stream(HELLO) as response:
        with pytest.raises(kind) as broken:
            await response.collect()
    assert list(response.events) == [TextDelta("a"), TextDelta("b")]
    assert isinstance(broken.value, ConnectionLostError | StreamTruncated)
    assert broken.value.partial is not None
    assert broken.value.partial.text == "ab"


async def test_a_failing_flush_does_not_hide_an_error() -> None:
    """Where the answer is broken already, the consumer gets that error."""

    class Broken(HoldBack):
        def flush(self) -> Iterable[Event]:
            raise LookupError("flush")

    pipeline = Pipeline([changing(Broken)], Scripted([["a", "b", ConnectionLostError("lost")]]))
    with pytest.raises(ConnectionLostError):
        async with pipeline.stream(HELLO) as response:
            await response.collect()


async def test_a_failing_transform_ends_the_answer(stream: bool) -> None:
    """What `feed` raises reaches the consumer; the source is closed."""

    class Broken(HoldBack):
        def feed(self, event: Event) -> Iterable[Event]:
            raise LookupError("feed")

    transport = Scripted(["a b"])
    with pytest.raises(LookupError, match="feed"):
        await call(Pipeline([changing(Broken)], transport), stream=stream)
    assert transport.open_sources == 0


async def test_transforms_nest(stream: bool) -> None:
    """Each layer changes what the one inside let through; the answers agree."""
    layers = [changing(HoldBack), shout, changing(HoldBack), exclaim]
    response = await call(Pipeline(layers, Scripted(["one two"])), stream=stream)
    assert response.text == "ONE! TWO!"


async def shout(request: ChatRequest, call_next: Any) -> ChatResponse:
    """Upper case."""
    response: ChatResponse = await call_next(request)
    return response.map_text(str.upper)


async def exclaim(request: ChatRequest, call_next: Any) -> ChatResponse:
    """One mark for each piece: what must not be done with map_text, but shows the nesting."""
    response: ChatResponse = await call_next(request)
    return response.map_text(lambda text: f"{text}!")


async def test_map_text_changes_what_the_model_said_and_nothing_else(stream: bool) -> None:
    """Text of all turns changes; tool calls, reasoning and tool results do not."""
    turn = Turn((Message("assistant", "look"), Message("user", "kept")))
    events: list[Event] = [
        turn,
        ReasoningDelta("hm"),
        TextDelta("so"),
        ToolCallDelta(0, "i", "n", '{"a":1}'),
    ]
    script = Scripted([[*events, Finish("tool_calls")]])
    response = await call(Pipeline([shout], script), stream=stream)
    assert [message.text for message in response.messages] == ["LOOK", "kept", "SO"]
    assert response.tool_calls[0].arguments == '{"a":1}'
    assert ReasoningDelta("hm") in response.events


async def test_map_text_may_drop_a_piece(stream: bool) -> None:
    """A piece that becomes empty is not an event any more."""

    async def erase(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        return response.map_text(lambda text: text.replace(" b", ""))

    response = await call(Pipeline([erase], Scripted(["a b c"])), stream=stream)
    assert response.events == (TextDelta("a"), TextDelta(" c"), Finish("stop"))


async def test_a_changed_answer_shares_head_and_call(stream: bool) -> None:
    """A level keeps model, provider and trace of the answer inside."""
    script = Scripted([ChatResponse.of("a", model="m")])
    response = await call(Pipeline([shout], script), stream=stream)
    assert (response.model, response.served_by) == ("m", "scripted")
    assert [attempt.outcome for attempt in response.trace.attempts] == [Outcome.COMPLETE]


class BrokenOff:
    """A source that has done something when its second read is broken off."""

    def __init__(self, first: Event, done: list[Event]) -> None:
        self.first: Event | None = first
        self.done = done

    async def __anext__(self) -> Event:
        first, self.first = self.first, None
        if first is None:
            await anyio.sleep_forever()
        assert first is not None
        return first

    def unread(self) -> list[Event]:
        return self.done

    async def aclose(self) -> None:
        pass


async def test_what_was_done_when_a_read_was_broken_off_reaches_every_level() -> None:
    """Changed on the way like all else, once; an end does not count as one."""
    said = Message.assistant("said")
    done: list[Event] = [TextDelta("b"), Turn((said, Message.tool("1", "ok"))), Finish("stop")]

    async def looped(request: Any, call_next: Any) -> Any:
        return request.open(BrokenOff(TextDelta("a"), list(done)), (await call_next(request)).head)

    pipeline = Pipeline([exclaim, shout, shout, looped], Scripted(["x"]))
    async with pipeline.stream(ChatRequest.of("hi", model="m")) as response:
        with anyio.move_on_after(1):
            await response.collect()
    assert [message.text for message in response.partial.messages] == ["SAID!", "ok"]
    assert list(response.events)[:2] == [TextDelta("A!"), TextDelta("B!")]
    assert len(response.events) == 3
    assert response.partial.finish_reason is None
