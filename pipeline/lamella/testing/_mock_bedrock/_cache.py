"""The prompt cache of the mock of Bedrock: what has been marked before is read, the rest written.

A beginning of a request is known by a digest of its blocks, cache points left out, so that a point
may move on from turn to turn. Nothing expires, and there is no least length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from json import dumps
from typing import Final

import attrs

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._mock_tokens import TOKENS_PER_MESSAGE, input_usage
from lamella._parts import ToolResult
from lamella._tools import Tool
from lamella.testing._mock_bedrock._parts import inner, part_in_words, part_of, several
from lamella.testing._mock_openai._requests import JSON

KEPT: Final = 10_000
"""How many beginnings are remembered; the oldest go first."""


@attrs.frozen
class Cached:
    """What of a request a prompt cache had, and what it keeps of it.

    Attributes:
        read: How many tokens it had.
        written: How many it keeps now, by lifetime.
    """

    read: int = 0
    written: Mapping[str, int] = attrs.field(factory=dict[str, int])


@attrs.frozen
class _Place:
    """The end of a block.

    Attributes:
        digest: Of all up to there.
        tokens: How many there are up to there.
        ttl: The lifetime that a cache point there asks for; None if there is none.
    """

    digest: bytes
    tokens: int
    ttl: str | None = None


@attrs.define
class PromptCache:
    """Remembers marked beginnings of requests."""

    _seen: dict[bytes, None] = attrs.field(init=False, factory=dict[bytes, None])

    def account(self, body: JSON, model: str) -> Cached:
        """What of a request is read and written; nothing if it has no cache points.

        Args:
            body: A request to Converse.
            model: Whose cache is asked.
        """
        places = list(_places(body, model))
        marks = [place for place in places if place.ttl is not None]
        if not marks:
            return Cached()
        known = [place.tokens for place in places if place.digest in self._seen]
        read = done = max(known, default=0)
        written: dict[str, int] = {}
        for mark in marks:
            if mark.tokens > done:
                life = mark.ttl or ""
                written[life] = written.get(life, 0) + mark.tokens - done
                done = mark.tokens
            self._keep(mark.digest)
        return Cached(read, written)

    def _keep(self, digest: bytes) -> None:
        self._seen.pop(digest, None)
        self._seen[digest] = None
        if len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]


def _places(body: JSON, model: str) -> Iterator[_Place]:
    """The ends of blocks in the order in which a model reads them; a cache point repeats one."""
    digest, tokens = blake2b(model.encode()), 0
    for head, block in _blocks(body):
        point = None if block is None else block.get("cachePoint")
        if point is not None:
            yield _Place(digest.digest(), tokens, point.get("ttl") or "5m")
            continue
        digest.update(dumps([head, block], sort_keys=True).encode())
        tokens += TOKENS_PER_MESSAGE if block is None else _tokens(head, block)
        if block is not None:
            yield _Place(digest.digest(), tokens)


def _blocks(body: JSON) -> Iterator[tuple[str, JSON | None]]:
    """Tools, system, messages; a turn begins with None."""
    for tool in several(inner(body, "toolConfig"), "tools"):
        yield "tool", tool
    system = body.get("system")
    turns: list[JSON] = [{"role": "system", "content": system}] if system else []
    for turn in (*turns, *several(body, "messages")):
        yield turn["role"], None
        for block in several(turn, "content"):
            yield turn["role"], block


def _tokens(head: str, block: JSON) -> int:
    """How many tokens a block has; no more than the whole request is said to have for it."""
    if head == "tool":
        spec = block.get("toolSpec")
        if spec is None:
            return 0
        tool = Tool(spec["name"], spec.get("description") or "", spec["inputSchema"]["json"])
        return input_usage(ChatRequest.of([], tools=[tool])).input_tokens
    part = part_in_words(part_of(block))
    role = "tool" if isinstance(part, ToolResult) else head
    return input_usage(ChatRequest.of(Message(role, part))).input_tokens - TOKENS_PER_MESSAGE
