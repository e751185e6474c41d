"""From a message to events, and from events back to the message.

Tool calls are assembled by (choice, index, id): parallel calls may come interleaved, an id may come
late, a provider may use one index for two calls, and one may send a whole call in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from lamella._events import (
    Event,
    Finish,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Turn,
    UsageReport,
)
from lamella._messages import Message
from lamella._parts import (
    Audio,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from lamella._usage import Usage


@attrs.frozen
class Choice:
    """One of the answers where `n` asked for several.

    Attributes:
        index: Which.
        message: What the model said.
        finish_reason: Why it stopped.
        logprobs: The provider's log probabilities, verbatim, token by token.
    """

    index: int
    message: Message
    finish_reason: str | None = None
    logprobs: tuple[Mapping[str, Any], ...] = attrs.field(default=(), hash=False, repr=False)


@attrs.frozen
class ChatAnswer:
    """What the events of a chat answer amount to, or have amounted to so far.

    Attributes:
        messages: All that the answer adds to the conversation.
        choices: The last turn's answers; one unless `n` asked for several.
        finish_reason: Why the model stopped; None if it has not.
        usage: What it consumed; None if nobody said.
    """

    messages: tuple[Message, ...]
    choices: tuple[Choice, ...]
    finish_reason: str | None
    usage: Usage | None

    @property
    def message(self) -> Message:
        """The last turn's message."""
        return self.choices[0].message

    @property
    def text(self) -> str:
        """The last turn's text."""
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the last message asks for."""
        return self.message.tool_calls


# --- from events -------------------------------------------------------------------------------


def fold(events: Sequence[Event]) -> ChatAnswer:
    """What events amount to; any prefix of an answer will do."""
    earlier: list[Message] = []
    builders: dict[int, _Builder] = {}
    finish: Finish | None = None
    usage: Usage | None = None
    for event in events:
        if isinstance(event, Turn):
            earlier.extend(event.messages)
            builders.clear()
        elif isinstance(event, Finish):
            finish = event
        elif isinstance(event, UsageReport):
            usage = event.usage
        else:
            builder = builders.get(event.choice)
            if builder is None:
                builder = builders[event.choice] = _Builder()
            builder.add(event)
    return _answer(earlier, builders, finish, usage)


def _answer(
    earlier: list[Message],
    builders: dict[int, _Builder],
    finish: Finish | None,
    usage: Usage | None,
) -> ChatAnswer:
    reasons = finish.reasons if finish is not None else ()
    indexes = sorted({0, *builders, *range(len(reasons))})
    choices: list[Choice] = []
    for index in indexes:
        builder = builders.get(index) or _Builder()
        reason = finish.reason if finish is not None else None
        if index < len(reasons):
            reason = reasons[index]
        message = Message("assistant", builder.parts())
        choices.append(Choice(index, message, reason, tuple(builder.logprobs)))
    last = choices[0].message
    return ChatAnswer(
        # After a turn that nothing follows, there is no message that the conversation could take.
        messages=(*earlier, last) if last.parts or not earlier else tuple(earlier),
        choices=tuple(choices),
        finish_reason=finish.reason if finish is not None else None,
        usage=usage,
    )


class _Pieces:
    """A part in the making."""

    __slots__ = ("data", "event", "extra", "id", "name", "seal", "texts")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.texts: list[str] = []
        self.data: list[bytes] = []
        self.id: str | None = None
        self.name: str | None = None
        self.seal: str | None = None
        self.extra: dict[str, Any] = {}


class _Builder:
    """One message in the making; parts stand in the order in which they first appeared."""

    __slots__ = ("_calls", "_order", "_sounds_and_pictures", "logprobs")

    def __init__(self) -> None:
        self._order: list[_Pieces] = []
        self._calls: dict[int, _Pieces] = {}
        self._sounds_and_pictures: dict[tuple[str, int], _Pieces] = {}
        self.logprobs: list[Mapping[str, Any]] = []

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._text(event)
        elif isinstance(event, RefusalDelta):
            self._last(event, same=True).texts.append(event.text)
        elif isinstance(event, ToolCallDelta):
            self._tool_call(event)
        elif isinstance(event, ReasoningDelta):
            self._reasoning(event)
        elif isinstance(event, MediaDelta):
            self._media(event)
        elif isinstance(event, Opaque) and event.content:
            self._order.append(_Pieces(event))

    def _last(self, event: Event, *, same: bool) -> _Pieces:
        if self._order and type(self._order[-1].event) is type(event) and same:
            return self._order[-1]
        pieces = _Pieces(event)
        self._order.append(pieces)
        return pieces

    def _text(self, event: TextDelta) -> None:
        before = self._order[-1].event if self._order else None
        same = isinstance(before, TextDelta) and before.index == event.index
        pieces = self._last(event, same=same)
        pieces.texts.append(event.text)
        if event.extra:
            pieces.extra.update(event.extra)
        if event.logprobs is not None:
            self.logprobs.extend(event.logprobs)

    def _tool_call(self, event: ToolCallDelta) -> None:
        pieces = self._calls.get(event.index)
        another = (
            pieces is not None
            and event.id is not None
            and pieces.id is not None
            and event.id != pieces.id
        )
        if pieces is None or another:
            pieces = self._calls[event.index] = _Pieces(event)
            self._order.append(pieces)
        pieces.id = pieces.id or event.id
        if event.name is not None:
            pieces.name = event.name
        if event.arguments:
            pieces.texts.append(event.arguments)
        pieces.extra.update(event.extra)

    def _reasoning(self, event: ReasoningDelta) -> None:
        last = self._order[-1] if self._order else None
        before = last.event if last is not None else None
        same = (
            isinstance(before, ReasoningDelta)
            and before.index == event.index
            and before.redacted == event.redacted
        )
        pieces = self._last(event, same=same)
        pieces.texts.append(event.text)
        pieces.id = pieces.id or event.id
        pieces.seal = event.signature or pieces.seal
        pieces.extra.update(event.extra)

    def _media(self, event: MediaDelta) -> None:
        place = (event.kind, event.index)
        pieces = self._sounds_and_pictures.get(place)
        if pieces is None:
            pieces = self._sounds_and_pictures[place] = _Pieces(event)
            self._order.append(pieces)
        pieces.data.append(event.data)
        pieces.texts.append(event.transcript)
        pieces.id = pieces.id or event.id
        pieces.name = pieces.name or event.media_type
        pieces.extra.update(event.extra)

    def parts(self) -> tuple[Part, ...]:
        return tuple([_part(pieces) for pieces in self._order])


def _part(pieces: _Pieces) -> Part:
    event = pieces.event
    text = "".join(pieces.texts)
    extra: dict[str, Any] = {"extra": pieces.extra} if pieces.extra else {}
    if isinstance(event, TextDelta):
        return Text(text, **extra)
    if isinstance(event, ToolCallDelta):
        return ToolCall(pieces.id or "", pieces.name or "", text, event.kind, **extra)
    if isinstance(event, ReasoningDelta):
        return Reasoning(text, pieces.seal, pieces.id, event.redacted, **extra)
    if isinstance(event, RefusalDelta):
        return Refusal(text)
    if isinstance(event, MediaDelta):
        data = b"".join(pieces.data)
        if event.kind == "image":
            return Image(data=data, media_type=pieces.name, **extra)
        return Audio(data or None, pieces.name, pieces.id, text or None, **extra)
    assert isinstance(event, Opaque)  # noqa: S101 - _Builder.add keeps nothing else
    return attrs.evolve(event, choice=0) if event.choice else event


# --- to events ---------------------------------------------------------------------------------


def message_events(message: Message, choice: int = 0) -> Iterator[Event]:
    """The events that amount to a message of the assistant's, without its end.

    Raises:
        ValueError: If the message holds what no answer can hold (a tool result, a file).
    """
    calls = blocks = 0
    before: Part | None = None
    for index, part in enumerate(message.parts):
        blocks += type(part) is type(before) is Text  # what stands between two tells them apart
        before = part
        if type(part) is Text:
            if part.text or part.extra:
                yield TextDelta(part.text, choice, None, blocks, part.extra)
        elif isinstance(part, ToolCall):
            yield ToolCallDelta(
                calls, part.id, part.name, part.arguments, choice, part.kind, part.extra
            )
            calls += 1
        elif isinstance(part, Reasoning):
            yield ReasoningDelta(
                part.text, choice, index, part.signature, part.id, part.redacted, part.extra
            )
        elif isinstance(part, Refusal):
            yield RefusalDelta(part.text, choice)
        elif isinstance(part, Image) and part.data is not None:
            yield MediaDelta(
                "image",
                part.data,
                part.media_type,
                index=index,
                choice=choice,
                extra=part.extra,
            )
        elif isinstance(part, Audio):
            yield MediaDelta(
                "audio",
                part.data or b"",
                part.format,
                part.transcript or "",
                part.id,
                index,
                choice,
                part.extra,
            )
        elif isinstance(part, Opaque):
            yield attrs.evolve(part, content=True, choice=choice)
        else:
            msg = f"An answer cannot hold a part of type {type(part).__name__}."
            raise ValueError(msg)
