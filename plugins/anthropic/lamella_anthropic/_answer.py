"""The Messages API: how an answer is read, whole or in pieces, by the same code.

Nearly every message of a stream is a piece of text, of thinking or of a tool's arguments. `_PLAIN`
is the type of just those, and msgspec checks it while it reads; whatever does not fit takes the
general way below, which is the one for complete answers too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._errors import ContentFilteredError, LamellaError
from lamella._events import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from lamella._nothing import NOTHING
from lamella._parts import Opaque
from lamella._responses import NO_HEAD, Head
from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_usage
from lamella.transports._stated_bills import with_service
from lamella.transports._wire_json import (
    NOT_THAT,
    is_list,
    is_object,
    json_object,
    mapping_of,
    nonsense,
    raise_in_band,
    text_of,
    with_usage,
)
from lamella_anthropic._answer_blocks import Block, Blocks
from lamella_anthropic._usage import at_least, joined_usage, service_of, usage_of

MAX_BLOCKS: Final = 10_000
"""More blocks than an answer has; a larger index is nonsense."""

_MESSAGE_FIELDS: Final = frozenset(
    {"id", "type", "role", "content", "model", "stop_reason", "usage"}
)
_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Text(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="text_delta"):
    text: str


class _Thinking(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class _Words(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class _Piece(
    msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="content_block_delta"
):
    index: int
    delta: _Text | _Thinking | _Words


_PLAIN = msgspec.json.Decoder(_Piece)


class MessageDecoder:
    """Reads one answer.

    A stream ends well when its stop reason has come, which is said once, after the last block and
    with the final usage; `message_stop` follows it and adds nothing. Usage that nobody states is
    estimated from request and answer.

    Args:
        provider: Who answers: the transport's name.
        origin: How what goes back to this provider only is marked.
        request: What was asked. Without it, no usage is estimated.

    Attributes:
        head: The model and the id of the answer, once known.
        done: Whether the protocol said that it is over.
    """

    __slots__ = ("_asides", "_blocks", "_origin", "_provider", "_reason", "_request", "_stated",
                 "done", "head")  # fmt: skip

    def __init__(self, provider: str, origin: str, request: ChatRequest | None = None) -> None:
        self.head: Head = NO_HEAD
        self.done = False
        self._provider = provider
        self._origin = origin
        self._request = request
        self._blocks = Blocks(origin)
        self._reason: str | None = None
        self._stated: Mapping[str, Any] = NOTHING
        self._asides: dict[str, Any] = {}

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the message brings one.
        """
        try:
            piece = _PLAIN.decode(data)
        except NOT_THAT:
            return self._feed_any(event, data)
        block = self._blocks.open.get(piece.index)
        if block is None:
            return self._feed_any(event, data)
        return self._plain(block, piece.delta, event, data)

    def finish(self) -> Sequence[Event]:
        """The last events; empty if the answer has not come to its end.

        Raises:
            ContentFilteredError: If the provider refused and nothing was made.
        """
        if self._reason is None:
            return ()
        events = self._blocks.stop_all()
        usage = usage_of(self._stated)
        if self._reason == "refusal" and not self._blocks.said:
            raise self._refused(usage)
        usage = usage or self._estimated_usage()
        if usage is not None:
            events.append(UsageReport(usage))
        events.append(Finish(self._finish_reason()))
        return events

    def whole(self, body: bytes) -> Sequence[Event]:
        """All events of a complete answer.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self._provider)
        self._stated = mapping_of(answer, "usage")
        content: Any = answer.get("content")
        if not is_list(content):
            self._raise_in_band(answer, None)
            raise nonsense(
                "an answer", "no content", provider=self._provider, usage=usage_of(self._stated)
            )
        events = self._begin(answer)
        for index, block in enumerate(content):
            if not is_object(block):
                usage = usage_of(self._stated)
                raise nonsense("a content block", "no object", provider=self._provider, usage=usage)
            events += self._blocks.start(index, block, self.head.id)
            events += self._blocks.stop(index)
        self._reason = self._reason or "end_turn"
        self.done = True
        self.head = attrs.evolve(self.learned(), raw=body)
        return [*events, *self.finish()]

    def learned(self) -> Head:
        """What is known of the answer so far, with the class of service that it is billed as."""
        return with_service(self.head, service_of(self._stated))

    # --- pieces --------------------------------------------------------------------------------

    def _plain(
        self, block: Block, delta: _Text | _Thinking | _Words, event: str | None, data: bytes
    ) -> Sequence[Event]:
        if type(delta) is _Text:
            if block.kind == "text":
                text = delta.text
                if not text:
                    return ()
                blocks = self._blocks
                blocks.said = True
                blocks.texts.append(text)
                return (TextDelta(text, 0, None, block.number),)
        elif type(delta) is _Words:
            if block.kind == "tool_use":
                words = delta.partial_json
                if not words:
                    return ()
                block.pieces.append(words)
                self._blocks.texts.append(words)
                return (ToolCallDelta(block.number, arguments=words),)
        elif type(delta) is _Thinking and block.kind == "thinking" and not block.fresh:
            thought = delta.thinking
            if not thought:
                return ()
            self._blocks.thoughts.append(thought)
            return (ReasoningDelta(thought, 0, block.index),)
        return self._feed_any(event, data)

    # --- the general way -----------------------------------------------------------------------

    def _feed_any(self, event: str | None, data: bytes) -> Sequence[Event]:
        try:
            given = json_object(data, "a stream event", provider=self._provider)
        except LamellaError as error:
            raise with_usage(error, self.stated()) from None
        match text_of(given, "type") or event:
            case "content_block_delta":
                return self._blocks.piece(self._index(given), mapping_of(given, "delta"))
            case "content_block_start":
                block = mapping_of(given, "content_block")
                return self._blocks.start(self._index(given), block, self.head.id)
            case "content_block_stop":
                return self._blocks.stop(self._index(given))
            case "message_start":
                message = mapping_of(given, "message")
                self._stated = joined_usage(self._stated, mapping_of(message, "usage"))
                return self._begin(message)
            case "message_delta":
                return self._change(given)
            case "message_stop":
                self.done = True
                return ()
            case "ping":
                return ()
            case _:
                self._raise_in_band(given, event)
                return (Opaque(given, self._origin, content=False),)

    def _begin(self, message: Mapping[str, Any]) -> list[Event]:
        self.head = Head(
            model=text_of(message, "model") or self.head.model,
            id=text_of(message, "id") or self.head.id,
        )
        self._reason = text_of(message, "stop_reason") or self._reason
        return self._unknown(message, _MESSAGE_FIELDS)

    def _change(self, given: Mapping[str, Any]) -> list[Event]:
        self._stated = joined_usage(self._stated, mapping_of(given, "usage"))
        delta = mapping_of(given, "delta")
        self._reason = text_of(delta, "stop_reason") or self._reason
        events = self._unknown(delta, frozenset({"stop_reason"}))
        return events + self._unknown(given, frozenset({"type", "delta", "usage"}))

    def _index(self, given: Mapping[str, Any]) -> int:
        index = given.get("index")
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < MAX_BLOCKS:
            return index
        raise nonsense(
            "a stream event",
            f"an `index` that is not 0 to {MAX_BLOCKS - 1}",
            provider=self._provider,
            usage=self.stated(),
        )

    def _unknown(self, given: Mapping[str, Any], known: frozenset[str]) -> list[Event]:
        """What stands beside the content, passed on once for each value it takes."""
        events: list[Event] = []
        for name, value in given.items():
            if name in known or value in (None, "", [], {}) or self._asides.get(name) == value:
                continue
            self._asides[name] = value
            events.append(Opaque({name: value}, self._origin, content=False))
        return events

    def _raise_in_band(self, given: Mapping[str, Any], event: str | None) -> None:
        try:
            raise_in_band(given, provider=self._provider, event=event)
        except LamellaError as error:
            raise with_usage(error, self.stated()) from None

    # --- the end -------------------------------------------------------------------------------

    def _finish_reason(self) -> str:
        reason = (self._reason or "end_turn").lower()
        reason = _REASONS.get(reason, reason)
        return "tool_calls" if reason == "stop" and self._blocks.calls else reason

    def _refused(self, usage: Usage | None) -> LamellaError:
        """The provider's classifiers stopped the model before it said anything."""
        category = text_of(mapping_of(self._asides, "stop_details"), "category")
        about = f" (category {category})" if category and category.isidentifier() else ""
        return ContentFilteredError(
            f"{self._provider} refused to answer{about}.",
            hint="Change the request, or take a model that may answer it: Fallback can do so.",
            code="refusal",
            provider=self._provider,
            usage=usage,
        )

    def stated(self) -> Usage | None:
        """What an answer that breaks off has consumed: its start states one token of output."""
        usage = usage_of(self._stated)
        if usage is None or self._reason is not None:
            return usage
        return at_least(usage, self._blocks.texts, self._blocks.thoughts)

    def _estimated_usage(self) -> Usage | None:
        if self._request is None:
            return None
        return estimated_usage(self._request, self._blocks.texts, self._blocks.thoughts)
