"""Turns of a conversation: added whole or not at all, one at a time, with their session."""

from __future__ import annotations

import gc
import threading
from itertools import pairwise
from typing import Any, cast

import anyio
import attrs
import pytest

from lamella import (
    BusyError,
    ChatRequest,
    ConfigurationError,
    Context,
    Conversation,
    Ending,
    Finish,
    Handler,
    Image,
    LamellaError,
    Message,
    MisuseError,
    Pipeline,
    Reasoning,
    ReasoningDelta,
    ServerError,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Turn,
    answered,
)
from lamella.testing import Item, Scripted, virtual_ports

pytestmark = pytest.mark.anyio

CALL = ToolCall("c1", "look_up", "{}")
LOOKED_UP = Turn((Message("assistant", CALL), Message.tool("c1", "42")))
WITH_TOOLS: list[Item] = [ToolCallDelta(0, "c1", "look_up", "{}"), LOOKED_UP, "It is ", "42."]


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


def talk(*script: Any, layers: Any = (), **options: Any) -> tuple[Conversation, Scripted]:
    """A conversation over a script, and the script."""
    model = Scripted(script)
    return Conversation(Pipeline(layers, model, ports=virtual_ports()), **options), model


def asked(model: Scripted) -> list[ChatRequest]:
    """The requests, in order."""
    return cast("list[ChatRequest]", model.requests)


def sent(model: Scripted) -> list[list[str]]:
    """What each request said, message by message."""
    return [[message.text for message in request.messages] for request in asked(model)]


def said(conversation: Conversation) -> list[str]:
    """What was said."""
    return [message.text for message in conversation.messages]


async def test_all_that_was_said_goes_along() -> None:
    """Instructions first, then all turns; the answer is added with its question."""
    talking, model = talk("one", "two", system="Be brief.", model="m", temperature=0)
    response = await talking.say("first")
    assert response.text == "one"
    await talking.say([Text("second"), Image(url="https://example.org/a.png")], temperature=1)
    assert sent(model) == [["Be brief.", "first"], ["Be brief.", "first", "one", "second"]]
    assert said(talking) == ["first", "one", "second", "two"]
    fields = [(request.model, request.temperature) for request in asked(model)]
    assert fields == [("m", 0), ("m", 1)]
    assert [(entry.begins, entry.answer) for entry in talking.entries[:2]] == [
        (True, False),
        (False, True),
    ]


async def test_every_call_says_whose_it_is() -> None:
    """Session, tenant, user, tags, and what else the context has, are on each call's context."""
    talking, model = talk(
        "a",
        session="s-1",
        tenant="acme",
        user="ada",
        tags={"team": "x"},
        context=Context(priority=3),
    )
    await talking.say("hello")
    context = model.requests[0].context
    found = (context.session, context.tenant, context.user, dict(context.tags), context.priority)
    assert found == ("s-1", "acme", "ada", {"team": "x"}, 3)
    given = Context(session="s-2", tenant="acme", user="bob", tags={"team": "y"})
    other, _ = talk("a", context=given, user="ada")
    assert (other.session, other.tenant, other.user) == ("s-2", "acme", "ada")
    assert dict(other.tags) == {"team": "y"}
    with pytest.raises(ConfigurationError, match="for one call"):
        talk("a", context=Context(idempotency_key="k"))


async def test_a_session_gets_a_name_of_its_own() -> None:
    """It is made by the ports, so that it is unguessable, and the same in a virtual world."""
    pipeline = Pipeline([], Scripted(["a"]), ports=virtual_ports())
    talks = [Conversation(pipeline), Conversation(pipeline)]
    assert len({talk.session for talk in talks}) == 2
    again = Conversation(Pipeline([], Scripted(["a"]), ports=virtual_ports()))
    assert again.session == talks[0].session


async def test_a_turn_that_failed_changes_nothing() -> None:
    """What was asked can be asked again."""
    talking, model = talk("one", ServerError("no", status=500), "two")
    await talking.say("first")
    with pytest.raises(ServerError):
        await talking.say("second")
    assert said(talking) == ["first", "one"]
    assert not talking.busy
    await talking.say("second")
    assert sent(model)[2] == ["first", "one", "second"]


