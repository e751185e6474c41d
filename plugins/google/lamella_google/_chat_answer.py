"""How a chat answer is read, whole or in pieces, by the same code.

Nearly every message of a stream is one plain piece of text or thought, which `PLAIN`
reads; whatever does not fit takes the general way below, which is the one for complete answers too.
So both give the same events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._errors import ContentFilteredError
from lamella._events import Event, Finish, ToolCallDelta, UsageReport
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
    text_of,
    with_usage,
)
from lamella_google._candidate import CandidateReader
from lamella_google._errors import google_in_band_error
from lamella_google._finish_reasons import must_be_good
from lamella_google._plain_chunks import NULL, PLAIN
from lamella_google._usage import service_of, usage_of

_DONE: Final = b"[DONE]"
"""What proxies that speak other dialects too end their streams with; Google has no such thing."""

MAX_CANDIDATES: Final = 128
"""A larger index than any number of answers that Google gives is nonsense."""

_FIELDS: Final = {
    "candidates", "usageMetadata", "modelVersion", "responseId", "createTime", "error",
    "promptFeedback",
}  # fmt: skip


class GeminiDecoder:
    """Reads one answer.

    A stream ends well when each candidate that has begun, and as many as were asked for, have their
    `finishReason`. There is no other signal of its end, and usage and sources may come with it or
    after it, so that the stream is read to its end. Usage is cumulative: the last statement counts.
    Some proxies put a `finishReason` on every chunk: what follows it is read all the same.

    Attributes:
        head: The model and the id of the answer, once known.
        done: Always False: the protocol does not say that it is over.
        complete: Whether reasons and usage have come, and with them what an answer needs.
    """

    __slots__ = (
        "_asides", "_candidates", "_expected", "_provider", "_request", "_resumed", "_stated",
        "complete", "done", "head",
    )  # fmt: skip

    def __init__(self, provider: str, request: ChatRequest | None = None) -> None:
        self.head: Head = NO_HEAD
        self.done = False
        self.complete = False
        self._resumed = False
        self._provider = provider
        self._request = request
        self._expected = (request.n or 1) if request is not None else 1
        self._candidates: dict[int, CandidateReader] = {}
        self._stated: object = None
        self._asides: dict[str, Any] = {}

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the message brings one.
        """
        try:
            chunk = PLAIN.decode(data)
        except NOT_THAT:
            chunk = None
        reader = None if chunk is None else self._candidates.get(chunk.candidates[0].index)
        if chunk is None or reader is None:
            if data == _DONE:
                return ()
            return self._read(json_object(data, "a stream event", provider=self._provider))
        if chunk.usageMetadata and chunk.usageMetadata != NULL:
            self._stated = chunk.usageMetadata
        if self.complete:
            self.complete, self._resumed = False, True
        part = chunk.candidates[0].content.parts[0]
        if not part.text:
            return ()
        return (reader.thought(part.text) if part.thought else reader.text(part.text),)

    def finish(self) -> Sequence[Event]:
        """The last events; empty if the answer has not come to its end.

        Raises:
            ProtocolError: If the answer came to its end and says nothing that could be an answer.
            LamellaError: If its finish reason says that Google or the model failed.
        """
        return self._finish(self._expected)

    def whole(self, body: bytes) -> Sequence[Event]:
        """All events of a complete answer.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the body is one.
        """
        events: list[Event] = []
        for chunk in self._chunks(body):
            events += self._read(chunk)
        if not self._candidates:
            raise nonsense(
                "an answer", "no candidate", provider=self._provider, usage=self.stated()
            )
        for candidate in self._candidates.values():
            candidate.reason = candidate.reason or "STOP"
        self.head = attrs.evolve(self.learned(), raw=body)
        return [*events, *self._finish(1)]

    def learned(self) -> Head:
        """What is known of the answer so far, with the class of service that it was given."""
        return with_service(self.head, service_of(self._statement()))

    # --- the general way ---------------------------------------------------------------------

    def _chunks(self, body: bytes) -> Sequence[Mapping[str, Any]]:
        """The answer, or its pieces: a stream comes as a list where `alt=sse` got lost."""
        if body.lstrip()[:1] == b"[":
            try:
                found: Any = msgspec.json.decode(body)
            except NOT_THAT:
                found = None
            if is_list(found) and len(found) > 1 and all(is_object(chunk) for chunk in found):
                return found
        return (json_object(body, "an answer", provider=self._provider),)

    def _read(self, chunk: Mapping[str, Any]) -> list[Event]:
        if chunk.get("usageMetadata"):
            self._stated = chunk["usageMetadata"]
        self._raise_in_band(chunk)
        if self.head.id is None or self.head.model is None:
            self.head = Head(
                model=self.head.model or text_of(chunk, "modelVersion"),
                id=self.head.id or text_of(chunk, "responseId"),
            )
        events: list[Event] = []
        candidates: Any = chunk.get("candidates") or []
        if not is_list(candidates):
            raise nonsense("`candidates`", "no list", provider=self._provider)
        for position, candidate in enumerate(candidates):
            if not is_object(candidate):
                raise nonsense("a candidate", "no object", provider=self._provider)
            number = candidate.get("index")
            reader = self._reader(position if number is None else number)
            events += self._named(reader.read(candidate))
        self._feedback(mapping_of(chunk, "promptFeedback"), events)
        self._pass_on(chunk, events)
        self._may_be_over(events)
        return events

    def _may_be_over(self, events: Sequence[Event]) -> None:
        """Find out whether anything more is needed; a stream that went on once is never sure."""
        if self.complete and any(type(event) is not Opaque for event in events):
            self._resumed = True
        read = self._candidates.values()
        self.complete = (
            not self._resumed
            and len(read) >= self._expected
            and all(each.is_over for each in read)
            and self.stated() is not None
        )

    def _reader(self, number: Any) -> CandidateReader:
        if not isinstance(number, int) or not 0 <= number < MAX_CANDIDATES:
            found = f"an `index` that is not 0 to {MAX_CANDIDATES - 1}"
            raise nonsense("a candidate", found, provider=self._provider)
        reader = self._candidates.get(number)
        if reader is None:
            reader = self._candidates[number] = CandidateReader(number, self._provider)
        return reader

    def _named(self, events: list[Event]) -> list[Event]:
        """The events, with ids for calls that came without one: results must refer to them.

        They are made of the answer's id, so that they differ between the turns of a conversation.
        """
        for at, event in enumerate(events):
            if type(event) is ToolCallDelta and event.name is not None and event.id is None:
                made = f"call_{self.head.id or 'unnamed'}_{event.choice}_{event.index}"
                events[at] = attrs.evolve(event, id=made)
        return events

    def _feedback(self, given: Mapping[str, Any], events: list[Event]) -> None:
        """What Google says of the prompt; blocked, there is nothing else.

        Raises:
            ContentFilteredError: If the prompt was blocked.
        """
        if not given:
            return
        reason = text_of(given, "blockReason")
        if reason is None or self._candidates:
            self._aside("promptFeedback", given, events)
            return
        word = reason.lower() if reason.replace("_", "").isalpha() else "blocked"
        raise ContentFilteredError(
            f"{self._provider} blocked the prompt ({word}).",
            provider=self._provider,
            status=400,
            code=word,
            usage=self.stated(),
            hint="Change its content, or the safety settings: extra={'safetySettings': [...]}.",
        )

    def _pass_on(self, chunk: Mapping[str, Any], events: list[Event]) -> None:
        """Pass on fields that we do not know, once for each value they take."""
        if chunk.keys() <= _FIELDS:
            return
        for name, value in chunk.items():
            if name not in _FIELDS and value not in (None, "", [], {}):
                self._aside(name, value, events)

    def _aside(self, name: str, value: Any, events: list[Event]) -> None:
        if self._asides.get(name) != value:
            self._asides[name] = value
            events.append(Opaque({name: value}, self._provider, content=False))

    def _raise_in_band(self, chunk: Mapping[str, Any]) -> None:
        error = chunk.get("error")
        if error:
            given = error if is_object(error) else {"message": str(error)}
            raise with_usage(google_in_band_error(given, provider=self._provider), self.stated())

    # --- the end -----------------------------------------------------------------------------

    def _finish(self, expected: int) -> Sequence[Event]:
        candidates = [self._candidates[index] for index in sorted(self._candidates)]
        if len(candidates) < expected or any(each.reason is None for each in candidates):
            return ()
        usage = self.stated()
        if candidates[-1].index != len(candidates) - 1:
            missing = f"candidates {[each.index for each in candidates]}"
            raise nonsense("an answer", missing, provider=self._provider, usage=usage)
        events: list[Event] = []
        for candidate in candidates:
            events += candidate.end()
            must_be_good(candidate, usage, provider=self._provider)
        usage = usage or self._estimated_usage()
        if usage is not None:
            events.append(UsageReport(usage))
        reasons = tuple([each.finish_reason() for each in candidates])
        events.append(Finish(reasons[0], reasons if len(reasons) > 1 else ()))
        return events

    def stated(self) -> Usage | None:
        """The usage stated so far."""
        return usage_of(self._statement(), self._tool_units())

    def _statement(self) -> object:
        """The last statement of usage; None if it is not even JSON."""
        stated = self._stated
        if isinstance(stated, msgspec.Raw):
            try:
                stated = msgspec.json.decode(stated)
            except NOT_THAT:
                return None
        return stated

    def _tool_units(self) -> Mapping[str, int]:
        searches = sum([each.searches for each in self._candidates.values()])
        return {"web_search": searches} if searches else NOTHING

    def _estimated_usage(self) -> Usage | None:
        if self._request is None:
            return None
        candidates = self._candidates.values()
        words = [piece for each in candidates for piece in each.texts]
        thoughts = [piece for each in candidates for piece in each.thoughts]
        sound = sum([each.sound_bytes for each in candidates])
        return estimated_usage(
            self._request, words, thoughts, sound_bytes=sound, tool_units=self._tool_units()
        )
