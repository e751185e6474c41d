"""A conversation with tools over real HTTP: two turns in one stream, in every provider's words."""

from __future__ import annotations

import json
import threading
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
from openai_wire import DONE, STREAM, USAGE_CHUNK, chunk, stream

from lamella import (
    ChatRequest,
    ChatResponse,
    Finish,
    Message,
    Pipeline,
    TextDelta,
    ToolCallDelta,
    Turn,
    UsageReport,
    answered,
)
from lamella.testing import HTTPServer, MockServer, Received, Reply, Scripted
from lamella.transports import OpenAI
from lamella_middlewares import Tools
from lamella_middlewares.tools import ToolFailed, tool
from providers import DIALECTS

pytestmark = pytest.mark.anyio


def get_weather(city: str) -> dict[str, Any]:
    """The weather of a city.

    Args:
        city: Where, such as Bern.
    """
    if city == "Atlantis":
        raise ToolFailed("There is no station in Atlantis.")
    return {"city": city, "degrees": len(city)}


async def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


THINKING = {"bedrock": "anthropic.mock-reasoning-v1:0"}
"""Bedrock tells by the model's name how it thinks."""
LEFT_OUT: dict[str, set[str]] = {
    "google": {"ToolCall.thoughtSignature"},  # a model that does not think signs nothing
    "openai": {"Reasoning"},  # the chat API does not take thoughts back
}
QUESTION = (
    'Please get_weather({"city": "Bern"}), get_weather({"city": "Atlantis"}) and '
    'add({"a": 1, "b": 2}).'
)


async def read(pipeline: Pipeline, request: ChatRequest, *, streamed: bool) -> ChatResponse:
    """The whole answer, read in one of the two ways."""
    if not streamed:
        return await pipeline.run(request)
    async with pipeline.stream(request) as response:
        await response.collect()
    return response


TAKING_TURNS = [
    pytest.param(dialect, streamed, loop, id=f"{dialect}-{'stream' if streamed else 'run'}-{loop}")
    for place, dialect in enumerate(DIALECTS)
    for streamed, loop in zip(
        (False, True), ("asyncio", "trio") if place % 2 else ("trio", "asyncio"), strict=True
    )
]
"""Each dialect in both ways, the two loops in turn."""


@pytest.mark.parametrize(("dialect", "streamed", "anyio_backend"), TAKING_TURNS)
async def test_a_conversation_of_two_questions(dialect: str, *, streamed: bool) -> None:
    """Calls, results, words; and all of it once more, behind what was said before.

    Streamed, the model thinks first, and its sealed thoughts have to come back as they went. The
    server reads requests as strictly as the providers do: calls without results are errors.
    """
    async with MockServer() as server:
        layer = Tools([get_weather, add])
        async with Pipeline([layer], DIALECTS[dialect](server)) as pipeline:
            model = THINKING.get(dialect, "mock-reasoning") if streamed else "mock"
            request = ChatRequest.of(QUESTION, model=model, max_output_tokens=1500)
            first = await read(pipeline, request, streamed=streamed)
            history = (*request.messages, *first.messages, Message.user("And add?"))
            second = await read(pipeline, request.evolve(messages=history), streamed=streamed)
    roles = ["assistant", "tool", "tool", "tool", "assistant"]
    assert [message.role for message in first.messages] == roles
    parts: list[Any] = [message.parts[0] for message in first.messages[1:4]]
    told = {part.content[0].text: part.error for part in parts}
    assert told == {
        '{"city":"Bern","degrees":4}': False,
        "There is no station in Atlantis.": True,
        "3": False,
    }
    assert first.text
    assert first.finish_reason == "stop"
    assert [message.role for message in second.messages] == ["assistant", "tool", "assistant"]
    assert answered((*history, *second.messages))
    assert len(server.requests) == 4
    for response in (first, second):
        assert response.usage is not None
        assert response.usage == response.trace.usage
        notes = [note for note in response.trace.notes if note.name == "request.left_out"]
        assert {note.fields["what"] for note in notes} <= LEFT_OUT.get(dialect, set())


def piece(index: int, arguments: str = "", **more: Any) -> bytes:
    """A piece of a call, as OpenAI's API streams it."""
    name = more.pop("name", None)
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "function": function, **more}]})


