"""Structured: the answer is the value that was asked for, or an error that says why not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typed_people import (
    ADA,
    ASK,
    GOOD,
    LOOK_UP,
    WORSE,
    WRONG,
    Person,
    Place,
    Thing,
    answer,
    asked,
    failed,
    notes,
    pipeline,
)

from lamella import (
    ChatResponse,
    ConfigurationError,
    ContextLengthError,
    DeadlineExceeded,
    Handler,
    InvalidRequestError,
    Message,
    OverloadedError,
    Pipeline,
    Refusal,
    Returns,
    StructureError,
    Target,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    UnsupportedError,
    Usage,
    answered,
    middleware,
)
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares import Deadline, Fallback, Retry, Structured

pytestmark = pytest.mark.anyio


async def test_the_answer_is_a_value() -> None:
    """The provider's own field has the strict schema, and the text is left as it is."""
    transport = Scripted([GOOD])
    response = await pipeline(transport).run(ASK, returns=Person)
    assert response.value == ADA
    assert response.text == GOOD
    assert response.messages == (Message.assistant(GOOD),)
    (sent,) = asked(transport)
    assert sent.returns is None
    wanted = sent.response_format["json_schema"]
    assert (wanted["name"], wanted["strict"]) == ("Person", True)
    assert wanted["schema"]["required"] == ["name", "age"]
    assert notes(response) == [("asked", {"mode": "native", "strict": True})]


async def test_without_returns_the_request_passes_untouched() -> None:
    """It is the same object inside, and the answer has no value."""
    seen: list[Any] = []

    @middleware(phase="wire")
    async def look(request: Any, call_next: Handler) -> Any:
        seen.append(request)
        return await call_next(request)

    layer = Structured()
    response = await pipeline(Scripted(["hello"]), look).run(ASK)
    assert response.value is None

    async def inner(request: Any) -> Any:
        assert request is seen[0]
        return ChatResponse.of("hello")

    assert (await layer(seen[0], inner)).text == "hello"


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (list[Person], f'{{"value": [{GOOD}]}}', [ADA]),
        (list[Person], f"[{GOOD}]", [ADA]),
        (Returns[Place | Thing](), '{"kind": "thing", "label": "x"}', Thing("thing", "x")),
        (int, '{"value": 3}', 3),
        (Person, GOOD + " " * 300_000, ADA),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a": 1}', {"a": 1}),
    ],
    ids=["list", "bare list", "union", "scalar", "long", "schema"],
)
async def test_what_is_no_object_is_one_on_the_wire(wanted: Any, text: str, value: Any) -> None:
    """Lists, unions and scalars stand in an object for the provider, and come without it."""
    transport = Scripted([text])
    response = await pipeline(transport).run(ASK, returns=wanted)
    assert response.value == value
    (sent,) = asked(transport)
    schemas = [sent.response_format["json_schema"]["schema"]] if sent.response_format else []
    schemas += [tool.parameters for tool in sent.tools]
    assert [schema["type"] for schema in schemas] == ["object"]


# --- the ways to ask ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "mode", "strict"),
    [("gpt-4o-mini", "native", True), ("gpt-4", "tool", False), ("unheard-of", "native", True)],
)
async def test_it_asks_in_the_best_way_that_the_card_has(
    model: str, mode: str, *, strict: bool
) -> None:
    """A schema where the model has it, else a tool; of a model without a card, a schema."""

    def say(request: Any) -> Any:
        return ToolCall("c1", request.tools[0].name, GOOD) if request.tools else GOOD

    pipe = pipeline(Scripted([say], name="openai"))
    response = await pipe.run(ASK.evolve(model=model), returns=Person)
    assert response.value == ADA
    assert notes(response) == [("asked", {"mode": mode, "strict": strict})]


