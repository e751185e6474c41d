"""A conversation as Anthropic's API sees it: messages in a row of one role are one turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, cast

import attrs

from lamella.testing._mock_openai._requests import JSON

Placed: TypeAlias = tuple[str, JSON]
"""A block, and where it stands."""


def _none() -> list[Placed]:
    return []


@attrs.define
class Turn:
    """One turn.

    Attributes:
        role: Whose it is.
        place: The number of its first message.
        blocks: Its blocks, texts without blocks included.
    """

    role: str
    place: int
    blocks: list[Placed] = attrs.field(factory=_none)

    def of(self, kind: str) -> list[Placed]:
        """Its blocks of one kind."""
        return [each for each in self.blocks if each[1]["type"] == kind]


def turns(messages: list[JSON]) -> list[Turn]:
    """The turns of a conversation."""
    found: list[Turn] = []
    for number, message in enumerate(messages):
        if not found or found[-1].role != message["role"]:
            found.append(Turn(message["role"], number))
        found[-1].blocks.extend(blocks(message, f"messages.{number}.content"))
    return found


def blocks(message: JSON, where: str) -> list[Placed]:
    """The blocks of a message; a text is one block, an empty one is none."""
    content = message["content"]
    if isinstance(content, str):
        return [(where, {"type": "text", "text": content})] if content else []
    return [(f"{where}.{number}", each) for number, each in enumerate(content)]


def all_blocks(messages: list[JSON]) -> Iterator[Placed]:
    """The blocks of all messages, in order."""
    for number, message in enumerate(messages):
        yield from blocks(message, f"messages.{number}.content")


def inner_blocks(block: JSON) -> list[JSON]:
    """The blocks in the result of a tool; of any other block none."""
    content = block.get("content") if block["type"] == "tool_result" else None
    return cast("list[JSON]", content) if isinstance(content, list) else []