async def test_a_turn_that_was_cancelled_changes_nothing() -> None:
    """Neither while it waits for the answer nor, streamed, in the middle of it."""
    slow: list[Item] = ["a", 5.0, "b", Finish("stop")]
    talking, _ = talk(slow, slow, slow)
    with anyio.move_on_after(1):
        await talking.say("run")
    with anyio.move_on_after(1):
        async with talking.say_stream("stream") as response:
            await response.collect()
    async with talking.say_stream("left") as response:
        await anext(aiter(response))
    assert (said(talking), talking.busy) == ([], False)


async def test_a_streamed_turn_is_there_once_the_answer_has_ended() -> None:
    """Inside the block already: the events that are read last find it complete."""
    talking, _ = talk(["a", "b", Finish("stop")])
    async with talking.say_stream("hello") as response:
        assert said(talking) == []
        await response.collect()
        assert said(talking) == ["hello", "ab"]
        assert talking.busy
    assert not talking.busy


async def test_an_answer_that_an_observer_objects_to_is_not_added() -> None:
    """Who accounts for it says no at the end: streamed or not, the turn has failed."""

    async def objecting(request: ChatRequest, call_next: Handler) -> Any:
        response = await call_next(request)

        def refuse(_: Ending) -> None:
            raise ServerError("not written down", status=500)

        await response.on_end(refuse)
        return response

    talking, _ = talk("one", "two", layers=[objecting])
    with pytest.raises(ServerError):
        await talking.say("run")
    with pytest.raises(ServerError):
        async with talking.say_stream("stream") as response:
            await response.collect()
    assert said(talking) == []


