"""What of a conversation belongs together: calls of tools and what answers them."""

from __future__ import annotations

import pytest
from histories import history

from lamella import Message, Reasoning, Text, ToolCall, answered, groups, unanswered


def call(*ids: str) -> Message:
    """An assistant's message that calls a tool with each id."""
    return Message("assistant", [ToolCall(one, "f", "{}") for one in ids])


def sizes(*messages: Message) -> list[int]:
    """How many messages each group has."""
    return [len(group.messages) for group in groups(messages)]


def test_a_call_and_its_results_are_one_group() -> None:
    """Parallel calls and all that answers them, in any order, stay together."""
    talk = (Message.user("q"), call("a", "b"), Message.tool("b", "2"), Message.tool("a", "1"))
    assert sizes(*talk, Message.assistant("done")) == [1, 3, 1]
    assert answered(talk)


def test_what_stands_between_a_call_and_its_result_goes_along() -> None:
    """A group has no holes, and groups that overlap are one."""
    talk = (call("a"), call("b"), Message.tool("a", "1"), Message.user("?"), Message.tool("b", "2"))
    (group,) = groups(talk)
    assert (group.start, group.stop, group.role, group.pinned) == (0, 5, "assistant", False)


def test_ids_that_come_again_belong_to_the_last_open_call() -> None:
    """Providers count their ids anew with each turn."""
    talk = (call("0"), Message.tool("0", "x"), Message.user("q"), call("0"), Message.tool("0", "y"))
    assert sizes(*talk) == [2, 1, 2]
    assert answered(talk)


def test_a_call_behind_its_result_does_not_answer_it() -> None:
    """A result needs its call before it."""
    talk = (Message.tool("a", "1"), call("a"))
    assert unanswered(talk) == ("a", "a")
    assert sizes(*talk) == [1, 1]


def test_reasoning_that_ends_a_message_belongs_to_the_next() -> None:
    """Providers refuse sealed reasoning without what followed it."""
    thought = Message("assistant", Reasoning("hm", signature="seal"))
    assert sizes(thought, call("a"), Message.tool("a", "1")) == [3]
    assert sizes(Message("assistant", [Reasoning("hm"), Text("so")]), Message.assistant("x")) == [
        1,
        1,
    ]
    assert sizes(thought, Message.user("q")) == [1, 1]


def test_a_group_is_pinned_if_one_of_it_is() -> None:
    """What is pinned keeps what it belongs to."""
    pinned = Message("tool", Message.tool("a", "1").parts, pinned=True)
    assert [group.pinned for group in groups((Message.user("q"), call("a"), pinned))] == [
        False,
        True,
    ]


@pytest.mark.parametrize("orphans", [0, 2])
def test_groups_joined_are_the_conversation(orphans: int) -> None:
    """Nothing is lost, nothing is there twice, and each group is answered as far as all is."""
    for seed in range(200):
        talk = history(seed, words=3, orphans=orphans)
        found = groups(talk)
        assert sum([group.messages for group in found], ()) == talk
        assert [group.start for group in found[1:]] == [group.stop for group in found[:-1]]
        alone = [one for group in found for one in unanswered(group.messages)]
        assert sorted(alone) == sorted(unanswered(talk))
        assert len(alone) == orphans
