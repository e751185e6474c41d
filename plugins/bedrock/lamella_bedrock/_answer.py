"""Converse: how an answer is read, whole or in pieces.

A stream ends well with `messageStop`; usage comes after it, in `metadata`, and is waited for until
the end of the stream. Nearly every message is a plain piece of text: `_PLAIN` is the type of just
those, and msgspec checks it while it reads.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._errors import ContentFilteredError, ProtocolError
from lamella._events import Event, Finish, TextDelta, UsageReport
from lamella._parts import Opaque
from lamella._responses import NO_HEAD, Head
from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_usage
from lamella.transports._stated_bills import with_service
from lamella.transports._wire_json import (
    NOT_THAT,
    json_object,
    mapping_of,
    nonsense,
    objects_of,
    text_of,
    with_usage,
)
from lamella_bedrock._answer_blocks import Blocks
from lamella_bedrock._errors import raise_exception, stream_error
from lamella_bedrock._frames import FAILURE
from lamella_bedrock._usage import usage_of

_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
_RESPONSE_FIELDS: Final = "additionalModelResponseFields"
_QUIET: Final = frozenset({"usage", "metrics", "output", "stopReason", _RESPONSE_FIELDS, "p"})
"""Fields beside an answer that are read, or say nothing of it: `p` is padding."""


_EVENTS: Final = frozenset(
    {
        "contentBlockDelta",
        "contentBlockStart",
        "contentBlockStop",
        "initial-response",
        "messageStart",
        "messageStop",
        "metadata",
    }
)


class _Piece(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename="camel"):
    delta: _Piece
    content_block_index: int
    p: str = ""


_PLAIN = msgspec.json.Decoder(_PlainDelta)


class ConverseDecoder:
    """Reads one answer.

    Attributes:
        head: The model and the id of the answer, once known.
        done: Whether usage has come after the end: then nothing else does.
    """

    __slots__ = ("_blocks", "_provider", "_reason", "_request", "_said", "_usage", "done", "head")

    def __init__(self, provider: str, family: str, request: ChatRequest | None = None) -> None:
        self.head: Head = NO_HEAD
        self.done = False
        self._provider = provider
        self._request = request
        self._blocks = Blocks(provider, family)
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._said = False

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The exception that it reports.
        """
        if event == "contentBlockDelta":
            try:
                plain = _PLAIN.decode(data)
            except NOT_THAT:
                plain = None
            if plain is not None:
                text = plain.delta.text
                if not text:
                    return ()
                self._said = True
                self._blocks.texts.append(text)
                return (TextDelta(text, 0, None, plain.content_block_index),)
        kind = event or ""
        if kind.startswith(FAILURE):
            error = stream_error(kind.removeprefix(FAILURE), data, provider=self._provider)
            raise with_usage(error, self._usage)
        return self._noted(self._read(kind, data))

    def finish(self) -> Sequence[Event]:
        """The last events; empty if the answer has not come to its end.

        Raises:
            ContentFilteredError: If a filter stopped it before anything was said.
        """
        if self._reason is None:
            return ()
        events = self._noted(self._blocks.end_all())
        reason = _REASONS.get(self._reason, self._reason.lower())
        if reason == "stop" and self._blocks.calls:
            reason = "tool_calls"
        if reason == "content_filter" and not self._said:
            raise ContentFilteredError(
                f"{self._provider} filtered the request ({self._reason}); nothing was answered.",
                hint="The trace of the guardrail, if it is switched on, says which rule it was.",
                provider=self._provider,
                code=self._reason,
                usage=self._usage,
            )
        usage = self._usage
        if usage is None and self._request is not None:
            usage = estimated_usage(self._request, self._blocks.texts, self._blocks.thoughts)
        if usage is not None:
            events.append(UsageReport(usage))
        return [*events, Finish(reason)]

    def whole(self, body: bytes) -> Sequence[Event]:
        """All events of a complete answer.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self._provider)
        reason = text_of(answer, "stopReason")
        message = mapping_of(mapping_of(answer, "output"), "message")
        if reason is None and not message:
            raise_exception(answer, provider=self._provider)
            raise nonsense("an answer", "no message", provider=self._provider)
        events: list[Event] = []
        for index, block in enumerate(objects_of(message, "content")):
            events += self._blocks.whole(index, block)
        self._stopped(answer, reason or "end_turn", events)
        self._metadata(answer, events)
        self.done = True
        return [*self._noted(events), *self.finish()]

    # --- the messages of a stream ------------------------------------------------------------

    def _read(self, kind: str, data: bytes) -> list[Event]:
        if kind not in _EVENTS:
            return [self._unknown(kind, data)]
        given = json_object(data, "a stream event", provider=self._provider)
        index = given.get("contentBlockIndex")
        number = index if isinstance(index, int) else 0
        events: list[Event] = []
        match kind:
            case "contentBlockDelta":
                return self._blocks.piece(number, mapping_of(given, "delta"))
            case "contentBlockStart":
                return self._blocks.begin(number, mapping_of(given, "start"))
            case "contentBlockStop":
                return self._blocks.end(number)
            case "messageStop":
                events += self._blocks.end_all()
                self._stopped(given, text_of(given, "stopReason") or "end_turn", events)
            case "metadata":
                self._metadata(given, events)
                self.done = self._reason is not None
            case _:  # who speaks, which is known
                pass
        return events

    def _unknown(self, kind: str, data: bytes) -> Opaque:
        """An event of tomorrow, whatever it holds: it is no reason to lose an answer."""
        try:
            return self._aside({kind: json_object(data, "a stream event", provider=self._provider)})
        except ProtocolError:
            return self._aside({kind: base64.b64encode(data).decode()})

    def _stopped(self, given: Mapping[str, Any], reason: str, events: list[Event]) -> None:
        self._reason = reason
        if given.get(_RESPONSE_FIELDS):
            events.append(self._aside({_RESPONSE_FIELDS: given[_RESPONSE_FIELDS]}))

    def _metadata(self, given: Mapping[str, Any], events: list[Event]) -> None:
        self._usage = usage_of(mapping_of(given, "usage")) or self._usage
        router = mapping_of(mapping_of(given, "trace"), "promptRouter")
        model = text_of(router, "invokedModelId")
        if model is not None:
            self.head = attrs.evolve(self.head, model=model)
        tier = mapping_of(given, "serviceTier")
        self.head = with_service(self.head, text_of(tier, "type"))
        rest = {name: value for name, value in given.items() if name not in _QUIET and value}
        if rest:
            events.append(self._aside(rest))

    def _noted(self, events: list[Event]) -> list[Event]:
        if not self._said and any(event.semantic for event in events):
            self._said = True
        return events

    def _aside(self, data: Mapping[str, Any]) -> Opaque:
        return Opaque(data, self._provider, content=False)
