"""One candidate of an answer in the making: its parts as events.

A part with a `thoughtSignature`, or anything else beside its content, is a block of its own, so
that it goes back exactly as it came. Parts of kinds that we do not know (code that was run and what
came of it, calls of hosted tools) are part of the message; ratings, citations and sources are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

from lamella._events import Event, MediaDelta, ReasoningDelta, TextDelta, ToolCallDelta
from lamella._parts import JSONObject, Opaque
from lamella.transports._losses import ORIGIN, marked
from lamella.transports._wire_json import (
    base64_of,
    is_list,
    is_object,
    mapping_of,
    nonsense,
    objects_of,
    text_of,
)
from lamella_google._finish_reasons import NOT_FINISHED, REASONS
from lamella_google._log_probabilities import tokens_of
from lamella_google._partial_args import PartialArguments

_FIELDS: Final = {"content", "finishReason", "index", "logprobsResult", "tokenCount"}
_CALL_FIELDS: Final = {"name", "args", "id", "partialArgs", "willContinue"}
_PLAIN_FIELDS: Final = {"text", "thought"}


class CandidateReader:
    """Turns the contents of one candidate, whole or in pieces, into events."""

    __slots__ = (
        "_asides", "_block", "_call", "_calls", "_fresh", "_media", "_partial", "_provider",
        "_searches", "_sound", "_thought", "_thoughtful", "index", "reason", "sound_bytes",
        "spoke", "texts", "thoughts",
    )  # fmt: skip

    def __init__(self, index: int, provider: str) -> None:
        self.index = index
        self.reason: str | None = None
        self.spoke = False
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.sound_bytes = 0
        self._provider = provider
        self._thoughtful: JSONObject = {ORIGIN: provider}
        self._block = 0
        self._fresh = True
        self._thought = 0
        self._calls = 0
        self._call = 0
        self._partial: PartialArguments | None = None
        self._media = 0
        self._sound: tuple[str, int] | None = None
        self._searches = 0
        self._asides: dict[str, Any] = {}

    # --- the plain way: unsigned text, nothing else -------------------------------------------

    def text(self, text: str) -> TextDelta:
        """A piece of text without anything beside it."""
        self.spoke = True
        self._fresh = False
        self.texts.append(text)
        return TextDelta(text, self.index, None, self._block)

    def thought(self, text: str) -> ReasoningDelta:
        """A piece of a thought without anything beside it."""
        self.spoke = True
        self.thoughts.append(text)
        return ReasoningDelta(text, self.index, self._thought, extra=self._thoughtful)

    # --- the general way ---------------------------------------------------------------------

    def read(self, candidate: Mapping[str, Any]) -> list[Event]:
        """The events of a candidate, or of a piece of one.

        Raises:
            ProtocolError: If it makes no sense.
        """
        events: list[Event] = []
        parts: Any = mapping_of(candidate, "content").get("parts") or []
        if not is_list(parts):
            raise nonsense("`parts`", "no list", provider=self._provider)
        for part in parts:
            if not is_object(part):
                raise nonsense("a part", "no object", provider=self._provider)
            self.spoke = True
            self._part(part, events)
        self._logprobs(mapping_of(candidate, "logprobsResult"), events)
        grounding = mapping_of(candidate, "groundingMetadata").get("webSearchQueries")
        self._searches = len(grounding) if is_list(grounding) else self._searches
        self._pass_on(candidate, events)
        reason = text_of(candidate, "finishReason")
        if reason is not None and reason != NOT_FINISHED:
            self.reason = reason
        return events

    def end(self) -> list[Event]:
        """What could only be said at the end."""
        return self._close_call()

    @property
    def answered(self) -> bool:
        """Whether there is anything of an answer besides thoughts."""
        return bool(self.texts or self._calls or self._media)

    @property
    def is_over(self) -> bool:
        """Whether it may have ended; some proxies put a reason on chunks without any content."""
        return self.reason is not None and (self.spoke or self.finish_reason() != "stop")

    @property
    def searches(self) -> int:
        """How many searches of the web the answer rests on."""
        return self._searches

    def finish_reason(self) -> str:
        """Why it stopped, in the library's words where it has one, else Google's in lower case.

        Google says `STOP` also where the model calls functions.
        """
        reason = self.reason or "STOP"
        known = REASONS.get(reason, reason.lower())
        return "tool_calls" if known == "stop" and self._calls else known

    # --- parts -------------------------------------------------------------------------------

    def _part(self, part: Mapping[str, Any], events: list[Event]) -> None:
        if part.get("functionCall") is not None:
            self._function_call(part, events)
        elif isinstance(part.get("text"), str):
            if part.get("thought"):
                self._add_thought(part, events)
            else:
                self._add_text(part, events)
        elif "inlineData" in part and not part.get("thought"):
            self._inline(part, events)
        elif any(value is not None for value in part.values()):
            events.append(Opaque(part, self._provider, choice=self.index))

    def _add_text(self, part: Mapping[str, Any], events: list[Event]) -> None:
        text = part["text"]
        if part.keys() <= _PLAIN_FIELDS:
            if text:
                events.append(self.text(text))
            return
        self._block += not self._fresh
        extra = marked(_beside(part, _PLAIN_FIELDS), self._provider)
        if text:
            self.texts.append(text)
        events.append(TextDelta(text, self.index, None, self._block, extra))
        self._block += 1
        self._fresh = True

    def _add_thought(self, part: Mapping[str, Any], events: list[Event]) -> None:
        text = part["text"]
        if part.keys() <= _PLAIN_FIELDS:
            if text:
                events.append(self.thought(text))
            return
        if text:
            self.thoughts.append(text)
        signature = text_of(part, "thoughtSignature")
        rest = _beside(part, {*_PLAIN_FIELDS, "thoughtSignature"})
        extra = marked(rest, self._provider) or self._thoughtful
        events.append(ReasoningDelta(text, self.index, self._thought, signature, extra=extra))
        self._thought += 1

    def _inline(self, part: Mapping[str, Any], events: list[Event]) -> None:
        blob = mapping_of(part, "inlineData")
        media_type = text_of(blob, "mimeType") or ""
        kind = media_type.partition("/")[0].lower()
        if kind not in {"image", "audio"}:
            events.append(Opaque(part, self._provider, choice=self.index))
            return
        data = base64_of(blob.get("data"), provider=self._provider)
        said = mapping_of(part, "audioTranscription")
        known = {"inlineData", "audioTranscription"}
        inner = _beside(blob, {"mimeType", "data"})
        beside = {**_beside(part, known), **({"inlineData": inner} if inner else {})}
        self.sound_bytes += len(data) if kind == "audio" else 0
        events.append(
            MediaDelta(
                kind,
                data,
                media_type,
                text_of(said, "text") or "",
                index=self._medium(kind, media_type, events),
                choice=self.index,
                extra=marked(beside, self._provider),
            )
        )

    def _medium(self, kind: str, media_type: str, events: list[Event]) -> int:
        """Which medium a piece belongs to: sound goes on, pictures come whole."""
        before = self._sound
        if kind == "audio" and before is not None and before[0] == media_type:
            return before[1]
        number = self._media
        self._media += 1
        if kind == "audio":
            self._sound = (media_type, number)
        return number

    # --- calls -------------------------------------------------------------------------------

    def _function_call(self, part: Mapping[str, Any], events: list[Event]) -> None:
        call = mapping_of(part, "functionCall")
        name, call_id, args = text_of(call, "name"), text_of(call, "id"), call.get("args")
        if self._partial is not None and is_object(args):
            events += self._close_call()
        if self._partial is None:
            streamed = bool(call.get("willContinue") or call.get("partialArgs"))
            self._begin_call(part, call, name, call_id, events, whole=not streamed)
            if not streamed:
                return
        partial = self._partial
        assert partial is not None  # noqa: S101 - begun above, if not before
        for piece in objects_of(call, "partialArgs"):
            partial.add(piece)
        if not call.get("willContinue"):
            events += self._close_call()

    def _begin_call(
        self,
        part: Mapping[str, Any],
        call: Mapping[str, Any],
        name: str | None,
        call_id: str | None,
        events: list[Event],
        *,
        whole: bool,
    ) -> None:
        if name is None:
            raise nonsense("a function call", "no name", provider=self._provider)
        self._call, self._calls = self._calls, self._calls + 1
        arguments = msgspec.json.encode(call.get("args") or {}).decode() if whole else ""
        beside = _beside(part, {"functionCall"})
        inner = _beside(call, _CALL_FIELDS)
        if inner:
            beside["functionCall"] = inner
        extra = marked(beside, self._provider)
        self.texts += [name, arguments]
        events.append(ToolCallDelta(self._call, call_id, name, arguments, self.index, extra=extra))
        if not whole:
            self._partial = PartialArguments(self._provider)

    def _close_call(self) -> list[Event]:
        partial, self._partial = self._partial, None
        if partial is None:
            return []
        arguments = partial.text()
        self.texts.append(arguments)
        return [ToolCallDelta(self._call, arguments=arguments, choice=self.index)]

    # --- beside the content ------------------------------------------------------------------

    def _logprobs(self, given: Mapping[str, Any], events: list[Event]) -> None:
        if not given:
            return
        tokens = tokens_of(given)
        for at, event in enumerate(events):
            if type(event) is TextDelta and tokens:
                events[at] = attrs.evolve(event, logprobs=tokens)
                return
        events.append(self._aside({"logprobsResult": given}))

    def _pass_on(self, candidate: Mapping[str, Any], events: list[Event]) -> None:
        """Pass on the fields that are no content, once for each value they take."""
        if candidate.keys() <= _FIELDS:
            return
        for name, value in candidate.items():
            said = name not in _FIELDS and value not in (None, "", [], {})
            if said and self._asides.get(name) != value:
                self._asides[name] = value
                events.append(self._aside({name: value}))

    def _aside(self, data: Mapping[str, Any]) -> Opaque:
        return Opaque(data, self._provider, content=False, choice=self.index)


def _beside(given: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """What stands beside the fields that we know."""
    if given.keys() <= known:
        return {}
    return {name: value for name, value in given.items() if name not in known}
