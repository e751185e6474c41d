"""Chat Completions: how an answer is read, whole or in pieces, by the same code.

Nearly every message of a stream is a plain piece of text or reasoning. `_PlainChunk` is the type of
just those, and msgspec checks it while it reads; whatever does not fit takes the general way below,
which is the one for complete answers too. So both give the same events.

What has no field of its own is passed on as `Opaque`: entries of a content list that we do not
know, and `reasoning_details`, are part of the message (`content=True`) and go back to the same
provider; annotations, citations, filter results and other fields beside the content are not
(`content=False`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._errors import LamellaError
from lamella._events import Event, Finish, ReasoningDelta, UsageReport, text_delta
from lamella._nothing import NOTHING
from lamella._parts import Opaque
from lamella._responses import NO_HEAD, Head
from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_usage
from lamella.transports._http_errors import in_band_error
from lamella.transports._openai_chat_choice import FAILURES, ChoiceReader
from lamella.transports._openai_usage import usage_of
from lamella.transports._stated_bills import with_cost, with_service
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

MAX_CHOICES = 128
"""As many answers as OpenAI gives to one request; a larger index is nonsense."""

_CHUNK_FIELDS = {
    "id", "object", "created", "model", "service_tier", "system_fingerprint", "obfuscation",
    "choices", "usage", "error",
}  # fmt: skip
_CHOICE_FIELDS = {"index", "delta", "message", "finish_reason", "logprobs", "error", "usage"}


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    role: Any = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    delta: _PlainDelta
    index: int = 0
    finish_reason: None = None
    logprobs: None = None
    content_filter_results: Any = None
    stop_reason: None = None
    native_finish_reason: None = None
    token_ids: None = None


class _PlainChunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    choices: tuple[_PlainChoice]
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    obfuscation: Any = None
    usage: None = None


_decode_plain = msgspec.json.Decoder(_PlainChunk).decode


class ChatDecoder:
    """Reads one answer.

    A stream ends well when each choice has its `finish_reason`, and either `[DONE]` has come or
    there are as many choices as were asked for. Usage may come in a chunk without choices, with
    one, more than once (the last one counts), or not at all; then it is estimated from request and
    answer. A `finish_reason` that means failure is raised as an error at the end.

    Attributes:
        head: The model, the id and the bill of the answer, once known.
        done: Whether the protocol said that it is over.
    """

    __slots__ = ("_asides", "_choices", "_provider", "_request", "_usage", "done", "head")

    def __init__(self, provider: str, request: ChatRequest | None = None) -> None:
        self.head: Head = NO_HEAD
        self.done = False
        self._provider = provider
        self._request = request
        self._choices: dict[int, ChoiceReader] = {}
        self._usage: Usage | None = None
        self._asides: dict[str, Any] = {}

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the message brings one.
        """
        try:
            choice = _decode_plain(data).choices[0]
        except NOT_THAT:
            choice = None
        if choice is None:
            return self._feed_any(event, data)
        reader = self._choices.get(choice.index)
        filters = choice.content_filter_results
        if reader is None or (filters and filters != reader.filters):
            return self._feed_any(event, data)
        delta = choice.delta
        text, thought = delta.content, delta.reasoning_content or delta.reasoning
        if text:
            if thought:
                return self._feed_any(event, data)
            reader.texts.append(text)
            return (text_delta(text, choice.index),)
        if thought:
            reader.thoughts.append(thought)
            return (ReasoningDelta(thought, choice.index),)
        if text is not None:
            reader.spoke = True
        return ()

    def stated(self) -> Usage | None:
        """The usage stated so far: some servers state it with every chunk."""
        return self._usage

    def finish(self) -> Sequence[Event]:
        """The last events; empty if the answer has not come to its end.

        Raises:
            ProtocolError: If the answer came to its end and says nothing that could be an answer.
            LamellaError: If its finish reason says that the provider failed.
        """
        choices = [self._choices[index] for index in sorted(self._choices)]
        asked = (self._request.n or 1) if self._request is not None else 1
        expected = 1 if self.done else asked
        if len(choices) < expected or any(choice.reason is None for choice in choices):
            return ()
        usage = self._usage
        if choices[-1].index != len(choices) - 1:
            missing = f"an answer whose choices are {[choice.index for choice in choices]}"
            raise nonsense("an answer", missing, provider=self._provider, usage=usage)
        events: list[Event] = []
        for choice in choices:
            if choice.reason in FAILURES:
                said = in_band_error({"code": choice.reason}, provider=self._provider)
                raise with_usage(said, usage)
            if not choice.said_anything and choice.finish_reason() in ("stop", "tool_calls"):
                raise nonsense("an answer", "no content", provider=self._provider, usage=usage)
            events += choice.end(self.head.id)
        usage = usage or self._estimated_usage()
        if usage is not None:
            events.append(UsageReport(usage))
        reasons = tuple([choice.finish_reason() for choice in choices])
        events.append(Finish(reasons[0], reasons if len(reasons) > 1 else ()))
        return events

    def whole(self, body: bytes) -> Sequence[Event]:
        """All events of a complete answer.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self._provider)
        events = self._read(answer, None, whole=True)
        if not self._choices:
            raise nonsense("an answer", "no choice", provider=self._provider, usage=self._usage)
        for choice in self._choices.values():
            choice.reason = choice.reason or "stop"
        self.done = True
        self.head = attrs.evolve(self.head, raw=body)
        return [*events, *self.finish()]

    # --- the general way ---------------------------------------------------------------------

    def _feed_any(self, event: str | None, data: bytes) -> Sequence[Event]:
        if data.strip() == b"[DONE]":
            self.done = True
            return ()
        chunk = json_object(data, "a stream event", provider=self._provider)
        return self._read(chunk, event, whole=False)

    def _read(self, chunk: Mapping[str, Any], event: str | None, *, whole: bool) -> list[Event]:
        self._note_usage(chunk)
        self._raise_in_band(chunk, event)
        if "x_groq" in chunk:
            self._groq(mapping_of(chunk, "x_groq"))
        if self.head.id is None or self.head.model is None:
            model = self.head.model or text_of(chunk, "model")
            known = self.head.id or text_of(chunk, "id")
            if self.head is NO_HEAD:  # the first chunk, of every stream
                self.head = Head(model, id=known)
            else:
                self.head = attrs.evolve(self.head, model=model, id=known)
        self.head = with_service(self.head, chunk.get("service_tier"))
        events = self._unknown_fields(chunk)
        choices: object = chunk.get("choices") or ()
        if choices == ():
            return events
        if not is_list(choices):
            raise nonsense("`choices`", f"a {type(choices).__name__}", provider=self._provider)
        for position, choice in enumerate(choices):
            if not is_object(choice):
                raise nonsense("a choice", "no object", provider=self._provider)
            events += self._read_choice(choice, position, whole=whole)
        return events

    def _read_choice(self, choice: Mapping[str, Any], position: int, *, whole: bool) -> list[Event]:
        self._note_usage(choice)
        if choice.get("error"):
            self._raise_in_band(choice, None)
        reader = self._reader(choice.get("index"), position if whole else 0)
        delta = mapping_of(choice, "message" if whole else "delta")
        if not delta and not whole and not reader.said_anything:
            whole, delta = True, mapping_of(choice, "message")
        events = reader.read(delta, choice.get("logprobs"), whole=whole)
        reader.filters = choice.get("content_filter_results", reader.filters)
        reader.asides(choice, _CHOICE_FIELDS, events)
        reader.reason = text_of(choice, "finish_reason") or reader.reason
        return events

    def _reader(self, index: Any, position: int) -> ChoiceReader:
        number = position if index is None else index
        if not isinstance(number, int) or not 0 <= number < MAX_CHOICES:
            raise nonsense(
                "a choice",
                f"an `index` that is not 0 to {MAX_CHOICES - 1}",
                provider=self._provider,
            )
        reader = self._choices.get(number)
        if reader is None:
            reader = ChoiceReader(number, self._provider, self._sound_format())
            self._choices[number] = reader
        return reader

    def _sound_format(self) -> str | None:
        """The format of sound, which answers do not say: it is as the request asked."""
        extra = self._request.extra if self._request is not None else NOTHING
        return text_of(mapping_of(extra, "audio"), "format")

    def _raise_in_band(self, given: Mapping[str, Any], event: str | None) -> None:
        try:
            raise_in_band(given, provider=self._provider, event=event)
        except LamellaError as error:
            raise with_usage(error, self._usage) from None

    def _unknown_fields(self, chunk: Mapping[str, Any]) -> list[Event]:
        """Fields of the chunk that we do not know, passed on once for each value they take."""
        events: list[Event] = []
        if chunk.keys() <= _CHUNK_FIELDS:
            return events
        for name, value in chunk.items():
            unknown = name not in _CHUNK_FIELDS and value not in (None, "", [], {})
            if unknown and self._asides.get(name) != value:
                self._asides[name] = value
                events.append(Opaque({name: value}, self._provider, content=False))
        return events

    # --- usage -------------------------------------------------------------------------------

    def _note_usage(self, given: Mapping[str, Any]) -> None:
        """Keep the last statement that states something; Moonshot's stands in the choice."""
        if given.get("usage"):
            self._usage = usage_of(given["usage"]) or self._usage
            self.head = with_cost(self.head, given["usage"])

    def _groq(self, given: Mapping[str, Any]) -> None:
        """Groq's own object: usage that nobody asked for, and why it stopped early."""
        self._note_usage(given)
        if given.get("error"):
            self._raise_in_band(given, None)

    def _estimated_usage(self) -> Usage | None:
        if self._request is None:
            return None
        choices = self._choices.values()
        words = [piece for choice in choices for piece in (*choice.texts, *choice.calls.words())]
        thoughts = [piece for choice in choices for piece in choice.thoughts]
        sound = sum([choice.sound_bytes for choice in choices])
        return estimated_usage(self._request, words, thoughts, sound_bytes=sound)
