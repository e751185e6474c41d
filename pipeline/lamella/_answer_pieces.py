"""The pieces of an answer: joined to be kept, and cut again to be streamed.

A provider cuts an answer where it likes. What is kept has each block in one piece, and what is
streamed from it is cut by length, the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from lamella._events import (
    Event,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Turn,
)
from lamella._parts import Opaque


def merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """Events such that pieces in a row of one block are one; what they amount to is the same.

    Blocks are told apart as messages are made of events: by choice, and among those that arrive
    interleaved by their index. A piece that brings something besides more of the same (log
    probabilities, a seal, another id) stays a piece of its own.
    """
    joining = _Joining()
    pieces, choice, index = None, 0, 0  # of the text that the last event was a piece of
    for event in events:
        if type(event) is TextDelta:
            if (
                pieces is not None
                and event.choice == choice
                and event.index == index
                and event.logprobs is None
                and not event.extra
            ):
                pieces.append(event.text)
                continue
            choice, index = event.choice, event.index
            joining.add(event)
            pieces = joining.pieces_of(choice)
        else:
            pieces = None
            joining.add(event)
    return joining.events()


class _Block:
    """An event that is kept, and the pieces that have been joined to it."""

    __slots__ = ("data", "event", "pieces")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.pieces: list[str] = []
        self.data: list[bytes] = []

    def whole(self) -> Event:
        event = self.event
        if not self.pieces and not self.data:
            return event  # type: ignore[no-any-return]
        more = "".join(self.pieces)
        if type(event) is ToolCallDelta:
            return attrs.evolve(event, arguments=event.arguments + more)
        if type(event) is MediaDelta:
            data = b"".join([event.data, *self.data])
            return attrs.evolve(event, data=data, transcript=event.transcript + more)
        whole: Event = attrs.evolve(event, text=event.text + more)
        return whole


class _Joining:
    """Events in the order in which their blocks began."""

    __slots__ = ("_apart", "_blocks", "_runs")

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._runs: dict[int, _Block] = {}  # per choice: the last text, reasoning or refusal
        self._apart: dict[tuple[object, ...], _Block] = {}  # tool calls and media, by their place

    def add(self, event: Event) -> None:
        kind = type(event)
        if kind is TextDelta or kind is ReasoningDelta or kind is RefusalDelta:
            block = self._runs.get(event.choice)
            if block is not None and _continues(block.event, event):
                block.pieces.append(event.text)  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
            else:
                self._runs[event.choice] = self._new(event)
        elif isinstance(event, ToolCallDelta):
            block = self._placed(event, (ToolCallDelta, event.choice, event.index))
            if block is not None:
                block.pieces.append(event.arguments)
        elif isinstance(event, MediaDelta):
            block = self._placed(event, (event.kind, event.choice, event.index))
            if block is not None:
                block.pieces.append(event.transcript)
                block.data.append(event.data)
        else:
            if isinstance(event, Turn):
                self._runs.clear()
                self._apart.clear()
            elif isinstance(event, Opaque) and event.content:
                self._runs.pop(event.choice, None)
            self._new(event)

    def pieces_of(self, choice: int) -> list[str] | None:
        """Where a further piece of the last text of a choice goes; None if nothing joins it."""
        block = self._runs[choice]
        return None if block.event.logprobs is not None else block.pieces

    def _placed(
        self, event: ToolCallDelta | MediaDelta, place: tuple[object, ...]
    ) -> _Block | None:
        """The block that a piece of a call or a medium continues; None if it begins one."""
        block = self._apart.get(place)
        if block is not None and _continues(block.event, event):
            return block
        # A text after it may be a part of its own.
        self._runs.pop(event.choice, None)
        self._apart[place] = self._new(event)
        return None

    def _new(self, event: Event) -> _Block:
        block = _Block(event)
        self._blocks.append(block)
        return block

    def events(self) -> tuple[Event, ...]:
        return tuple([block.whole() for block in self._blocks])


def _continues(first: Event, event: Event) -> bool:
    """Whether a piece brings more of the block that another one began, and nothing else."""
    if type(first) is not type(event):
        return False
    if isinstance(event, TextDelta) and isinstance(first, TextDelta):
        return (
            event.index == first.index
            and event.logprobs is first.logprobs is None
            and not event.extra
        )
    if isinstance(event, ToolCallDelta) and isinstance(first, ToolCallDelta):
        return (
            _repeats(event.id, first.id)
            and (event.name is None or event.name == first.name)
            and event.kind == first.kind
            and not event.extra
        )
    if isinstance(event, ReasoningDelta) and isinstance(first, ReasoningDelta):
        return (
            event.index == first.index
            and event.redacted == first.redacted
            and event.signature is first.signature is None
            and _repeats(event.id, first.id)
            and not event.extra
        )
    if isinstance(event, MediaDelta) and isinstance(first, MediaDelta):
        return (
            _repeats(event.id, first.id)
            and _repeats(event.media_type, first.media_type)
            and not event.extra
        )
    return isinstance(event, RefusalDelta)


def _repeats(name: str | None, first: str | None) -> bool:
    """Whether a piece names its block as the first one did, or not at all.

    An empty name is as good as none where a message is made, so nothing is joined to it.
    """
    return name == first or (name is None and first != "")


# --- cutting -------------------------------------------------------------------------------------


def cut(events: Sequence[Event], size: int) -> list[Event]:
    """Events whose texts are at most `size` characters long; what they amount to is the same.

    Where that would make more than `MOST_PIECES`, they are longer. No character that is made of
    several is cut apart where it fits. What begins a block (the id and name of a call) comes with
    the first piece, what closes one (a seal) with the last.
    """
    total = sum(
        [len(getattr(event, _TEXT[type(event)])) for event in events if type(event) in _TEXT]
    )
    size = max(size, -(-total // MOST_PIECES))
    found: list[Event] = []
    for event in events:
        field = _TEXT.get(type(event))
        if field is None or len(getattr(event, field)) <= size:
            found.append(event)
        elif isinstance(event, TextDelta) and event.logprobs is not None:
            found.append(event)  # which of them belong to which piece nobody says
        else:
            found.extend(_pieces(event, list(_cuts(getattr(event, field), size))))
    return found


MOST_PIECES: Final = 4096
"""Pieces of an answer beyond which they are larger: making them takes some milliseconds."""

_TEXT: Final[dict[type, str]] = {
    TextDelta: "text",
    ReasoningDelta: "text",
    RefusalDelta: "text",
    ToolCallDelta: "arguments",
}


def _pieces(event: Any, texts: list[str]) -> list[Event]:
    choice = event.choice
    if type(event) is TextDelta:
        *texts, last = texts
        pieces: list[Event] = [TextDelta(text, choice, None, event.index) for text in texts]
        return [*pieces, TextDelta(last, choice, None, event.index, event.extra)]
    if type(event) is ReasoningDelta:
        *texts, last = texts
        given = choice, event.index
        pieces = [ReasoningDelta(text, *given, None, event.id, event.redacted) for text in texts]
        return [*pieces, attrs.evolve(event, text=last)]
    if type(event) is ToolCallDelta:
        first, *texts = texts
        again = "" if event.id == "" else None  # an empty id counts until another piece has none
        rest = [ToolCallDelta(event.index, again, None, text, choice, event.kind) for text in texts]
        return [attrs.evolve(event, arguments=first), *rest]
    return [RefusalDelta(text, choice) for text in texts]


def _cuts(text: str, size: int) -> Iterator[str]:
    if text.isascii():
        for start in range(0, len(text), size):
            yield text[start : start + size]
        return
    from unicodedata import combining

    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        place = end
        while place < len(text) and place > start and _joined(text, place, combining):
            place -= 1
        end = place if place > start else end
        yield text[start:end]
        start = end


def _joined(text: str, place: int, combining: Any) -> bool:
    """Whether what stands before and behind a place belongs to one character."""
    before, behind = text[place - 1], text[place]
    return (
        behind in _EXTENDING
        or before == _JOINER
        or combining(behind) != 0
        or "\U0001f3fb" <= behind <= "\U0001f3ff"  # a tone of skin
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= behind <= "\udfff")
        or ("\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= behind <= "\U0001f1ff")
    )


_JOINER: Final = "\u200d"
_EXTENDING: Final = frozenset({_JOINER, "\ufe0e", "\ufe0f", "\u20e3"})
