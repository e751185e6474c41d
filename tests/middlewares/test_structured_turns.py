"""Structured: what the turns of a call cost together, what is kept of them, what is learned."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
import pytest
from typed_people import ADA, ASK, GOOD, WRONG, Person, pipeline

from lamella import (
    ChatRequest,
    ConnectionLostError,
    DeadlineExceeded,
    Handler,
    Head,
    InvalidRequestError,
    LamellaError,
    Message,
    Pipeline,
    StructureError,
    TextDelta,
    Tool,
    ToolCall,
    Turn,
    Usage,
    UsageReport,
    answered,
    middleware,
)
from lamella._events import Finish
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import PII, Deadline, Guard, Structured
from lamella_middlewares.guard import pattern

pytestmark = pytest.mark.anyio


@attrs.frozen
class Place:
    """Where something is."""

    city: str


USAGE = Usage(uncached_input=10, text_output=5)
USED = (Message.assistant([ToolCall("c1", "look_up", "{}")]), Message.tool("c1", "Ada, 36"))


def answer(*items: Any, usage: Usage | None = USAGE, reason: str = "stop") -> list[Any]:
    """A scripted answer with usage and a reason of its end."""
    return [*items, *([] if usage is None else [UsageReport(usage)]), Finish(reason)]


async def first_whole(request: Any, call_next: Handler) -> Any:
    """The first answer comes whole and wrong, as a kept one does; the others flow."""
    if request.context.branch == "":
        return request.answer([TextDelta(WRONG), UsageReport(USAGE), Finish("stop")])
    return await call_next(request)


# --- what was consumed -------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
async def test_a_turn_that_says_no_usage_does_not_hide_that_of_the_others(*, stream: bool) -> None:
    """It is estimated, and added to what the others have said."""
    pipe = pipeline(Scripted([answer(GOOD, usage=None)]), first_whole)
    if stream:
        async with pipe.stream(ASK, returns=Person) as response:
            assert response.open
            await response.collect()
    else:
        response = await pipe.run(ASK, returns=Person)
    assert response.value == ADA
    assert response.usage is not None
    assert response.usage.estimated
    assert response.usage.text_output > USAGE.text_output
    assert response.usage.uncached_input > USAGE.uncached_input
    reports = [event for event in response.events if isinstance(event, UsageReport)]
    assert response.events[-2:-1] == tuple(reports)


@pytest.mark.parametrize(
    ("said", "kind", "usage"),
    [
        (answer(WRONG), StructureError, USAGE + USAGE),
        (answer(WRONG, usage=None), StructureError, USAGE),
        (['{"na', ConnectionLostError("cut")], ConnectionLostError, USAGE),
    ],
    ids=["wrong", "wrong without usage", "cut"],
)
async def test_the_error_of_a_stream_has_what_all_turns_have_consumed(
    said: list[Any], kind: type[LamellaError], usage: Usage
) -> None:
    """Also those before the one that was shown."""
    pipe = pipeline(Scripted([said]), first_whole)
    with pytest.raises(kind) as failure:
        async with pipe.stream(ASK, returns=Person) as response:
            await response.collect()
    error: Any = failure.value
    assert error.usage == usage


async def test_the_deadline_loses_no_answer_that_is_being_read() -> None:
    """It is paid: the error has it, and what it consumed."""
    ports = virtual_ports()

    async def slow(function: Any, *given: Any) -> Any:
        await ports.sleep(10)
        return function(*given)

    ports = attrs.evolve(ports, thread=slow)
    transport = Scripted([answer(GOOD + " " * 200_000)])
    with pytest.raises(DeadlineExceeded) as failure:
        await Pipeline([Deadline(3), Structured()], transport, ports=ports).run(ASK, returns=Person)
    error: Any = failure.value
    assert (error.partial.text.strip(), error.usage) == (GOOD, USAGE)


# --- what is kept ------------------------------------------------------------------------------


async def test_tools_that_were_used_before_an_empty_answer_stay_answered() -> None:
    """Nothing follows their results; the next question and the history have both all the same."""
    transport = Scripted([answer(Turn(USED)), answer(GOOD)])
    response = await pipeline(transport).run(ASK, returns=Person)
    assert response.messages == (*USED, Message.assistant(GOOD))
    again = transport.requests[1]
    assert isinstance(again, ChatRequest)
    assert again.messages[:-1] == (*ASK.messages, *USED)
    assert answered(again.messages)
    transport = Scripted([answer(Turn(USED)), ['{"na', ConnectionLostError("cut")]])
    with pytest.raises(ConnectionLostError) as failure:
        await pipeline(transport).run(ASK, returns=Person)
    partial: Any = failure.value.partial
    assert partial.messages == (*USED, Message.assistant('{"na'))


async def test_a_number_that_was_cut_off_is_no_value() -> None:
    """36 may have been 365; what closes itself is whole however it ended."""
    for reason in ("length", "content_filter"):
        with pytest.raises(StructureError) as failure:
            await pipeline(Scripted([answer("36", reason=reason)]), mode="prompt").run(
                ASK, returns=int
            )
        assert failure.value.code == reason
    transport = Scripted([answer(GOOD, reason="length")])
    assert (await pipeline(transport).run(ASK, returns=Person)).value == ADA


def test_a_fence_is_looked_for_once_through() -> None:
    """A model that has got stuck in blanks blocks nobody."""
    from lamella_middlewares.structured._near_json import fenced

    blanks = " \t" * 100_000
    assert fenced(f"```json\n{blanks}x") is None
    assert fenced(f"```{blanks}x y\n1\n```") is None
    assert fenced(f"\n```{blanks}json{blanks}\r\n1{blanks}\n```{blanks}") == f"1{blanks}\n"
    assert fenced("```json\n1\n```\n```json\n2\n```") is None


# --- what is masked ----------------------------------------------------------------------------


async def test_words_in_place_of_the_call_have_what_was_masked() -> None:
    """A model that was to call the tool may write instead: that is JSON, too."""

    def say(request: Any) -> str:
        masked = re.search(r"\u27e6\w+\u27e7", request.messages[0].text)
        assert masked is not None
        return json.dumps({"name": masked[0], "age": 36}, ensure_ascii=False)

    request = ChatRequest.of('Who is "Eve"@example.org?', model="m")
    transport = Scripted([say])
    response = await pipeline(transport, PII(), mode="tool").run(request, returns=Person)
    assert response.value.name == '"Eve"@example.org'


HIDES = {
    "pii": PII(direction="out"),
    "guard": Guard([pattern("mail", r"\bada@example\.org", action="redact", replacement='"x"')]),
}


@pytest.mark.parametrize("layer", HIDES)
@pytest.mark.parametrize("mode", ["native", "tool", "prompt"])
async def test_no_way_of_writing_json_gets_past_who_looks_into_texts(mode: Any, layer: str) -> None:
    """What they see is what the value says: no escape hides it, and what they put in is escaped."""
    for name in ("ada@example.org", "ada\\u0040example.org", "at\\nada@example.org"):
        text = f'{{"name": "{name}", "age": 36}}'
        for said in (text,) if mode == "tool" else (text, f"```json\n{text}\n```"):
            given = ToolCall("c1", "final_answer", said) if mode == "tool" else said
            pipe = pipeline(Scripted([given]), HIDES[layer], mode=mode, attempts=1)
            async with pipe.stream(ASK, returns=Person) as response:
                try:
                    await response.collect()
                except StructureError as error:  # in a fence it may be no JSON any more
                    assert said != text
                    shown = error.text + str(error.partial)
                else:
                    shown = str(response.value) + response.text
            assert "ada@" not in shown
            assert "u0040" not in shown


@pytest.mark.parametrize("mode", ["tool", "prompt"])
async def test_what_is_asked_besides_is_not_taken_for_the_value(mode: Any) -> None:
    """The answer to a child call is words, in which nothing is escaped."""
    besides: list[str] = []

    @middleware(phase="compose", rank=60)
    async def ask_besides(request: Any, call_next: Handler) -> Any:
        other = ChatRequest.of('Sum up: "Eve"@example.org', model="m")
        child: Any = await call_next(request.child(other, purpose="summary"))
        besides.append(child.text)
        return await call_next(request)

    def say(request: Any) -> str:
        masked = re.search(r"\u27e6\w+\u27e7", request.messages[-1].text)
        return GOOD if masked is None else f"It is {masked[0]}."

    pipe = pipeline(Scripted([say], repeat=True), ask_besides, PII(), mode=mode)
    assert (await pipe.run(ASK, returns=Person)).value == ADA
    assert besides == ['It is "Eve"@example.org.']


# --- what is learned ---------------------------------------------------------------------------


async def test_what_was_refused_for_one_type_is_tried_for_others_and_again_in_an_hour() -> None:
    """A refusal may be about that schema; a server may have learned it since."""

    def say(request: Any) -> Any:
        wanted = request.response_format
        if wanted and wanted["json_schema"]["name"] == "Place":
            raise InvalidRequestError("no such schemas", status=400)
        text = '{"city": "Rome"}' if "city" in str(request.tools) else GOOD
        return ToolCall("c1", "final_answer", text) if request.tools else GOOD

    async def modes(wanted: type) -> list[str]:
        response: Any = await pipe.run(ASK, returns=wanted)
        notes = response.trace.notes
        return [note.fields["mode"] for note in notes if note.name == "structured.asked"]

    ports = virtual_ports()
    pipe = Pipeline([Structured()], Scripted([say], repeat=True), ports=ports)
    assert await modes(Place) == ["native", "tool"]
    assert await modes(Place) == ["tool"]
    assert await modes(Person) == ["native"]
    await ports.sleep(3_600)
    assert await modes(Place) == ["native", "tool"]


async def test_what_was_refused_beside_other_tools_is_tried_without_them() -> None:
    """Some APIs take a schema or tools, and not both."""

    def say(request: Any) -> Any:
        if request.tools and request.response_format:
            raise InvalidRequestError("not both", status=400)
        return ToolCall("c1", "final_answer", GOOD) if request.tools else GOOD

    pipe = pipeline(Scripted([say], repeat=True))
    assert (await pipe.run(ASK.evolve(tools=[Tool("look_up")]), returns=Person)).value == ADA
    response = await pipe.run(ASK, returns=Person)
    assert len(response.trace.attempts) == 1


async def test_where_another_tool_must_be_called_the_value_is_asked_for_without_one() -> None:
    """Also by the way after a refused one; the call goes out to the caller."""
    call = ToolCall("c1", "look_up", "{}")
    transport = Scripted([InvalidRequestError("no schemas", status=400), call])
    request = ASK.evolve(tools=[Tool("look_up")], tool_choice="look_up")
    response = await pipeline(transport).run(request, returns=Person)
    assert response.tool_calls == (call,)
    assert [one.context.branch for one in transport.requests] == ["", "/prompt"]


@pytest.mark.parametrize(("most", "turns"), [(29, 1), (35, 2)])
async def test_a_kept_answer_is_not_asked_afresh_beyond_the_bound(most: int, turns: int) -> None:
    """What the turns before it have used counts there, too."""

    @middleware(phase="remember")
    async def kept(request: Any, call_next: Handler) -> Any:
        if request.context.branch == "" or request.context.attributes.get("cache") == "refresh":
            return await call_next(request)
        usage = UsageReport(Usage(uncached_input=20, text_output=5))
        return request.answer([TextDelta("{}"), usage, Finish("stop")], Head(cached=True))

    transport = Scripted([answer(WRONG), answer(GOOD)])
    pipe = pipeline(transport, kept, attempts=2, max_tokens=most)
    if turns == 1:
        with pytest.raises(StructureError):
            await pipe.run(ASK, returns=Person)
    else:
        assert (await pipe.run(ASK, returns=Person)).value == ADA
    assert len(transport.requests) == turns