async def test_turns_with_tools_are_added_whole() -> None:
    """Calls and results stand between the question and the answer, streamed or not."""
    talking, model = talk([*WITH_TOOLS, Finish("stop")], [*WITH_TOOLS, Finish("stop")], "bye")
    await talking.say("what is it?")
    async with talking.say_stream("and now?"):
        pass
    assert said(talking) == ["what is it?", "", "42", "It is 42."]
    async with talking.say_stream("thanks") as response:
        await response.collect()
    roles = [message.role for message in asked(model)[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert answered(talking.messages)


async def test_what_came_of_a_broken_answer_can_be_kept() -> None:
    """Work of tools is not lost; no call stays alone, and no half thought; entries say so."""
    cut = ToolCallDelta(0, "c2", "look_up", '{"a')
    talking, _ = talk(
        [*WITH_TOOLS, ServerError("gone", status=500)],
        [*WITH_TOOLS[:2], "Hm", cut, ServerError("gone", status=500)],
        [*WITH_TOOLS[:2], ReasoningDelta("well"), ServerError("gone", status=500)],
        [cut, 5.0],
        keep_partial=True,
    )
    for question in ("1", "2", "3"):
        with pytest.raises(ServerError):
            async with talking.say_stream(question) as response:
                await response.collect()
    async with talking.say_stream("4") as response:
        await anext(aiter(response))  # left with nothing but a call cut short
    assert said(talking) == ["1", "", "42", "It is 42.", "2", "", "42", "Hm", "3", "", "42"]
    assert [entry.partial for entry in talking.entries] == [False, *[True] * 3] * 2 + [
        False,
        True,
        True,
    ]
    assert answered(talking.messages)
    assert not any(isinstance(p, Reasoning) for m in talking.messages for p in m.parts)


@pytest.mark.parametrize("streamed", [False, True])
async def test_half_an_answer_is_replaced_when_it_goes_on(streamed: bool) -> None:
    """What tools did stays, and is sent; the half words are not, and become a branch."""
    broken = [*WITH_TOOLS[:2], "Hm", ServerError("gone", status=500)]
    gone = ServerError("gone", status=500)
    talking, model = talk(broken, gone, ["It's", gone], "It is 42.", keep_partial=True)
    with pytest.raises(ServerError):
        async with talking.say_stream("what is it?") as response:
            await response.collect()
    talking.pin(-1)
    talking = Conversation.from_json(talking.pipeline, talking.to_json(), keep_partial=True)
    for half in ("Hm", "It's"):
        with pytest.raises(ServerError):
            async with talking.resume_stream() as response:
                await response.collect()
        assert said(talking) == ["what is it?", "", "42", half]
    if streamed:
        async with talking.resume_stream() as response:
            await response.collect()
    else:
        await talking.resume()
    assert said(talking) == ["what is it?", "", "42", "It is 42."]
    assert sent(model)[1:] == [["what is it?", "", "42"]] * 3
    assert [branch.messages[-1].text for branch in talking.branches] == ["Hm", "It's"]
    assert not talking.entries[-1].partial


async def test_a_run_that_broke_off_keeps_what_its_error_brings() -> None:
    """`say` has no events to show: what came is in the error."""
    talking, _ = talk([*WITH_TOOLS, ServerError("gone", status=500)], keep_partial=True)
    with pytest.raises(LamellaError) as caught:
        await talking.say("1")
    kept = () if caught.value.partial is None else talking.messages
    assert answered(kept)
    assert not talking.busy


async def test_what_can_be_said_is_told() -> None:
    """What is neither text, parts nor messages is a TypeError that says what may be given."""
    talking, _ = talk("Never said.")
    with pytest.raises(TypeError, match="int is no part of a message; give text"):
        await talking.say(cast("Any", 5))
    with pytest.raises(TypeError, match="int is no part of a message; give text"):
        talking.system = cast("Any", 5)


async def test_calls_that_the_caller_answers() -> None:
    """An answer may end with calls; their results are said next, and nothing else."""
    talking, model = talk(CALL, "It is 42.")
    response = await talking.say("what is it?")
    assert [call.id for call in response.tool_calls] == ["c1"]
    with pytest.raises(MisuseError, match=r"no result for 'c1'.*say\(.*resume\(.*undo\(\)"):
        await talking.say("never mind")
    with pytest.raises(MisuseError, match="no result for 'c1'"):
        await talking.say([Message.user("wait"), Message.tool("c1", "42")])
    with pytest.raises(MisuseError, match="alone would be 'c9'"):
        await talking.say([Message.tool("c1", "42"), Message.tool("c9", "0")])
    await talking.say([Message.tool("c1", "42")])
    assert sent(model)[-1] == ["what is it?", "", "42"]
    assert said(talking) == ["what is it?", "", "42", "It is 42."]


async def test_an_empty_answer_leaves_the_question() -> None:
    """A message without anything in it could not be sent again."""
    talking, model = talk([Finish("content_filter")], "yes")
    await talking.say("hm?")
    await talking.say("hello?")
    assert sent(model)[-1] == ["hm?", "hello?"]


async def test_nothing_goes_on_past_calls_that_nobody_answers() -> None:
    """Streamed or not, and where the answer is there at once: the turn has failed."""

    async def at_once(request: ChatRequest) -> Any:
        return request.answer([TextDelta("well"), Finish("stop")])

    calls = [Message.user("q"), Message("assistant", CALL)]
    for answer in (at_once, Scripted(["well"], repeat=True)):
        talking = Conversation(Pipeline([], answer, ports=virtual_ports()), messages=calls)
        with pytest.raises(MisuseError, match="'c1'"):
            await talking.resume()
        with pytest.raises(MisuseError, match="'c1'"):
            async with talking.resume_stream() as response:
                await response.collect()
        assert (len(talking.messages), talking.busy) == (2, False)


async def test_no_layer_leaves_a_call_alone() -> None:
    """What could not be sent again is not added, whoever has brought it."""
    lost = Turn((Message("assistant", ["Hm", CALL]), Message.tool("c9", "0")))
    talking, model = talk([CALL.name, lost, "It is 42.", Finish("stop")], "yes")
    await talking.say("what is it?")
    await talking.say("sure?")
    assert sent(model)[1] == ["what is it?", "Hm", "It is 42.", "sure?"]
    assert answered(talking.messages)


async def test_one_turn_at_a_time() -> None:
    """A second one, and every other change, is refused; the error names the way beside it."""
    talking, _ = talk(["a", 1.0, "b", Finish("stop")], "beside")
    beside = talking

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talking.say, "first")
        await anyio.sleep(0.5)
        with pytest.raises(BusyError, match=r"branch\(\)"):
            await talking.say("second")
        with pytest.raises(BusyError):
            async with talking.say_stream("second"):
                pass
        for change in (talking.undo, talking.clear, lambda: talking.edit(0, "x")):
            with pytest.raises(BusyError):
                change()
        beside = talking.branch()
        await beside.say("second")
    assert (said(talking), said(beside)) == (["first", "ab"], ["second", "beside"])


async def test_a_streamed_turn_is_entered_and_says_so() -> None:
    """Awaited or iterated over, it begins nothing and names what to write."""
    talking, model = talk("never")
    block: Any = talking.say_stream("hi")
    with pytest.raises(MisuseError, match=r"is a block.*async with conversation.say_stream"):
        await block
    with pytest.raises(MisuseError, match=r"is a block"):
        async for _ in block:
            pass
    assert not talking.busy
    assert not model.requests


async def test_a_block_that_is_dropped_does_not_stay_in_the_way() -> None:
    """Who enters one and forgets it has left the turn."""
    talking, _ = talk(["a", 1.0, Finish("stop")], "two")

    async def drop() -> None:
        block = talking.say_stream("first")
        await block.__aenter__()

    await drop()
    gc.collect()
    await anyio.sleep(0.1)
    await talking.say("second")
    assert said(talking) == ["second", "two"]


async def test_a_block_is_entered_once() -> None:
    """What is no block says so."""
    talking, _ = talk("one")
    block = talking.say_stream("first")
    async with block:
        pass
    with pytest.raises(MisuseError, match="entered"):
        await block.__aenter__()
    with pytest.raises(MisuseError, match="async with"):
        aiter(cast("Any", block))


async def test_only_so_much_is_sent() -> None:
    """Whole turns go, the oldest first; instructions, pins and all that was said stay."""
    answers = [[*WITH_TOOLS, Finish("stop")], *(f"answer {n}" for n in range(8))]
    talking, model = talk(*answers, system="Be brief.", max_messages=8)
    await talking.say("pinned")
    talking.pin(0)
    for number in range(8):
        await talking.say(f"question {number}")
    assert len(talking.messages) == 20
    for request in asked(model):
        assert len(request.messages) <= 8
        assert answered(request.messages)
        assert [message.text for message in request.messages[:2]] == ["Be brief.", "pinned"]
    assert sent(model)[-1][-3:] == ["question 6", "answer 6", "question 7"]

    long, model = talk("a", "b", max_tokens=3000)
    await long.say("word " * 4000)  # counted in a thread
    await long.say("hello")
    assert sent(model)[1] == ["hello"]

    small, counted = talk(*["word " * 100] * 6, max_tokens=300)
    for _ in range(6):
        await small.say("word " * 50)
    assert [len(request.messages) for request in asked(counted)] == [1, 3, 3, 3, 3, 3]


async def test_what_is_sent_begins_alike_from_turn_to_turn() -> None:
    """A cut goes to four fifths, and stands for several turns: prompt caches find the beginning."""
    for limits in ({"max_messages": 20}, {"max_tokens": 700}):
        talking, model = talk(*["word " * 20] * 30, system="Be brief.", **limits)
        for number in range(30):
            await talking.say(f"question {number} " + "word " * 20)
        lists = [request.messages for request in asked(model)]
        grown = [now[: len(was)] == was for was, now in pairwise(lists[9:])]
        assert max(map(len, lists)) < 30
        assert len(grown) / 3 < sum(grown) < len(grown)


async def test_wrong_options_are_told_at_once() -> None:
    """Each says what was given and what to give."""
    pipeline = Pipeline([], Scripted(["a"]))
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"session": ""}, "session=''"),
        ({"tenant": 3}, "tenant=3"),
        ({"user": "\ud800"}, "user="),
        ({"tags": {"a": 1}}, "tags"),
        ({"keep_partial": "no"}, "keep_partial='no'"),
        ({"max_messages": 0}, "max_messages=0"),
        ({"max_tokens": True}, "max_tokens=True"),
        ({"returns": int}, "returns="),
        ({"store": 3}, "int keeps no conversations"),
    )
    for options, why in wrong:
        with pytest.raises(ConfigurationError, match=why):
            Conversation(pipeline, **options)
    with pytest.raises(TypeError, match="temperature"):
        Conversation(pipeline, temprature=1)
    with pytest.raises(ConfigurationError, match="over a Pipeline"):
        Conversation("mock")  # type: ignore[arg-type]
    with pytest.raises(MisuseError, match="'c1'"):
        Conversation(pipeline, messages=[Message.tool("c1", "42")])
    with pytest.raises(TypeError, match="is one text"):
        Conversation(pipeline).resume_stream(approvals="an id")


