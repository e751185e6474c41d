"""What of a conversation belongs together.

An assistant's message that calls tools, and the results that answer its calls, are one thing: a
provider refuses a result without its call, and a call without its result. Whatever shortens, keeps
or forks a conversation takes such a group whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from lamella._messages import Message
from lamella._parts import Reasoning, ToolCall, ToolResult


@attrs.frozen
class Group:
    """Messages in a row that stay together.

    Attributes:
        start: The place of the first one in the conversation.
        messages: The messages, in order: a single one, or a call of tools with all that answers it
            and whatever stands between. Reasoning that ends an assistant's message belongs to the
            assistant's next one.
    """

    start: int
    messages: tuple[Message, ...]

    @property
    def stop(self) -> int:
        """The place after the last one."""
        return self.start + len(self.messages)

    @property
    def role(self) -> str:
        """Who begins it."""
        return self.messages[0].role

    @property
    def pinned(self) -> bool:
        """Whether one of them is to be kept whatever happens."""
        return any(message.pinned for message in self.messages)


def groups(messages: Sequence[Message]) -> tuple[Group, ...]:
    """A conversation as what belongs together, in order; joined they are the conversation again."""
    reach = list(range(len(messages)))  # how far what begins at each place goes
    for call, result in _pairs(messages)[0]:
        reach[call] = max(reach[call], result)
    for place, message in enumerate(messages[:-1]):
        if message.role == "assistant" and message.parts:
            follows = messages[place + 1].role == "assistant"
            if follows and isinstance(message.parts[-1], Reasoning):
                reach[place] = max(reach[place], place + 1)
    found: list[Group] = []
    place = 0
    while place < len(messages):
        last = inside = place
        while inside <= last:
            last = max(last, reach[inside])
            inside += 1
        found.append(Group(place, tuple(messages[place : last + 1])))
        place = last + 1
    return tuple(found)


def unanswered(messages: Sequence[Message]) -> tuple[str, ...]:
    """The ids of calls that no result answers, and of results whose call is not there."""
    return _pairs(messages)[1]


def answered(messages: Sequence[Message]) -> bool:
    """Whether each call of a tool has its result behind it, and each result its call before it."""
    return not _pairs(messages)[1]


def _pairs(messages: Sequence[Message]) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    """The places of calls and of what answers them, and the ids of what is alone.

    Providers use ids again in later turns: a result answers the last call of its id that is open.
    """
    calls: dict[str, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    alone: list[str] = []
    for place, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.setdefault(part.id, []).append(place)
            elif isinstance(part, ToolResult):
                waiting = calls.get(part.call_id)
                if waiting:
                    pairs.append((waiting.pop(), place))
                else:
                    alone.append(part.call_id)
    alone.extend(call for call, places in calls.items() for _ in places)
    return pairs, tuple(alone)
