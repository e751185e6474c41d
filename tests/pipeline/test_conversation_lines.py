"""Going back in a conversation: edits, branches, answers made anew. What was said stays said."""

from __future__ import annotations

from typing import Any

import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Conversation,
    Message,
    MisuseError,
    Pipeline,
    Request,
    ServerError,
    ToolCall,
    UnknownNameError,
)
from lamella.testing import virtual_ports

pytestmark = pytest.mark.anyio

CALL = ToolCall("c1", "look_up", "{}")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class Echo:
    """Answers with a number and what was said last; fails where that is "fail"."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []

    async def __call__(self, request: Request[Any], /) -> Any:
        """Answer."""
        seen: object = request
        assert isinstance(seen, ChatRequest)
        self.requests.append(seen)
        last = seen.messages[-1].text
        if last == "fail":
            raise ServerError("no", status=500)
        return ChatResponse.of(f"{len(self.requests)}:{last}")


def talk(**options: Any) -> Conversation:
    """A conversation with an echo."""
    return Conversation(Pipeline([], Echo(), ports=virtual_ports()), **options)


def said(conversation: Conversation) -> list[str]:
    """What was said."""
    return [message.text for message in conversation.messages]


async def test_an_edit_begins_another_line() -> None:
    """What came after is gone from this line, and stays on the branch; `regenerate` answers."""
    talking = talk()
    for word in ("a", "b", "c"):
        await talking.say(word)
    talking.edit(2, "B")
    assert said(talking) == ["a", "1:a", "B"]
    await talking.regenerate()
    assert said(talking) == ["a", "1:a", "B", "4:B"]
    (branch,) = talking.branches
    assert [message.text for message in branch.messages] == ["a", "1:a", "b", "2:b", "c", "3:c"]
    old = talking.branch(branch.id)
    assert said(old) == ["a", "1:a", "b", "2:b", "c", "3:c"]
    assert [entry.message.text for entry in old.branches[0].entries] == said(talking)
    talking.edit(-1, Message.assistant("four"))
    assert said(talking)[-1] == "four"


async def test_an_answer_made_anew_takes_the_place_of_the_old_one() -> None:
    """The old one becomes a branch; if the new one fails, it stays."""
    talking = talk()
    await talking.say("a")
    await talking.regenerate(temperature=1)
    assert said(talking) == ["a", "2:a"]
    async with talking.regenerate_stream() as response:
        await response.collect()
    assert said(talking) == ["a", "3:a"]
    assert [said(talking.branch(each.id)) for each in talking.branches] == [
        ["a", "1:a"],
        ["a", "2:a"],
    ]
    talking.edit(0, "fail")
    with pytest.raises(ServerError):
        await talking.regenerate()
    assert said(talking) == ["fail"]
    with pytest.raises(MisuseError, match="nothing has been said"):
        await talk().regenerate()


def test_answers_are_made_anew_in_synchronous_code() -> None:
    """Whole or streamed."""
    talking = Conversation(Pipeline([], Echo()))
    talking.say_sync("a")
    assert talking.regenerate_sync().text == "2:a"
    with talking.regenerate_stream_sync() as response:
        assert response.collect_sync().text == "3:a"
    assert said(talking) == ["a", "3:a"]


async def test_branches_go_their_own_ways() -> None:
    """They share the past, the settings and the session, and nothing that is said later."""
    talking = talk(system="Be brief.", session="s-1", temperature=0)
    await talking.say("a")
    other = talking.branch()
    first = talking.branch(1)
    await other.say("b")
    await talking.say("c")
    assert said(talking)[2:] == ["c", "3:c"]
    assert said(other)[2:] == ["b", "2:b"]
    assert said(first) == ["a"]
    assert (other.session, first.system, first.entries[0]) == (
        "s-1",
        talking.system,
        talking.entries[0],
    )
    own = talking.branch(-2, session="s-2")
    await own.say("d")
    assert (own.session, own.branches, said(own)) == ("s-2", (), ["a", "1:a", "d", "4:d"])
    last = own.pipeline.transport.requests[-1]
    assert (last.context.session, last.temperature) == ("s-2", 0)
    for at in (9, -9):
        with pytest.raises(IndexError, match="has 4"):
            talking.branch(at)
    with pytest.raises(UnknownNameError, match="no entry 'x'"):
        talking.branch("x")


async def test_turns_can_be_taken_back() -> None:
    """The last one as a whole; then the one before; then there is nothing to take back."""
    talking = talk(messages=[Message.assistant("welcome")])
    await talking.say("a")
    await talking.say("b")
    assert [message.text for message in talking.undo()] == ["b", "2:b"]
    assert [message.text for message in talking.undo()] == ["a", "1:a"]
    assert (talking.undo(), said(talking)) == ((), ["welcome"])
    talking.clear()
    assert said(talking) == []
    assert [len(branch.entries) for branch in talking.branches] == [5]
    await talking.say("c")
    assert [branch.entries[-1].message.text for branch in talking.branches] == ["2:b"]


async def test_calls_and_their_results_stay_together() -> None:
    """A line may end with calls, and nowhere else between a call and its result."""
    talking = talk(
        messages=[Message.user("q"), Message("assistant", CALL), Message.tool("c1", "42")]
    )
    assert said(talking.branch(2)) == ["q", ""]
    with pytest.raises(MisuseError, match="'c1'"):
        await talking.branch(2).say("never mind")
    talking.edit(2, Message.tool("c1", "43"))
    assert said(talking) == ["q", "", "43"]
    with pytest.raises(MisuseError, match="'c1'"):
        talking.edit(1, Message.tool("c1", "44"))
    talking.edit(1, "never mind")
    assert said(talking) == ["q", "never mind"]
    with pytest.raises(IndexError, match="no message 7"):
        talking.pin(7)


async def test_pins_belong_to_one_conversation() -> None:
    """A branch has those that there were when it began."""
    talking = talk()
    await talking.say("a")
    talking.pin(0)
    other = talking.branch()
    other.pin(1)
    other.pin(0, pinned=False)
    assert [message.pinned for message in talking.messages] == [True, False]
    assert [message.pinned for message in other.messages] == [False, True]
    talking.edit(0, "A")
    assert [message.pinned for message in talking.messages] == [True]


async def test_an_edit_may_change_who_speaks() -> None:
    """What the user says in an answer's place is a question: it is answered, and taken back."""
    talking = talk()
    await talking.say("a")
    talking.edit(-1, {"role": "user", "content": "b"})
    await talking.regenerate()
    assert said(talking) == ["a", "b", "2:b"]
    talking.edit(1, Message.assistant("B"))
    assert [(entry.begins, entry.answer) for entry in talking.entries] == [
        (True, False),
        (False, True),
    ]
    assert [message.text for message in talking.undo()] == ["a", "B"]


async def test_many_answers_made_anew_cost_the_same() -> None:
    """Lines that were left are gone through once for each new one, and a long past is shared."""
    talking = talk(messages="x")
    for _ in range(120):
        await talking.regenerate()
    assert len(talking.branches) == 119
    assert len(talking.record().entries) == 121
