"""The Responses API: how an answer is read, streamed or whole.

Deltas are delivered as they come. Each `…done` event, each finished item and the final response say
the same again, so that they only fill in what no delta has said: some servers send no deltas at
all.

The items of hosted tools (a web search, an MCP call, a generated image) are part of the message
when they are finished (`Opaque`, `content=True`) and go back verbatim; their progress, annotations
and every event that we do not know are only passed on (`content=False`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._errors import LamellaError
from lamella._events import (
    Event,
    Finish,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._parts import Opaque
from lamella._responses import NO_HEAD, Head
from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_usage
from lamella.transports._http_errors import in_band_error
from lamella.transports._openai_responses_items import (
    CALLS,
    Call,
    Calls,
    HostedTools,
    call_event,
    content_events,
    reasoning_event,
)
from lamella.transports._openai_usage import usage_of
from lamella.transports._stated_bills import with_cost, with_service
from lamella.transports._wire_json import (
    NOT_THAT,
    base64_of,
    json_object,
    mapping_of,
    nonsense,
    objects_of,
    raise_in_band,
    text_of,
    with_usage,
)

_REASONS = {"max_output_tokens": "length", "max_tokens": "length"}


class _TextPiece(msgspec.Struct, tag_field="type", tag="response.output_text.delta", gc=False):
    delta: str
    output_index: int = 0
    content_index: int = 0
    item_id: str | None = None
    logprobs: list[Any] | None = None


_TEXT = msgspec.json.Decoder(_TextPiece)


class ResponsesDecoder:
    """Reads one answer. It ends well only with `response.completed` or `response.incomplete`.

    Attributes:
        head: The model and the id of the answer, once known.
        done: Whether the protocol said that it is over.
    """

    __slots__ = (
        "_calls", "_items", "_origin", "_provider", "_reason", "_request", "_sound_bytes",
        "_spoken", "_stated", "_texts", "_thinking", "_thoughts", "_tools", "done", "head",
    )  # fmt: skip

    def __init__(self, provider: str, origin: str, request: ChatRequest | None = None) -> None:
        self.head: Head = NO_HEAD
        self.done = False
        self._provider = provider
        self._origin = origin
        self._request = request
        self._reason: str | None = None
        self._stated: Any = None
        self._spoken: set[tuple[int | str, int]] = set()
        self._thinking: dict[int | str, tuple[str, int]] = {}
        self._calls = Calls()
        self._items: set[int] = set()
        self._tools = HostedTools()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._sound_bytes = 0

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the message brings one.
        """
        try:
            piece = _TEXT.decode(data)
        except NOT_THAT:
            piece = None
        if piece is None:
            return self._feed_any(event, data)
        self._spoke(piece.output_index, piece.item_id, piece.content_index)
        if not piece.delta:
            return ()
        self._texts.append(piece.delta)
        return (TextDelta(piece.delta, 0, piece.logprobs or None),)

    def finish(self) -> Sequence[Event]:
        """The last events; empty if no terminal event has come."""
        if self._reason is None:
            return ()
        usage = self.stated() or self._estimated_usage()
        report = [UsageReport(usage)] if usage is not None else []
        return [*report, Finish(self._reason)]

    def whole(self, body: bytes) -> Sequence[Event]:
        """All events of a complete answer.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self._provider)
        if answer.get("status") != "failed":
            raise_in_band(answer, provider=self._provider)
        if not isinstance(answer.get("output"), list) and answer.get("status") != "failed":
            raise nonsense("an answer", "no `output`", provider=self._provider)
        events = self._end(answer)
        self.head = attrs.evolve(self.head, raw=body)
        return [*events, *self.finish()]

    # --- the general way ---------------------------------------------------------------------

    def _feed_any(self, event: str | None, data: bytes) -> Sequence[Event]:
        if data.strip() == b"[DONE]":
            return ()
        given = json_object(data, "a stream event", provider=self._provider)
        raise_in_band(given, provider=self._provider, event=event)
        kind = given.get("type") or event
        handler = self._HANDLERS.get(str(kind))
        if handler is not None:
            return handler(self, given)
        return (Opaque(given, self._origin, content=False),)

    def _progress(self, given: Mapping[str, Any]) -> Sequence[Event]:
        self._learn(mapping_of(given, "response"))
        return ()

    def _nothing(self, given: Mapping[str, Any]) -> Sequence[Event]:
        """What a finished item says again, and better."""
        return ()

    def _learn(self, response: Mapping[str, Any]) -> None:
        head = attrs.evolve(
            self.head,
            model=text_of(response, "model") or self.head.model,
            id=text_of(response, "id") or self.head.id,
        )
        self._stated = mapping_of(response, "usage") or self._stated
        # The first events repeat the class of service that was asked for; the last one counts.
        self.head = with_cost(with_service(head, response.get("service_tier")), self._stated)

    # --- messages ----------------------------------------------------------------------------

    def _text(self, given: Mapping[str, Any]) -> Sequence[Event]:
        """A piece of text that is not quite as its type says."""
        self._spoke(_index(given), text_of(given, "item_id"), _index(given, "content_index"))
        text = text_of(given, "delta")
        logprobs = tuple(objects_of(given, "logprobs")) or None
        return self._noted([TextDelta(text, 0, logprobs)] if text is not None else [])

    def _text_done(self, given: Mapping[str, Any]) -> Sequence[Event]:
        return self._content_done(given, {**given, "type": "output_text"})

    def _refusal(self, given: Mapping[str, Any]) -> Sequence[Event]:
        self._spoke(_index(given), text_of(given, "item_id"), _index(given, "content_index"))
        return self._noted([RefusalDelta(text)] if (text := text_of(given, "delta")) else [])

    def _refusal_done(self, given: Mapping[str, Any]) -> Sequence[Event]:
        return self._content_done(given, {**given, "type": "refusal"})

    def _content_done(self, given: Mapping[str, Any], part: Mapping[str, Any]) -> Sequence[Event]:
        place = _index(given), text_of(given, "item_id"), _index(given, "content_index")
        if not self._spoke(*place):
            return ()
        return self._noted(list(content_events(part, self._origin)))

    def _spoke(self, index: int, item_id: str | None, content_index: int) -> bool:
        """Note that a part of a message has been delivered; whether it had not been before.

        Servers may give an item a different index, or a different id, in different events; vLLM
        counts the parts from -1.
        """
        part = max(content_index, 0)
        before = len(self._spoken)
        self._spoken.add((index, part))
        if item_id is None:
            return len(self._spoken) > before
        self._spoken.add((item_id, part))
        return len(self._spoken) > before + 1

    # --- reasoning ---------------------------------------------------------------------------

    def _thought(self, given: Mapping[str, Any]) -> Sequence[Event]:
        text = text_of(given, "delta")
        if text is None:
            return ()
        index = _index(given)
        name = "summary_index" if "summary_index" in given else "content_index"
        place, before = (name, _index(given, name)), self._thinking.get(index)
        self._thinking[index] = place
        if before is not None and before != place:
            text = f"\n\n{text}"  # the next paragraph of the summary
        item_id = text_of(given, "item_id")
        if item_id is not None:
            self._thinking[item_id] = place
        return self._noted([ReasoningDelta(text, 0, index, id=item_id if before is None else None)])

    # --- tool calls --------------------------------------------------------------------------

    def _words(self, given: Mapping[str, Any]) -> Sequence[Event]:
        words = text_of(given, "delta")
        call = self._call_of(given)
        if words is None:
            return ()
        call.words.append(words)
        return (ToolCallDelta(call.index, arguments=words, kind=call.kind),)

    def _words_done(self, given: Mapping[str, Any]) -> Sequence[Event]:
        if self._call_of(given).words:
            return ()
        words = text_of(given, "arguments") or text_of(given, "input")
        return self._words({**given, "delta": words})

    def _call_of(self, given: Mapping[str, Any]) -> Call:
        custom = str(given.get("type")).startswith("response.custom")
        kind = "custom" if custom else "function"
        return self._calls.of_piece(_index(given), text_of(given, "item_id"), kind)

    def _named(self, index: int, item: Mapping[str, Any], *, ended: bool) -> Sequence[Event]:
        """What a call's item adds to its deltas."""
        kind, field = CALLS[item["type"]]
        call = self._calls.of_item(index, item, ended=ended)
        words = "" if call.words else text_of(item, field) or ""
        if call.named and not words:
            return ()
        if words:
            call.words.append(words)
        if call.named:
            return (ToolCallDelta(call.index, arguments=words, kind=kind),)
        call.named = True
        return (call_event(item, call.index, self._origin, words),)

    # --- items -------------------------------------------------------------------------------

    def _item_added(self, given: Mapping[str, Any]) -> Sequence[Event]:
        item = mapping_of(given, "item")
        kind = text_of(item, "type")
        if kind in CALLS:
            return self._named(_index(given), item, ended=False)
        if kind in {"message", "reasoning"}:
            return ()
        return (Opaque(given, self._origin, content=False),)

    def _item_done(self, given: Mapping[str, Any]) -> Sequence[Event]:
        item, index = mapping_of(given, "item"), _index(given)
        kind = text_of(item, "type")
        self._items.add(index)
        if kind in CALLS:
            return self._named(index, item, ended=True)
        if kind == "message":
            events: list[Event] = []
            place = {"output_index": index, "item_id": text_of(item, "id")}
            for number, part in enumerate(objects_of(item, "content")):
                events += self._content_done({**place, "content_index": number}, part)
            return events
        if kind == "reasoning":
            said = index in self._thinking or text_of(item, "id") in self._thinking
            event = reasoning_event(item, index, self._origin, said=said)
            return self._noted([event] if event is not None else [])
        self._tools.count(item)
        return (Opaque(item, self._origin),)

    # --- sound -------------------------------------------------------------------------------

    def _sound(self, given: Mapping[str, Any]) -> Sequence[Event]:
        data = base64_of(given.get("delta"), provider=self._provider)
        self._sound_bytes += len(data)
        return (MediaDelta("audio", data),) if data else ()

    def _transcript(self, given: Mapping[str, Any]) -> Sequence[Event]:
        words = text_of(given, "delta")
        if words is None:
            return ()
        self._texts.append(words)
        return (MediaDelta("audio", transcript=words),)

    # --- the end -----------------------------------------------------------------------------

    def _ended(self, given: Mapping[str, Any]) -> Sequence[Event]:
        return self._end(mapping_of(given, "response"), str(given.get("type")).rpartition(".")[2])

    def _end(self, response: Mapping[str, Any], status: str = "completed") -> Sequence[Event]:
        self._learn(response)
        status = text_of(response, "status") or status
        self._check(response, status)
        events: list[Event] = []
        output = objects_of(response, "output")
        if status == "completed" and not (output or self._said_anything()):
            raise nonsense("an answer", "no content", provider=self._provider, usage=self.stated())
        for index, item in self._unsaid(output):
            events += self._item_done({"output_index": index, "item": item})
        self.done = True
        if status == "incomplete":
            reason = text_of(mapping_of(response, "incomplete_details"), "reason")
            self._reason = _REASONS.get(reason or "", reason or "incomplete")
        else:
            self._reason = "tool_calls" if self._calls.all else "stop"
        return events

    def _said_anything(self) -> bool:
        said = self._items or self._spoken or self._thinking or self._calls.all
        return bool(said or self._sound_bytes)

    def _unsaid(self, output: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
        """Items of the final response of a kind that the stream has brought nothing of.

        By kind, as neither indexes nor ids need be those of the stream.
        """
        named = any(call.named for call in self._calls.all)
        said = {"message": bool(self._spoken), **dict.fromkeys(CALLS, named)}
        rest = bool(self._items)
        return [
            (index, item)
            for index, item in enumerate(output)
            if not said.get(text_of(item, "type") or "", rest)
        ]

    def _check(self, response: Mapping[str, Any], status: str) -> None:
        """Raise unless an answer has come to a good end."""
        if status in {"completed", "incomplete"}:
            return
        error: LamellaError
        if status in {"failed", "cancelled"}:
            said = mapping_of(response, "error") or {"code": f"response_{status}"}
            error = in_band_error(said, provider=self._provider)
        else:
            error = nonsense(
                "an answer",
                "one that is not finished",
                provider=self._provider,
                hint="Ask without `background`; answers that are fetched later are not supported.",
            )
        raise with_usage(error, self.stated())

    def _noted(self, events: list[Event]) -> list[Event]:
        """Keep what is delivered, for an estimate."""
        for event in events:
            if isinstance(event, ReasoningDelta):
                self._thoughts.append(event.text)
            elif isinstance(event, TextDelta | RefusalDelta):
                self._texts.append(event.text)
        return events

    def stated(self) -> Usage | None:
        """The usage stated so far."""
        return usage_of(self._stated, self._tools.units)

    def _estimated_usage(self) -> Usage | None:
        if self._request is None:
            return None
        words = [*self._texts, *(word for call in self._calls.all for word in call.words)]
        return estimated_usage(
            self._request,
            words,
            self._thoughts,
            sound_bytes=self._sound_bytes,
            tool_units=self._tools.units,
        )

    _HANDLERS: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any]], Sequence[Event]]]] = {
        "response.created": _progress,
        "response.in_progress": _progress,
        "response.queued": _progress,
        "response.output_item.added": _item_added,
        "response.output_item.done": _item_done,
        "response.content_part.added": _nothing,
        "response.content_part.done": _nothing,
        "response.output_text.delta": _text,
        "response.output_text.done": _text_done,
        "response.refusal.delta": _refusal,
        "response.refusal.done": _refusal_done,
        "response.reasoning_summary_part.added": _nothing,
        "response.reasoning_summary_part.done": _nothing,
        "response.reasoning_summary_text.delta": _thought,
        "response.reasoning_summary_text.done": _nothing,
        "response.reasoning_text.delta": _thought,
        "response.reasoning_text.done": _nothing,
        "response.function_call_arguments.delta": _words,
        "response.function_call_arguments.done": _words_done,
        "response.custom_tool_call_input.delta": _words,
        "response.custom_tool_call_input.done": _words_done,
        "response.audio.delta": _sound,
        "response.audio.done": _nothing,
        "response.audio.transcript.delta": _transcript,
        "response.audio.transcript.done": _nothing,
        "response.completed": _ended,
        "response.incomplete": _ended,
        "response.failed": _ended,
        "response.cancelled": _ended,
    }


def _index(given: Mapping[str, Any], name: str = "output_index") -> int:
    value = given.get(name)
    return value if isinstance(value, int) else 0
