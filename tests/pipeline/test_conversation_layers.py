"""Conversations over layers that know what a session, a tool, or a pin is; and the example."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from lamella import (
    ApprovalRequired,
    ChatRequest,
    Conversation,
    Message,
    MisuseError,
    Pipeline,
    Prompt,
    PromptTemplate,
    Secret,
    ServerError,
    Size,
    Target,
    ToolCall,
    answered,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import PII, Route, Template, Tools, Trim
from lamella_middlewares.tools import tool

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "agent.py"


def asked(model: Scripted) -> list[ChatRequest]:
    """The requests, in order."""
    return cast("list[ChatRequest]", model.requests)


def roles(conversation: Conversation) -> list[str]:
    """Who said what."""
    return [message.role for message in conversation.messages]


async def test_placeholders_are_the_same_in_all_turns() -> None:
    """The provider sees the same one for the same value; the conversation has the value."""
    model = Scripted([lambda request: request.messages[-1].text], repeat=True)
    pii = PII(scope="session", key=Secret.of_value("a key that is long enough"))
    talking = Conversation(Pipeline([pii], model, ports=virtual_ports()))
    response = await talking.say("I am ada@example.org.")
    assert response.text == "I am ada@example.org."
    await talking.say("Write to ada@example.org.")
    first, second = asked(model)
    assert "ada@" not in first.messages[0].text
    assert second.messages[0] == first.messages[0]
    assert [message.text for message in talking.messages[2:]] == ["Write to ada@example.org."] * 2
    await pii.forget(talking.pipeline, session=talking.session)


async def test_a_conversation_stays_at_one_target() -> None:
    """Where its prompt cache is warm; another one may be elsewhere."""
    targets = {f"t{n}": Scripted(["a"], repeat=True, name=f"t{n}") for n in range(4)}
    route = Route([Target(name, transport=t) for name, t in targets.items()], affinity="session")
    pipeline = Pipeline([route], Scripted(["never"]), ports=virtual_ports())
    for number in range(4):
        before = {name: len(target.requests) for name, target in targets.items()}
        talking = Conversation(pipeline, session=f"s-{number}")
        for _ in range(3):
            await talking.say("hello")
        more = {name: len(t.requests) - before[name] for name, t in targets.items()}
        assert sorted(more.values()) == [0, 0, 0, 3]


async def test_what_is_pinned_is_kept_by_layers() -> None:
    """They shorten what is sent; the conversation stays whole."""
    model = Scripted(["word " * 50], repeat=True)
    talking = Conversation(Pipeline([Trim(Size(messages=6))], model))
    await talking.say("my name is Ada")
    talking.pin(0)
    for _ in range(6):
        await talking.say("and then?")
    assert len(talking.messages) == 14
    assert all(request.messages[0].text == "my name is Ada" for request in asked(model))
    assert len(asked(model)[-1].messages) <= 6


async def test_agreement_may_come_later_and_elsewhere() -> None:
    """The conversation ends with the call, outlives its program, and goes on once it is agreed."""
    done: list[str] = []

    @tool(approve="ask")
    def erase(name: str) -> str:
        """Erase something."""
        done.append(name)
        return "erased"

    def call(name: str) -> Message:
        return Message("assistant", ToolCall(f"c-{name}", "erase", f'{{"name": "{name}"}}'))

    model = Scripted([call("a"), call("b"), "Both are gone."], repeat=True)
    pipeline = Pipeline([Tools([erase])], model, ports=virtual_ports())
    for streamed in (False, True):
        talking = Conversation(pipeline, user="ada", session="s")
        with pytest.raises(ApprovalRequired) as caught:
            if streamed:
                async with talking.say_stream("erase a and b") as response:
                    await response.collect()
            else:
                await talking.say("erase a and b")
        assert roles(talking) == ["user", "assistant"]
        with pytest.raises(MisuseError, match="no result for 'c-a'"):
            await talking.say("well?")
        talking = Conversation.from_json(pipeline, talking.to_json())
        with pytest.raises(ApprovalRequired) as again:
            await talking.resume()
        assert (list(again.value.calls), done) == (list(caught.value.calls), [])
        with pytest.raises(ApprovalRequired) as another:
            await talking.resume(approvals=caught.value.calls)
        assert (roles(talking)[2:], done) == (["tool", "assistant"], ["a"])
        async with talking.resume_stream(approvals=another.value.calls) as response:
            assert (await response.collect()).text == "Both are gone."
        assert (roles(talking)[4:], done) == (["tool", "assistant"], ["a", "b"])
        with pytest.raises(MisuseError, match="nothing to go on with"):
            await talking.resume()
        done.clear()


@pytest.mark.parametrize("way", ["resume", "resume_stream", "resume_sync", "resume_stream_sync"])
async def test_one_call_is_run_and_another_declined(way: str) -> None:
    """In one step, whichever way it is taken; the conversation may come from JSON."""
    done: list[str] = []

    @tool(approve="ask")
    async def erase(name: str) -> str:
        """Erase something."""
        done.append(name)
        return "erased"

    calls = [ToolCall(f"c-{name}", "erase", f'{{"name": "{name}"}}') for name in "ab"]
    pipeline = Pipeline([Tools([erase])], Scripted([Message("assistant", calls), "One is gone."]))
    talking = Conversation(pipeline)
    with pytest.raises(ApprovalRequired) as caught:
        await talking.say("erase a and b")
    first, second = caught.value.calls
    talking = Conversation.from_json(pipeline, talking.to_json())
    for wrong in ({"declined": "an id"}, {"declined": cast("Any", {first: 3})}):
        with pytest.raises(TypeError, match="declined="):
            getattr(talking, way)(**wrong)
    with pytest.raises(MisuseError, match="both approved and declined"):
        getattr(talking, way)(approvals=caught.value.calls, declined=[second])
    decisions: dict[str, Any] = {"approvals": [first], "declined": {second: "Keep b."}}
    if way == "resume":
        await talking.resume(**decisions)
    elif way == "resume_stream":
        async with talking.resume_stream(**decisions) as response:
            await response.collect()
    elif way == "resume_sync":
        await anyio.to_thread.run_sync(lambda: talking.resume_sync(**decisions))
    else:

        def read() -> None:
            with talking.resume_stream_sync(**decisions) as response:
                list(response)

        await anyio.to_thread.run_sync(read)
    assert [message.text for message in talking.messages[2:]] == [
        "erased", "Keep b.", "One is gone.",
    ]  # fmt: skip
    assert done == ["a"]


async def test_who_does_not_agree_answers_for_the_tool() -> None:
    """The model is told, and the tool is not run."""

    @tool(approve="ask")
    def erase() -> str:
        """Erase everything."""
        raise AssertionError

    model = Scripted([ToolCall("c", "erase", "{}"), "As you like."])
    talking = Conversation(Pipeline([Tools([erase])], model))
    with pytest.raises(ApprovalRequired):
        await talking.say("erase it")
    await talking.say([Message.tool("c", "They said no.", error=True)])
    assert roles(talking) == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_work_of_tools_is_not_done_twice(streamed: bool) -> None:
    """Kept when the last words fail, it goes on from there."""
    done: list[str] = []

    def send(to: str) -> str:
        """Send a letter."""
        done.append(to)
        return "sent"

    call = ToolCall("c", "send", '{"to": "ada"}')
    model = Scripted([call, ServerError("gone", status=500), "It is sent."])
    talking = Conversation(Pipeline([Tools([send])], model), keep_partial=True)
    with pytest.raises(ServerError):
        if streamed:
            async with talking.say_stream("write to ada") as response:
                await response.collect()
        else:
            await talking.say("write to ada")
    assert roles(talking) == ["user", "assistant", "tool"]
    assert (await talking.resume()).text == "It is sent."
    assert (done, roles(talking)[3:]) == (["ada"], ["assistant"])


async def test_a_turn_cancelled_in_the_middle_of_tools_is_whole() -> None:
    """Each call has its answer, and if nothing is to be kept, nothing is."""

    async def wait() -> str:
        """Wait for ever."""
        scope.cancel()
        await anyio.sleep_forever()
        return "never"

    calls = [ToolCall(f"c{n}", "wait", "{}") for n in range(3)]
    for kept in (False, True):
        model = Scripted([Message("assistant", ["One moment.", *calls])])
        talking = Conversation(Pipeline([Tools([wait])], model), keep_partial=kept)
        with anyio.CancelScope() as scope:
            async with talking.say_stream("wait") as response:
                await response.collect()
        assert answered(talking.messages)
        assert bool(talking.messages) is kept
        assert not talking.busy


async def test_a_prompt_is_written_anew_in_each_turn(tmp_path: Path) -> None:
    """In memory it stays a prompt; what cannot be saved is refused before anything is paid."""
    greet = PromptTemplate.of(
        [Message.system("Be {tone}."), "Greet {name}."], name="greet", version="1"
    )
    prompt = Prompt("greet", tone="kind", name="Ada")
    model = Scripted(["hello"], repeat=True)
    pipeline = Pipeline([Template(templates=[greet])], model, ports=virtual_ports())
    talking = Conversation(pipeline, max_tokens=2000)
    await talking.say(prompt)
    await talking.say("And Bob?")
    said = ["Be kind.", "Greet Ada.", "hello", "And Bob?"]
    assert [[one.text for one in request.messages] for request in asked(model)] == [said[:2], said]
    with pytest.raises(MisuseError, match=r"Prompt\('greet'\) cannot be pinned.*pinned = true"):
        talking.pin(0)
    refused = r"Prompt\('greet'\) cannot be saved.*messages\(\.\.\.\)"
    with pytest.raises(MisuseError, match=refused):
        talking.to_json()
    path = tmp_path / "chat.json"
    paid = len(model.requests)
    for other in (
        Conversation(pipeline, store=path),
        Conversation(pipeline, store=path, system=prompt),
        Conversation(pipeline, store=path, messages=[prompt]),
    ):
        with pytest.raises(MisuseError, match=refused):
            await other.say(prompt if other.system is None and not other.messages else "hi")
        assert not other.busy
    talking.undo()
    talking.undo()
    talking.store = path
    with pytest.raises(MisuseError, match=refused):  # it is on a line that was left
        await talking.say("hi")
    assert len(model.requests) == paid
    memory = Conversation(pipeline, messages=[Message.user("a"), prompt])
    memory.pin(0)
    memory.edit(0, prompt)
    memory.edit(0, "a")
    assert [message.text for message in memory.messages] == ["a"]


def inputs(*lines: str) -> Any:
    """Answers for who asks at the terminal."""
    left: Iterator[str] = iter(lines)

    def ask(_: str) -> str:
        for line in left:
            return line
        raise EOFError

    return ask


async def test_the_example_keeps_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent of the docs asks before it writes, and remembers when it is started again."""
    spec = importlib.util.spec_from_file_location("agent_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    agent = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(agent)
    write = 'write_note({"name": "../milk", "text": "two pints"})'
    await agent.main(folder=tmp_path, ask=inputs(write, "no", write, "yes", "/undo", write, "yes"))
    await agent.main(folder=tmp_path, ask=inputs('read_note({"name": "milk"})', "/new"))
    await agent.main(folder=tmp_path, ask=inputs())
    said = capsys.readouterr().out
    assert said.count("\n0 messages so far") == 1  # and before the first line
    assert said.startswith("0 messages so far")
    assert "8 messages so far" in said
    assert said.count("May I? write_note") == 3
    assert said.count("two pints") >= 4
    assert await anyio.Path(tmp_path / "milk.txt").read_text() == "two pints"
    assert not (tmp_path.parent / "milk.txt").exists()