async def test_wrong_words_are_told_at_once() -> None:
    """Nothing, and a mixture of messages and parts, cannot be said."""
    talking, model = talk("a")
    for content, kind in (
        (None, TypeError),
        ([], ValueError),
        ("", ValueError),
        (" \n", ValueError),
        (Message.user([]), ValueError),
        ([Message.user("a"), {"role": "user", "content": ""}], ValueError),
        ([Message.user("a"), Text("b")], TypeError),
        ([3], TypeError),
    ):
        with pytest.raises(kind):
            await talking.say(cast("Any", content))
    with pytest.raises(ConfigurationError, match="messages="):
        await talking.say("a", messages="b")
    with pytest.raises(ValueError, match=r"empty.*regenerate\(\).*resume\(\)"):
        async with talking.say_stream(""):
            pass
    assert (model.requests, talking.busy) == ([], False)


async def test_it_may_begin_with_what_was_said_before() -> None:
    """Dicts will do; the instructions may be changed on the way."""
    before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    talking, model = talk("a", "b", messages=before)
    await talking.say({"role": "user", "content": "how are you?"})
    talking.system = "Be kind."
    await talking.say({"type": "text", "text": "and now?"})
    assert sent(model)[1] == ["Be kind.", "hi", "hello", "how are you?", "a", "and now?"]
    assert [message.text for message in talking.undo()] == ["and now?", "b"]


