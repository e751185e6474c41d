"""Ollama's chat: how an answer is read, whole or in lines, by the same code.

Nearly every line of a stream is a piece of text or of thinking. `_PLAIN` is the type of just those,
and msgspec checks it while it reads; whatever does not fit takes the general way below, which is
the one for complete answers too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._errors import LamellaError
from lamella._events import (
    Event,
    Finish,
    MediaDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._parts import Opaque
from lamella._responses import NO_HEAD, Head
from lamella.transports._losses import marked
from lamella.transports._wire_json import (
    NOT_THAT,
    base64_of,
    is_list,
    is_object,
    json_object,
    mapping_of,
    nonsense,
    objects_of,
    raise_in_band,
    text_of,
    with_usage,
)
from lamella_ollama._defaults import ORIGIN
from lamella_ollama._usage import Spent
from lamella_ollama._window import note_cut

_LINE_FIELDS: Final = frozenset(
    {
        "model", "created_at", "message", "done", "done_reason", "error", "logprobs",
        "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration",
        "eval_count", "eval_duration", "remote_model", "remote_host",
    }
)  # fmt: skip
_MESSAGE_FIELDS: Final = frozenset({"role", "content", "thinking", "images", "tool_calls"})
_CALL_FIELDS: Final = frozenset({"id", "type", "function"})
_FUNCTION_FIELDS: Final = frozenset({"index", "name", "arguments"})
_PICTURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


class _Words(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str = ""
    thinking: str = ""
    role: Any = None
    images: None = None
    tool_calls: None = None


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: _Words
    model: Any = None
    created_at: Any = None
    done: bool = False
    logprobs: None = None
    remote_model: Any = None
    remote_host: Any = None


_PLAIN = msgspec.json.Decoder(_Line)


class ChatDecoder:
    """Reads one answer.

    A stream ends well with the line that says `done`, which also states what was consumed. What it
    does not state is estimated from request and answer.

    Args:
        provider: Who answers: the transport's name.
        request: What was asked. Without it, no usage is estimated.
        window: The window that was asked for, in tokens; None if nobody said.

    Attributes:
        head: The model of the answer, once known; this API has no ids of answers.
        done: Whether the answer has said that it is over.
    """

    __slots__ = ("_asides", "_calls", "_logprobs", "_pictures", "_provider", "_reason",
                 "_request", "_spent", "_window", "done", "head")  # fmt: skip

    def __init__(
        self, provider: str, request: ChatRequest | None = None, window: int | None = None
    ) -> None:
        self.head: Head = NO_HEAD
        self.done = False
        self._provider = provider
        self._request = request
        self._window = window
        self._spent = Spent()
        self._reason: str | None = None
        self._calls = 0
        self._pictures = 0
        self._logprobs: list[Mapping[str, Any]] = []
        self._asides: dict[str, Any] = {}

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one line of the stream says.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the line brings one.
        """
        try:
            line = _PLAIN.decode(data)
        except NOT_THAT:
            return self._feed_any(data)
        text, thought = line.message.content, line.message.thinking
        if line.done or self.head.model is None or (text and thought) or self._logprobs:
            return self._feed_any(data)
        if text:
            self._spent.texts.append(text)
            return (TextDelta(text),)
        if thought:
            self._spent.thoughts.append(thought)
            return (ReasoningDelta(thought),)
        return ()

    def finish(self) -> Sequence[Event]:
        """The last events; empty if the answer has not come to its end."""
        if not self.done:
            return ()
        events: list[Event] = []
        if self._logprobs:  # of tokens that made no text
            events.append(self._aside({"logprobs": self._logprobs}))
        usage = self._spent.usage(self._request, idle=self._reason in {"load", "unload"})
        if usage is not None:
            events.append(UsageReport(usage))
        note_cut(self._request, self._window, self._spent.prompt, provider=self._provider)
        reason = (self._reason or "stop").lower()
        events.append(Finish("tool_calls" if reason == "stop" and self._calls else reason))
        return events

    def whole(self, body: bytes) -> Sequence[Event]:
        """All events of a complete answer.

        Raises:
            ProtocolError: If it makes no sense.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self._provider)
        self._raise_in_band(answer)
        if not is_object(answer.get("message")):
            raise self._nonsense("an answer", "no message")
        events = self._read(answer)
        self.done = answer.get("done") is not False
        self.head = attrs.evolve(self.head, raw=body)
        return [*events, *self.finish()]

    # --- the general way -----------------------------------------------------------------------

    def _feed_any(self, data: bytes) -> Sequence[Event]:
        line = json_object(data, "a line of a stream", provider=self._provider)
        self._raise_in_band(line)
        if "message" not in line and line.get("done") is not True:
            return (self._aside(line),)  # a sign of life, or a kind that nobody knows yet
        return self._read(line)

    def _read(self, line: Mapping[str, Any]) -> list[Event]:
        self._spent.state(line)
        if self.head.model is None:
            self.head = Head(model=text_of(line, "model"))
        if line.get("remote_host") or line.get("remote_model"):
            self._window = None  # another server's, which need not be the one asked for
        message = mapping_of(line, "message")
        logprobs = line.get("logprobs")
        if is_list(logprobs):
            self._logprobs += [each for each in logprobs if is_object(each)]
        events: list[Event] = []
        self._unknown(line, _LINE_FIELDS, events)
        self._unknown(message, _MESSAGE_FIELDS, events)
        self._words(message, events)
        self._media(message, events)
        calls = objects_of(message, "tool_calls")
        events += [self._call(call, text_of(line, "created_at")) for call in calls]
        if line.get("done") is True:
            self.done = True
            self._reason = text_of(line, "done_reason")
        return events

    def _words(self, message: Mapping[str, Any], events: list[Event]) -> None:
        thought = self._text(message, "thinking")
        if thought:
            self._spent.thoughts.append(thought)
            events.append(ReasoningDelta(thought))
        text = self._text(message, "content")
        if text:
            self._spent.texts.append(text)
            events.append(TextDelta(text, 0, tuple(self._logprobs) or None))
            self._logprobs = []

    def _text(self, message: Mapping[str, Any], name: str) -> str:
        value = message.get(name)
        if value is not None and not isinstance(value, str):
            raise self._nonsense(f"`{name}`", f"a {type(value).__name__}")
        return value or ""

    def _media(self, message: Mapping[str, Any], events: list[Event]) -> None:
        given = message.get("images")
        for encoded in given if is_list(given) else ():
            data = base64_of(encoded, provider=self._provider)
            kind = next((kind for start, kind in _PICTURES if data.startswith(start)), None)
            events.append(MediaDelta("image", data, kind, index=self._pictures))
            self._pictures += 1

    def _call(self, call: Mapping[str, Any], instant: str | None) -> ToolCallDelta:
        """A call, which comes whole. An older server gives none an id, so that one is made.

        It is made of the instant of the line and of how many calls there were before, so that it
        differs between the turns of a conversation.
        """
        function = mapping_of(call, "function")
        name, given = text_of(function, "name"), function.get("arguments")
        if name is None:
            raise self._nonsense("a tool call", "no name")
        words = given if isinstance(given, str) else msgspec.json.encode(given or {}).decode()
        index = self._calls
        self._calls += 1
        self._spent.texts += (name, words)
        extra: dict[str, Any] = {k: v for k, v in call.items() if k not in _CALL_FIELDS}
        inner = {k: v for k, v in function.items() if k not in _FUNCTION_FIELDS}
        if inner:
            extra["function"] = inner
        identity = text_of(call, "id") or self._made_id(index, instant)
        return ToolCallDelta(index, identity, name, words, extra=marked(extra, ORIGIN))

    def _made_id(self, index: int, instant: str | None) -> str:
        messages = () if self._request is None else self._request.messages
        before = sum([len(message.tool_calls) for message in messages])
        digits = "".join([each for each in instant or "" if each.isdigit()])
        return f"call_{digits or 'unnamed'}_{before + index}"

    def _unknown(
        self, given: Mapping[str, Any], known: frozenset[str], events: list[Event]
    ) -> None:
        """What nobody knows yet, passed on once for each value it takes."""
        if given.keys() <= known:
            return
        for name, value in given.items():
            if name in known or value in (None, "", [], {}) or self._asides.get(name) == value:
                continue
            self._asides[name] = value
            events.append(self._aside({name: value}))

    def _aside(self, data: Mapping[str, Any]) -> Opaque:
        return Opaque(data, ORIGIN, content=False)

    def _raise_in_band(self, given: Mapping[str, Any]) -> None:
        error = given.get("error")
        if not error:
            return
        try:
            raise_in_band({"error": error}, provider=self._provider)
        except LamellaError as found:
            raise with_usage(found, self._spent.stated()) from None

    def _nonsense(self, what: str, found: str) -> LamellaError:
        return nonsense(what, found, provider=self._provider, usage=self._spent.stated())
