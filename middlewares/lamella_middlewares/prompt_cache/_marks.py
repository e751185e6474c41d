"""Where marks for a prompt cache go.

A provider looks for the longest beginning of a request that it has kept, and keeps what is marked.
Marked are the ends of what changes least: the tools, the instructions, and the user's last turns,
so that the next turn finds what this one has left. Marks that are there already stay as they are,
and count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from lamella import ChatRequest, Message, Opaque, Part, PromptCaching, Text, Tool, ToolResult
from lamella._prompt_caching import CACHE_MARK
from lamella_middlewares.prompt_cache._lengths import Length

SHORT: Final = "5m"
LONG: Final = "1h"

_POINT: Final = "cachePoint"
_SYSTEM: Final = frozenset({"system", "developer"})
_USERS: Final = frozenset({"user", "tool"})
_TOOLS, _MESSAGES, _END = 0, 1, 2

Place: TypeAlias = tuple[int, int]
"""The end of a tool, `(0, index)`, or of a message, `(1, index)`, in the order of reading."""


@attrs.frozen
class Wanted:
    """What is to be marked.

    Attributes:
        tools: Whether the end of the tools is.
        system: Whether the end of the instructions is.
        messages: How many of the user's last turns are.
        lifetime: How long tools and instructions are to be kept.
        later: How long the turns are to be kept.
        minimum: The least number of tokens that is worth a mark; None for what the target says.
    """

    tools: bool
    system: bool
    messages: int
    lifetime: str
    later: str
    minimum: int | None


@attrs.frozen
class Marked:
    """A request with its marks.

    Attributes:
        request: The request.
        where: What has been marked: `tools`, `system`, `message 4`.
        lifetimes: For how long each is to be kept.
        given: How many marks it had already.
    """

    request: ChatRequest
    where: tuple[str, ...]
    lifetimes: tuple[str, ...]
    given: int


def with_marks(request: ChatRequest, wanted: Wanted, target: PromptCaching) -> Marked | None:
    """A request with marks; None if there is nothing to mark.

    Args:
        request: As it came; it is not changed.
        wanted: What is to be marked.
        target: What its target takes.
    """
    given = _given(request)
    free = target.marks - len(given)
    if free <= 0:
        return None
    taken = {place for place, _ in given}
    if (_END, 0) in taken:  # the provider marks the last message by itself
        taken.add((_MESSAGES, len(request.messages) - 1))
    places = [place for place in _places(request, wanted, target) if place not in taken]
    timed = _timed(request, places, wanted, target, given)
    if not timed:
        return None
    places = _long_enough(request, list(timed), wanted.minimum or target.minimum)
    places = _most_useful(request, places, free)
    if not places:
        return None
    lives = {place: timed[place] for place in places}
    return Marked(
        _written(request, lives, target),
        tuple([_named(request, place) for place in places]),
        tuple(lives.values()),
        len(given),
    )


# --- what is there already -----------------------------------------------------------------------


def _given(request: ChatRequest) -> list[tuple[Place, str]]:
    """The marks that a request has, with their lifetimes."""
    found: list[tuple[Place, str]] = []
    for index, tool in enumerate(request.tools):
        _add(found, (_TOOLS, index), tool)
    for index, message in enumerate(request.messages):
        if message.extra:
            _add(found, (_MESSAGES, index), message)
        for part in message.parts:
            _add(found, (_MESSAGES, index), part)
            if isinstance(part, ToolResult):
                for inner in part.content:
                    _add(found, (_MESSAGES, index), inner)
    if request.extra:
        _add(found, (_END, 0), request)
    return found


def _add(found: list[tuple[Place, str]], place: Place, held: Any) -> None:
    """Add the mark of something that can have one. Bedrock's own blocks are marks too."""
    extra: Mapping[str, Any] = held.data if type(held) is Opaque else held.extra
    if not extra:
        return
    mark: Any = extra.get(CACHE_MARK, extra.get(_POINT))
    if mark is not None:
        lifetime: object = mark.get("ttl") if isinstance(mark, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        found.append((place, LONG if lifetime == LONG else SHORT))


# --- where marks may go --------------------------------------------------------------------------


def _places(request: ChatRequest, wanted: Wanted, target: PromptCaching) -> list[Place]:
    """The places that are to be marked and can hold a mark, in the order of reading."""
    found: list[Place] = []
    tools, messages = request.tools, request.messages
    if wanted.tools and "tools" in target.places and tools and isinstance(tools[-1], Tool):
        found.append((_TOOLS, len(tools) - 1))
    begin = _instructions(messages)
    if wanted.system and "system" in target.places:
        last = _holding(messages, range(begin - 1, -1, -1), target)
        found += [] if last is None else [(_MESSAGES, last)]
    if wanted.messages and "messages" in target.places:
        found += _turns(messages, begin, wanted.messages, target)
    return found


def _instructions(messages: Sequence[Message]) -> int:
    """How many messages of instructions a conversation begins with."""
    for index, message in enumerate(messages):
        if message.role not in _SYSTEM:
            return index
    return len(messages)


def _turns(
    messages: Sequence[Message], begin: int, most: int, target: PromptCaching
) -> list[Place]:
    """The ends of the user's last turns; the results of tools are the user's too."""
    found: list[Place] = []
    end = len(messages)
    while end > begin and len(found) < most:
        end -= 1
        if messages[end].role not in _USERS:
            continue
        start = end
        while start > begin and messages[start - 1].role in _USERS:
            start -= 1
        last = _holding(messages, range(end, start - 1, -1), target)
        if last is not None:
            found.insert(0, (_MESSAGES, last))
        end = start
    return found


def _holding(
    messages: Sequence[Message], indexes: Iterable[int], target: PromptCaching
) -> int | None:
    """The first of some messages that can hold a mark; None if none can."""
    for index in indexes:
        if _holder(messages[index].parts, target) is not None:
            return index
    return None


def _holder(parts: Sequence[Part], target: PromptCaching) -> int | None:
    """The last part that can hold a mark; None if none can."""
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if isinstance(part, Text):
            if part.text and not part.text.isspace():  # providers refuse a mark on nothing
                return index
        elif isinstance(part, ToolResult):
            inside = target.texts_only
            if target.results and (not inside or _holder(part.content, target) is not None):
                return index
        elif part.type in {"image", "file"} and not target.texts_only:
            return index
    return None


# --- which of them get one -----------------------------------------------------------------------


def _timed(
    request: ChatRequest,
    places: Iterable[Place],
    wanted: Wanted,
    target: PromptCaching,
    given: Sequence[tuple[Place, str]],
) -> dict[Place, str]:
    """Places with lifetimes, none longer than one before it, which providers refuse."""
    begin = _instructions(request.messages)
    shorts = [_read_at(request, place, begin) for place, life in given if life == SHORT]
    short_from = min(shorts, default=(_END, 1))
    long_until = max([place for place, life in given if life == LONG], default=(-1, 0))
    found: dict[Place, str] = {}
    for place in places:
        turn = place[0] == _MESSAGES and place[1] >= begin
        life = wanted.later if turn else wanted.lifetime
        if life not in target.lifetimes or place > short_from:
            life = SHORT
        if life == LONG or place > long_until:
            found[place] = life
    return found


def _read_at(request: ChatRequest, place: Place, begin: int) -> Place:
    """Where a mark may be read at the earliest: many models get all instructions first."""
    kind, index = place
    late = kind == _MESSAGES and index >= begin and request.messages[index].role in _SYSTEM
    return (_MESSAGES, begin - 1) if late else place


def _long_enough(request: ChatRequest, places: Iterable[Place], minimum: int) -> list[Place]:
    """The places up to which the request is long enough to be kept."""
    length = Length(minimum)
    length.tools(request.tools)
    found: list[Place] = []
    counted = 0
    for place in places:
        if place[0] == _MESSAGES:
            while counted <= place[1] and not length.enough:
                length.message(request.messages[counted])
                counted += 1
        if length.enough:
            found.append(place)
    return found


def _most_useful(request: ChatRequest, places: list[Place], most: int) -> list[Place]:
    """The places that get one of the marks that are left, in the order of reading.

    The last turn is what the next turn finds; instructions are what other conversations find, and
    hold the tools as well.
    """
    if len(places) <= most:
        return places
    begin = _instructions(request.messages)
    turns = [place for place in places if place[0] == _MESSAGES and place[1] >= begin]
    fixed = [place for place in places if place not in turns]
    ranked = [*turns[-1:], *fixed[-1:], *reversed(turns[:-1]), *reversed(fixed[:-1])]
    return sorted(ranked[:most])


def _named(request: ChatRequest, place: Place) -> str:
    if place[0] == _TOOLS:
        return "tools"
    return f"message {place[1]}" if place[1] >= _instructions(request.messages) else "system"


# --- writing them --------------------------------------------------------------------------------

_WRITTEN: Final[Mapping[str, Mapping[str, str]]] = {
    SHORT: {"type": "ephemeral"},
    LONG: {"type": "ephemeral", "ttl": LONG},
}


def _written(
    request: ChatRequest, lives: Mapping[Place, str], target: PromptCaching
) -> ChatRequest:
    tools, messages = list(request.tools), list(request.messages)
    for (kind, index), life in lives.items():
        if kind == _TOOLS:
            tools[index] = _with_mark(tools[index], life)
        else:
            message = messages[index]
            parts = _with_mark_in(message.parts, life, target)
            messages[index] = attrs.evolve(message, parts=parts)
    return request.evolve(tools=tuple(tools), messages=tuple(messages))


def _with_mark_in(parts: tuple[Part, ...], life: str, target: PromptCaching) -> tuple[Part, ...]:
    index = _holder(parts, target)
    assert index is not None  # noqa: S101 - only what holds one was chosen
    part = parts[index]
    if target.texts_only and isinstance(part, ToolResult):
        part = attrs.evolve(part, content=_with_mark_in(part.content, life, target))
    else:
        part = _with_mark(part, life)
    return (*parts[:index], part, *parts[index + 1 :])


def _with_mark(held: Any, life: str) -> Any:
    return attrs.evolve(held, extra={**held.extra, CACHE_MARK: _WRITTEN[life]})
