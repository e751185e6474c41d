"""The texts of an answer, each in a channel of its own, changed while they arrive.

An answer brings several texts at once: of each choice the words, the reasoning, the arguments of
each tool call. What must not cut a text anywhere (a placeholder, a forbidden term) has to hold back
a piece of one of them without touching the others, and to give it up where that text ends. That is
done here once; a layer brings only what it does with one text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, Protocol, TypeAlias

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
from lamella._nothing import NOTHING
from lamella._parts import Opaque
from lamella._surfaces import Surface, map_json, map_texts

ChannelKind: TypeAlias = Literal["text", "reasoning", "refusal", "arguments", "transcript", "value"]


@attrs.frozen
class Channel:
    """Which text of an answer.

    Attributes:
        kind: `"text"`, `"reasoning"`, `"refusal"`; `"arguments"` of a tool call; `"transcript"` of
            what is spoken; `"value"` for a string that comes whole in provider's data.
        choice: Which of the `n` answers it belongs to.
        json: Whether the text is JSON text, as the arguments of functions are: what is put into it
            must be escaped.
        tool: The tool that is called; None where it is not known, or no call.
    """

    kind: ChannelKind
    choice: int = 0
    json: bool = False
    tool: str | None = None


class TextFilter(Protocol):
    """Changes one text, piece by piece."""

    def feed(self, text: str, /) -> str:
        """What may be let through now; the rest is kept."""
        ...

    def flush(self) -> str:
        """What was kept, at the end of the text."""
        ...


Make: TypeAlias = Callable[[Channel], TextFilter]


class _Open:
    """A text that is still arriving."""

    __slots__ = ("event", "filter", "id", "key")

    def __init__(self, event: Any, key: tuple[object, ...], text_filter: TextFilter) -> None:
        self.event = event
        self.key = key
        self.filter = text_filter
        self.id: str | None = None


_FIELD: Final[dict[type, tuple[str, ChannelKind]]] = {
    TextDelta: ("text", "text"),
    ReasoningDelta: ("text", "reasoning"),
    RefusalDelta: ("text", "refusal"),
    ToolCallDelta: ("arguments", "arguments"),
    MediaDelta: ("transcript", "transcript"),
}


class TextChannels:
    """A transform that runs each text of an answer through a filter of its own.

    Events keep their order. A text ends where its part of the message ends, by the same rule by
    which messages are made of events, so that what was kept stands in the part it belongs to.
    Strings inside provider's data, and messages of earlier turns, come whole: each goes through a
    filter of its own at once.

    Args:
        make: Makes the filter of a channel.
    """

    __slots__ = ("_calls", "_make", "_media", "_run")

    def __init__(self, make: Make) -> None:
        self._make = make
        self._run: dict[int, _Open] = {}  # per choice: the part that pieces in a row belong to
        self._calls: dict[tuple[int, int], _Open] = {}
        self._media: dict[tuple[int, str, int], _Open] = {}

    def feed(self, event: Event) -> Iterable[Event]:
        """The events to let through in place of `event`."""
        kind = type(event)
        if isinstance(event, TextDelta):
            return self._in_run(event, (kind, event.index))
        if isinstance(event, ReasoningDelta):
            return self._in_run(event, (kind, event.index, event.redacted))
        if isinstance(event, RefusalDelta):
            return self._in_run(event, (kind,))
        if isinstance(event, ToolCallDelta):
            return self._call(event)
        if isinstance(event, MediaDelta):
            return self._medium(event)
        if isinstance(event, Turn):
            messages = tuple([map_texts(one, self._whole(event.choice)) for one in event.messages])
            return (*self.flush(), attrs.evolve(event, messages=messages))
        if isinstance(event, Opaque):
            data = map_json(event.data, self._whole(event.choice), _DATA)
            changed = event if data is event.data else attrs.evolve(event, data=data)
            return (*self._end_run(event.choice), changed) if event.content else (changed,)
        return (event,)

    def flush(self) -> list[Event]:
        """What was kept of every text."""
        held: list[Event] = []
        for choice in list(self._run):
            held += self._end_run(choice)
        for table in (self._calls, self._media):
            for text in table.values():
                held += self._rest(text)
            table.clear()
        return held

    # --- one text ------------------------------------------------------------------------------

    def _in_run(
        self, event: TextDelta | ReasoningDelta | RefusalDelta, key: tuple[object, ...]
    ) -> Iterable[Event]:
        current = self._run.get(event.choice)
        if current is not None and current.key == key:  # as most go on with what was begun
            return self._through(event, current)
        ended = self._end_run(event.choice)
        channel = Channel(_FIELD[type(event)][1], event.choice)
        current = self._run[event.choice] = _Open(event, key, self._make(channel))
        return [*ended, *self._through(event, current)]

    def _end_run(self, choice: int) -> list[Event]:
        current = self._run.pop(choice, None)
        return [] if current is None else self._rest(current)

    def _call(self, event: ToolCallDelta) -> Iterable[Event]:
        place = (event.choice, event.index)
        current = self._calls.get(place)
        ended: list[Event] = []
        another = (
            current is not None
            and event.id is not None
            and current.id is not None
            and event.id != current.id
        )
        if current is None or another:
            ended = self._end_run(event.choice)
            if current is not None:
                ended += self._rest(current)
            json = event.kind == "function"
            channel = Channel("arguments", event.choice, json, event.name)
            current = self._calls[place] = _Open(event, place, self._make(channel))
        current.id = current.id or event.id
        ended += self._through(event, current)
        return ended

    def _medium(self, event: MediaDelta) -> Iterable[Event]:
        place = (event.choice, event.kind, event.index)
        current = self._media.get(place)
        ended: list[Event] = []
        if current is None:
            ended = self._end_run(event.choice)
            made = self._make(Channel("transcript", event.choice))
            current = self._media[place] = _Open(event, place, made)
        ended += self._through(event, current)
        return ended

    def _through(self, event: Any, current: _Open) -> Iterable[Event]:
        field = _FIELD[type(event)][0]
        old = getattr(event, field)
        new = current.filter.feed(old) if old else old
        if new == old and type(event) is TextDelta and not event.extra:
            return (event,)
        changes: dict[str, Any] = {} if new == old else {field: new}
        if event_extra := getattr(event, "extra", None):
            extra = map_json(event_extra, self._whole(event.choice), _DATA)
            if extra is not event_extra:
                changes["extra"] = extra
        if not changes:
            return (event,)
        if type(event) is TextDelta and event.logprobs is not None:
            changes["logprobs"] = None  # they would spell the text that is no longer there
        changed = attrs.evolve(event, **changes)
        # A piece that begins a call or a medium takes its place among the parts, even if empty.
        begins = event is current.event and isinstance(event, ToolCallDelta | MediaDelta)
        return (changed,) if new or begins or _says_more(changed) else ()

    def _rest(self, current: _Open) -> list[Event]:
        text = current.filter.flush()
        return [_piece(current.event, text)] if text else []

    def _whole(self, choice: int) -> Callable[[str, Surface], str]:
        def change(text: str, _: Surface) -> str:
            one = self._make(Channel("value", choice))
            return one.feed(text) + one.flush()

        return change


_DATA: Final = Surface(None, None, "data", "value")


def _says_more(event: Any) -> bool:
    """Whether an event has something to say besides its text."""
    if isinstance(event, TextDelta):
        return bool(event.extra)
    if isinstance(event, ReasoningDelta):
        return bool(event.signature or event.id or event.redacted or event.extra)
    if isinstance(event, ToolCallDelta):
        return bool(event.id or event.name or event.extra)
    if isinstance(event, MediaDelta):
        return bool(event.data or event.id or event.media_type or event.extra)
    return False


def _piece(event: Any, text: str) -> Event:
    """A further piece of the text that `event` began."""
    if isinstance(event, TextDelta):
        return TextDelta(text, event.choice, None, event.index)
    if isinstance(event, ReasoningDelta):
        return ReasoningDelta(text, event.choice, event.index, redacted=event.redacted)
    if isinstance(event, ToolCallDelta):
        return attrs.evolve(event, id=None, name=None, arguments=text, extra=NOTHING)
    if isinstance(event, MediaDelta):
        return MediaDelta(event.kind, transcript=text, index=event.index, choice=event.choice)
    return RefusalDelta(text, event.choice)