def test_synchronous_code_talks_too() -> None:
    """Whole or streamed; of two threads one gets its turn, and the other is told."""
    entered, go_on = threading.Event(), threading.Event()

    async def slow(request: ChatRequest) -> Any:
        entered.set()
        await anyio.to_thread.run_sync(go_on.wait, 5)
        return request.answer([Finish("stop")])

    talking = Conversation(Pipeline([], Scripted(["one", ["t", "wo", Finish("stop")]])))
    assert talking.say_sync("first").text == "one"
    with talking.say_stream_sync("second") as response:
        assert [type(event).__name__ for event in response] == ["TextDelta"] * 2 + ["Finish"]
    assert said(talking) == ["first", "one", "second", "two"]

    busy = Conversation(Pipeline([], slow))
    other = threading.Thread(target=busy.say_sync, args=["first"])
    other.start()
    assert entered.wait(5)
    with pytest.raises(BusyError):
        busy.say_sync("second")
    go_on.set()
    other.join(5)
    assert said(busy) == ["first"]


async def test_pinned_words_are_sent_pinned() -> None:
    """Layers that shorten what is sent see it; it does not travel further."""
    talking, model = talk("one", "two")
    await talking.say(attrs.evolve(Message.user("never forget"), pinned=True))
    await talking.say("second")
    assert [message.pinned for message in asked(model)[1].messages] == [True, False, False]
    talking.pin(0, pinned=False)
    assert not any(message.pinned for message in talking.messages)
