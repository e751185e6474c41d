"""The prompt cache of Anthropic's API: what has been seen up to a mark is read the next time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from json import dumps
from typing import Any, Final, cast

import attrs

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._mock_tokens import TOKENS_PER_MESSAGE, input_usage
from lamella._parts import Opaque, Part, ToolResult
from lamella._tools import Tool
from lamella.testing._mock_anthropic._blocks import MARK

KEPT: Final = 10_000
"""How many prefixes are remembered; the API forgets them by time, which tests do not wait for."""

LOOKBACK: Final = 20
"""How many blocks before a mark an earlier end is looked for."""


@attrs.frozen
class Cached:
    """What the cache did for one request, in tokens.

    Attributes:
        read: What it served.
        written: What was written to it, by lifetime.
    """

    read: int = 0
    written: Mapping[str, int] = attrs.field(factory=dict[str, int])


@attrs.frozen
class _Unit:
    """A tool, or a block: what the cache knows as one piece."""

    digest: str
    total: int
    life: str | None


@attrs.define
class PromptCache:
    """The cache of one server."""

    _seen: dict[str, None] = attrs.field(init=False, factory=dict[str, None])

    def account(self, request: ChatRequest) -> Cached:
        """Look a request up and remember it.

        A request reads up to the last place that was an end before, and writes from there to its
        last mark: up to its last mark for an hour for so long, the rest for five minutes.
        """
        units = list(_units(request))
        ends = [place for place, unit in enumerate(units) if unit.life is not None]
        if not ends:
            return Cached()
        read = self._read(units, ends)
        written: dict[str, int] = {}
        reached = read
        for life in ("1h", "5m"):
            marked = [units[place].total for place in ends if units[place].life == life]
            if marked and max(marked) > reached:
                written[life] = max(marked) - reached
                reached = max(marked)
        for place in ends:
            self._seen[units[place].digest] = None
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]
        return Cached(read, written)

    def _read(self, units: list[_Unit], ends: list[int]) -> int:
        for end in reversed(ends):
            for unit in reversed(units[max(end - LOOKBACK, 0) : end + 1]):
                if unit.digest in self._seen:
                    return unit.total
        return 0


def _units(request: ChatRequest) -> Iterator[_Unit]:
    """The pieces of a request in the order in which the cache sees them, with running totals."""
    pieces: list[tuple[Any, int, Any]] = []
    for tool in request.tools:
        told = dict(tool.data) if isinstance(tool, Opaque) else tool.to_dict()
        tokens = input_usage(ChatRequest(messages=(), tools=[tool])).input_tokens
        pieces.append((told, tokens, _mark(tool)))
    for message in request.messages:
        for place, part in enumerate(message.parts):
            alone = Message(message.role, part)
            tokens = input_usage(ChatRequest(messages=[alone])).input_tokens
            tokens -= TOKENS_PER_MESSAGE if place else 0
            pieces.append((alone.to_dict(), tokens, _mark(part)))
    if request.extra.get(MARK) and pieces:
        told, tokens, mark = pieces[-1]
        pieces[-1] = (told, tokens, mark or request.extra[MARK])
    digest, total = blake2b((request.model or "").encode(), digest_size=16), 0
    for told, tokens, mark in pieces:
        digest.update(dumps(_unmarked(told), sort_keys=True, default=str).encode())
        total += tokens
        life = None if not mark else str(mark.get("ttl") or "5m")
        yield _Unit(digest.copy().hexdigest(), total, life)


def _mark(piece: Part | Tool) -> Any:
    if isinstance(piece, Opaque):
        return piece.data.get(MARK)
    inner = [_mark(part) for part in piece.content] if isinstance(piece, ToolResult) else []
    return piece.extra.get(MARK) or next((mark for mark in inner if mark), None)


def _unmarked(told: Any) -> Any:
    """The same without marks: where one stands changes nothing of what is cached."""
    if isinstance(told, Mapping):
        items = cast("Mapping[str, Any]", told).items()
        return {name: _unmarked(value) for name, value in items if name != MARK}
    if isinstance(told, list | tuple):
        return [_unmarked(each) for each in cast("list[Any]", told)]
    return told
