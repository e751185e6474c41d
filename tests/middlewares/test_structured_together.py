"""Structured with what is nearly JSON, and together with other layers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from typed_people import (
    ADA,
    ASK,
    GOOD,
    LOOK_UP,
    WORSE,
    WRONG,
    Person,
    answer,
    asked,
    failed,
    notes,
    pipeline,
)

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Message,
    OrderError,
    Pipeline,
    StructureError,
    ToolCall,
    Turn,
    Usage,
)
from lamella.testing import Scripted
from lamella_middlewares import PII, Cache, Structured, Tools

pytestmark = pytest.mark.anyio

# --- nearly JSON -------------------------------------------------------------------------------

NEARLY = {
    "fence": f"```json\n{GOOD}\n```",
    "words": f"Here you are: {GOOD} Anything else?",
    "comma": '{"name": "Ada", "age": 36,}',
    "long": '{"name": "Ada", "age": 36,}' + " " * 30_000,
}


@pytest.mark.parametrize("kind", NEARLY)
async def test_what_is_nearly_json_is_mended_on_demand(kind: str) -> None:
    """A fence around all of it always, the rest with `repair=True`; the trace says so."""
    transport = Scripted([NEARLY[kind], GOOD], repeat=True)
    mended = await pipeline(transport, repair=True).run(ASK, returns=Person)
    assert (mended.value, mended.text) == (ADA, NEARLY[kind])
    what = "fence" if kind == "fence" else "json"
    assert notes(mended)[-1] == ("repaired", {"what": what})
    transport = Scripted([NEARLY[kind], GOOD])
    assert (await pipeline(transport).run(ASK, returns=Person)).value == ADA
    assert len(transport.requests) == (1 if kind == "fence" else 2)


async def test_what_does_not_fit_is_never_mended_into_fitting() -> None:
    """Only what is no JSON is mended; and what it then lacks is said."""
    error = await failed(pipeline(Scripted(['{"name": "Ada",}']), repair=True, attempts=1))
    assert [problem.path for problem in error.problems] == ["$.age"]
    error = await failed(pipeline(Scripted(["I do not know."]), repair=True, attempts=1))
    assert [problem.expected for problem in error.problems] == ["JSON"]


async def test_the_error_of_what_is_no_json_names_repair() -> None:
    """Only where mending might have helped, and was not asked for."""
    for text, repair in ((NEARLY["comma"], False), ("No.", True), ("[]", False), ("", False)):
        error = await failed(pipeline(Scripted([text]), repair=repair, attempts=1))
        assert ("repair=True" in error.hint) == (text == NEARLY["comma"])


# --- together with others ----------------------------------------------------------------------


async def test_a_wrong_answer_that_is_kept_is_not_served_for_ever() -> None:
    """What mended it is kept too; where nothing did, the last question is asked afresh."""
    transport = Scripted([WRONG, GOOD, "never"])
    pipe = pipeline(transport, Cache(when="all", tenant="shared"))
    for _ in range(2):
        assert (await pipe.run(ASK, returns=Person)).value == ADA
    assert len(transport.requests) == 2
    transport = Scripted([WRONG, WRONG, GOOD])
    pipe = pipeline(transport, Cache(when="all", tenant="shared"), attempts=2)
    await failed(pipe)
    response = await pipe.run(ASK, returns=Person)
    assert (response.value, len(transport.requests)) == (ADA, 3)
    assert notes(response)[-1] == ("refreshed", {"code": "mismatch"})
    assert (await pipe.run(ASK, returns=Person)).value == ADA
    assert len(transport.requests) == 3


@pytest.mark.parametrize("said", ["only_if_cached", "no_store", {"mode": "only_if_cached"}])
async def test_a_caller_who_wants_kept_answers_only_gets_them_only(said: Any) -> None:
    """Then a kept wrong answer is an error, and nobody is asked."""
    transport = Scripted([WRONG])
    pipe = pipeline(transport, Cache(when="all", tenant="shared"), attempts=1)
    await failed(pipe)
    request = ASK.evolve(context=ASK.context.evolve(attributes={"cache": said}))
    await failed(pipe, request)
    assert len(transport.requests) == 1


async def test_the_callers_own_tools_come_first() -> None:
    """A turn that asks for them goes out as it is: there is no value yet, and no mistake."""
    call = ToolCall("c1", "look_up", "{}")
    for mode in ("native", "tool"):
        transport = Scripted([call])
        request = ASK.evolve(tools=[LOOK_UP])
        response = await pipeline(transport, mode=mode).run(request, returns=Person)
        assert (response.tool_calls, response.finish_reason) == ((call,), "tool_calls")
        with pytest.raises(StructureError, match="has to run first") as failure:
            _ = response.value
        assert failure.value.code == "tool_calls"
        choice = asked(transport)[0].tool_choice
        assert choice == ("required" if mode == "tool" else None)


async def test_tools_that_were_used_stay_in_the_conversation() -> None:
    """A further turn knows of them, and the answer has them once, with the right end."""
    used = (
        Message.assistant([ToolCall("c1", "look_up", "{}")]),
        Message.tool("c1", "Ada, 36"),
    )
    usage = Usage(uncached_input=10, text_output=5)
    transport = Scripted([answer(Turn(used), WRONG, usage=usage), answer(GOOD, usage=usage)])
    response = await pipeline(transport).run(ASK, returns=Person)
    assert response.messages == (*used, Message.assistant(GOOD))
    assert asked(transport)[1].messages[:4] == (*ASK.messages, *used, Message.assistant(WRONG))
    assert response.usage == usage + usage
    transport = Scripted([answer(Turn(used), WRONG), answer(Turn(used), WORSE)])
    error = await failed(pipeline(transport, attempts=2))
    assert error.partial.messages == (*used, *used, Message.assistant(WORSE))


@pytest.mark.parametrize("mode", ["native", "tool", "prompt"])
async def test_with_tools_inside_the_value_comes_last(mode: Any) -> None:
    """They are used first, also where a call is forced, and stay used if the value is wrong."""

    def look_up(name: str) -> str:
        """Finds somebody."""
        found.append(name)
        return f"{name} is 36"

    def say(text: str) -> Any:
        return ToolCall("c9", "final_answer", text) if mode == "tool" else text

    found: list[str] = []
    used = ToolCall("c1", "look_up", '{"name": "Ada"}')
    for stream in (False, True):
        script = [used, say(GOOD)] if stream else [used, say(WORSE), say(GOOD)]
        transport = Scripted(script)
        pipe = pipeline(transport, Tools([look_up]), mode=mode)
        if stream:
            async with pipe.stream(ASK, returns=Person) as response:
                assert [value async for value in response.values()][-1] == ADA
        else:
            response = await pipe.run(ASK, returns=Person)
        assert response.value == ADA
        assert [message.role for message in response.messages] == ["assistant", "tool", "assistant"]
        assert response.text == GOOD
        choices = {one.tool_choice for one in asked(transport)}
        assert choices == {"required" if mode == "tool" else None}
        assert len({one.context.branch for one in asked(transport)}) == len(script)
    assert found == ["Ada", "Ada"]


async def test_a_shared_answer_does_not_hand_its_value_to_another_call() -> None:
    """A plain function may answer with one object again and again."""
    shared = ChatResponse.of(GOOD)

    async def same(request: ChatRequest) -> ChatResponse:
        return shared

    pipe = pipeline(same)
    assert (await pipe.run(ASK, returns=Person)).value == ADA
    assert (await pipe.run(ASK)).value is None
    assert shared.value is None


@pytest.mark.parametrize("mode", ["native", "tool", "prompt"])
async def test_a_value_has_what_was_masked(mode: Any) -> None:
    """Restored by PII inside, in whatever way the model was asked; escaped as JSON asks."""

    def say(request: Any) -> Any:
        masked = re.search(r"\u27e6\w+\u27e7", request.messages[-1].text)
        assert masked is not None
        text = json.dumps({"name": masked[0], "age": 36}, ensure_ascii=False)
        return ToolCall("c", "final_answer", text) if request.tools else text

    request = ChatRequest.of('Who is "Eve"@example.org or eve@example.org?', model="m")
    response = await pipeline(Scripted([say]), PII(), mode=mode).run(request, returns=Person)
    assert response.value.name in request.messages[0].text
    assert "@" in response.value.name


@pytest.mark.parametrize("outer", [Cache])
def test_a_layer_that_would_lose_the_value_does_not_stand_outside(outer: Any) -> None:
    """Kept answers have no value; the pipeline says so where it is built."""
    with pytest.raises(OrderError, match="its value"):
        Pipeline([outer(), Structured()], Scripted([GOOD]))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "json"},
        {"attempts": 0},
        {"max_tokens": 0},
        {"repair": "yes"},
        {"hold": 1},
        {"strict": None},
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any]) -> None:
    """With the option and what to give instead."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Structured(**options)


async def test_a_type_that_json_cannot_carry_is_refused_before_anything_is_sent() -> None:
    """It is the program's mistake, and names the field."""

    @attrs.frozen
    class Odd:
        """Holds what no JSON has."""

        act: Callable[[], None]

    transport = Scripted([GOOD])
    with pytest.raises(ConfigurationError, match="act"):
        await pipeline(transport).run(ASK, returns=Odd)
    assert not transport.requests


def test_what_is_said_again_is_json() -> None:
    """The schema in words is the one that other modes send."""
    from lamella._typed_forms import form_of
    from lamella_middlewares.structured._words import instruction

    schema = form_of(Person).object_schema
    assert json.loads(instruction(schema).partition("\n")[2]) == schema
