"""Structured answers that are read while they come: values as they grow, and a typed end."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ConnectionLostError,
    Event,
    Message,
    Pipeline,
    ReasoningDelta,
    StreamTruncated,
    StructureError,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
    UsageReport,
)
from lamella._chat_answer import fold
from lamella._events import Finish
from lamella._transforms import transformed
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares import Retry, Structured
from lamella_middlewares.structured._tool_answers import ToolAnswers, ended

pytestmark = pytest.mark.anyio


@attrs.frozen
class Person:
    """Who somebody is."""

    name: str
    age: int
    notes: list[str] = attrs.field(factory=list[str])


GOOD = '{"name": "Ada", "age": 36, "notes": ["one", "two"]}'
ADA = Person("Ada", 36, ["one", "two"])
WRONG = '{"name": "Ada", "age": "old"}'
ASK = ChatRequest.of("Who was it?", model="m")
PEOPLE = '{"value": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 7}]}'


def pieces(text: str, size: int = 4) -> list[Event]:
    """A text in pieces."""
    return [TextDelta(text[place : place + size]) for place in range(0, len(text), size)]


def call_pieces(text: str, name: str = "final_answer", index: int = 0) -> list[Event]:
    """A call of a tool in pieces."""
    rest = [
        ToolCallDelta(index, None, None, text[place : place + 4])
        for place in range(0, len(text), 4)
    ]
    return [ToolCallDelta(index, f"c{index}", name), *rest]


def pipeline(transport: Any, **options: Any) -> Pipeline:
    """A pipeline with the layer, and stores of its own."""
    return Pipeline([Structured(**options)], transport, ports=virtual_ports())


async def test_a_value_grows_and_ends_as_it_is() -> None:
    """From when all that it must have is there; numbers and items only once they are complete."""
    pipe = pipeline(Scripted([[*pieces(GOOD), Finish("stop")]]))
    async with pipe.stream(ASK, returns=Person) as response:
        values = [value async for value in response.values()]
        assert response.value == values[-1] == ADA
    assert [value.age for value in values] == [36] * len(values)
    assert values[0].notes == []
    assert len(values) > 2
    assert all("two".startswith(each) for value in values for each in value.notes[1:])
    again = [value async for value in response.values()]
    assert again == values


async def test_no_value_is_given_twice_in_a_row() -> None:
    """A list that has been opened is not more than one that was left out; equal items are items."""
    text = '{"name": "Ada", "age": 36, "notes": []}'
    pipe = pipeline(Scripted([[*pieces(text, 1), Finish("stop")]]))
    async with pipe.stream(ASK, returns=Person) as response:
        assert [value async for value in response.values()] == [Person("Ada", 36)]
    pipe = pipeline(Scripted([[*pieces('{"value": [1, 1, 1]}', 1), Finish("stop")]]))
    async with pipe.stream(ASK, returns=list[int]) as items:
        assert [value async for value in items.values()] == [1, 1, 1]


async def test_a_list_gives_each_item_once_as_it_closes() -> None:
    """While the rest is still to come."""
    items: list[Any] = [*pieces(PEOPLE), 5.0, Finish("stop")]
    ports = virtual_ports()
    pipe = Pipeline([Structured()], Scripted([items]), ports=ports)
    began = ports.monotonic()
    times: list[float] = []
    async with pipe.stream(ASK, returns=list[Person]) as response:
        found: list[str] = []
        async for person in response.values():
            found.append(person.name)
            times.append(ports.monotonic() - began)
    assert found == ["Ada", "Bob"]
    assert max(times) < 5


@pytest.mark.parametrize("mode", ["native", "tool", "prompt"])
async def test_the_pieces_flow_as_they_come(mode: str) -> None:
    """As text in every mode, with the reasoning before it, and the end of an answer in words."""
    said = call_pieces(GOOD) if mode == "tool" else pieces(GOOD)
    end = "tool_calls" if mode == "tool" else "stop"
    items: list[Any] = [
        ReasoningDelta("Hm."),
        *said,
        UsageReport(Usage(text_output=9)),
        Finish(end),
    ]
    async with pipeline(Scripted([items]), mode=mode).stream(ASK, returns=Person) as response:
        assert response.open
        events = [event async for event in response]
    expected = [ReasoningDelta("Hm."), *pieces(GOOD), items[-2], Finish("stop")]
    assert events == expected
    assert (response.value, response.text) == (ADA, GOOD)
    assert response.messages == (response.message,)


async def test_a_wrong_value_is_an_error_at_the_end() -> None:
    """What was shown is shown: nobody asks again, and nobody gets None."""
    transport = Scripted([[*pieces(WRONG), UsageReport(Usage(text_output=9)), Finish("stop")]])
    shown: list[Event] = []
    response: Any = None
    with pytest.raises(StructureError) as failure:
        async with pipeline(transport).stream(ASK, returns=Person) as response:
            async for event in response:
                shown.append(event)
    error: Any = failure.value
    assert "".join(event.text for event in shown if isinstance(event, TextDelta)) == WRONG
    assert not any(isinstance(event, Finish) for event in shown)
    assert (error.committed, error.code, error.partial.text) == (True, "mismatch", WRONG)
    assert [problem.path for problem in error.problems] == ["$.age"]
    assert error.usage == Usage(text_output=9)
    assert "hold=True" in str(error)
    with pytest.raises(StructureError):
        _ = response.value
    with pytest.raises(StructureError):
        _ = [value async for value in response.values()]
    assert transport.open_sources == 0


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_held_to_the_end_it_is_asked_again_as_in_a_run(mode: Any) -> None:
    """Nothing is shown before the value is there; a break in the middle is tried again, too."""
    say = call_pieces if mode == "tool" else pieces
    script: list[Any] = [[*say(GOOD), ConnectionLostError("cut")], [*say(WRONG), Finish("stop")]]
    transport = Scripted([*script, [*say(GOOD), Finish("stop")]])
    layers: list[Any] = [Structured(hold=True, mode=mode), Retry(base=0.01, budget=None)]
    pipe = Pipeline(layers, transport, ports=virtual_ports())
    async with pipe.stream(ASK, returns=Person) as response:
        assert response.complete
        assert [value async for value in response.values()][-1] == ADA
    assert (response.value, response.text) == (ADA, GOOD)
    assert len(transport.requests) == 3


async def test_a_complete_answer_to_a_stream_is_asked_again() -> None:
    """It has not been shown; the turn after it flows, and counts what both have consumed."""
    usage = Usage(uncached_input=3, text_output=4)
    used = (Message.assistant([ToolCall("c1", "t", "{}")]), Message.tool("c1", "yes"))

    def say(request: ChatRequest) -> Any:
        return request.answer([Turn(used), TextDelta(WRONG), UsageReport(usage), Finish("stop")])

    transport = Scripted([[*pieces(GOOD), UsageReport(usage), Finish("stop")]])

    async def first_whole(request: Any, call_next: Any) -> Any:
        return say(request) if request.context.branch == "" else await call_next(request)

    pipe = Pipeline([Structured(), first_whole], transport, ports=virtual_ports())
    async with pipe.stream(ASK, returns=Person) as response:
        assert response.open
        await response.collect()
    assert response.value == ADA
    assert response.usage == usage + usage
    assert response.messages == (*used, Message.assistant(GOOD))


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_what_breaks_off_is_the_providers_error(mode: str) -> None:
    """With the text that had come, and never a verdict on half an answer."""
    said = call_pieces(GOOD) if mode == "tool" else pieces(GOOD)
    transport = Scripted([said[:4]])
    with pytest.raises(StreamTruncated) as failure:
        async with pipeline(transport, mode=mode).stream(ASK, returns=Person) as response:
            _ = [value async for value in response.values()]
    partial: Any = failure.value.partial
    assert GOOD.startswith(partial.text)
    assert partial.text


async def test_words_before_the_call_are_not_the_answer() -> None:
    """They are dropped; without a call they are what is judged."""
    items = [*pieces("Let me see."), *call_pieces(GOOD), *pieces("Done."), Finish("tool_calls")]
    async with pipeline(Scripted([items]), mode="tool").stream(ASK, returns=Person) as response:
        await response.collect()
    assert (response.text, response.value) == (GOOD, ADA)
    async with pipeline(Scripted([GOOD]), mode="tool").stream(ASK, returns=Person) as response:
        await response.collect()
    assert (response.text, response.value) == (GOOD, ADA)


async def test_a_value_beside_calls_of_others_takes_their_place() -> None:
    """No call is left that nobody answers, whichever comes first."""
    others = call_pieces("{}", "look_up", 1)
    for items in ([*call_pieces(GOOD), *others], [*others, *call_pieces(GOOD)]):
        request = ASK.evolve(tools=[Tool("look_up")])
        pipe = pipeline(Scripted([[*items, Finish("tool_calls")]]), mode="tool")
        async with pipe.stream(request, returns=Person) as response:
            values = [value async for value in response.values()]
        assert (values[-1], response.value) == (ADA, ADA)
        assert response.messages == (Message.assistant(GOOD),)
        assert response.finish_reason == "stop"


CALLS = st.lists(
    st.tuples(st.sampled_from(["final_answer", "other"]), st.text("ab{}", max_size=5)), max_size=4
)


@settings(max_examples=40, deadline=None)
@given(st.text("xy", max_size=3), CALLS, st.data())
def test_however_calls_are_cut_and_mixed_the_answer_is_the_first_of_the_tool(
    prose: str, calls: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Its arguments are the text, and no other call is left; without one all stays as it was."""
    waiting = [call_pieces(text, name, index) for index, (name, text) in enumerate(calls)]
    events: list[Event] = [TextDelta(prose)] if prose else []
    own: list[str] = []
    while any(waiting):
        index = data.draw(st.sampled_from([i for i, rest in enumerate(waiting) if rest]))
        event = waiting[index].pop(0)
        if isinstance(event, ToolCallDelta) and event.name == "final_answer":
            own.append(calls[index][1])
        events.append(event)
    events.append(Finish("tool_calls" if calls else "stop"))
    transform = ToolAnswers("final_answer")
    *changed, finish = transformed(events, transform)
    assert isinstance(finish, Finish)
    answer = fold([*changed, ended(finish, transform)])
    if own:
        assert (answer.text, answer.tool_calls, answer.finish_reason) == (own[0], (), "stop")
        assert answer.messages == (answer.message,)
    else:
        assert answer == fold(events)


async def test_a_synchronous_reader_gets_the_same() -> None:
    """`for` instead of `async for`."""

    def read() -> list[Person]:
        pipe = Pipeline([Structured()], Scripted([PEOPLE]))
        with pipe.stream_sync(ASK, returns=list[Person]) as response:
            return list(response.values())

    found = await anyio.to_thread.run_sync(read)
    assert [person.name for person in found] == ["Ada", "Bob"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
def test_cancelled_anywhere_it_leaves_nothing_open(backend: str, *, stream: bool) -> None:
    """At every step of a call with a further turn, and of a stream."""

    def make() -> Any:
        script: list[Any] = [[*pieces(WRONG, 9), Finish("stop")]]
        transport = Scripted([*script, [*pieces(GOOD, 9), Finish("stop")]], gap=0.1)
        pipe = pipeline(transport)

        async def scenario() -> None:
            if not stream:
                assert (await pipe.run(ASK, returns=Person)).value == ADA
                return
            with pytest.raises(StructureError):
                async with pipe.stream(ASK, returns=Person) as response:
                    _ = [value async for value in response.values()]

        async def check() -> None:
            assert transport.open_sources == 0
            await pipe.aclose()

        return scenario, check

    assert each_step(make, backend=backend) > 5