async def test_a_tool_gives_the_answer_as_text() -> None:
    """It must be called; the caller sees JSON, the reason `stop`, and no call to answer."""
    transport = Scripted([ToolCall("c1", "final_answer", GOOD)])
    response = await pipeline(transport, mode="tool").run(ASK, returns=Person)
    (sent,) = asked(transport)
    assert (sent.tool_choice, sent.tools[0].parameters["type"]) == ("final_answer", "object")
    assert (response.value, response.text, response.finish_reason) == (ADA, GOOD, "stop")
    assert response.messages == (Message.assistant(GOOD),)


async def test_words_say_the_schema_behind_the_instructions() -> None:
    """One pinned system message after those that are there, and nothing else changed."""
    transport = Scripted([GOOD])
    request = ASK.evolve(messages=[Message.system("Be brief."), Message.user("Who?")])
    assert (await pipeline(transport, mode="prompt").run(request, returns=Person)).value == ADA
    first, said, last = asked(transport)[0].messages
    assert (first, last) == request.messages
    assert (said.role, said.pinned) == ("system", True)
    assert '"name":{"type":"string"}' in said.text
    assert asked(transport)[0].response_format is None


async def test_a_refused_way_is_followed_by_the_next_and_remembered() -> None:
    """The transport, or a provider whose model has no card: then it is asked as it takes it."""
    refusals = [UnsupportedError("no schemas"), InvalidRequestError("no tools", status=400)]
    transport = Scripted([*refusals, GOOD, GOOD])
    pipe = pipeline(transport)
    first = await pipe.run(ASK, returns=Person)
    assert [fields["mode"] for _, fields in notes(first)] == ["native", "tool", "prompt"]
    assert [one.context.branch for one in transport.requests] == ["", "/tool", "/tool/prompt"]
    again = await pipe.run(ASK, returns=Person)
    assert [fields["mode"] for _, fields in notes(again)] == ["prompt"]


@pytest.mark.parametrize(
    "error", [ContextLengthError("long", status=400), InvalidRequestError("x")]
)
async def test_another_refusal_is_the_callers(error: Exception) -> None:
    """What is not about the way to ask is raised; also where the model's card is known."""
    model = "m" if isinstance(error, ContextLengthError) else "gpt-4o-mini"
    transport = Scripted([error], name="openai")
    with pytest.raises(type(error)):
        await pipeline(transport).run(ASK.evolve(model=model), returns=Person)
    assert len(transport.requests) == 1


async def test_a_type_that_cannot_be_strict_is_asked_for_by_a_tool() -> None:
    """A provider's own field would not be held to the schema there; a tool takes any."""
    transport = Scripted([ToolCall("c", "final_answer", '{"a": 1}')])
    response = await pipeline(transport).run(ASK, returns=dict[str, int])
    assert response.value == {"a": 1}
    assert notes(response) == [("asked", {"mode": "tool", "strict": False})]


async def test_a_substitute_without_schemas_is_left_out_rather_than_asked_without() -> None:
    """Fallback inside sees what is needed: nothing of it is dropped to make a target fit."""
    substitute = Scripted([GOOD], name="openai")
    target = Target("openai", substitute, {"model": "gpt-4"})
    main = Scripted([OverloadedError("busy", status=503)])
    layers = (Fallback([target]), Retry(attempts=1))
    with pytest.raises(OverloadedError):
        await pipeline(main, *layers).run(ASK, returns=Person)
    assert not substitute.requests


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 2}, "n=2"),
        ({"tools": [LOOK_UP], "tool_choice": "look_up"}, "tool_choice"),
    ],
)
async def test_a_request_that_says_otherwise_is_refused(changes: Any, words: str) -> None:
    """Nothing that the caller asks for is dropped."""
    transport = Scripted([GOOD])
    with pytest.raises(ConfigurationError, match=words):
        await pipeline(transport, mode="tool").run(ASK.evolve(**changes), returns=Person)
    assert not transport.requests


# --- asking again ------------------------------------------------------------------------------


