"""Tools: model turns and the tools between them are one answer, streamed or not."""

from __future__ import annotations

from typing import Any, cast

import anyio
import attrs
import pytest
from tool_turns import ASK, asks, call, noted, pipeline, read, results, sent, whole

from lamella import (
    ChatRequest,
    ConfigurationError,
    Context,
    Finish,
    Image,
    Message,
    OrderError,
    Pipeline,
    ServerError,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    Turn,
    UnsupportedError,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import PII, Cost, Retry, Tools
from lamella_middlewares.tools import ToolContext, tool

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
PIXEL = Image(data=b"\x89PNG", media_type="image/png")


def weather(city: str) -> dict[str, Any]:
    """The weather."""
    return {"city": city, "degrees": 7}


async def add(a: int, b: int = 1) -> int:
    """A sum."""
    await anyio.sleep(1)
    return a + b


def look(what: str) -> Any:
    """Whatever it is."""
    return {"text": "plain", "picture": PIXEL, "both": ["seen:", PIXEL], "none": None}[what]


TOOLS = Tools([weather, add, look])


@BOTH
async def test_tools_are_run_and_the_model_goes_on(*, stream: bool) -> None:
    """What the tools say goes to the model, and all of it is the answer."""
    transport = Scripted([asks(call("weather", city="Bern"), call("add", a=2)), "Seven degrees."])
    response = await read(pipeline(TOOLS, transport), stream=stream)
    assert response.text == "Seven degrees."
    assert response.finish_reason == "stop"
    assert [message.role for message in response.messages] == [
        "assistant",
        *["tool"] * 2,
        "assistant",
    ]
    told = [("weather", '{"city":"Bern","degrees":7}', False), ("add", "3", False)]
    assert results(response.messages) == told
    assert sent(transport)[1].messages == (*ASK.messages, *response.messages[:3])
    assert [attempt.branch for attempt in response.trace.attempts] == ["", "/turn2"]
    assert [attempt.asked_by for attempt in response.trace.attempts] == ["", "tools"]


async def test_a_stream_flows_through_every_turn() -> None:
    """Words, calls, a turn with its results, and the next turn's words, in one answer."""
    first = [TextDelta("Let me see. "), *asks(call("add", a=1), usage=Usage(uncached_input=5))]
    last = [TextDelta("Two."), UsageReport(Usage(uncached_input=9, text_output=1)), Finish("stop")]
    pipe = pipeline(TOOLS, [first, last])
    async with pipe.stream(ASK) as response:
        events = [event async for event in response]
    (turn,) = [event for event in events if isinstance(event, Turn)]
    assert events == [*first[:-2], turn, last[0], *events[-2:]]
    assert events[-2:] == [UsageReport(Usage(uncached_input=14, text_output=1)), Finish("stop")]
    assert turn.messages == response.messages[:2]
    assert turn.messages[0].text == "Let me see. "
    run = await pipeline(TOOLS, [first, last]).run(ASK)
    assert run.answer == response.answer


@BOTH
async def test_without_calls_the_answer_passes(*, stream: bool) -> None:
    """One turn, and nothing in the trace."""
    transport = Scripted(["Hello."])
    response = await read(pipeline(TOOLS, transport), stream=stream)
    assert response.text == "Hello."
    assert not response.trace.notes
    assert sent(transport)[0].tools is TOOLS.declared or sent(transport)[0].tools == TOOLS.declared


@BOTH
async def test_calls_of_one_message_run_at_once_and_are_answered_in_order(*, stream: bool) -> None:
    """Three that take a second each take a second."""
    three = [call("add", f"c{number}", a=number) for number in (3, 1, 2)]
    began = anyio.current_time()
    response = await read(pipeline(TOOLS, [asks(*three), "Done."]), stream=stream)
    assert anyio.current_time() - began == pytest.approx(1)
    assert [told[:2] for told in results(response.messages)] == [
        ("c3", "4"),
        ("c1", "2"),
        ("c2", "3"),
    ]


async def test_concurrency_bounds_them() -> None:
    """Two at once: three take two seconds."""
    began = anyio.current_time()
    three = [call("add", str(number), a=number) for number in range(3)]
    await pipeline(Tools([add], concurrency=2), [asks(*three), "Done."]).run(ASK)
    assert anyio.current_time() - began == pytest.approx(2)


@BOTH
async def test_what_tools_return(*, stream: bool) -> None:
    """Text as it is, parts as parts, anything else as JSON."""
    four = [call("look", word, what=word) for word in ("text", "picture", "both", "none")]
    response = await read(pipeline(TOOLS, [asks(*four), "Done."]), stream=stream)
    parts: list[Any] = [message.parts[0] for message in response.messages[1:5]]
    found = [part.content for part in parts]
    assert [part.text for part in found[0]] == ["plain"]
    assert found[1] == (PIXEL,)
    assert [part.type for part in found[2]] == ["text", "image"]
    assert found[3][0].text == "null"


@BOTH
async def test_the_callers_own_tools_are_the_callers(*, stream: bool) -> None:
    """A message that asks for one goes out whole, and nothing of it is run."""
    mine = Tool("mine", parameters={"type": "object"})
    request = ChatRequest.of("hello", model="m", tools=[mine])
    both = asks(call("add", a=1), call("mine"))
    transport = Scripted([both, asks(call("add", a=1)), asks(call("mine"))])
    pipe = pipeline(TOOLS, transport)
    response = await read(pipe, request, stream=stream)
    assert (response.finish_reason, len(response.messages)) == ("tool_calls", 1)
    assert [one.name for one in response.tool_calls] == ["add", "mine"]
    assert not response.trace.notes
    response = await read(pipe, request, stream=stream)
    assert [one.name for one in response.tool_calls] == ["mine"]
    assert [message.role for message in response.messages] == ["assistant", "tool", "assistant"]
    assert [one.name for one in sent(transport)[0].tools] == ["weather", "add", "look", "mine"]


@pytest.mark.parametrize(
    "hosted",
    [
        {"type": "custom", "custom": {"name": "mine", "description": "Free text."}},
        {"type": "custom", "name": "mine"},
    ],
    ids=["chat", "responses"],
)
async def test_tools_of_a_kind_that_only_the_provider_knows_are_the_callers(hosted: Any) -> None:
    """They have names like others."""
    request = ChatRequest.of("hello", model="m", tools=[hosted, {"type": "web_search"}])
    free = ToolCall("1", "mine", "no JSON", "custom")
    response = await pipeline(TOOLS, [free]).run(request)
    assert response.tool_calls == (free,)
    assert not response.trace.notes


async def test_a_conversation_goes_on_where_the_caller_has_answered_its_own() -> None:
    """The calls that are the layer's are run first, and the model gets both results."""
    request = ChatRequest.of("hello", model="m", tools=[Tool("mine")])
    transport = Scripted([asks(call("add", a=1), call("mine")), "Done."])
    pipe = pipeline(TOOLS, transport)
    first = await pipe.run(request)
    mine = Message.tool("mine", "yes")
    response = await pipe.run(request.evolve(messages=(*request.messages, *first.messages, mine)))
    assert results(response.messages) == [("add", "2", False)]
    assert results(sent(transport)[1].messages) == [("mine", "yes", False), ("add", "2", False)]
    assert whole(sent(transport)[1:])
    left = pipeline(Tools([add], resume=False), ["Done."])
    response = await left.run(request.evolve(messages=(*request.messages, *first.messages, mine)))
    assert [message.role for message in response.messages] == ["assistant"]


@pytest.mark.parametrize(
    ("choice", "tools", "later"),
    [
        (None, (), [None, None]),
        ("auto", (), ["auto", "auto"]),
        ("required", (), [None, None]),
        ("add", (), [None, None]),
        ({"type": "function", "function": {"name": "add"}}, (), [None, None]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, (), "same"),
        ("required", [Tool("mine")], ["required", "mine"]),
        ("required", [Tool("mine"), Tool("other")], ["required", "required"]),
    ],
)
async def test_a_tool_that_had_to_be_called_is_not_forced_again(
    choice: Any, tools: Any, later: Any
) -> None:
    """Or the loop would never end; only what must end with a caller's tool still must."""
    script = [asks(call("add", a=1)), asks(call("add", a=1)), "Done."]
    transport = Scripted(script)
    pipe = pipeline(Tools([add], max_steps=3), transport)
    await pipe.run(ASK.evolve(tool_choice=choice, tools=tools))
    found = [request.tool_choice for request in sent(transport)]
    assert found[0] == choice
    last = [choice, "none"] if later == "same" else later
    if last[-1] in {None, "auto"}:
        last = [last[0], "none"]
    assert found[1:] == last


@BOTH
async def test_personal_data_is_restored_for_the_tool_that_may_have_it(*, stream: bool) -> None:
    """The tool gets the address, the provider neither it nor the result."""
    mails: list[str] = []

    def send_mail(to: str) -> str:
        mails.append(to)
        return f"Sent to {to}."

    def masked(request: Any) -> Any:
        return asks(call("send_mail", to=request.messages[-1].text.split()[-1]))

    transport = Scripted([masked, "It is sent."])
    pipe = pipeline(Tools([send_mail]), transport, PII(restore_tools=["send_mail"]))
    request = ChatRequest.of("Write to ada@example.com", model="m")
    response = await read(pipe, request, stream=stream)
    assert mails == ["ada@example.com"]
    assert results(response.messages)[0][1] == "Sent to ada@example.com."
    for asked in sent(transport):
        assert "ada@" not in repr(asked.messages)
    assert not any("ada@" in repr(note.fields) for note in response.trace.notes)


async def test_a_tool_is_told_what_it_runs_in_and_may_ask_a_model() -> None:
    """The child runs through the layers inside, in this call's trace."""
    told: list[Any] = []

    async def summarise(text: str, about: ToolContext, context: Context | None = None) -> str:
        told.append((about.call, about.turn, about.attempt, about.messages, context))
        answer = await about.ask(ChatRequest.of(f"Shorten: {text}", model="m"), purpose="shorten")
        return answer.text

    transport = Scripted([asks(call("summarise", text="long")), "short", "It says: short."])
    request = ASK.evolve(context=Context(user="ada"))
    response = await pipeline(Tools([summarise]), transport).run(request)
    assert results(response.messages) == [("summarise", "short", False)]
    (found,) = told
    assert found[0] == call("summarise", text="long")
    assert found[1:3] == (1, 1)
    assert found[3] == (*ASK.messages, response.messages[0])
    assert found[4].user == "ada"
    assert sent(transport)[1].tools == ()
    branches = [attempt.branch for attempt in response.trace.attempts]
    assert branches == ["", "/shorten", "/turn2"]


async def test_several_answers_are_refused_before_anything_is_sent() -> None:
    """`n` has no meaning for a loop."""
    transport = Scripted(["never"])
    with pytest.raises(UnsupportedError, match="n=2"):
        await pipeline(TOOLS, transport).run(ASK.evolve(n=2))
    assert not sent(transport)


async def test_the_same_tool_in_the_request_is_one_and_another_one_is_refused() -> None:
    """Providers refuse two tools of one name."""
    transport = Scripted(["Hello."])
    pipe = pipeline(TOOLS, transport)
    await pipe.run(ASK.evolve(tools=TOOLS.declared[:1]))
    assert sent(transport)[0].tools == TOOLS.declared
    with pytest.raises(ConfigurationError, match="'add'"):
        await pipe.run(ASK.evolve(tools=[Tool("add", "something else")]))


@BOTH
async def test_ids_that_are_missing_or_stand_twice_are_mended(*, stream: bool) -> None:
    """Of two calls with one id the first is run; both are answered."""
    calls = [ToolCall("", "add", '{"a":1}'), call("add", "x", a=2), call("add", "x", a=3)]
    events = [*[event for one in calls for event in asks(one)[:-1]], Finish("tool_calls")]
    for index, event in enumerate(events[:-1]):
        object.__setattr__(event, "index", index // 3)
    transport = Scripted([events, "Done."])
    response = await read(pipeline(TOOLS, transport), stream=stream)
    told = results(response.messages)
    assert [text for _, text, _ in told][:2] == ["2", "3"]
    assert "same id" in told[2][1]
    assert len({identity for identity, _, _ in told} - {""}) == 3
    assert whole(sent(transport))
    assert [one["outcome"] for one in noted(response)] == ["duplicate", "ok", "ok"]


async def test_retry_inside_repeats_a_turn_and_no_tool() -> None:
    """Each model turn has tries of its own."""
    script = [asks(call("add", a=1)), ServerError("oops", status=500), "Two."]
    response = await pipeline(TOOLS, script, Retry(base=0.01, budget=None)).run(ASK)
    assert response.text == "Two."
    assert [one["outcome"] for one in noted(response)] == ["ok"]
    assert [one.branch for one in response.trace.attempts] == ["", "/turn2", "/turn2/try2"]


def test_the_order_that_would_run_tools_twice_is_refused() -> None:
    """As is the one that would skip their effects."""
    with pytest.raises(OrderError, match="run it again"):
        Pipeline([Retry(), TOOLS], Scripted(["x"]))
    with pytest.raises(OrderError, match="prices"):
        Pipeline([Tools([add], max_cost="1.00")], Scripted(["x"]))
    Pipeline([Tools([add], max_cost="1.00"), Cost()], Scripted(["x"]), ports=virtual_ports())


@pytest.mark.parametrize(
    "options",
    [
        {"tools": []},
        {"tools": add},
        {"tools": "add"},
        {"tools": [add, add]},
        {"tools": [7]},
        {"max_steps": 1},
        {"max_tokens": 0},
        {"max_cost": 0.5},
        {"max_cost": "much"},
        {"max_seconds": 0},
        {"on_limit": "stop"},
        {"timeout": -1},
        {"concurrency": 0},
        {"max_output": 0},
        {"approve": True},
        {"fence": "yes"},
        {"on_error": "log"},
    ],
)
def test_wrong_options_are_refused_when_it_is_made(options: dict[str, Any]) -> None:
    """The message names what is wrong."""
    with pytest.raises(ConfigurationError, match=r"Tools|tool"):
        Tools(**{"tools": [add], **options})


def test_a_functions_name_is_no_function() -> None:
    """A file can only give a name: the error says where functions are given."""
    with pytest.raises(ConfigurationError, match=r"'shop:add' is no function.*preset\("):
        Tools(cast("Any", ["shop:add"]))


def test_a_tool_is_still_the_function() -> None:
    """Decorated or not, it can be called."""

    @tool(timeout=5)
    def double(number: int) -> int:
        """Twice."""
        return number * 2

    assert double(4) == 8
    with pytest.raises(ConfigurationError, match="already"):
        tool(double)
    assert repr(Tools([double]).tools) == "(tool('double'),)"


@BOTH
async def test_what_tools_of_a_layer_inside_said_is_not_forgotten(*, stream: bool) -> None:
    """The next turn is asked with all that the answer has added."""
    script = [asks(call("weather", city="Bern")), asks(call("add", a=1)), "Done."]
    transport = Scripted(script)
    response = await read(pipeline(Tools([add]), transport, Tools([weather])), stream=stream)
    assert sent(transport)[2].messages == (*ASK.messages, *response.messages[:-1])
    assert len(response.messages) == 5


async def test_an_answer_of_several_turns_is_not_called_kept() -> None:
    """Its first turn may be; those behind it have been paid for."""

    async def kept(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if not isinstance(request.messages[-1].parts[0], Text):
            return response
        return request.answer(response.events, attrs.evolve(response.head, cached=True))

    pipe = pipeline(Tools([add]), [asks(call("add", a=1)), "Two.", "Hello."], kept)
    assert not (await pipe.run(ASK)).head.cached
    assert (await pipe.run(ASK)).head.cached
