"""Chat Completions: one choice of an answer in the making."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella._events import (
    Event,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from lamella._message_dicts import from_data_url
from lamella._parts import Opaque
from lamella.transports._openai_tool_calls import ToolCalls
from lamella.transports._wire_json import (
    base64_of,
    is_list,
    is_object,
    mapping_of,
    nonsense,
    objects_of,
    text_of,
)

KEPT_FIELDS = ("reasoning_details", "extra_content", "thinking_blocks")
"""Fields beside the content that hold state which the provider wants back."""

_DELTA_FIELDS = {
    "role", "content", "refusal", "reasoning_content", "reasoning", "audio", "images",
    "tool_calls", "function_call", *KEPT_FIELDS,
}  # fmt: skip
REASONS = {
    "function_call": "tool_calls",
    "eos": "stop",  # Together
    "model_length": "length",  # Mistral
    "sensitive": "content_filter",  # Zhipu
}
"""Other words for why an answer stopped."""

FAILURES = {"error", "insufficient_system_resource", "network_error"}
"""What OpenRouter and Mistral, DeepSeek, and Zhipu end with where they broke off by a fault."""


class ChoiceReader:
    """Turns the deltas of one choice, or its whole message, into events."""

    __slots__ = (
        "_asides", "_kept", "_logprobs", "_pictures", "_provider", "_sound", "_sound_format",
        "calls", "filters", "index", "reason", "sound_bytes", "spoke", "texts", "thoughts",
    )  # fmt: skip

    def __init__(self, index: int, provider: str, sound_format: str | None = None) -> None:
        self.index = index
        self._provider = provider
        self._sound_format = sound_format
        self.reason: str | None = None
        self.spoke = False
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.sound_bytes = 0
        self.calls = ToolCalls(index, provider)
        self.filters: Any = None
        self._logprobs: list[Any] = []
        self._sound = ""
        self._pictures = 0
        self._kept: dict[str, Any] = {}
        self._asides: dict[str, Any] = {}

    def read(self, delta: Mapping[str, Any], logprobs: Any, *, whole: bool) -> list[Event]:
        """The events of a delta, or of a whole message."""
        events: list[Event] = []
        self._reasoning(delta, events)
        if is_object(logprobs):
            self._logprobs += objects_of(logprobs, "content")
            if refused := logprobs.get("refusal"):
                events.append(self._aside({"logprobs": {"refusal": refused}}))
        self._content(delta.get("content"), events)
        refusal = text_of(delta, "refusal")
        if refusal is not None:
            self.texts.append(refusal)
            events.append(RefusalDelta(refusal, self.index))
        self._audio(delta, events)
        for image in objects_of(delta, "images"):
            self._image(image, events)
        self._tools(delta, events, whole=whole)
        for name in KEPT_FIELDS:
            if name in delta:
                self._keep(name, delta[name])
        self.asides(delta, _DELTA_FIELDS, events)
        self.spoke = self.spoke or any(event.semantic for event in events)
        return events

    @property
    def said_anything(self) -> bool:
        """Whether there is anything of an answer; plain pieces only add to the lists."""
        return self.spoke or bool(self.texts or self.thoughts)

    def asides(self, given: Mapping[str, Any], known: set[str], events: list[Event]) -> None:
        """Pass on fields that we do not know, once for each value they take."""
        if given.keys() <= known:
            return
        for name, value in given.items():
            unknown = name not in known and value not in (None, "", [], {})
            if unknown and self._asides.get(name) != value:
                self._asides[name] = value
                events.append(self._aside({name: value}))

    def end(self, answer_id: str | None) -> list[Event]:
        """What could only be said at the end."""
        events: list[Event] = list(self.calls.missing_ids(answer_id))
        if self._sound:
            events += self._sounded(self._sound + "=" * (-len(self._sound) % 4), None, "")
        events += [
            Opaque({name: value}, self._provider, choice=self.index)
            for name, value in self._kept.items()
        ]
        if self._logprobs:  # of tokens that made no text
            events.append(self._aside({"logprobs": {"content": self._logprobs}}))
        return events

    def finish_reason(self) -> str:
        """Why it stopped, in the library's words where it has one, else the provider's own.

        Where there are tool calls, `stop` means `tool_calls`: a forced call ends so at OpenAI, and
        any call at some compatible servers.
        """
        reason = self.reason or "stop"
        reason = REASONS.get(reason, reason)
        return "tool_calls" if reason == "stop" and self.calls else reason

    # --- the fields of a delta ---------------------------------------------------------------

    def _reasoning(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        # Servers that are renaming the one to the other send both, with the same text.
        text = text_of(delta, "reasoning_content") or text_of(delta, "reasoning")
        if text is not None:
            self.thoughts.append(text)
            events.append(ReasoningDelta(text, self.index))

    def _content(self, content: Any, events: list[Event]) -> None:
        if content is None:
            return
        self.spoke = True
        if isinstance(content, str):
            self._text(content, events)
        elif is_list(content):
            for item in content:
                self._item(item, events)
        else:
            raise nonsense("content", f"a {type(content).__name__}", provider=self._provider)

    def _text(self, text: str, events: list[Event]) -> None:
        if text:
            self.texts.append(text)
            events.append(TextDelta(text, self.index, tuple(self._logprobs) or None))
            self._logprobs = []

    def _item(self, item: Any, events: list[Event]) -> None:
        """An entry of a content list; Mistral's reasoning models answer with these."""
        if isinstance(item, str):
            self._text(item, events)
        elif not is_object(item):
            raise nonsense("content", "a list of neither text nor objects", provider=self._provider)
        elif item.get("type") == "text" and isinstance(item.get("text"), str):
            self._text(item["text"], events)
        elif item.get("type") == "thinking":
            self._thinking(item.get("thinking"), events)
        else:
            events.append(Opaque(item, self._provider, choice=self.index))

    def _thinking(self, given: Any, events: list[Event]) -> None:
        for piece in given if is_list(given) else [{"text": given}]:
            text = text_of(piece, "text") if is_object(piece) else None
            if text is not None:
                self.thoughts.append(text)
                events.append(ReasoningDelta(text, self.index))

    def _audio(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        audio = mapping_of(delta, "audio")
        if not audio:
            return
        encoded = self._sound + "".join((text_of(audio, "data") or "").split())
        usable = len(encoded) - len(encoded) % 4  # pieces may be cut within a group of four
        self._sound = encoded[usable:]
        transcript, sound_id = text_of(audio, "transcript") or "", text_of(audio, "id")
        if transcript:
            self.texts.append(transcript)
        events += self._sounded(encoded[:usable], sound_id, transcript)
        if "expires_at" in audio:
            events.append(self._aside({"audio": {"expires_at": audio["expires_at"]}}))

    def _sounded(self, encoded: str, sound_id: str | None, transcript: str) -> list[Event]:
        data = base64_of(encoded, provider=self._provider)
        self.sound_bytes += len(data)
        if not (data or sound_id or transcript):
            return []
        return [
            MediaDelta("audio", data, self._sound_format, transcript, sound_id, choice=self.index),
        ]

    def _image(self, image: Mapping[str, Any], events: list[Event]) -> None:
        url = text_of(mapping_of(image, "image_url"), "url")
        decoded = from_data_url(url)
        if decoded is None:
            events.append(Opaque(image, self._provider, choice=self.index))
        else:
            media_type, data = decoded
            number = self._pictures  # each comes whole, also where it stands alone in its delta
            self._pictures += 1
            events.append(MediaDelta("image", data, media_type, index=number, choice=self.index))

    def _tools(self, delta: Mapping[str, Any], events: list[Event], *, whole: bool) -> None:
        calls = objects_of(delta, "tool_calls")
        legacy = mapping_of(delta, "function_call")
        if legacy and not calls:
            calls = ({"index": 0, "function": legacy},)
        for call in calls:
            event = self.calls.piece(call, whole=whole)
            if event is not None:
                events.append(event)

    def _keep(self, name: str, value: Any) -> None:
        before = self._kept.get(name)
        if value is None or value in ([], {}):
            return
        if isinstance(before, list) and isinstance(value, list):
            self._kept[name] = _joined([*before, *value])
        elif isinstance(before, dict) and isinstance(value, dict):
            self._kept[name] = {**before, **value}
        else:
            self._kept[name] = value

    def _aside(self, data: Mapping[str, Any]) -> Opaque:
        return Opaque(data, self._provider, content=False, choice=self.index)


def _joined(entries: list[Any]) -> list[Any]:
    """Entries of a list that came in pieces, those that continue one another made one again."""
    whole: list[Any] = []
    for entry in entries:
        last: Any = whole[-1] if whole else None
        if not (is_object(entry) and is_object(last) and _continues(entry, last)):
            whole.append(entry)
            continue
        joined = {**last, **{name: value for name, value in entry.items() if value is not None}}
        for name in ("text", "summary", "data", "thinking"):
            if isinstance(last.get(name), str) and isinstance(entry.get(name), str):
                joined[name] = last[name] + entry[name]
        whole[-1] = joined
    return whole


def _continues(entry: dict[str, Any], last: dict[str, Any]) -> bool:
    """By type and index in `reasoning_details`; in `thinking_blocks`, up to the block's seal."""
    place, kind = entry.get("index"), entry.get("type")
    if (kind, place) != (last.get("type"), last.get("index")):
        return False
    return place is not None or (kind == "thinking" and not last.get("signature"))