async def test_a_wrong_answer_is_asked_for_again_with_what_is_wrong() -> None:
    """A turn of its own with the wrong answer and its problems; the caller sees the right one."""
    one, other = Usage(uncached_input=10, text_output=5), Usage(uncached_input=20, text_output=6)
    transport = Scripted([answer(WRONG, usage=one), answer(GOOD, usage=other)])
    response = await pipeline(transport).run(ASK, returns=Person)
    assert response.value == ADA
    assert response.messages == (Message.assistant(GOOD),)
    assert response.usage == one + other
    again = asked(transport)[1]
    assert (again.context.branch, again.context.asked_by) == ("/again2", "structured")
    assert again.messages[:2] == (*ASK.messages, Message.assistant(WRONG))
    assert "$.age: expected integer, got string" in again.messages[2].text
    assert "properties" not in again.messages[2].text
    fields = {"turn": 2, "problems": 1, "first": "$.age: expected integer, got string"}
    assert notes(response)[1] == ("again", fields)


async def test_problems_are_told_where_the_model_wrote_them() -> None:
    """With the object around a list, if it is there, and with the part of the schema."""
    wrong = f'{{"value": [{GOOD}, {WRONG}]}}'
    transport = Scripted([wrong, wrong, f"[{WRONG}]", f"[{GOOD}]"])
    response = await pipeline(transport, attempts=4).run(ASK, returns=list[Person])
    assert response.value == [ADA]
    told = [request.messages[-1].text for request in asked(transport)[1:]]
    assert "\n$.value[1].age: expected integer" in told[0]
    assert 'There the schema says: {"type":"integer"}' in told[1]
    assert "\n$[0].age: expected integer" in told[2]


async def test_only_the_last_wrong_answer_is_said_again() -> None:
    """The question does not grow from turn to turn."""
    transport = Scripted([WRONG, WORSE, GOOD])
    assert (await pipeline(transport).run(ASK, returns=Person)).value == ADA
    texts = [message.text for message in asked(transport)[2].messages]
    assert texts[:2] == ["Who was it?", WORSE]
    assert len(texts) == 3


async def test_a_wrong_call_is_answered_by_what_is_wrong() -> None:
    """As its result, and the other calls of that turn have one too."""
    wrong = Message.assistant(
        [ToolCall("c1", "final_answer", WRONG), ToolCall("c2", "final_answer", WORSE)]
    )
    transport = Scripted([wrong, ToolCall("c3", "final_answer", GOOD)])
    response = await pipeline(transport, mode="tool").run(ASK, returns=Person)
    assert response.value == ADA
    said, first, second = asked(transport)[1].messages[1:]
    assert said == wrong
    assert "$.age: expected integer" in first.text
    assert (first.parts[0].call_id, second.parts[0].call_id) == ("c1", "c2")
    assert first.parts[0].error


async def test_a_repeated_mistake_is_told_with_the_schema_and_then_given_up() -> None:
    """The same answer is not asked for a third time in the same way, nor a fourth time."""
    transport = Scripted([WRONG], repeat=True)
    error = await failed(pipeline(transport, attempts=10))
    assert len(transport.requests) == 3
    assert '{"type":"integer"}' in asked(transport)[2].messages[-1].text
    assert "whatever it is told" in str(error)


async def test_the_error_says_where_and_has_everything() -> None:
    """Paths and kinds, never what stood there; the answer is in `partial`."""
    usage = Usage(uncached_input=10, text_output=5)
    transport = Scripted([answer(WORSE, usage=usage), answer(WRONG, usage=usage)])
    error = await failed(pipeline(transport, attempts=2))
    assert str(error).startswith("The answer does not fit 'Person': $.age: expected integer, got")
    assert "old" not in str(error)
    assert [problem.path for problem in error.problems] == ["$.age"]
    assert (error.code, error.text, error.partial.text) == ("mismatch", WRONG, WRONG)
    assert (error.usage, error.layer, error.retryable) == (usage + usage, "structured", False)
    assert len(error.attempts) == 2