async def test_parallel_calls_that_come_interleaved_stream_through() -> None:
    """Each piece as it comes, the results as a turn, and the words of the next turn behind it."""
    first = [
        chunk({"role": "assistant", "content": "Let me see."}),
        piece(0, id="c1", type="function", name="get_weather"),
        piece(1, id="c2", type="function", name="add"),
        piece(0, '{"ci'),
        piece(1, '{"a":4'),
        piece(0, 'ty":"Bern"}'),
        piece(1, ',"b":5}'),
        chunk(finish="tool_calls"),
        USAGE_CHUNK,
        DONE,
    ]
    bodies: list[Any] = []

    async def handler(request: Received) -> Reply:
        bodies.append(json.loads(request.body))
        return stream(first) if len(bodies) == 1 else stream(STREAM)

    async with HTTPServer(handler) as server:
        transport = OpenAI("unused", base_url=f"{server.url}/v1")
        pipeline = Pipeline([Tools([get_weather, add])], transport)
        async with pipeline, pipeline.stream(ChatRequest.of("hi", model="m")) as response:
            events = [event async for event in response]
    said = [event for event in events if event.semantic]
    kinds = [type(event) for event in said]
    assert kinds == [TextDelta, *[ToolCallDelta] * 6, Turn, *[TextDelta] * 2]
    assert [type(event) for event in events if not event.semantic][-2:] == [UsageReport, Finish]
    turn = said[7]
    assert isinstance(turn, Turn)
    assert [(call.id, call.arguments) for call in turn.messages[0].tool_calls] == [
        ("c1", '{"city":"Bern"}'),
        ("c2", '{"a":4,"b":5}'),
    ]
    assert [message.text for message in turn.messages[1:]] == ['{"city":"Bern","degrees":4}', "9"]
    assert response.usage is not None
    assert response.usage.total_tokens == 10
    sent = bodies[1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [message["tool_call_id"] for message in sent[2:]] == ["c1", "c2"]
    assert bodies[0]["tools"] == bodies[1]["tools"]


async def test_plain_functions_run_in_threads_and_see_the_callers_variables() -> None:
    """Any number of them at once, without a cap that they share with anybody."""
    name: ContextVar[str] = ContextVar("name")
    name.set("ada")
    seen: list[Any] = []
    everybody = threading.Barrier(3)

    def plain(number: int) -> str:
        """Meets the others."""
        everybody.wait(10)
        seen.append((threading.current_thread() is threading.main_thread(), name.get()))
        return str(number)

    calls = [
        ToolCallDelta(index, f"c{index}", "plain", f'{{"number":{index}}}') for index in range(3)
    ]
    pipeline = Pipeline([Tools([plain])], Scripted([[*calls, Finish("tool_calls")], "Done."]))
    response = await pipeline.run(ChatRequest.of("hi", model="m"))
    assert [message.text for message in response.messages[1:4]] == ["0", "1", "2"]
    assert seen == [(False, "ada")] * 3


def test_a_tool_of_a_synchronous_run_may_make_one_itself() -> None:
    """The tool is in a thread of its own, and the bridge's loop is free."""
    inner = Pipeline([], Scripted(["inner words"]))

    def ask(what: str) -> str:
        """Asks another model."""
        return inner.run_sync(ChatRequest.of(what, model="m")).text

    call: list[Any] = [ToolCallDelta(0, "c", "ask", '{"what":"x"}'), Finish("tool_calls")]
    outer = Pipeline([Tools([ask])], Scripted([call, "Done."]))
    response = outer.run_sync(ChatRequest.of("hi", model="m"))
    assert response.messages[1].text == "inner words"


@pytest.mark.parametrize("kind", ["plain", "async", "slots"])
async def test_json_of_much_is_made_off_the_loop(kind: str) -> None:
    """Wherever the function runs; also of what a tool goes on changing."""
    threads: list[bool] = []

    class Rows(list[Any]):
        def __iter__(self) -> Any:
            threads.append(threading.current_thread() is threading.main_thread())
            if kind == "async" and len(threads) == 1:
                raise RuntimeError("changed meanwhile")
            return super().__iter__()

    @attrs.define
    class Table:
        rows: Rows

    rows = Rows(range(3_000))
    plain = tool(lambda: rows, name="rows")

    async def later() -> Any:
        return Table(rows) if kind == "slots" else rows

    given = plain if kind == "plain" else tool(later, name="rows")
    call: list[Any] = [ToolCallDelta(0, "c", "rows", "{}"), Finish("tool_calls")]
    pipeline = Pipeline([Tools([given])], Scripted([call, "Done."]))
    response = await pipeline.run(ChatRequest.of("hi", model="m"))
    assert response.messages[1].text.strip('{}"rows:').startswith("[0,1,2,3,")
    assert list(dict.fromkeys(threads)) == ([False, True] if kind == "async" else [False])