async def test_tokens_bound_the_turns() -> None:
    """A turn is not begun if its question alone would pass them."""
    usage = Usage(uncached_input=10, text_output=5)
    transport = Scripted([answer(WRONG, usage=usage)], repeat=True)
    error = await failed(pipeline(transport, attempts=9, max_tokens=24))
    assert len(transport.requests) == 1
    assert "max_tokens=24" in str(error)
    await failed(pipeline(transport, attempts=9, max_tokens=25))
    assert len(transport.requests) == 3


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (answer('{"name": "Ad', reason="length"), "length"),
        (answer("", reason="length"), "length"),
        (answer("I will not", reason="content_filter"), "content_filter"),
        (Message.assistant(Refusal("No.")), "refusal"),
    ],
)
async def test_what_asking_again_cannot_help_is_an_error_at_once(said: Any, code: str) -> None:
    """Cut off, filtered, refused; and what was cut off is not mended to half a value."""
    transport = Scripted([said])
    error = await failed(pipeline(transport, repair=True))
    assert (error.code, error.problems, len(transport.requests)) == (code, (), 1)
    assert error.hint
    assert error.partial is not None


async def test_what_breaks_later_turns_has_the_earlier_ones() -> None:
    """The error of a further turn has the wrong answer as its partial one, and what it cost."""
    usage = Usage(uncached_input=10, text_output=5)
    transport = Scripted([answer(WRONG, usage=usage), ContextLengthError("long", status=400)])
    with pytest.raises(ContextLengthError) as failure:
        await pipeline(transport).run(ASK, returns=Person)
    error: Any = failure.value
    assert (error.partial.text, error.usage) == (WRONG, usage)
    assert len(error.attempts) == 2


async def test_the_deadline_bounds_the_turns() -> None:
    """It is the call's: what is left of it is for the further turn."""
    pipe = Pipeline(
        [Deadline(3), Structured()], Scripted([WRONG, GOOD], delay=2), ports=virtual_ports()
    )
    with pytest.raises(DeadlineExceeded) as failure:
        await pipe.run(ASK, returns=Person)
    error: Any = failure.value
    assert error.partial.text == WRONG


SAID = {
    "good": (GOOD, "stop"),
    "wrong": (WRONG, "stop"),
    "worse": (WORSE, "stop"),
    "nothing": ("", "stop"),
    "cut": ('{"name": "Ad', "length"),
    "stopped": ("I", "content_filter"),
}


def expected(kinds: list[str], attempts: int) -> tuple[int, str]:
    """How many turns a run takes over such answers, and the code of its end."""
    same, last = 0, ""
    for turn, kind in enumerate(kinds, 1):
        if kind in {"good", "cut", "stopped"}:
            return turn, {"good": "", "cut": "length", "stopped": "content_filter"}[kind]
        same = same + 1 if kind == last != "nothing" else 0
        if turn == attempts or same > 1:
            return turn, "mismatch"
        last = kind
    raise AssertionError


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(SAID)), max_size=5),
    st.integers(1, 5),
    st.sampled_from(["native", "tool", "prompt"]),
)
def test_whatever_a_model_says_the_turns_end_as_they_must(
    said: list[str], attempts: int, mode: str
) -> None:
    """As often as is of use, with all that was used, and with a conversation that can go on."""
    kinds = [*said, "good"]
    turns, code = expected([*kinds, *["good"] * attempts], attempts)
    usage = Usage(uncached_input=10, text_output=5)
    tool = mode == "tool"
    script: list[Any] = []
    for text, reason in (SAID[kind] for kind in [*kinds, *["good"] * attempts]):
        call = ToolCallDelta(0, "c1", "final_answer", text) if tool and text else TextDelta(text)
        script.append(answer(call, usage=usage, reason=reason))
    transport = Scripted(script)

    async def run() -> Any:
        try:
            return await pipeline(transport, attempts=attempts, mode=mode).run(ASK, returns=Person)
        except StructureError as error:
            return error

    result = run_virtual(run)
    assert len(transport.requests) == turns
    assert all(answered(request.messages) for request in asked(transport))
    assert (result.usage.total_tokens, len(result.partial.messages)) == (15 * turns, 1)
    assert answered(result.partial.messages)
    if code:
        assert (result.code, bool(result.problems)) == (code, code == "mismatch")
    else:
        assert (result.value, result.text) == (ADA, GOOD)
